package app_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/publicsuffix"

	"latchkey/app/config"
)

// cookies sends the cookies of these names and values, alternating.
func cookies(pairs ...string) header {
	var all []string
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, pairs[i]+"="+pairs[i+1])
	}
	return with("Cookie", strings.Join(all, "; "))
}

const sessionCookie = "latchkey_session"

// inBrowser is a visitor whose browser finds every host at this site, and keeps cookies as browsers do. target is
// where it is for v.get and so on with a path.
func (s *site) inBrowser(jar http.CookieJar, target string) *visitor {
	if jar == nil {
		var err error
		jar, err = cookiejar.New(&cookiejar.Options{PublicSuffixList: publicsuffix.List})
		require.NoError(s.t, err)
	}
	_, address, _ := strings.Cut(s.url, "://")
	here := *s
	here.url = target
	v := here.visitor()
	v.jar, v.client.Jar = jar, jar
	v.client.Transport = &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	s.t.Cleanup(v.client.CloseIdleConnections)
	return v
}

// plant sets a cookie as another host can.
func (v *visitor) plant(from, cookie string) {
	v.site.t.Helper()
	u, err := url.Parse(from)
	require.NoError(v.site.t, err)
	parsed, err := http.ParseSetCookie(cookie)
	require.NoError(v.site.t, err)
	v.jar.SetCookies(u, []*http.Cookie{parsed})
}

// sent returns how many cookies the browser sends to a URL that begin with a name.
func (v *visitor) sent(to, name string) (n int) {
	u, err := url.Parse(to)
	require.NoError(v.site.t, err)
	for _, cookie := range v.jar.Cookies(u) {
		if strings.HasPrefix(cookie.Name, name) {
			n++
		}
	}
	return n
}

func TestSeveralCookiesOfOnePerson(t *testing.T) {
	site := newSite(t)
	older := site.signUp("ada@example.com")
	site.clock.advance(time.Minute)
	newer := site.signIn("ada@example.com")
	ended := site.signIn("ada@example.com")
	old, fresh, over := older.cookie(sessionCookie), newer.cookie(sessionCookie), ended.cookie(sessionCookie)
	newerID := newer.sessionID()
	ended.open(ended.logoutURL())
	unknown := strings.Repeat("A", 26)
	for _, c := range []header{
		cookies(sessionCookie, old, sessionCookie, fresh), cookies(sessionCookie, fresh, sessionCookie, old), cookies(sessionCookie, fresh, sessionCookie, fresh),
		cookies(sessionCookie, "garbage", sessionCookie, fresh), cookies(sessionCookie, unknown, sessionCookie, over, sessionCookie, fresh, sessionCookie, ""),
		cookies(sessionCookie+"_other_8080", unknown, sessionCookie, fresh),
	} {
		res := site.visitor().get("/auth/sessions/whoami", c)
		require.Equal(t, http.StatusOK, res.status, res.body)
		require.Equal(t, newerID, res.text("id"), "the newest that is active")
		require.Equal(t, http.StatusOK, site.visitor().get("/auth/account", asPage, c).status)
		require.Equal(t, http.StatusOK, site.visitor().get("/auth/verify", c).status)
	}

	both := cookies(sessionCookie, old, sessionCookie, fresh)
	out := site.visitor().open(site.visitor().get("/auth/self-service/logout/browser", both).text("logout_url"))
	require.Equal(t, http.StatusSeeOther, out.status, "no cookie, nothing to end")
	require.True(t, newer.signedIn())
	out = site.visitor().get(older.logoutURL(), asPage, both)
	require.Equal(t, http.StatusSeeOther, out.status)
	require.False(t, older.signedIn())
	require.False(t, newer.signedIn(), "the token of one of them ends all that the browser has")
}

// Another host has the browser keep a cookie with a session of its own, to see what this person does in it.
func TestCookiesOfSeveralPeopleSignNobodyIn(t *testing.T) {
	site := newSite(t)
	ada, eve := site.signUp("ada@example.com"), site.signUp("eve@example.com")
	own, planted := ada.cookie(sessionCookie), eve.cookie(sessionCookie)
	for _, both := range []header{cookies(sessionCookie, planted, sessionCookie, own), cookies(sessionCookie, own, sessionCookie+"_x", planted)} {
		v := site.visitor()
		v.get("/auth/sessions/whoami", both).requireError(http.StatusUnauthorized, "session_inactive")
		v.get("/auth/verify", both, asJSON).requireError(http.StatusUnauthorized, "session_inactive")
		v.delete("/auth/sessions", "", both).requireError(http.StatusUnauthorized, "session_inactive")
		require.Equal(t, http.StatusSeeOther, v.get("/auth/account", asPage, both).status)
		for _, page := range []string{"/auth/login", "/auth/logout"} {
			res := v.get(page, asPage, both)
			require.Equal(t, http.StatusOK, res.status)
			require.Contains(t, res.body, "signed in to several accounts at once")
			require.NotContains(t, res.body, "You are signed out")
		}
		require.Contains(t, v.get("/auth/login", asPage, both).body, `href="/auth/logout"`)
		require.Equal(t, "/auth/logout", v.get("/auth/signed-out", asPage, both).header.Get("Location"))
	}

	both := cookies(sessionCookie, planted, sessionCookie, own)
	logout := site.visitor().get("/auth/self-service/logout/browser", both)
	require.Equal(t, http.StatusOK, logout.status, logout.body)
	out := site.visitor().get(logout.text("logout_url"), asPage, both)

	require.Equal(t, http.StatusSeeOther, out.status)
	require.False(t, ada.signedIn())
	require.False(t, eve.signedIn())
	require.NotContains(t, strings.Join(out.header.Values("Set-Cookie"), "\n"), "latchkey_receipt", "it could be a stranger's")
}

func TestSigningInEndsAllThatTheBrowserHad(t *testing.T) {
	site := newSite(t)
	ada, eve := site.signUp("ada@example.com"), site.signUp("eve@example.com")
	v := site.visitor()
	flow := v.get("/auth/self-service/login/browser", asJSON)
	res := v.postJSON(flow.text("ui.action"), map[string]any{"method": "password", "identifier": "ada@example.com", "password": goodPassword, "csrf_token": flow.csrfToken()},
		cookies("latchkey_flow", v.cookie("latchkey_flow"), sessionCookie, eve.cookie(sessionCookie), sessionCookie, ada.cookie(sessionCookie)))

	require.Equal(t, http.StatusOK, res.status, res.body)
	require.True(t, v.signedIn())
	require.False(t, ada.signedIn())
	require.False(t, eve.signedIn())
}

// A host beside ours plants cookies that are sent with, or before, the person's own.
func TestPlantedCookiesAreEndedAndDeleted(t *testing.T) {
	const home, attackers = "http://auth.example.com", "http://evil.example.com"
	site := newSite(t, func(c *config.Config) { c.BaseURL = home })
	site.register("ada@example.com")
	for i, attributes := range []string{"; Domain=example.com; Path=/auth", "; Domain=example.com; Path=/", "; Domain=example.com; Path=/auth/"} {
		for name, value := range map[string]string{"a session": site.token(fmt.Sprintf("eve%d@example.com", i)), "garbage": "garbage"} {
			t.Run(name+attributes, func(t *testing.T) {
				ada := site.inBrowser(nil, home)
				require.Equal(t, http.StatusOK, ada.submitLogin("ada@example.com", goodPassword).status)
				ada.plant(attackers, sessionCookie+"="+value+attributes)
				require.Equal(t, 2, ada.sent(home+"/auth/account", sessionCookie))

				if name == "garbage" {
					require.True(t, ada.signedIn())
				} else {
					require.False(t, ada.signedIn())
				}
				if i == 0 && name != "garbage" { // signing out settles it too
					require.Equal(t, http.StatusSeeOther, ada.open(ada.logoutURL()).status)
				}
				require.Equal(t, http.StatusOK, ada.submitLogin("ada@example.com", goodPassword).status, "signing in settles it")
				require.True(t, ada.signedIn())
				require.Equal(t, "ada@example.com", ada.get("/auth/sessions/whoami").text("identity.traits.email"))
				require.Equal(t, 1, ada.sent(home+"/auth/account", sessionCookie))

				ada.plant(attackers, sessionCookie+"="+value+attributes)
				require.Equal(t, http.StatusSeeOther, ada.open(ada.logoutURL()).status)
				require.False(t, ada.signedIn())
				require.Zero(t, ada.sent(home+"/auth/account", sessionCookie))
				site.visitor().get("/auth/sessions/whoami", cookies(sessionCookie, value)).requireError(http.StatusUnauthorized, "session_inactive")
			})
		}
	}
}

// With https browsers protect our cookie's name: one by another name changes nothing, and is ended all the same.
func TestLessProtectedCookiesSignNobodyIn(t *testing.T) {
	for _, c := range []struct{ domain, own, weaker string }{
		{"", "__Host-latchkey_session", "__Secure-latchkey_session"}, {"", "__Host-latchkey_session", sessionCookie},
		{"example.com", "__Secure-latchkey_session", sessionCookie},
	} {
		site := newSite(t, func(settings *config.Config) {
			settings.BaseURL, settings.CookieDomain = "https://auth.example.com", c.domain
		})
		ada, eve := site.token("ada@example.com"), site.token("eve@example.com")
		both := cookies(c.weaker, eve, c.own, ada)
		require.Equal(t, "ada@example.com", site.visitor().get("/auth/sessions/whoami", both).text("identity.traits.email"))
		site.visitor().get("/auth/sessions/whoami", cookies(c.weaker, eve)).requireError(http.StatusUnauthorized, "session_inactive")

		eves := site.visitor().get("/auth/self-service/logout/browser", cookies(c.own, eve)).text("logout_token")
		site.visitor().get("/auth/self-service/logout?token="+eves, asJSON, both).requireError(http.StatusForbidden, "")
		logout := site.visitor().get("/auth/self-service/logout/browser", both).text("logout_url")
		out := site.visitor().get(strings.Replace(logout, "https://auth.example.com", site.url, 1), asPage, both)

		require.Equal(t, http.StatusSeeOther, out.status)
		for _, token := range []string{ada, eve} {
			site.visitor().get("/auth/sessions/whoami", cookies(c.own, token)).requireError(http.StatusUnauthorized, "session_inactive")
		}
		deleted := out.header.Values("Set-Cookie")
		for _, name := range []string{c.own, c.weaker} {
			require.True(t, slices.ContainsFunc(deleted, func(cookie string) bool {
				return strings.HasPrefix(cookie, name+"=;") && strings.Contains(cookie, "Max-Age=0") && strings.Contains(cookie, "; Secure")
			}), "%s in %s", name, deleted)
		}
	}
}

// token makes an account and a session, and returns its token.
func (s *site) token(email string) string {
	s.t.Helper()
	return s.startSession(s.register(email)).Token
}

// The proxy of an app sees the cookie that its host gets; our own may have one that other settings have set.
func TestChangedCookieDomainLoopsNowhere(t *testing.T) {
	const home, wiki = "http://auth.a.example.com", "http://wiki.example.com"
	settings := func(domain string) func(*config.Config) {
		return func(c *config.Config) {
			c.BaseURL, c.CookieDomain, c.TrustedProxies, c.AllowedReturnURLs = home, domain, []string{"127.0.0.1"}, []string{wiki}
		}
	}
	site := newSite(t, settings("a.example.com"))
	site.register("ada@example.com")
	ada := site.inBrowser(nil, home)
	require.Equal(t, http.StatusOK, ada.submitLogin("ada@example.com", goodPassword).status)
	first := ada.sessionID()
	forwarded := []header{asPage, with("X-Forwarded-Method", "GET"), with("X-Forwarded-Proto", "http"), with("X-Forwarded-Host", "wiki.example.com"), with("X-Forwarded-Uri", "/page")}

	site = site.restart(settings("example.com"))
	ada = site.inBrowser(ada.jar, home)
	require.Equal(t, first, ada.sessionID(), "nobody is signed out by it")
	asked := ada.send(http.MethodGet, wiki+"/auth/verify", "", forwarded...)
	require.Equal(t, http.StatusSeeOther, asked.status)
	back := ada.open(asked.header.Get("Location"))
	require.Equal(t, wiki+"/page", back.header.Get("Location"))
	require.Equal(t, http.StatusOK, ada.send(http.MethodGet, wiki+"/auth/verify", "", forwarded...).status, "the way back ends there")
	require.Equal(t, http.StatusOK, ada.submitLogin("ada@example.com", goodPassword).status)
	require.Equal(t, http.StatusOK, ada.send(http.MethodGet, wiki+"/auth/verify", "", forwarded...).status)
	require.Equal(t, 1, ada.sent(home+"/", sessionCookie), "the older one is deleted")

	site = site.restart(settings(""))
	ada = site.inBrowser(ada.jar, home)
	require.True(t, ada.signedIn())
	require.Equal(t, http.StatusOK, ada.submitLogin("ada@example.com", goodPassword).status)
	require.True(t, ada.signedIn())
	require.Equal(t, http.StatusSeeOther, ada.open(ada.logoutURL()).status)
	require.False(t, ada.signedIn())
	require.Zero(t, ada.sent(home+"/", sessionCookie))
}

func TestInstallationsBesideEachOtherLeaveTheOthersSignedIn(t *testing.T) {
	t.Run("on two ports of a host", func(t *testing.T) {
		one, other := newSite(t), newSite(t, func(c *config.Config) { c.Port = 18101 })
		one.besides(other, one.visitor(), func(jar http.CookieJar) *visitor {
			v := other.visitor()
			v.jar, v.client.Jar = jar, jar
			return v
		})
	})
	t.Run("below one domain", func(t *testing.T) {
		on := func(base string) *site {
			return newSite(t, func(c *config.Config) { c.BaseURL, c.CookieDomain = base, "example.com" })
		}
		one, other := on("http://one.example.com"), on("http://auth.other.example.com")
		one.besides(other, one.inBrowser(nil, "http://one.example.com"), func(jar http.CookieJar) *visitor {
			return other.inBrowser(jar, "http://auth.other.example.com")
		})
	})
}

// besides signs somebody in and out here and there in one browser, in every order.
func (s *site) besides(other *site, here *visitor, sameBrowser func(http.CookieJar) *visitor) {
	t := s.t
	t.Helper()
	s.register("ada@example.com")
	other.register("ada@example.com")
	there := sameBrowser(here.jar)
	signIn := func(v *visitor) {
		t.Helper()
		res := v.submitLogin("ada@example.com", goodPassword)
		require.Equal(t, http.StatusOK, res.status, res.body)
		require.True(t, v.signedIn())
	}
	for range 2 {
		signIn(here)
		signIn(there)
		require.True(t, here.signedIn(), "a sign-in there leaves it")
		signIn(here)
		require.True(t, there.signedIn(), "and here")
		require.Equal(t, http.StatusSeeOther, there.open(there.logoutURL()).status)
		require.False(t, there.signedIn())
		require.True(t, here.signedIn(), "and a sign-out there")
		signIn(there)
		require.Equal(t, http.StatusSeeOther, here.open(here.logoutURL()).status)
		require.True(t, there.signedIn(), "and here")
		here, there = there, here
	}
}

// Browsers delete a cookie only if its domain and path are right, and proxies limit the size of a header.
func TestAnswerDeletesAsMuchAsFits(t *testing.T) {
	site := newSite(t, func(c *config.Config) { c.BaseURL = "http://a.b.c.d.example.com" })
	token := site.token("ada@example.com")
	pairs := []string{sessionCookie, token}
	for range 63 {
		pairs = append(pairs, sessionCookie, "x")
	}
	logout := site.visitor().get("/auth/self-service/logout/browser", cookies(pairs...)).text("logout_url")
	out := site.visitor().get(strings.Replace(logout, "http://a.b.c.d.example.com", site.url, 1), asJSON, cookies(pairs...))
	require.Equal(t, http.StatusNoContent, out.status, out.body)
	set := out.header.Values("Set-Cookie")
	require.Less(t, len(set), 26)
	require.Less(t, len(strings.Join(set, "\r\nSet-Cookie: ")), 2500)
	for _, domain := range []string{"a.b.c.d.example.com", "b.c.d.example.com", "c.d.example.com", "d.example.com", "example.com"} {
		require.True(t, slices.ContainsFunc(set, func(c string) bool { return strings.Contains(c, "Path=/; Domain="+domain+";") }), domain)
	}
}
