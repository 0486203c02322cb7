package app_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// confirmed has a person confirm who they are in a browser that never sees the answer, and returns the token that it
// still sends.
func (s *site) confirmed(v *visitor) (old string) {
	s.t.Helper()
	old = v.cookie(sessionCookie)
	res := v.postForm("/auth/account/password", url.Values{"password": {goodPassword}, "new_password": {goodPassword + "!"}})
	require.Equal(s.t, http.StatusSeeOther, res.status, res.body)
	return old
}

var logoutLink = regexp.MustCompile(`/auth/self-service/logout\?token=[\w-]+`)

func TestReplacedTokenEndsItsSessionAndNothingElse(t *testing.T) {
	site := newSite(t)
	for name, end := range map[string]func(browser *visitor, email, old string){
		"logout URL": func(browser *visitor, email, old string) {
			created := browser.get("/auth/self-service/logout/browser", cookies(sessionCookie, old))
			require.Equal(t, http.StatusOK, created.status, created.body)
			out := browser.get(created.text("logout_url"), asPage, cookies(sessionCookie, old))
			require.Equal(t, http.StatusSeeOther, out.status)
			require.NotContains(t, strings.Join(out.header.Values("Set-Cookie"), "\n"), "latchkey_receipt", "which could end others")
		},
		"by AJAX": func(browser *visitor, email, old string) {
			token := browser.get("/auth/self-service/logout/browser", cookies(sessionCookie, old)).text("logout_token")
			require.Equal(t, http.StatusNoContent, browser.get("/auth/self-service/logout?token="+token, asJSON, cookies(sessionCookie, old)).status)
		},
		"page": func(browser *visitor, email, old string) {
			require.Equal(t, "/auth/logout", browser.get("/auth/signed-out", asPage, cookies(sessionCookie, old)).header.Get("Location"))
			page := browser.get("/auth/logout", asPage, cookies(sessionCookie, old))
			require.Contains(t, page.body, "is still active")
			require.Contains(t, page.body, `data-session=""`, "nor has it the page leave for being signed out")
			require.NotContains(t, page.body, "Sign out everywhere", "which needs more than the old token")
			require.Equal(t, http.StatusSeeOther, browser.get(logoutLink.FindString(page.body), asPage, cookies(sessionCookie, old)).status)
		},
		"API client": func(browser *visitor, email, old string) {
			require.Equal(t, http.StatusNoContent, browser.delete("/auth/self-service/logout/api", `{"session_token":"`+old+`"}`, with("Content-Type", typeJSON)).status)
		},
		"another sign-in": func(browser *visitor, email, old string) {
			flow := browser.get("/auth/self-service/login/browser", asJSON)
			res := browser.postJSON(flow.text("ui.action"), map[string]any{"method": "password", "identifier": email, "password": goodPassword + "!", "csrf_token": flow.csrfToken()},
				cookies(sessionCookie, old, "latchkey_flow", browser.cookie("latchkey_flow")))
			require.Equal(t, http.StatusOK, res.status, res.body)
		},
	} {
		t.Run(name, func(t *testing.T) {
			email := strings.ReplaceAll(name, " ", "") + "@example.com"
			ada := site.signUp(email)
			events := ada.listen()
			token := site.confirmed(ada)
			stale, old := site.visitor(), cookies(sessionCookie, token)

			stale.get("/auth/sessions/whoami", old).requireError(http.StatusUnauthorized, "session_inactive")
			stale.get("/auth/sessions", old).requireError(http.StatusUnauthorized, "session_inactive")
			stale.get("/auth/sessions/events", old).requireError(http.StatusUnauthorized, "session_inactive")
			stale.delete("/auth/sessions", "", old).requireError(http.StatusUnauthorized, "session_inactive")
			stale.get("/auth/verify", old).requireError(http.StatusUnauthorized, "session_inactive")
			require.Equal(t, http.StatusSeeOther, stale.get("/auth/account", asPage, old).status)
			require.Equal(t, http.StatusOK, stale.get("/auth/login", asPage, old).status)
			require.True(t, ada.signedIn())

			end(site.visitor(), email, token)

			require.False(t, ada.signedIn())
			require.NotEmpty(t, events.hears(), "the stream of before has gone on until then")
			stale.get("/auth/self-service/logout/browser", old).requireError(http.StatusUnauthorized, "session_inactive")
		})
	}
}

// An app that polls while nobody is there says so, or it would keep the session alive for ever.
func TestPassiveRequestsAreNoUseOfTheSession(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	passive := with("X-Latchkey-Passive", "1")
	site.clock.advance(6 * time.Hour)
	writes := site.writes()
	for _, path := range []string{"/auth/sessions/whoami", "/auth/verify"} {
		require.Equal(t, http.StatusOK, ada.get(path, passive).status)
	}
	site.clock.advance(6*time.Hour - time.Second)
	require.Equal(t, http.StatusOK, ada.get("/auth/sessions/whoami", passive).status)
	require.Zero(t, writes())
	site.clock.advance(time.Second)
	ada.get("/auth/sessions/whoami", passive).requireError(http.StatusUnauthorized, "session_inactive")

	active := site.signIn("ada@example.com")
	site.clock.advance(6 * time.Hour)
	require.Equal(t, http.StatusOK, active.get("/auth/verify", with("X-Latchkey-Passive", "0")).status)
	require.Eventually(t, func() bool {
		session, err := site.store.Sessions.ByToken(t.Context(), active.cookie("latchkey_session"))
		return err == nil && session.LastSeenAt.Equal(site.clock.Now())
	}, 5*time.Second, 5*time.Millisecond)
}
