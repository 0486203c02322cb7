package app_test

import (
	"encoding/json"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/app/config"
	"latchkey/app/route"
)

// otherBases are values of BASE_PATH that aren't the default.
var otherBases = []string{"/", "/id", "/people/sign-in_1.0"}

func atBase(path string) func(*config.Config) {
	return func(c *config.Config) { c.BasePath, c.Registration = path, "open" }
}

// pageURL finds the links, forms and files of a page.
var pageURL = regexp.MustCompile(`(?:href|src|action|data-new-login-url)="([^"#]+)"`)

// urls returns where a page leads.
func (r answer) urls() (urls []*url.URL) {
	r.t.Helper()
	for _, found := range pageURL.FindAllStringSubmatch(r.body, -1) {
		u, err := url.Parse(html.UnescapeString(found[1]))
		require.NoError(r.t, err)
		urls = append(urls, u)
	}
	return urls
}

func TestPagesAtAnotherBasePathLeadToEachOther(t *testing.T) {
	for _, path := range otherBases {
		t.Run(path, func(t *testing.T) {
			s := newSite(t, atBase(path))
			ada, stranger := s.signUp("ada@example.com"), s.visitor()
			seen := map[string]bool{}
			for page, v := range map[string]*visitor{"/auth/account": ada, "/auth/account/activity": ada, "/auth/logout": ada, "/auth/docs": ada, "/auth/login?refresh=true": ada,
				"/auth/login": stranger, "/auth/registration": stranger, "/auth/signed-out": stranger} {
				res := v.open(page)
				require.Equal(t, http.StatusOK, res.status, page)
				for _, u := range res.urls() {
					require.True(t, strings.HasPrefix(u.Path, s.base+"/"), "%s leads to %s", page, u)
					if seen[u.Path] {
						continue
					}
					seen[u.Path] = true
					require.NotEqual(t, http.StatusNotFound, ada.send(http.MethodHead, u.Path, "", asPage).status, "%s leads to %s", page, u)
				}
			}
			require.Greater(t, len(seen), 10, seen)
			for _, home := range []string{"/", "/auth", "/auth/"} {
				if home == "/auth" && s.base == "" {
					continue
				}
				require.Equal(t, s.base+"/account", ada.open(home).header.Get("Location"), home)
				require.Equal(t, http.StatusSeeOther, ada.send(http.MethodHead, home, "").status, home)
			}
			require.Equal(t, s.base+"/login?return_to="+url.QueryEscape(s.base+"/account"), stranger.open("/auth/account").header.Get("Location"))
			require.Equal(t, s.base+"/login", stranger.open("/auth/self-service/login").header.Get("Location"), "where a form leaves the address bar")
			require.Contains(t, stranger.open("/auth/nowhere").body, s.base+"/account")
			require.Equal(t, http.StatusNotFound, stranger.get("//evil.example/login").status)
			require.Equal(t, s.base == "", stranger.open("/login").status == http.StatusOK)
		})
	}
}

func TestPeopleComeAndGoAtAnotherBasePath(t *testing.T) {
	for _, path := range otherBases {
		t.Run(path, func(t *testing.T) {
			s := newSite(t, atBase(path))
			ada := s.visitor()
			page := ada.open("/auth/registration")
			page = ada.shownAfter(ada.fillIn(page, url.Values{"traits.email": {"ada"}, "password": {goodPassword}}))
			res := ada.fillIn(page, url.Values{"traits.email": {"ada@example.com"}, "password": {goodPassword}})
			require.Equal(t, s.base+"/account", res.header.Get("Location"), res.body)
			for name, cookie := range res.setCookies() {
				require.Contains(t, cookie, "; Path=/;", name)
			}
			require.True(t, ada.signedIn())
			res = ada.postForm(s.base+"/account/name", url.Values{"name": {"Ada"}})
			require.True(t, strings.HasPrefix(res.header.Get("Location"), s.base+"/account"), res.header)

			logout := ada.logoutURL()
			require.True(t, strings.HasPrefix(logout, s.url+s.base+"/self-service/logout?token="), logout)
			require.Equal(t, s.base+"/signed-out", ada.open(logout).header.Get("Location"))
			require.False(t, ada.signedIn())

			page = ada.open("/auth/login?return_to=" + url.QueryEscape("/app?x=y"))
			page = ada.shownAfter(ada.fillIn(page, url.Values{"identifier": {"ada@example.com"}, "password": {"wrong"}}))
			res = ada.fillIn(page, url.Values{"identifier": {"ada@example.com"}, "password": {goodPassword}})
			require.Equal(t, "/app?x=y", res.header.Get("Location"), res.body)
			require.True(t, ada.signedIn())
		})
	}
}

func TestAppsAskAtAnotherBasePath(t *testing.T) {
	for _, path := range otherBases {
		t.Run(path, func(t *testing.T) {
			s := newSite(t, atBase(path), func(c *config.Config) {
				c.CORSAllowedOrigins, c.AllowedReturnURLs = []string{"https://app.example.com"}, []string{"http://wiki.example.com"}
				c.TrustedProxies = []string{"127.0.0.1"}
			})
			ada := s.signUp("ada@example.com")
			cross := with("Origin", "https://app.example.com")

			whoami := ada.get("/auth/sessions/whoami", cross)
			require.Equal(t, s.url+s.base+"/schemas/default", whoami.text("identity.schema_url"))
			require.Equal(t, "https://app.example.com", whoami.header.Get("Access-Control-Allow-Origin"))
			require.Equal(t, whoami.text("identity.schema_url"), ada.get("/auth/schemas/default").text("$id"))
			require.Empty(t, ada.open("/auth/account").header.Get("Access-Control-Allow-Origin"))

			app := []header{with("X-Forwarded-Host", "wiki.example.com"), with("X-Forwarded-Uri", "/page"), with("X-Forwarded-Method", "GET"), with("X-Forwarded-Proto", "http")}
			require.Equal(t, http.StatusOK, ada.get("/auth/verify", app...).status)
			require.Contains(t, s.visitor().get("/auth/verify", append(app, asPage)...).header.Get("Location"), s.base+"/login")

			for _, file := range []string{"/auth/.well-known/jwks.json", "/auth/health/alive", "/auth/health/ready"} {
				require.Equal(t, http.StatusOK, ada.get(file).status, file)
			}
			script := ada.get("/auth/session.js").body
			require.False(t, strings.Contains(script, "{{"))
			for _, r := range []*route.Route{route.Whoami, route.Events, route.SignedOut} {
				require.True(t, strings.Contains(script, `"`+s.base+r.Path), r.Path)
			}

			token := s.apiToken("ada@example.com")
			require.Equal(t, http.StatusOK, s.visitor().get("/auth/sessions", with("X-Session-Token", token)).status)
			require.Equal(t, http.StatusNoContent, s.visitor().delete("/auth/self-service/logout/api", `{"session_token":"`+token+`"}`, with("Content-Type", "application/json")).status)
			require.Equal(t, http.StatusUnauthorized, s.visitor().get("/auth/sessions/whoami", with("X-Session-Token", token)).status)

			setup, err := newSite(t, func(c *config.Config) { c.BasePath = path }).app.SetupURL(t.Context(), "https://login.example.com")
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(setup, "https://login.example.com"+s.base+"/registration?setup="), setup)
		})
	}
}

func TestAPIDocumentIsOfThisBasePath(t *testing.T) {
	parameter := regexp.MustCompile(`[:*](\w+)`)
	for _, path := range otherBases {
		t.Run(path, func(t *testing.T) {
			s := newSite(t, atBase(path))
			raw := s.visitor().get("/auth/openapi.json").body
			var document struct{ Paths map[string]any }
			require.NoError(t, json.Unmarshal([]byte(raw), &document))
			served := map[string]bool{}
			for _, r := range s.app.Routes() {
				served[parameter.ReplaceAllString(r.Path, "{$1}")] = true
			}
			require.Greater(t, len(document.Paths), 20)
			for path := range document.Paths {
				require.True(t, served[path], path)
			}
			for _, text := range []string{raw, s.visitor().open("/auth/docs").body} {
				require.False(t, strings.Contains(text, "/auth"))
				require.True(t, strings.Contains(text, s.base+"/sessions/whoami"))
				require.Empty(t, regexp.MustCompile(`[^:]//\w+`).FindString(text))
			}
		})
	}
}
