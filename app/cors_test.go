package app_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"latchkey/app/config"

	"github.com/stretchr/testify/require"
)

func withApp(c *config.Config) {
	c.Registration = "open"
	c.CORSAllowedOrigins = []string{"https://app.example.com", "http://localhost:3000"}
}

// jsonEndpoints are what a front-end on another origin may call, with its methods.
func (s *site) jsonEndpoints() map[string][]string {
	paths := s.paths()
	for path := range paths {
		isJSON := func(prefix string) bool { return strings.HasPrefix(path, prefix) }
		if !slices.ContainsFunc([]string{"/auth/self-service/", "/auth/sessions", "/auth/schemas", "/auth/version", "/auth/openapi.json", "/auth/health/"}, isJSON) {
			delete(paths, path)
		}
	}
	return paths
}

func TestFrontEndsOfAllowedOriginsMayCallTheJSONEndpoints(t *testing.T) {
	site := newSite(t, withApp)
	v := site.visitor()
	for path, methods := range site.jsonEndpoints() {
		for _, origin := range []string{"https://app.example.com", "http://localhost:3000"} {
			res := v.get(path, with("Origin", origin), asJSON)
			require.Equal(t, []string{origin}, res.header.Values("Access-Control-Allow-Origin"), path)
			require.Equal(t, []string{"true"}, res.header.Values("Access-Control-Allow-Credentials"), path)
			require.Contains(t, res.header.Values("Vary"), "Origin", path)
			for _, exposed := range []string{"Link", "Retry-After", "X-Request-Id", "X-Total-Count", "X-Kratos-Authenticated-Identity-Id"} {
				require.Contains(t, strings.ToLower(res.header.Get("Access-Control-Expose-Headers")), strings.ToLower(exposed), path)
			}
			for _, method := range methods {
				if !slices.Contains([]string{"GET", "HEAD", "POST", "DELETE"}, method) {
					continue // for proxies, not for scripts
				}
				preflight := v.send(http.MethodOptions, path, "", with("Origin", origin), with("Access-Control-Request-Method", method),
					with("Access-Control-Request-Headers", "content-type,x-session-token,authorization,x-csrf-token,cache-control"))
				require.Equal(t, http.StatusNoContent, preflight.status, "%s %s: %s", method, path, preflight.body)
				require.Equal(t, []string{origin}, preflight.header.Values("Access-Control-Allow-Origin"))
				require.Equal(t, []string{"true"}, preflight.header.Values("Access-Control-Allow-Credentials"))
				require.Contains(t, strings.Split(preflight.header.Get("Access-Control-Allow-Methods"), ","), method)
				for _, name := range []string{"content-type", "x-session-token", "authorization", "accept", "accept-language", "cache-control", "content-language", "max-age", "x-csrf-token", "x-latchkey-passive", "x-xsrf-token"} {
					require.Contains(t, strings.Split(strings.ToLower(preflight.header.Get("Access-Control-Allow-Headers")), ","), name)
				}
				require.Contains(t, strings.Join(preflight.header.Values("Vary"), ","), "Origin")
			}
		}
	}
}

func TestOtherOriginsGetNothing(t *testing.T) {
	site := newSite(t, withApp)
	v := site.visitor()
	for path, methods := range site.paths() {
		origins := []string{"https://evil.example", "null", "https://app.example.com.evil.example", "https://sub.app.example.com", "http://app.example.com",
			"https://app.example.com:8443", "https://APP.example.com", "https://app.example.com/", "http://localhost:3001", "*", "", "file://"}
		if site.jsonEndpoints()[path] == nil {
			origins = append(origins, "https://app.example.com") // pages are not for front-ends
		}
		for _, origin := range origins {
			for _, method := range []string{http.MethodGet, http.MethodOptions} {
				if method == http.MethodGet && !slices.Contains(methods, method) {
					continue
				}
				res := v.send(method, path, "", asJSON, with("Origin", origin), with("Access-Control-Request-Method", "GET"))
				for name := range res.header {
					require.NotContains(t, name, "Access-Control", "%s %s", origin, path)
				}
				if method == http.MethodOptions && !anyMethod(path) {
					require.Equal(t, http.StatusMethodNotAllowed, res.status)
				}
			}
		}
	}

	closed := newSite(t)
	res := closed.visitor().get("/auth/sessions/whoami", with("Origin", "https://app.example.com"))
	require.Empty(t, res.header.Get("Access-Control-Allow-Origin"), "nobody is allowed by default")
}

func TestFrontEndOfAnAllowedOriginRunsTheWholeLoop(t *testing.T) {
	site := newSite(t, withApp)
	site.register("ada@example.com")
	v := site.visitor()
	from := []header{asJSON, with("Origin", "https://app.example.com"), with("Sec-Fetch-Site", "cross-site"), with("Sec-Fetch-Mode", "cors")}

	flow := v.get("/auth/self-service/login/browser", from...)
	res := v.postJSON(flow.text("ui.action"), map[string]string{"method": "password", "identifier": "ada@example.com", "password": goodPassword,
		"csrf_token": flow.csrfToken()}, from...)
	require.Equal(t, http.StatusOK, res.status, res.body)
	require.Equal(t, http.StatusOK, v.delete("/auth/sessions", "", from...).status)
	logout := v.get("/auth/self-service/logout/browser", from...)
	require.Equal(t, http.StatusNoContent, v.get(logout.text("logout_url"), from...).status)
	require.False(t, v.signedIn())
}

func TestCrossSitePostsAreRefused(t *testing.T) {
	for _, configure := range []func(*config.Config){wide, withApp, func(c *config.Config) { c.Registration, c.BaseURL = "open", "http://login.example.com" }} {
		site := newSite(t, configure)
		identity := site.register("ada@example.com")
		session, other := site.startSession(identity), site.startSession(identity)
		cookie := with("Cookie", "latchkey_session="+session.Token)
		v := site.visitor()
		writes := site.writes()
		for path, methods := range site.paths() {
			for _, method := range methods {
				if method != http.MethodPost && method != http.MethodDelete {
					continue
				}
				if anyMethod(path) {
					continue // it changes nothing, and proxies ask it about other sites' requests
				}
				path := strings.Replace(path, "2f1e9b0a-6e0c-4d6e-9a44-0a4a3a1f0d11", other.ID.String(), 1)
				for _, from := range [][]header{
					{with("Sec-Fetch-Site", "cross-site")}, {with("Sec-Fetch-Site", "same-site")}, {with("Sec-Fetch-Site", "x")},
					{with("Sec-Fetch-Site", "cross-site"), with("Origin", "https://evil.example")},
					{with("Sec-Fetch-Site", "cross-site"), with("Origin", site.url)},
					{with("Origin", "https://evil.example")}, {with("Origin", "null")}, {with("Origin", "http://localhost:1")}, {with("Origin", "x")},
					{with("Origin", "https://app.example.com.evil.example")}, {with("Origin", "https://sub.app.example.com"), with("Sec-Fetch-Site", "same-site")},
				} {
					for _, as := range []header{asPage, asJSON} {
						headers := append([]header{cookie, as, with("Content-Type", typeForm)}, from...)
						res := v.send(method, path, "name=Eve&method=password", headers...)
						res.requireError(http.StatusForbidden, "security_csrf_violation")
						require.Empty(t, res.header.Values("Set-Cookie"))
					}
				}
			}
		}
		require.Zero(t, writes())

		for _, from := range [][]header{nil, {with("Sec-Fetch-Site", "same-origin")}, {with("Sec-Fetch-Site", "none")}} {
			res := v.send(http.MethodPost, "/auth/account/name", "name=Ada", append([]header{cookie, asPage, with("Content-Type", typeForm)}, from...)...)
			require.Equal(t, http.StatusSeeOther, res.status, res.body)
		}
		if strings.Contains(site.visitor().get("/auth/self-service/login/api").text("ui.action"), "login.example.com") {
			res := v.send(http.MethodPost, "/auth/account/name", "name=Ada", cookie, asPage, with("Content-Type", typeForm), with("Origin", "http://login.example.com"))
			require.Equal(t, http.StatusSeeOther, res.status, "behind a proxy that changes the Host")
		}
	}
}
