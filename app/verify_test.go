package app_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"latchkey/app/config"
	"latchkey/models"
	"latchkey/test/kit"
)

// forApps are the settings of https://auth.example.com for apps on other hosts of example.com,
// with the test itself as the proxy.
func forApps(c *config.Config) {
	c.BaseURL, c.CookieDomain = "https://auth.example.com", "example.com"
	c.TrustedProxies = []string{"127.0.0.1"}
	c.AllowedReturnURLs = []string{"https://*.example.com"}
}

// guarded is a site that a proxy asks about every request.
type guarded struct {
	*site
	tokens map[string]string // of sessions, by address
}

// guard starts one on which these people are signed in.
func guard(t *testing.T, configure func(*config.Config), people ...string) *guarded {
	t.Helper()
	plain := newSite(t)
	g := &guarded{tokens: map[string]string{}}
	for _, email := range people {
		g.tokens[email] = plain.signUp(email).cookie("latchkey_session")
	}
	g.site = plain.restart(forApps, configure)
	return g
}

func (g *guarded) in(email string, groups ...string) {
	g.t.Helper()
	person, err := g.store.Identities.ByEmail(g.t.Context(), email)
	require.NoError(g.t, err)
	for _, group := range groups {
		require.NoError(g.t, g.store.Identities.AddToGroup(g.t.Context(), person.ID, group))
	}
}

// as is the cookie of a person's session.
func (g *guarded) as(email string) header {
	return with("Cookie", "__Secure-latchkey_session="+g.tokens[email])
}

// asks is what a proxy adds to a request for a URL.
func asks(method, target string) header {
	u, err := url.Parse(target)
	if err != nil {
		panic(err)
	}
	return func(h http.Header) {
		h.Set("X-Forwarded-Method", method)
		h.Set("X-Forwarded-Proto", u.Scheme)
		h.Set("X-Forwarded-Host", u.Host)
		_, after, _ := strings.Cut(target, "://")
		h.Set("X-Forwarded-Uri", after[strings.IndexByte(after, '/'):])
	}
}

func nothing(*config.Config) {}

func TestVerifySaysWhoItIs(t *testing.T) {
	g := guard(t, nothing, "ada@example.com")
	ada, err := g.store.Identities.ByEmail(t.Context(), "ada@example.com")
	require.NoError(t, err)
	says := func() http.Header {
		res := g.visitor().get("/auth/verify", g.as("ada@example.com"))
		require.Equal(t, http.StatusOK, res.status, res.body)
		require.Empty(t, res.body)
		require.Equal(t, "no-store", res.header.Get("Cache-Control"))
		return res.header
	}

	h := says()
	require.Equal(t, []string{"ada@example.com"}, h["Remote-User"])
	require.Equal(t, []string{ada.ID.String()}, h["X-Kratos-Authenticated-Identity-Id"])
	require.Equal(t, []string{"ada@example.com"}, h["Remote-Email"])
	require.Equal(t, []string{""}, h["Remote-Name"], "there, so that no other takes its place")
	require.Equal(t, []string{""}, h["Remote-Groups"])

	g.in("ada@example.com", "staff", "editors")
	require.Equal(t, []string{"editors,staff"}, says()["Remote-Groups"])
	for name, written := range map[string]string{
		"Ada Lovelace":            "Ada Lovelace",
		`Ada "☃" <b>%0d%0a`:       `Ada "%E2%98%83" <b>%250d%250a`,
		"a\r\nRemote-User: root":  "a%0D%0ARemote-User: root",
		" Ada ":                   "%20Ada%20",
		" ":                       "%20",
		"Zoë, {env.HOME} $host":   "Zo%C3%AB, {env.HOME} $host",
		"\x00\x7f\xff":            "%00%7F%FF",
		"%":                       "%25",
		strings.Repeat("é", 400):  strings.Repeat("%C3%A9", 400),
		"~!@#^&*()_+`-=[]\\;',./": "~!@#^&*()_+`-=[]\\;',./",
	} {
		if kit.UsesPostgres() && (strings.Contains(name, "\x00") || !utf8.ValidString(name)) {
			continue // PostgreSQL does not store it
		}
		require.NoError(t, g.db.Exec("UPDATE identities SET name = ? WHERE id = ?", name, ada.ID).Error, "as an earlier version may have stored it")
		sent := says().Get("Remote-Name")
		require.Equal(t, written, sent)
		back, err := url.PathUnescape(sent)
		require.NoError(t, err)
		require.Equal(t, name, back)
	}
}

func TestVerifyIsForCookiesAlone(t *testing.T) {
	g := guard(t, nothing, "ada@example.com")
	token := g.tokens["ada@example.com"]
	for _, h := range []header{with("X-Session-Token", token), with("Authorization", "Bearer "+token)} {
		g.visitor().get("/auth/verify", h).requireError(http.StatusUnauthorized, "session_inactive")
	}
	for _, h := range []header{with("X-Session-Token", "x"), with("Authorization", "Bearer of the app"), with("Authorization", "Basic eDp5")} {
		require.Equal(t, http.StatusOK, g.visitor().get("/auth/verify", h, g.as("ada@example.com")).status, "it is the app's")
	}
}

func TestVerifyEndsWithTheSession(t *testing.T) {
	for name, end := range map[string]func(*guarded, models.Session) error{
		"signed out": func(g *guarded, s models.Session) error {
			return g.store.Sessions.End(t.Context(), s.ID, models.EndedByLogout)
		},
		"disabled": func(g *guarded, s models.Session) error { return g.store.Identities.Disable(t.Context(), s.IdentityID) },
		"deleted":  func(g *guarded, s models.Session) error { return g.store.Identities.Delete(t.Context(), s.IdentityID) },
		"expired":  func(g *guarded, _ models.Session) error { g.clock.advance(13 * time.Hour); return nil },
		"by operator": func(g *guarded, _ models.Session) error {
			_, err := g.store.Sessions.EndAll(t.Context(), [16]byte{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := guard(t, nothing, "ada@example.com")
			require.Equal(t, http.StatusOK, g.visitor().get("/auth/verify", g.as("ada@example.com")).status)
			session, err := g.store.Sessions.ByToken(t.Context(), g.tokens["ada@example.com"])
			require.NoError(t, err)

			require.NoError(t, end(g, session))

			res := g.visitor().get("/auth/verify", g.as("ada@example.com"))
			res.requireError(http.StatusUnauthorized, "session_inactive")
			for _, name := range []string{"Remote-User", "Remote-Email", "Remote-Name", "Remote-Groups"} {
				require.Empty(t, res.header.Values(name))
			}
		})
	}
}

func TestVerifyKeepsASessionInUse(t *testing.T) {
	site := newSite(t, func(c *config.Config) { c.SessionIdle = time.Hour })
	ada := site.signUp("ada@example.com")
	for range 3 {
		site.clock.advance(40 * time.Minute)
		require.Equal(t, http.StatusOK, ada.get("/auth/verify").status)
		require.Eventually(t, func() bool {
			session, err := site.store.Sessions.ByToken(t.Context(), ada.cookie("latchkey_session"))
			return err == nil && session.LastSeenAt.Equal(site.clock.Now())
		}, 30*time.Second, 5*time.Millisecond, "use is noted")
	}
	site.clock.advance(time.Hour)
	ada.get("/auth/verify").requireError(http.StatusUnauthorized, "session_inactive")
}

func TestVerifySendsABrowserToSignInWithTheWayBack(t *testing.T) {
	g := guard(t, nothing)
	const login = "https://auth.example.com/auth/login"
	for _, c := range []struct{ method, asked, back string }{
		{"GET", "https://app.example.com/", "https://app.example.com/"},
		{"GET", "https://app.example.com/notes?page=2&q=a%20b#", "https://app.example.com/notes?page=2&q=a%20b#"},
		{"HEAD", "https://app.example.com/notes?page=2", "https://app.example.com/notes?page=2"},
		{"GET", "https://App.Example.com:443/x", "https://app.example.com/x"},
		{"GET", "https://auth.example.com/x", "https://auth.example.com/x"},
		{"GET", "https://a.b.example.com/?return_to=https://evil.example&x=%26", "https://a.b.example.com/?return_to=https://evil.example&x=%26"},
		{"POST", "https://app.example.com/notes", "https://app.example.com/"}, // can't be sent again
		{"DELETE", "https://app.example.com/notes", "https://app.example.com/"},
		{"GET", "https://app.example.com//evil.example/", "https://app.example.com/"}, // no good as a return_to
		{"GET", "https://app.example.com/a%2Fb", "https://app.example.com/"},
		{"GET", "https://app.example.com/?" + strings.Repeat("x", 3000), "https://app.example.com/"},
		{"GET", "https://app.example.com:8443/x", ""}, // not allowed
	} {
		res := g.visitor().get("/auth/verify", asPage, asks(c.method, c.asked))
		require.Equal(t, http.StatusSeeOther, res.status, "%s %s: %s", c.method, c.asked, res.body)
		want := login
		if c.back != "" {
			want += "?" + url.Values{"return_to": {c.back}}.Encode()
		}
		require.Equal(t, want, res.header.Get("Location"))
		require.Equal(t, "no-store", res.header.Get("Cache-Control"))
		require.Empty(t, res.header.Values("Set-Cookie"))
	}
}

func TestVerifyRedirectsNothingButPages(t *testing.T) {
	g := guard(t, nothing)
	app := asks("GET", "https://app.example.com/x")
	navigates := with("Sec-Fetch-Mode", "navigate")
	require.Equal(t, http.StatusSeeOther, g.visitor().get("/auth/verify", asPage, app, navigates).status)
	for name, headers := range map[string][]header{
		"JSON":              {asJSON, app},
		"whatever":          {with("Accept", "*/*"), app},
		"fetch":             {asPage, app, with("Sec-Fetch-Mode", "cors")},
		"a picture":         {asPage, app, with("Sec-Fetch-Mode", "no-cors")},
		"a web socket":      {asPage, app, with("Sec-Fetch-Mode", "websocket")},
		"XMLHttpRequest":    {asPage, app, with("X-Requested-With", "XMLHttpRequest")},
		"a JSON body":       {asPage, app, with("Content-Type", "application/json")},
		"no method":         {asPage, app, with("X-Forwarded-Method", "")},
		"no scheme":         {asPage, app, with("X-Forwarded-Proto", "")},
		"no host":           {asPage, app, with("X-Forwarded-Host", "")},
		"no URI":            {asPage, app, with("X-Forwarded-Uri", "")},
		"no request at all": {asPage},
	} {
		res := g.visitor().get("/auth/verify", headers...)
		res.requireError(http.StatusUnauthorized, "session_inactive")
		require.Empty(t, res.header.Get("Location"), name)
		require.Contains(t, res.header.Get("Content-Type"), "application/json", name)
	}
}

func TestVerifySaysWhatIsWrongWithAProxy(t *testing.T) {
	g := guard(t, nothing)
	add := func(name, value string) header { return func(h http.Header) { h.Add(name, value) } }
	for name, values := range map[string][]string{
		"X-Forwarded-Method": {"get", "GET, POST", "G T", "<b>"},
		"X-Forwarded-Proto":  {"https, http", "javascript", "HTTPS", "ftp", "https:"},
		"X-Forwarded-Host":   {"app.example.com, evil.example", "a b", "app.example.com/", "a@app.example.com", "app.example.com:x", "app.example.com:", "..", "https://app.example.com", "app..example.com", "*.example.com", "[::1", "%61pp.example.com", "app.example.com?"},
		"X-Forwarded-Uri":    {"x", "https://evil.example/", "@evil.example/", ".evil.example/", ":8443/"},
	} {
		app := asks("GET", "https://app.example.com/x")
		for _, value := range values {
			res := g.visitor().get("/auth/verify", asPage, app, with(name, value))
			res.requireError(http.StatusUnauthorized, "session_inactive")
			require.Contains(t, res.text("error.reason"), name, value)
		}
		res := g.visitor().get("/auth/verify", asPage, app, func(h http.Header) { h.Add(name, h.Get(name)) })
		res.requireError(http.StatusUnauthorized, "session_inactive")
		require.Contains(t, res.text("error.reason"), name+" more than once")
		res = g.visitor().get("/auth/verify", asPage, app, add(name, ""))
		res.requireError(http.StatusUnauthorized, "session_inactive")
	}
}

func TestVerifyBelievesNobodyButTheProxy(t *testing.T) {
	g := guard(t, func(c *config.Config) {
		c.TrustedProxies, c.Access = []string{"10.0.0.0/8"}, "app.example.com=staff"
	}, "ada@example.com")
	g.in("ada@example.com", "staff")
	open := asks("GET", "https://app.example.com/x")

	res := g.visitor().get("/auth/verify", asPage, open)
	res.requireError(http.StatusUnauthorized, "session_inactive")
	require.Empty(t, res.header.Get("Location"))
	res = g.visitor().get("/auth/verify", asPage, open, g.as("ada@example.com"))
	res.requireError(http.StatusForbidden, "")
	require.Contains(t, res.text("error.reason"), "TRUSTED_PROXIES")
}

func TestVerifySendsNobodyInACircle(t *testing.T) {
	for name, c := range map[string]struct {
		asked     string
		configure func(*config.Config)
	}{
		"without COOKIE_DOMAIN": {"https://app.example.com/", func(c *config.Config) { c.CookieDomain = "" }},
		"outside of it":         {"https://app.example.org/", nothing},
		"not https":             {"http://app.example.com/", nothing},
	} {
		res := guard(t, c.configure).visitor().get("/auth/verify", asPage, asks("GET", c.asked))
		res.requireError(http.StatusForbidden, "")
		require.Contains(t, res.text("error.reason"), "COOKIE_DOMAIN", name)
	}
	own := guard(t, func(c *config.Config) { c.CookieDomain = "" })
	require.Equal(t, http.StatusSeeOther, own.visitor().get("/auth/verify", asPage, asks("GET", "https://auth.example.com/x")).status)
}

func TestAccessIsByHostAndGroup(t *testing.T) {
	g := guard(t, func(c *config.Config) {
		c.Access = "wiki.example.com=staff,editors *.lab.example.com=lab deep.lab.example.com=staff \t\n*.x.lab.example.com=editors bücher.example.com=lab 192.0.2.7=staff [2001:db8::1]=staff"
	}, "ada@example.com", "bob@example.com", "eve@example.com")
	g.in("ada@example.com", "staff")
	g.in("bob@example.com", "lab", "editors")
	for host, allowed := range map[string]string{
		"wiki.example.com": "ada bob", "WIKI.Example.Com": "ada bob", "wiki.example.com.": "ada bob", "wiki.example.com:8443": "ada bob", "wiki.example.com.:443": "ada bob",
		"a.lab.example.com": "bob", "a.b.lab.example.com": "bob", "deep.lab.example.com": "ada", "a.deep.lab.example.com": "bob", "a.x.lab.example.com": "bob",
		"lab.example.com": "ada bob eve", "xlab.example.com": "ada bob eve", "other.example.com": "ada bob eve", "a.wiki.example.com": "ada bob eve",
		"xn--bcher-kva.example.com": "bob", "bücher.example.com": "bob", "BÜCHER.example.com": "bob", "192.0.2.7": "ada", "192.0.2.7:80": "ada", "192.0.2.8": "ada bob eve", "[2001:db8::1]:443": "ada",
	} {
		for _, who := range []string{"ada", "bob", "eve"} {
			res := g.visitor().get("/auth/verify", with("X-Forwarded-Host", host), g.as(who+"@example.com"))
			if slices.Contains(strings.Fields(allowed), who) {
				require.Equal(t, http.StatusOK, res.status, "%s at %s: %s", who, host, res.body)
				continue
			}
			res.requireError(http.StatusForbidden, "")
			require.Contains(t, res.text("error.reason"), who+"@example.com isn't in any group")
			require.Empty(t, res.header.Values("Remote-User"))
		}
	}
}

func TestAccessForAllTheRest(t *testing.T) {
	g := guard(t, func(c *config.Config) { c.Access = "*=staff open.example.com=guests" }, "ada@example.com", "bob@example.com")
	g.in("ada@example.com", "staff")
	g.in("bob@example.com", "guests")
	for host, allowed := range map[string]string{"open.example.com": "bob", "x.example.com": "ada", "192.0.2.1": "ada", "localhost": "ada"} {
		for _, who := range []string{"ada", "bob"} {
			res := g.visitor().get("/auth/verify", with("X-Forwarded-Host", host), g.as(who+"@example.com"))
			require.Equal(t, who == allowed, res.status == http.StatusOK, "%s at %s: %s", who, host, res.body)
		}
	}
}

func TestAccessNeedsToKnowTheHost(t *testing.T) {
	g := guard(t, func(c *config.Config) { c.Access = "wiki.example.com=staff" }, "ada@example.com")
	g.in("ada@example.com", "staff")
	twice := func(h http.Header) { h["X-Forwarded-Host"] = []string{"wiki.example.com", "wiki.example.com"} }
	for _, h := range []header{with("X-Forwarded-Host", ""), with("Host", "wiki.example.com"), twice, with("X-Forwarded-Host", "wiki.example.com, wiki.example.com"),
		with("X-Forwarded-Host", "wiki.example.com/"), with("X-Forwarded-Host", "wiki_.example.com:x"),
		with("X-Forwarded-Host", "wiki.example.com:1:0"), with("X-Forwarded-Host", "wiki.example.com：1"), with("Forwarded", "host=wiki.example.com")} {
		res := g.visitor().get("/auth/verify", h, g.as("ada@example.com"))
		res.requireError(http.StatusForbidden, "")
		require.Contains(t, res.text("error.reason"), "X-Forwarded-Host")
	}
}

func TestWhoMayNotUseAnAppIsToldWhoTheyAre(t *testing.T) {
	g := guard(t, func(c *config.Config) { c.Access = "wiki.example.com=staff" }, "ada@example.com")
	wiki := asks("GET", "https://wiki.example.com/x")

	page := g.visitor().get("/auth/verify", asPage, wiki, g.as("ada@example.com"))

	page.requireError(http.StatusForbidden, "")
	require.Contains(t, page.body, "You don’t have access to wiki.example.com")
	require.Contains(t, page.body, "You are signed in as <bdi>ada@example.com</bdi>. Ask")
	require.Contains(t, page.body, `href="https://auth.example.com/auth/self-service/logout?token=`)
	require.Contains(t, page.body, `href="https://auth.example.com/auth/account"`)
	require.NotRegexp(t, `(href|src)="/`, page.body, "on another host these lead to the app")
	require.NotContains(t, page.body, "<script")
	require.Contains(t, page.header.Get("Content-Security-Policy"), "style-src https://auth.example.com;")

	for _, h := range []header{asJSON, with("Sec-Fetch-Mode", "cors"), with("X-Forwarded-Uri", "")} {
		res := g.visitor().get("/auth/verify", asPage, wiki, g.as("ada@example.com"), h)
		res.requireError(http.StatusForbidden, "")
		require.Contains(t, res.header.Get("Content-Type"), "application/json")
	}

	g.in("ada@example.com", "staff")
	require.Equal(t, http.StatusOK, g.visitor().get("/auth/verify", asPage, wiki, g.as("ada@example.com")).status, "from the next request on")
}

func TestTheAccessOfTheDocumentsPasses(t *testing.T) {
	_, entries, _ := strings.Cut(codeIn(t, "docs/behind-a-proxy.md", "sh", "ACCESS="), "=")
	settings := defaults(t)
	settings.Access = strings.Trim(entries, "\"\n")
	_, err := settings.Parse()
	require.NoError(t, err)
}

// asked are the ways in which proxies say what they ask about.
var ways = map[string]func(method, target string) (path string, said header){
	"X-Forwarded": func(method, target string) (string, header) { return "/auth/verify", asks(method, target) },
	"X-Original-URL": func(method, target string) (string, header) { // ingress-nginx
		return "/auth/verify", func(h http.Header) {
			h.Set("X-Original-URL", target)
			h.Set("X-Original-Method", method)
		}
	},
	"the path": func(method, target string) (string, header) { // Envoy
		proto, rest, _ := strings.Cut(target, "://")
		host, uri, _ := strings.Cut(rest, "/")
		return "/auth/verify/" + uri, func(h http.Header) {
			h.Set("Host", host)
			h.Set("X-Forwarded-Proto", proto)
		}
	},
}

func TestVerifyIsAskedInThreeWays(t *testing.T) {
	g := guard(t, func(c *config.Config) { c.Access = "wiki.example.com=staff" }, "ada@example.com", "bob@example.com")
	g.in("ada@example.com", "staff")
	for way, say := range ways {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"} {
			path, said := say(method, "https://wiki.example.com/a%20b?x=/&y=%2F")
			asking := method
			if way != "the path" {
				asking = "GET"
			}
			body := ""
			if asking == "POST" {
				body = `{"x":`
			}
			ask := func(headers ...header) answer {
				return g.visitor().send(asking, path, body, append([]header{asPage, said, with("Content-Type", "text/plain"), with("Origin", "https://elsewhere.example")}, headers...)...)
			}
			require.Equal(t, http.StatusOK, ask(g.as("ada@example.com")).status, "%s %s", way, method)
			require.Equal(t, http.StatusForbidden, ask(g.as("bob@example.com")).status, "%s %s", way, method)
			res := ask()
			require.Equal(t, http.StatusSeeOther, res.status, "%s %s: %s", way, method, res.body)
			back := "https://wiki.example.com/"
			if method == "GET" || method == "HEAD" {
				back = "https://wiki.example.com/a%20b?x=/&y=%2F"
			}
			require.Equal(t, "https://auth.example.com/auth/login?"+url.Values{"return_to": {back}}.Encode(), res.header.Get("Location"))
		}
	}
}

func TestTheWaysToAskMustAgree(t *testing.T) {
	g := guard(t, func(c *config.Config) {
		c.Access = "wiki.example.com=staff,PREFLIGHT wiki.example.com/public/*=PUBLIC open.example.com=SIGNED-IN"
	}, "bob@example.com")
	const secret, shown = "https://wiki.example.com/secret", "https://wiki.example.com/public/x"
	for first, one := range ways {
		for second, other := range ways {
			if first == second || second == "the path" {
				continue
			}
			path, said := one("GET", shown)
			_, alike := other("GET", shown)
			require.Equal(t, http.StatusOK, g.visitor().get(path, said, alike).status, "%s and %s", first, second)
			path, said = one("GET", secret)
			for _, forged := range []string{shown, "https://open.example.com/secret", "http://wiki.example.com/secret", "https://wiki.example.com:1/secret"} {
				_, claim := other("GET", forged)
				for _, headers := range [][]header{{said, claim}, {claim, said}} {
					res := g.visitor().get(path, append(headers, g.as("bob@example.com"))...)
					require.Equal(t, http.StatusForbidden, res.status, "%s and %s %s: %s", first, second, forged, res.body)
					g.visitor().get(path, headers...).requireError(http.StatusUnauthorized, "session_inactive")
				}
			}
			_, claim := other("OPTIONS", secret)
			g.visitor().get(path, said, claim, with("Origin", "https://x.example"), with("Access-Control-Request-Method", "GET")).requireError(http.StatusUnauthorized, "session_inactive")
		}
	}
	// What a proxy leaves out, nobody else may add.
	for _, h := range [][2]string{{"X-Forwarded-Host", "wiki.example.com"}, {"X-Forwarded-Uri", "/secret"}, {"X-Forwarded-Method", "GET"}} {
		_, claim := ways["X-Original-URL"]("GET", shown)
		res := g.visitor().get("/auth/verify", with(h[0], h[1]), claim)
		res.requireError(http.StatusUnauthorized, "session_inactive")
		require.Contains(t, res.text("error.reason"), "they don't agree")
	}
	for _, h := range [][2]string{{"X-Forwarded-Host", "open.example.com"}, {"X-Forwarded-Uri", "/public/x"}, {"X-Forwarded-Method", "OPTIONS"}} {
		path, said := ways["the path"]("GET", secret)
		res := g.visitor().get(path, said, with(h[0], h[1]))
		res.requireError(http.StatusUnauthorized, "session_inactive")
		require.Contains(t, res.text("error.reason"), "they don't agree")
	}
	// A proxy that asks with the request's own method lets nobody claim another.
	res := g.visitor().send("POST", "/auth/verify", "", asks("OPTIONS", secret), with("Origin", "https://x.example"), with("Access-Control-Request-Method", "GET"))
	res.requireError(http.StatusUnauthorized, "session_inactive")
	require.Contains(t, res.text("error.reason"), "asks with POST")
	// Nor does one that can't be read.
	for _, path := range []string{"/auth/%76erify/public/x", "/auth/verify%2Fpublic/x"} {
		res := g.visitor().get(path, with("Host", "wiki.example.com"))
		res.requireError(http.StatusUnauthorized, "session_inactive")
		require.Contains(t, res.text("error.reason"), "can't be read", path)
	}
	for _, bad := range []string{"/public/x", "wiki.example.com/public/x", "https:/wiki.example.com", "https://", "javascript://wiki.example.com/public/x", "https://a@wiki.example.com/public/x"} {
		res := g.visitor().get("/auth/verify", with("X-Original-URL", bad))
		require.Contains(t, res.text("error.reason"), "invalid X-Original-Url", bad)
	}
}

func TestPublicPathsAndPreflightsNeedNoSession(t *testing.T) {
	g := guard(t, func(c *config.Config) {
		c.Access = "wiki.example.com=staff wiki.example.com/public/*=PUBLIC api.example.com=SIGNED-IN,PREFLIGHT"
	}, "ada@example.com", "bob@example.com")
	g.in("ada@example.com", "staff")
	names := []string{"Remote-User", "Remote-Email", "Remote-Name", "Remote-Groups", "X-Kratos-Authenticated-Identity-Id"}
	preflight := func(h http.Header) {
		h.Set("Origin", "https://spa.example.com")
		h.Set("Access-Control-Request-Method", "PUT")
	}
	for way, say := range ways {
		path, said := say("GET", "https://wiki.example.com/public/x?y=z")
		for _, who := range []string{"", "bob@example.com"} {
			headers := []header{said}
			if who != "" {
				headers = append(headers, g.as(who))
			}
			res := g.visitor().get(path, headers...)
			require.Equal(t, http.StatusOK, res.status, "%s: %s", way, res.body)
			for _, name := range names {
				require.Equal(t, []string{""}, res.header[name], "set, so that nobody else's gets through")
			}
		}
		require.Equal(t, "staff", g.visitor().get(path, said, g.as("ada@example.com")).header.Get("Remote-Groups"), "who may use the app is known to it")
		path, said = say("GET", "https://wiki.example.com/public/..%2fsecret")
		require.Equal(t, http.StatusUnauthorized, g.visitor().get(path, said).status)

		path, said = say("OPTIONS", "https://api.example.com/x")
		asking := map[bool]string{true: "OPTIONS", false: "GET"}[way == "the path"]
		require.Equal(t, http.StatusOK, g.visitor().send(asking, path, "", said, preflight).status, way)
		require.Equal(t, http.StatusUnauthorized, g.visitor().send(asking, path, "", said).status, "no preflight")
		path, said = say("OPTIONS", "https://wiki.example.com/x")
		require.Equal(t, http.StatusUnauthorized, g.visitor().send(asking, path, "", said, preflight).status, "not there")
		path, said = say("PUT", "https://api.example.com/x")
		asking = map[bool]string{true: "PUT", false: "GET"}[way == "the path"]
		require.Equal(t, http.StatusUnauthorized, g.visitor().send(asking, path, "", said, preflight).status)
	}
	_, said := ways["X-Forwarded"]("GET", "https://wiki.example.com/public/x")
	res := guard(t, func(c *config.Config) {
		c.TrustedProxies, c.Access = nil, "wiki.example.com=staff wiki.example.com/public/*=PUBLIC"
	}).visitor().get("/auth/verify", said)
	res.requireError(http.StatusUnauthorized, "session_inactive")
}

func TestVerifyAboutLatchkeysOwnHostSaysWhatIsWrong(t *testing.T) {
	for setting, wrong := range map[string][]string{
		"wiki.example.com=staff": {"/", "/x", "/auth/verify"},
		"*=staff":                {"/", "/auth/"},
		"auth.example.com=staff": {"/auth", "/auth/verify?x"},
		"auth.example.com=staff auth.example.com/auth/*=PUBLIC": {"/auth/verify"},
	} {
		g := guard(t, func(c *config.Config) { c.Access = setting }, "ada@example.com")
		g.in("ada@example.com", "staff")
		for _, uri := range wrong {
			for _, headers := range [][]header{{}, {g.as("ada@example.com")}} {
				res := g.visitor().get("/auth/verify", append(headers, asPage, asks("GET", "https://Auth.example.com:443"+uri))...)
				res.requireError(http.StatusForbidden, "")
				require.Contains(t, res.text("error.reason"), "auth.example.com, which is Latchkey's own host", setting)
				require.Empty(t, res.header.Values("Remote-User"))
			}
		}
		if strings.HasPrefix(setting, "auth.") {
			require.Equal(t, http.StatusOK, g.visitor().get("/auth/verify", asks("GET", "https://auth.example.com/x"), g.as("ada@example.com")).status)
		}
	}
	g := guard(t, nothing, "ada@example.com")
	require.Equal(t, http.StatusOK, g.visitor().get("/auth/verify", asks("GET", "https://auth.example.com/x"), g.as("ada@example.com")).status, "there is no ACCESS to skip")
}

func TestRemoteUserIsWhatItsSettingSays(t *testing.T) {
	plain := newSite(t)
	type person struct {
		cookie header
		id     string
	}
	people := map[string]person{}
	for email, trust := range map[string]models.Trust{"old@example.com": models.TrustUnknown, "self@example.com": models.GivenByPerson,
		"bob@example.com": models.SetByOperator, "50%@example.com": models.Verified} {
		v := plain.signUp(email)
		identity, err := plain.store.Identities.ByEmail(t.Context(), email)
		require.NoError(t, err)
		require.NoError(t, plain.db.Exec("UPDATE identities SET email_trust = ? WHERE id = ?", trust, identity.ID).Error)
		people[email] = person{with("Cookie", "__Secure-latchkey_session="+v.cookie("latchkey_session")), identity.ID.String()}
	}
	named, err := plain.store.Identities.ByEmail(t.Context(), "self@example.com")
	require.NoError(t, err)
	const id = "the id"
	for _, c := range []struct {
		setting, registration string
		username              string               // of self@example.com
		want                  map[string][2]string // Remote-User and Remote-Email
	}{
		{"username", "closed", "", map[string][2]string{"old@example.com": {"old@example.com", "old@example.com"}, "self@example.com": {id, ""},
			"bob@example.com": {"bob@example.com", "bob@example.com"}, "50%@example.com": {"50%25@example.com", "50%25@example.com"}}},
		{"username", "open", "", map[string][2]string{"old@example.com": {id, ""}, "self@example.com": {id, ""}, "bob@example.com": {"bob@example.com", "bob@example.com"}}},
		{"username", "open", "selma", map[string][2]string{"self@example.com": {"selma", ""}}},
		{"email", "open", "selma", map[string][2]string{"self@example.com": {id, ""}, "bob@example.com": {"bob@example.com", "bob@example.com"}}},
		{"id", "closed", "selma", map[string][2]string{"self@example.com": {id, ""}, "bob@example.com": {id, "bob@example.com"}}},
	} {
		require.NoError(t, plain.store.Identities.SetUsername(t.Context(), named.ID, c.username))
		site := plain.restart(forApps, func(s *config.Config) { s.RemoteUser, s.Registration = c.setting, c.registration })
		for email, want := range c.want {
			res := site.visitor().get("/auth/verify", people[email].cookie)
			require.Equal(t, http.StatusOK, res.status, res.body)
			require.Equal(t, []string{strings.ReplaceAll(want[0], id, people[email].id)}, res.header["Remote-User"], "%s, %s: %s", c.setting, c.registration, email)
			require.Equal(t, []string{want[1]}, res.header["Remote-Email"], "%s, %s: %s", c.setting, c.registration, email)
			require.Equal(t, []string{people[email].id}, res.header["X-Kratos-Authenticated-Identity-Id"])
		}
	}
}

// Whoever registers can give any address, but be nobody to an app.
func TestNobodyBecomesSomebodyElseToAnApp(t *testing.T) {
	site := newSite(t, forApps, open)
	eve := site.visitor()
	res := eve.register("boss@example.com", nil)
	require.Equal(t, http.StatusOK, res.status, res.body)
	verified := func() http.Header {
		return site.visitor().get("/auth/verify", with("Cookie", "__Secure-latchkey_session="+res.text("session_token"))).header
	}
	require.Equal(t, []string{""}, verified()["Remote-Email"])
	require.Equal(t, []string{res.text("identity.id")}, verified()["Remote-User"])

	for _, username := range []string{"admin", "root", "adrnin", "rOOt", "boss@example.com", "2f1e9b0a-6e0c-4d6e-9a44-0a4a3a1f0d11", "2f1e9b0a6e0c4d6e9a440a4a3a1f0d11"} {
		res := site.visitor().register("eve@example.com", map[string]string{"traits.username": username})
		require.Equal(t, http.StatusBadRequest, res.status, "%s: %s", username, res.body)
	}
}

// register creates an account through an API flow.
func (v *visitor) register(email string, more map[string]string) answer {
	v.site.t.Helper()
	flow := v.get("/auth/self-service/registration/api")
	action := v.site.url + strings.TrimPrefix(flow.text("ui.action"), "https://auth.example.com")
	in := map[string]string{"method": "password", "traits.email": email, "password": goodPassword}
	for name, value := range more {
		in[name] = value
	}
	return v.postJSON(strings.Replace(action, v.site.url+v.site.url, v.site.url, 1), in)
}
