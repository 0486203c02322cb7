package app_test

import (
	"encoding/json"
	"html"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"latchkey/app/config"

	"github.com/stretchr/testify/require"
)

func TestLogHoldsNoSecret(t *testing.T) {
	site := newSite(t, returns, func(c *config.Config) { c.Registration = "closed" })
	setup, err := site.app.SetupURL(t.Context(), site.url)
	require.NoError(t, err)
	v := site.visitor()
	secrets := map[string]string{"password": goodPassword, "wrong password": "wrongwrongwrong", "new password": "another good one",
		"query": "QUERYSECRET", "header": "HEADERSECRET"}
	secrets["setup token"] = strings.SplitN(setup, "setup=", 2)[1]

	// A whole loop, by pages.
	page := v.open(setup)
	form := url.Values{"method": {"password"}, "traits.email": {"ada@example.com"}, "password": {secrets["wrong password"] + "\x00"}}
	form.Set("password", "short")
	v.postForm(html.UnescapeString(page.action()), form)
	form.Set("password", goodPassword)
	require.Equal(t, http.StatusSeeOther, v.postForm(html.UnescapeString(page.action()), form).status)
	keep := func(when string) {
		for _, name := range []string{"session", "flow", "device", "receipt"} {
			if cookie := v.cookie("latchkey_" + name); cookie != "" {
				secrets[name+" cookie "+when] = cookie
			}
		}
	}
	keep("after registration")
	v.open("/auth/account")
	v.postForm("/auth/account/password", url.Values{"password": {secrets["wrong password"]}, "new_password": {secrets["new password"]}})
	v.postForm("/auth/account/password", url.Values{"password": {goodPassword}, "new_password": {secrets["new password"]}})
	flow := v.get("/auth/self-service/login/browser?refresh=true", asJSON)
	secrets["csrf token"], secrets["flow id"] = flow.csrfToken(), flow.text("id")
	for _, pass := range []string{secrets["wrong password"], secrets["new password"]} {
		v.postJSON(flow.text("ui.action"), map[string]string{"method": "password", "identifier": "ada@example.com", "password": pass, "csrf_token": flow.csrfToken()})
	}
	page = v.postForm("/auth/account/sessions/end", nil)
	require.Equal(t, http.StatusSeeOther, page.status)
	site.clock.advance(stale)
	page = v.postForm("/auth/account/sessions/end", nil)
	secrets["proof"] = page.hidden().Get("proof")
	require.Equal(t, http.StatusBadRequest, v.confirms(page, secrets["wrong password"]).status)
	require.Equal(t, http.StatusSeeOther, v.confirms(page, secrets["new password"]).status)
	keep("after confirming")
	v.open(v.logoutURL())
	v.postForm(endFromReceipt, nil)
	keep("after signing out")
	flow = v.get("/auth/self-service/login/browser?refresh=true", asJSON)
	v.postJSON(flow.text("ui.action"), map[string]string{"method": "password", "identifier": "ada@example.com", "password": secrets["new password"], "csrf_token": flow.csrfToken()})
	keep("after signing in")
	logout := v.get("/auth/self-service/logout/browser?return_to=/x")
	secrets["logout token"] = logout.text("logout_token")

	// What fails must not tell either.
	token := v.cookie("latchkey_session")
	for _, path := range []string{"/auth/self-service/logout?token=", "/auth/self-service/login?flow=", "/auth/login?flow=", "/x?", "/auth/self-service/logout/browser?return_to=https://evil.example/?", "/auth/login?a;b="} {
		v.open(path + "QUERYSECRET")
		v.postJSON(path+"QUERYSECRET", map[string]string{"password": goodPassword, "session_token": token})
	}
	v.get("/auth/sessions/whoami", with("X-Session-Token", "HEADERSECRET"), with("Authorization", "Bearer HEADERSECRET"), with("Referer", "http://localhost/?HEADERSECRET"))
	v.get("/auth/sessions/whoami", with("Cookie", "latchkey_session=HEADERSECRET"), with("Host", "example.com"))
	v.postForm("/auth/account/name", url.Values{"name": {"QUERYSECRET"}}, with("Sec-Fetch-Site", "cross-site"))
	v.delete("/auth/self-service/logout/api", `{"session_token": "QUERYSECRET"}`, with("Content-Type", typeJSON))
	v.open(logout.text("logout_url"))
	v.open("/auth/signed-out")
	require.NoError(t, site.db.Exec("DROP TABLE attempts").Error)
	v.postJSON(flow.text("ui.action"), map[string]string{"method": "password", "identifier": "ada@example.com", "password": secrets["new password"]})
	require.NoError(t, site.db.Exec("ALTER TABLE sessions RENAME TO moved").Error)
	v.get("/auth/sessions/whoami", with("X-Session-Token", token)).requireError(http.StatusInternalServerError, "")

	log := site.logged()
	require.Contains(t, log, `"path":"/auth/self-service/logout"`)
	require.Contains(t, log, `"level":"DEBUG"`)
	require.Contains(t, log, `"level":"ERROR"`)
	for what, secret := range secrets {
		require.NotEmpty(t, secret, what)
		require.NotContains(t, log, secret, what)
		require.NotContains(t, log, url.QueryEscape(secret), what)
	}
	for _, line := range strings.Split(strings.TrimSpace(log), "\n") {
		require.True(t, json.Valid([]byte(line)), line)
	}
}

func TestLogLinesCanNotBeForgedOrFilled(t *testing.T) {
	site := newSite(t)
	v := site.visitor()
	v.open("/auth/%0a%7B%22level%22:%22ERROR%22%7D%1b%5B31m")
	v.get("/x", with("X-Request-Id", "forged"), with("X-Forwarded-For", "6.6.6.6"), with("User-Agent", "forged"))
	v.open("/" + strings.Repeat("long", 12<<10))
	log := site.logged()
	require.Len(t, strings.Split(strings.TrimSpace(log), "\n"), 3)
	require.NotContains(t, log, "forged")
	require.NotContains(t, log, "6.6.6.6")
	require.Less(t, len(log), 4000)
}

// logged stops the site, since a line is written after its answer, and returns what was logged.
func (s *site) logged() string {
	s.server.Close()
	return s.log.String()
}
