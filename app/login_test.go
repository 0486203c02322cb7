package app_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/app/config"
	"latchkey/app/password"
)

// fillIn submits the page's form with what its hidden fields and button would add.
func (v *visitor) fillIn(page answer, values url.Values) answer {
	v.site.t.Helper()
	values.Set("method", "password")
	return v.postForm(page.action(), values)
}

func TestSignInByForm(t *testing.T) {
	site := newSite(t, func(c *config.Config) { c.AllowedReturnURLs = []string{"https://app.example.com"} })
	site.register("ada@example.com")
	for _, c := range []struct{ query, why, to string }{
		{"", "", "/auth/account"},
		{"?return_to=/app", "Sign in to continue.", "/app"},
		{"?return_to=https://app.example.com/x%3Fy", "Sign in to continue to app.example.com.", "https://app.example.com/x?y"},
	} {
		browser := site.visitor()
		page := browser.open("/auth/login" + c.query)
		require.Equal(t, http.StatusOK, page.status)
		require.Contains(t, page.body, c.why)

		wrong := browser.shownAfter(browser.fillIn(page, url.Values{"identifier": {"ada@example.com"}, "password": {"not the password"}}))
		require.Contains(t, wrong.body, `value="ada@example.com"`, "what was typed is kept")
		require.NotContains(t, wrong.body, "not the password", "but never the password")
		require.Contains(t, wrong.body, "<title>Error:")
		require.False(t, browser.signedIn())

		right := browser.fillIn(wrong, url.Values{"identifier": {" Ada@Example.com "}, "password": {goodPassword}})
		require.Equal(t, http.StatusSeeOther, right.status, right.body)
		require.Equal(t, c.to, right.header.Get("Location"))
		require.True(t, browser.signedIn())
	}
}

func TestSignInPageOutlivesItsFlow(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	browser := site.visitor()
	page := browser.open("/auth/login?return_to=/app")
	site.clock.advance(25 * time.Hour)

	res := browser.fillIn(page, url.Values{"identifier": {"ada@example.com"}, "password": {goodPassword}})

	require.Equal(t, http.StatusSeeOther, res.status, res.body)
	require.Equal(t, "/app", res.header.Get("Location"))
}

func TestSignInPageOutlivesItsBrowserSession(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	page := site.visitor().open("/auth/login?return_to=/app")
	restarted := site.visitor() // the flow's cookie is gone

	again := restarted.shownAfter(restarted.fillIn(page, url.Values{"identifier": {"ada@example.com"}, "password": {goodPassword}}))
	require.Contains(t, again.body, `value="ada@example.com"`)

	res := restarted.fillIn(again, url.Values{"identifier": {"ada@example.com"}, "password": {goodPassword}})
	require.Equal(t, "/app", res.header.Get("Location"))
}

func TestSignInSaysWhyTheSessionIsOver(t *testing.T) {
	ada := newSite(t).signUp("ada@example.com")
	ada.site.clock.advance(13 * time.Hour)

	account := ada.open("/auth/account")

	require.Equal(t, "/auth/login?return_to=%2Fauth%2Faccount", account.header.Get("Location"))
	require.Contains(t, ada.open("/auth/login").body, "Your session has ended.")
}

func TestSigningInWhileSignedIn(t *testing.T) {
	ada := newSite(t).signUp("ada@example.com")

	require.Equal(t, "/app", ada.open("/auth/login?return_to=/app").header.Get("Location"))
	require.Equal(t, "/auth/account", ada.open("/auth/self-service/login/browser").header.Get("Location"))
	res := ada.get("/auth/self-service/login/browser", asJSON)
	require.Equal(t, http.StatusBadRequest, res.status)
	require.Equal(t, "session_already_available", res.text("error.id"))
	confirm := ada.open("/auth/login?refresh=true")
	require.Equal(t, http.StatusOK, confirm.status)
	require.Contains(t, confirm.body, `value="ada@example.com"`)
}

func TestSigningInEndsTheSessionTheBrowserHeld(t *testing.T) {
	ada := newSite(t).signUp("ada@example.com")
	old := ada.cookie("latchkey_session")

	require.Equal(t, http.StatusOK, ada.submitLogin("ada@example.com", goodPassword).status)

	require.NotEqual(t, old, ada.cookie("latchkey_session"))
	require.True(t, ada.signedIn())
	res := ada.site.visitor().get("/auth/sessions/whoami", with("X-Session-Token", old))
	require.Equal(t, http.StatusUnauthorized, res.status)
}

func TestKeepMeSignedIn(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	signIn := func(remember string) (*visitor, *http.Cookie) {
		browser := site.visitor()
		values := url.Values{"identifier": {"ada@example.com"}, "password": {goodPassword}}
		if remember != "" {
			values.Set("remember", remember)
		}
		res := browser.fillIn(browser.open("/auth/login"), values)
		require.Equal(t, http.StatusSeeOther, res.status, res.body)
		for _, line := range res.header.Values("Set-Cookie") {
			cookie, err := http.ParseSetCookie(line)
			require.NoError(t, err)
			if cookie.Name == "latchkey_session" {
				return browser, cookie
			}
		}
		require.FailNow(t, "no session cookie")
		return nil, nil
	}
	kept, keptCookie := signIn("true")
	short, shortCookie := signIn("")
	require.Equal(t, 30*24*60*60, keptCookie.MaxAge)
	require.Zero(t, shortCookie.MaxAge, "ends with the browser session")

	site.clock.advance(13 * time.Hour)
	require.False(t, short.signedIn())
	for range 4 { // used every six days it lasts, but no longer than 30
		require.True(t, kept.signedIn())
		kept.waitSeen()
		site.clock.advance(6 * 24 * time.Hour)
	}
	require.True(t, kept.signedIn())
	kept.waitSeen()
	site.clock.advance(6 * 24 * time.Hour)
	require.False(t, kept.signedIn(), "30 days are over")

	idle, _ := signIn("true")
	site.clock.advance(7*24*time.Hour + time.Second)
	require.False(t, idle.signedIn())
}

// waitSeen waits until the use of the session has been noted.
func (v *visitor) waitSeen() {
	v.site.t.Helper()
	require.Eventually(v.site.t, func() bool {
		session, err := v.site.store.Sessions.ByToken(v.site.t.Context(), v.cookie("latchkey_session"))
		require.NoError(v.site.t, err)
		return session.LastSeenAt.Equal(v.site.clock.Now())
	}, 30*time.Second, time.Millisecond)
}

func TestPasswordIsHashedAgainWhenParametersRise(t *testing.T) {
	site := newSite(t, func(c *config.Config) { c.PasswordPasses = 2 })
	id := site.register("ada@example.com").ID // with one pass
	weak := site.password(id).Secret

	site.signIn("ada@example.com")

	strong := site.password(id).Secret
	require.Contains(t, weak, "t=1")
	require.Contains(t, strong, "t=2")
	ok, stale, err := password.NewHasher(password.Params{MemoryKiB: 8, Passes: 2, Lanes: 1}).Verify(t.Context(), goodPassword, strong)
	require.NoError(t, err)
	require.True(t, ok && !stale)
	require.True(t, site.signIn("ada@example.com").signedIn())
}

func TestADisabledPersonIsToldSoAfterTheRightPasswordOnly(t *testing.T) {
	site := newSite(t)
	identity := site.register("ada@example.com")
	require.NoError(t, site.store.Identities.Disable(t.Context(), identity.ID))

	wrong := site.visitor().submitLogin("ada@example.com", "not the password")
	right := site.visitor().submitLogin("ada@example.com", goodPassword)

	require.Equal(t, http.StatusBadRequest, wrong.status)
	require.Contains(t, wrong.text("ui.messages.0.text"), "isn’t right")
	require.Equal(t, http.StatusBadRequest, right.status)
	require.Contains(t, right.text("ui.messages.0.text"), "disabled")
}
