package app_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/app/config"
	"latchkey/models"
)

// setCookies returns the Set-Cookie headers of an answer by name, as they were sent.
func (r answer) setCookies() map[string]string {
	cookies := map[string]string{}
	for _, raw := range r.header.Values("Set-Cookie") {
		name, _, _ := strings.Cut(raw, "=")
		require.NotContains(r.t, cookies, name, "a cookie is set once")
		cookies[name] = raw
	}
	return cookies
}

func TestCookiesAreAsTightAsTheSettingsAllow(t *testing.T) {
	for _, c := range []struct{ base, domain, prefix, attributes string }{
		{"", "", "", "; Path=/%; HttpOnly; SameSite=Lax"},
		{"http://login.example.com", "", "", "; Path=/%; HttpOnly; SameSite=Lax"},
		{"http://login.example.com", "example.com", "", "; Path=/; Domain=example.com%; HttpOnly; SameSite=Lax"},
		{"https://login.example.com", "", "__Host-", "; Path=/%; HttpOnly; Secure; SameSite=Lax"},
		{"https://login.example.com", "login.example.com", "__Secure-", "; Path=/; Domain=login.example.com%; HttpOnly; Secure; SameSite=Lax"},
		{"https://login.example.com", "example.com", "__Secure-", "; Path=/; Domain=example.com%; HttpOnly; Secure; SameSite=Lax"},
	} {
		t.Run(c.base+" "+c.domain, func(t *testing.T) {
			site := newSite(t, func(config *config.Config) { config.BaseURL, config.CookieDomain = c.base, c.domain })
			site.register("ada@example.com")
			// By hand: a jar would not send these to the address that the test runs on.
			flow := site.visitor().get("/auth/self-service/login/browser", asJSON)
			flowCookie := flow.setCookies()[c.prefix+"latchkey_flow"]
			attributes := func(maxAge string) string { return strings.Replace(c.attributes, "%", maxAge, 1) }
			require.True(t, strings.HasSuffix(flowCookie, attributes("")), flowCookie)
			pair, _, _ := strings.Cut(flowCookie, ";")
			action := site.url + flow.text("ui.action")[strings.Index(flow.text("ui.action"), "/auth/"):]
			signIn := func(remember bool) map[string]string {
				res := site.visitor().postJSON(action, map[string]any{"method": "password", "identifier": "ada@example.com",
					"password": goodPassword, "remember": remember}, with("Cookie", pair))
				require.Equal(t, http.StatusOK, res.status, res.body)
				return res.setCookies()
			}

			for remember, maxAge := range map[bool]string{false: "", true: "; Max-Age=2592000"} {
				cookies := signIn(remember)
				session := cookies[c.prefix+"latchkey_session"]
				require.Regexp(t, `=[A-Z2-7]{26};`, session, "the token and nothing else")
				require.True(t, strings.HasSuffix(session, attributes(maxAge)), session)
				device := cookies[c.prefix+"latchkey_device"]
				require.True(t, strings.HasSuffix(device, attributes("; Max-Age=15552000")), device)
			}

			session, _, _ := strings.Cut(signIn(false)[c.prefix+"latchkey_session"], ";")
			logout := site.visitor().get("/auth/self-service/logout/browser", with("Cookie", session)).text("logout_url")
			logout = site.url + logout[strings.Index(logout, "/auth/"):]
			gone := site.visitor().get(logout, asPage, with("Cookie", session)).setCookies()
			require.Len(t, gone, 2)
			receipt := gone[c.prefix+"latchkey_receipt"]
			require.True(t, strings.HasSuffix(receipt, attributes("; Max-Age=300")), receipt)
			require.Equal(t, c.prefix+"latchkey_session="+attributes("; Max-Age=0"), gone[c.prefix+"latchkey_session"])
			if c.prefix != "" {
				name := strings.TrimPrefix(session, c.prefix)
				site.visitor().get("/auth/sessions/whoami", with("Cookie", name)).requireError(http.StatusUnauthorized, "session_inactive")
			}
		})
	}
}

func TestBrokenAndForeignCookiesSignNobodyIn(t *testing.T) {
	site := newSite(t)
	ada, bob := site.signUp("ada@example.com"), site.signUp("bob@example.com")
	token, ended := ada.cookie("latchkey_session"), bob.cookie("latchkey_session")
	logout := ada.logoutURL()
	bob.open(bob.logoutURL())
	site.register("eve@example.com")
	disabled := site.signIn("eve@example.com").cookie("latchkey_session")
	eve, err := site.store.Identities.ByEmail(t.Context(), "eve@example.com")
	require.NoError(t, err)
	require.NoError(t, site.store.Identities.Disable(t.Context(), eve.ID))
	writes := site.writes()
	for _, cookie := range []string{
		"", "latchkey_session", "latchkey_session=", "latchkey_session=x", "latchkey_session=" + ended, "latchkey_session=" + disabled,
		"latchkey_session=" + strings.ToLower(token), "latchkey_session=" + token[1:], "latchkey_session=" + token + "A", "latchkey_session=%20" + token,
		"latchkey_session=" + strings.Repeat("A", 26), "latchkey_session=" + strings.Repeat("A", 20000), "latchkey_session=\x80\xff", "latchkey_session=' OR 1=1 --",
		"latchkey_session=" + ada.cookie("latchkey_flow"), "latchkey_session=" + ada.cookie("latchkey_device"), "latchkey_session=" + token + "=",
		"LATCHKEY_SESSION=" + token, "latchkey_sessions=" + token, "X-latchkey_session=" + token, "latchkey_session =" + token + "x", "latchkey_flow=" + token + "; latchkey_device=" + token,
		strings.Repeat(";", 5000),
	} {
		v := site.visitor()
		as := with("Cookie", cookie)
		v.get("/auth/sessions/whoami", as).requireError(http.StatusUnauthorized, "session_inactive")
		v.get("/auth/sessions", as).requireError(http.StatusUnauthorized, "session_inactive")
		v.get("/auth/self-service/logout/browser", as).requireError(http.StatusUnauthorized, "session_inactive")
		v.delete("/auth/sessions", "", as).requireError(http.StatusUnauthorized, "session_inactive")
		v.get(logout, asJSON, as).requireError(http.StatusUnauthorized, "session_inactive")
		require.Equal(t, http.StatusSeeOther, v.get("/auth/account", asPage, as).status)
		require.Equal(t, http.StatusOK, v.get("/auth/login", asPage, as).status)
		require.Equal(t, http.StatusOK, v.get("/auth/logout", asPage, as).status)
		require.Equal(t, http.StatusSeeOther, v.postJSON("/auth/account/sessions/end", map[string]string{}, as, asPage, with("Content-Type", typeForm)).status)
	}
	require.Zero(t, writes())
	require.True(t, ada.signedIn())

	// RFC 6265 §4.1.1 allows quotes.
	for _, cookie := range []string{`latchkey_session="` + token + `"`, "x=y;latchkey_session=" + token} {
		require.Equal(t, http.StatusOK, site.visitor().get("/auth/sessions/whoami", with("Cookie", cookie)).status)
	}
}

// An app's own Authorization header, which a proxy passes on with the cookie, signs nobody out.
func TestTokensHaveAnOrder(t *testing.T) {
	site := newSite(t)
	ada, bob := site.signUp("ada@example.com"), site.signUp("bob@example.com")
	site.register("eve@example.com")
	ended, eve := bob.cookie("latchkey_session"), site.apiToken("eve@example.com")
	bob.open(bob.logoutURL())
	whoami := func(v *visitor, headers ...header) string {
		t.Helper()
		res := v.get("/auth/sessions/whoami", headers...)
		if res.status == http.StatusUnauthorized {
			return ""
		}
		require.Equal(t, http.StatusOK, res.status, res.body)
		list := v.get("/auth/sessions", headers...)
		require.Equal(t, http.StatusOK, list.status, list.body)
		return res.text("identity.traits.email")
	}
	bearer := func(token string) header { return with("Authorization", "Bearer "+token) }
	for _, h := range []header{with("X-Session-Token", "x"), with("X-Session-Token", ended)} {
		require.Empty(t, whoami(ada, h), "X-Session-Token alone counts if it is there")
	}
	require.Equal(t, "eve@example.com", whoami(ada, with("X-Session-Token", eve), bearer("x")))
	for _, h := range []header{bearer("x"), bearer(""), bearer(ended), bearer(eve), bearer(strings.Repeat("A", 26)), with("Authorization", "Basic "+eve),
		with("Authorization", eve), with("X-Session-Token", "")} {
		require.Equal(t, "ada@example.com", whoami(ada, h), "then the cookie")
	}
	for _, cookie := range []string{"", "latchkey_session=x", "latchkey_session=" + ended, "latchkey_session=" + strings.Repeat("A", 26)} {
		require.Equal(t, "eve@example.com", whoami(site.visitor(), with("Cookie", cookie), bearer(eve)), "then Authorization")
	}
	logout := ada.get("/auth/self-service/logout/browser", bearer("x"))
	require.Equal(t, http.StatusOK, logout.status, logout.body)
}

func TestEveryPageHasItsSecurityHeaders(t *testing.T) {
	for _, base := range []string{"", "https://login.example.com"} {
		site := newSite(t, returns, func(c *config.Config) {
			c.BaseURL, c.LoginReturnURL, c.LogoutReturnURL = base, "https://home.example.com/x", "/bye"
		})
		site.register("ada@example.com")
		v := site.visitor()
		for _, path := range []string{"/auth/login", "/auth/registration", "/auth/logout", "/auth/signed-out", "/nothing", "/auth/login?return_to=//x"} {
			page := v.open(path)
			require.Equal(t, "text/html; charset=utf-8", page.header.Get("Content-Type"), path)
			policy := map[string]string{}
			for part := range strings.SplitSeq(page.header.Get("Content-Security-Policy"), "; ") {
				name, sources, _ := strings.Cut(part, " ")
				policy[name] = sources
			}
			require.Equal(t, map[string]string{"default-src": "'none'", "style-src": "'self'", "script-src": "'self'", "connect-src": "'self'", "img-src": "'self' data:",
				"base-uri": "'none'", "frame-ancestors": "'none'",
				"form-action": "'self' https://app.example.com https://limited.example.com https://*.apps.example.com https://home.example.com"}, policy)
			require.Equal(t, "nosniff", page.header.Get("X-Content-Type-Options"))
			require.Equal(t, "no-referrer", page.header.Get("Referrer-Policy"))
			require.Equal(t, "no-store", page.header.Get("Cache-Control"))
			require.Equal(t, base != "", page.header.Get("Cross-Origin-Opener-Policy") != "", path)
			require.Contains(t, page.header.Get("Permissions-Policy"), "camera=()")
			require.NotRegexp(t, `(?i)<[^>]+\s(on[a-z]+|style)=|<script>|<style|javascript:`, page.body, "nothing that the policy would refuse")
			require.Equal(t, base != "", page.header.Get("Strict-Transport-Security") != "", path)
		}
		for _, path := range []string{"/auth/sessions/whoami", "/auth/openapi.json", "/auth/health/alive", "/auth/static/x"} {
			res := v.get(path)
			require.Equal(t, "default-src 'none'; frame-ancestors 'none'", res.header.Get("Content-Security-Policy"), path)
			require.Equal(t, "nosniff", res.header.Get("X-Content-Type-Options"))
			require.Equal(t, base != "", res.header.Get("Strict-Transport-Security") != "", path)
		}
	}
}

func TestClearSiteDataFollowsALogout(t *testing.T) {
	for _, c := range []struct{ base, setting, want string }{
		{"", "off", ""}, {"https://login.example.com", "off", ""},
		{"", `"cache", "storage"`, `"cache", "storage"`}, {"https://login.example.com", `"cache"`, `"cache"`},
	} {
		site := newSite(t, func(config *config.Config) { config.BaseURL, config.ClearSiteData = c.base, c.setting })
		identity := site.register("ada@example.com")
		for _, as := range []header{asPage, asJSON} {
			session := site.startSession(identity)
			name := "latchkey_session"
			if strings.HasPrefix(c.base, "https:") {
				name = "__Host-" + name
			}
			cookie := with("Cookie", name+"="+session.Token)
			require.Empty(t, site.visitor().get("/auth/sessions/whoami", cookie).header.Get("Clear-Site-Data"))
			token := site.visitor().get("/auth/self-service/logout/browser", cookie).text("logout_token")
			res := site.visitor().get("/auth/self-service/logout?token="+token, as, cookie)
			require.Contains(t, []int{http.StatusSeeOther, http.StatusNoContent}, res.status)
			require.Equal(t, c.want, res.header.Get("Clear-Site-Data"))
		}
	}
}

// startSession starts a session without a browser.
func (s *site) startSession(identity models.Identity) models.Session {
	s.t.Helper()
	credential := s.password(identity.ID)
	session, err := s.store.Sessions.Start(s.t.Context(), models.SignIn{Identity: identity, Limit: 200, Proof: models.Proof{Method: models.MethodPassword, AAL: models.AAL1,
		Credential: credential.ID, Version: credential.Version, At: s.clock.Now()}, Lifetime: time.Hour, Idle: time.Hour})
	require.NoError(s.t, err)
	return session
}
