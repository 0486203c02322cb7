package app_test

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"latchkey/app/config"

	"github.com/stretchr/testify/require"
)

// stale is a time after which a sign-in is no longer recent.
const stale = 15*time.Minute + time.Second

var hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)"`)

// hidden returns the hidden fields of a page's first form that has a name for its user.
func (r answer) hidden() url.Values {
	r.t.Helper()
	_, form, found := strings.Cut(r.body, `<form method="post"`)
	require.True(r.t, found, r.body)
	form, _, _ = strings.Cut(form, "</form>")
	values := url.Values{}
	for _, field := range hiddenField.FindAllStringSubmatch(form, -1) {
		values.Set(field[1], html.UnescapeString(field[2]))
	}
	return values
}

// confirms sends the form of a confirm page.
func (v *visitor) confirms(page answer, pass string) answer {
	v.site.t.Helper()
	require.Contains(v.site.t, page.body, "Confirm that it’s you")
	values := page.hidden()
	values.Set("username", "ada@example.com")
	values.Set("password", pass)
	return v.postForm(page.action(), values)
}

func TestEndingOtherSessionsNeedsARecentSignIn(t *testing.T) {
	site := newSite(t)
	ada, phone := site.signUp("ada@example.com"), site.signIn("ada@example.com")
	api := site.apiToken("ada@example.com")
	id := phone.sessionID()
	site.clock.advance(stale - time.Second)
	require.Equal(t, http.StatusNotFound, ada.delete("/auth/sessions/2f1e9b0a-6e0c-4d6e-9a44-0a4a3a1f0d11", "").status, "recent to the second")
	site.clock.advance(time.Second)

	for _, target := range []string{"/auth/sessions", "/auth/sessions/" + id, "/auth/sessions/2f1e9b0a-6e0c-4d6e-9a44-0a4a3a1f0d11"} {
		for _, res := range []answer{ada.delete(target, ""), ada.delete(target, "", asPage),
			site.visitor().delete(target, "", with("X-Session-Token", api))} {
			res.requireError(http.StatusForbidden, "session_refresh_required")
			require.Contains(t, res.text("error.reason"), "refresh=true")
		}
	}
	for _, target := range []string{"/auth/account/sessions/end", "/auth/account/sessions/end/" + id} {
		ada.postJSON(target, map[string]string{}).requireError(http.StatusForbidden, "session_refresh_required")
		page := ada.postForm(target, url.Values{"session": {ada.sessionID()}})
		require.Equal(t, http.StatusForbidden, page.status)
		require.Equal(t, target, page.action())
		require.Equal(t, ada.sessionID(), page.hidden().Get("session"))
		require.Contains(t, page.body, `autocomplete="username" value="ada@example.com" readonly hidden`)
		require.NotContains(t, page.body, `class="problem"`, "nothing is wrong yet")
	}
	require.True(t, phone.signedIn())
}

func TestConfirmedPersonGoesOnWhereTheyWere(t *testing.T) {
	for _, one := range []bool{false, true} {
		site := newSite(t)
		ada, phone, laptop := site.signUp("ada@example.com"), site.signIn("ada@example.com"), site.signIn("ada@example.com")
		before, token := ada.sessionID(), ada.cookie("latchkey_session")
		target, done := "/auth/account/sessions/end", "sessions"
		if one {
			target, done = target+"/"+phone.sessionID(), "session"
		}
		site.clock.advance(stale)
		page := ada.postForm(target, url.Values{"session": {before}})

		res := ada.confirms(page, goodPassword)

		require.Equal(t, http.StatusSeeOther, res.status, res.body)
		require.Equal(t, "/auth/account?done="+done, res.header.Get("Location"))
		require.False(t, phone.signedIn())
		require.Equal(t, one, laptop.signedIn())
		require.Equal(t, before, ada.sessionID(), "the session goes on")
		require.NotEqual(t, token, ada.cookie("latchkey_session"), "under a new token (ASVS 7.2.4)")
		site.visitor().get("/auth/sessions/whoami", with("X-Session-Token", token)).requireError(http.StatusUnauthorized, "session_inactive")
		require.Equal(t, site.clock.Now().Format(time.RFC3339), ada.get("/auth/sessions/whoami").text("authenticated_at"))
		require.Equal(t, http.StatusOK, ada.delete("/auth/sessions", "").status, "for a while nothing more is asked")
		site.clock.advance(stale)
		ada.delete("/auth/sessions", "").requireError(http.StatusForbidden, "session_refresh_required")
	}
}

func TestConfirmationKeepsTheCookieOfWhoStaysSignedIn(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	for remember, maxAge := range map[bool]string{true: "; Max-Age=2591099", false: ""} {
		ada := site.signInFor(remember)
		site.clock.advance(stale)
		res := ada.confirms(ada.postForm("/auth/account/sessions/end", nil), goodPassword)
		require.Equal(t, http.StatusSeeOther, res.status)
		require.True(t, strings.HasSuffix(res.setCookies()["latchkey_session"], "; Path=/"+maxAge+"; HttpOnly; SameSite=Lax"),
			res.setCookies()["latchkey_session"])
	}
}

func TestConfirmationNeedsThePassword(t *testing.T) {
	site := newSite(t)
	ada, phone := site.signUp("ada@example.com"), site.signIn("ada@example.com")
	token := ada.cookie("latchkey_session")
	site.clock.advance(stale)
	page := ada.postForm("/auth/account/sessions/end", nil)

	for pass, reason := range map[string]string{"": "Enter your password.", "wrong": "That isn’t your password."} {
		page = ada.confirms(page, pass)
		require.Equal(t, http.StatusBadRequest, page.status)
		require.Contains(t, page.body, `<small id="password-problem" class="problem">`+reason)
		require.Contains(t, page.body, `aria-describedby="password-problem"`)
		require.Regexp(t, "<title>Error: +Confirm that it’s you", page.body)
		require.NotContains(t, page.body, `value="wrong"`)
		ada.postJSON("/auth/account/sessions/end", map[string]string{"password": pass}).requireError(http.StatusBadRequest, "")
	}
	require.True(t, phone.signedIn())
	require.Equal(t, token, ada.cookie("latchkey_session"))

	require.Equal(t, http.StatusSeeOther, ada.confirms(page, goodPassword).status)
	require.False(t, phone.signedIn())
}

func TestConfirmationIsThrottledLikeASignIn(t *testing.T) {
	site := newSite(t)
	ada, phone := site.signUp("ada@example.com"), site.signIn("ada@example.com")
	site.clock.advance(stale)
	page := ada.postForm("/auth/account/sessions/end", nil)
	for range 6 {
		page = ada.confirms(page, "wrong")
	}

	page = ada.confirms(page, goodPassword)

	require.Equal(t, http.StatusTooManyRequests, page.status)
	require.NotEmpty(t, page.header.Get("Retry-After"))
	require.Contains(t, page.body, `class="problem">Too many wrong passwords. Try again in`)
	require.True(t, phone.signedIn())
	res := ada.postJSON("/auth/account/sessions/end", map[string]string{"password": goodPassword})
	res.requireError(http.StatusTooManyRequests, "too_many_attempts")
	site.clock.advance(time.Minute)
	require.Equal(t, http.StatusSeeOther, ada.confirms(page, goodPassword).status)
	require.False(t, phone.signedIn())
}

func TestConfirmPageOfSomebodyElseDoesNothing(t *testing.T) {
	site := newSite(t)
	browser, phone := site.signUp("ada@example.com"), site.signIn("ada@example.com")
	site.clock.advance(stale)
	page := browser.postForm("/auth/account/sessions/end", nil)
	site.register("bob@example.com")
	require.Equal(t, http.StatusOK, browser.submitLogin("bob@example.com", goodPassword).status)

	require.Equal(t, http.StatusForbidden, browser.confirms(page, goodPassword).status)
	require.True(t, phone.signedIn() && browser.signedIn())

	stranger := site.visitor()
	require.Equal(t, "/auth/login?return_to=%2Fauth%2Faccount", stranger.confirms(page, goodPassword).header.Get("Location"))
	require.Equal(t, http.StatusForbidden, browser.postForm(page.action(), page.hidden(), with("Sec-Fetch-Site", "cross-site")).status)
	require.True(t, phone.signedIn())
}

// A double click sends a form twice, and the browser drops the first answer, with the new token.
func TestConfirmPageSentTwiceSignsNobodyOut(t *testing.T) {
	site := newSite(t)
	ada, phone := site.signUp("ada@example.com"), site.signIn("ada@example.com")
	site.clock.advance(stale)
	page := ada.postForm("/auth/account/sessions/end", nil)
	old := with("Cookie", "latchkey_session="+ada.cookie("latchkey_session"))
	id := ada.sessionID()
	values := page.hidden()
	values.Set("password", goodPassword)
	dropped := site.visitor()
	require.Equal(t, http.StatusSeeOther, dropped.postForm(page.action(), values, old).status)
	require.False(t, phone.signedIn())

	for what, without := range map[string]url.Values{
		"no password": {"session": values["session"], "proof": values["proof"]},
		"no proof":    {"session": values["session"], "password": values["password"]},
		"a wrong one": {"session": values["session"], "proof": {values.Get("proof") + "A"}, "password": values["password"]},
	} {
		res := site.visitor().postForm(page.action(), without, old)
		require.Contains(t, []int{http.StatusSeeOther, http.StatusForbidden}, res.status, what)
		require.NotContains(t, res.setCookies(), "latchkey_session", what)
	}
	stranger := site.visitor().postForm(page.action(), values, with("Cookie", "latchkey_session="+strings.Repeat("A", 26)))
	require.NotContains(t, stranger.setCookies(), "latchkey_session", "the token was never the session's")

	second := ada.postForm(page.action(), values, old)

	require.Equal(t, "/auth/account?done=sessions", second.header.Get("Location"))
	require.True(t, ada.signedIn())
	require.Equal(t, id, ada.sessionID())

	site.clock.advance(time.Minute + time.Second)
	late := site.visitor().postForm(page.action(), values, old)
	require.NotContains(t, late.setCookies(), "latchkey_session", "a double click is not that slow")
	require.True(t, ada.signedIn())
}

func TestConfirmPageSentTwiceAtOnce(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	site.clock.advance(stale)
	page := ada.postForm("/auth/account/sessions/end", nil)
	values := page.hidden()
	values.Set("password", goodPassword)
	old := with("Cookie", "latchkey_session="+ada.cookie("latchkey_session"))
	visitors := []*visitor{site.visitor(), site.visitor(), site.visitor()}

	results := make(chan answer, len(visitors))
	for _, v := range visitors {
		go func() { results <- v.postForm(page.action(), values, old) }()
	}
	for range visitors {
		res := <-results
		require.Equal(t, http.StatusSeeOther, res.status, res.body)
		require.Contains(t, res.setCookies(), "latchkey_session")
	}

	signedIn := 0
	for _, v := range visitors {
		if v.signedIn() {
			signedIn++
		}
	}
	require.Equal(t, 1, signedIn, "there is one token")
}

func TestConfirmPageThatIsReloadedLeadsBackToTheAccount(t *testing.T) {
	ada := newSite(t).signUp("ada@example.com")
	for _, path := range []string{"/auth/account/sessions/end", "/auth/account/sessions/end/" + ada.sessionID()} {
		require.Equal(t, "/auth/account", ada.open(path).header.Get("Location"))
	}
}

func TestChangeOfPasswordConfirmsTheSession(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	id, token := ada.sessionID(), ada.cookie("latchkey_session")
	site.clock.advance(stale)

	res := ada.postForm("/auth/account/password", url.Values{"password": {goodPassword}, "new_password": {"another good password"}})

	require.Equal(t, http.StatusSeeOther, res.status, res.body)
	require.Equal(t, id, ada.sessionID())
	require.NotEqual(t, token, ada.cookie("latchkey_session"))
	site.visitor().get("/auth/sessions/whoami", with("X-Session-Token", token)).requireError(http.StatusUnauthorized, "session_inactive")
	require.Equal(t, http.StatusOK, ada.delete("/auth/sessions", "").status)
}

func TestHowRecentIsASetting(t *testing.T) {
	site := newSite(t, func(c *config.Config) { c.ConfirmAfter = time.Hour })
	ada := site.signUp("ada@example.com")
	site.clock.advance(time.Hour)
	require.Equal(t, http.StatusOK, ada.delete("/auth/sessions", "").status)
	site.clock.advance(time.Second)
	ada.delete("/auth/sessions", "").requireError(http.StatusForbidden, "session_refresh_required")
}

// A logout URL is good for as long as its session lasts.
func TestLogoutURLOutlastsAConfirmation(t *testing.T) {
	site := newSite(t)
	ada, phone := site.signUp("ada@example.com"), site.signIn("ada@example.com")
	before := ada.logoutURL()
	require.NotEqual(t, before, phone.logoutURL(), "each session has its own")
	require.NotContains(t, before, ada.cookie("latchkey_session"))
	site.clock.advance(stale)

	require.Equal(t, http.StatusSeeOther, ada.confirms(ada.postForm("/auth/account/sessions/end", nil), goodPassword).status)

	require.Equal(t, before, ada.logoutURL())
	require.Equal(t, http.StatusSeeOther, ada.open(before).status)
	require.False(t, ada.signedIn())
}
