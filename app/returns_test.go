package app_test

import (
	"html"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"latchkey/app/config"

	"github.com/stretchr/testify/require"
)

// returns are the settings that the return_to of these tests are held against.
func returns(c *config.Config) {
	c.Registration = "open"
	c.AllowedReturnURLs = []string{"https://app.example.com", "https://limited.example.com/app", "https://*.apps.example.com"}
}

// trickyReturnTos are refused; package returnto has more of them.
var trickyReturnTos = []string{
	"", " ", "//evil.example", "///evil.example", `/\evil.example`, `\\evil.example`, `\/evil.example`, "/\t/evil.example", "/\n/evil.example", "\t//evil.example",
	" //evil.example", "https:evil.example", "https:/evil.example", "https:///evil.example", "http:evil.example", "//evil.example@app.example.com",
	"https://evil.example", "https://evil.example/https://app.example.com", "https://app.example.com@evil.example/", "https://app.example.com:x@evil.example/",
	"https://ada@app.example.com/", "https://app.example.com.evil.example/", "https://evilapp.example.com/", "https://app.example.com:8443/", "http://app.example.com/",
	"https://app.example.com./", `https://evil.example\.app.example.com/`, `https://evil.example\@app.example.com/`, "https://evil.example%2f.apps.example.com/",
	"https://evil.example%00.apps.example.com/", "https://evil.example／.apps.example.com/", "https://app。example.com/", "https://app.example.com\r\nX: y/",
	"/x\r\nSet-Cookie: a=b", "/x\x00", "/%2e%2e//evil.example", "/%2f%2fevil.example", "/%5cevil.example", "/..//evil.example", "/./x", "/%0d%0aX:y", "/caf\u00e9", "/\xff",
	"javascript:alert(1)", "javascript://app.example.com/%0aalert(1)", "JaVaScRiPt:alert(1)", "data:text/html,x", "vbscript:x", "file:///etc/passwd", "intent://app.example.com/",
	"blob:https://app.example.com/x", "x", "?x", "#x", "*", "app.example.com", "https://", "https://apps.example.com/", "https://evilapps.example.com/",
	"https://limited.example.com/", "https://limited.example.com/apple", "https://limited.example.com/app/../x", "https://limited.example.com/app%2f..%2fx",
	"https://[::1]/", "https://2130706433/", "https://xn--0.apps.example.com/", "https://faß.apps.example.com/", "/" + strings.Repeat("x", 2048), "%2F%2Fevil.example",
}

func TestTrickyReturnToIsRefusedEverywhere(t *testing.T) {
	site := newSite(t, returns)
	ada, stranger := site.signUp("ada@example.com"), site.visitor()
	token := ada.get("/auth/self-service/logout/browser").text("logout_token")
	queries := []string{"return_to=/x&return_to=/x", "return_to=/x&return_to=//evil.example", "return_to=/x&return%5fto=/x"}
	for _, tricky := range trickyReturnTos {
		if tricky == "" {
			continue // as if it was not there
		}
		queries = append(queries, url.Values{"return_to": {tricky}}.Encode())
	}
	writes := site.writes()
	for _, query := range queries {
		for _, as := range []header{asPage, asJSON} {
			for _, path := range []string{"/auth/self-service/login/browser?", "/auth/self-service/login/browser?refresh=true&", "/auth/self-service/login/api?",
				"/auth/self-service/registration/browser?", "/auth/self-service/registration/api?", "/auth/login?", "/auth/registration?", "/auth/logout?",
				"/auth/self-service/logout?token=" + token + "&"} {
				for _, v := range []*visitor{ada, stranger} {
					res := v.get(path+query, as)
					res.requireError(http.StatusBadRequest, "self_service_flow_return_to_forbidden")
					require.Empty(t, res.header.Get("Location"))
					require.Empty(t, res.header.Values("Set-Cookie"))
				}
			}
			ada.get("/auth/self-service/logout/browser?"+query, as).requireError(http.StatusBadRequest, "self_service_flow_return_to_forbidden")
		}
	}
	require.Zero(t, writes())
	require.True(t, ada.signedIn(), "nothing was ended")
}

func TestAllowedReturnToIsWhereTheBrowserGoes(t *testing.T) {
	site := newSite(t, returns)
	site.register("ada@example.com")
	for given, want := range map[string]string{
		"/": "/", "/x?y=z&a=%2F#f": "/x?y=z&a=%2F#f", site.url + "/x": site.url + "/x",
		"https://app.example.com": "https://app.example.com", "HTTPS://App.Example.com:443/X": "https://app.example.com/X",
		"https://limited.example.com/app": "https://limited.example.com/app", "https://limited.example.com/app/x?y": "https://limited.example.com/app/x?y",
		"https://a.b.apps.example.com/": "https://a.b.apps.example.com/", "/x?next=https://evil.example": "/x?next=https://evil.example",
		"/x//y": "/x//y", "/x#a/../../b//c": "/x#a/../../b//c", "/#/route/": "/#/route/",
	} {
		query := url.Values{"return_to": {given}}.Encode()
		v := site.visitor()
		for _, start := range []string{"/auth/login?", "/auth/self-service/login/browser?"} {
			page := v.open(start + query)
			if page.status == http.StatusSeeOther {
				page = v.open(page.header.Get("Location"))
			}
			res := v.postForm(html.UnescapeString(page.action()), signInForm(page))
			require.Equal(t, http.StatusSeeOther, res.status, res.body)
			require.Equal(t, want, res.header.Get("Location"))

			for _, path := range []string{"/auth/login?", "/auth/self-service/login/browser?", "/auth/registration?", "/auth/self-service/registration/browser?"} {
				require.Equal(t, want, v.open(path+query).header.Get("Location"), "signed in already")
			}
			require.Contains(t, v.open("/auth/logout?"+query).body, html.EscapeString(url.Values{"return_to": {want}}.Encode()))

			logout := v.get("/auth/self-service/logout/browser?" + query)
			res = v.open(logout.text("logout_url"))
			require.Equal(t, http.StatusSeeOther, res.status)
			require.Equal(t, want, res.header.Get("Location"))
			require.Equal(t, want, v.open(logout.text("logout_url")).header.Get("Location"), "signed out already")
		}
	}
}

func TestReturnToIsCheckedAgainWhereItIsUsed(t *testing.T) {
	site := newSite(t, returns)
	site.register("ada@example.com")
	v := site.visitor()
	to := "?return_to=https://app.example.com/x"
	login := v.open("/auth/login" + to)
	registration := v.get("/auth/self-service/registration/browser"+to, asJSON)
	flow := v.get("/auth/self-service/login/browser"+to, asJSON)

	strict := site.restart(func(c *config.Config) { c.Registration = "open" }) // and no ALLOWED_RETURN_URLS

	v = strict.sameBrowser(v)
	require.NotContains(t, v.open("/auth/login?flow="+flow.text("id")).body, "app.example.com")
	require.NotContains(t, v.get("/auth/self-service/login/flows?id="+flow.text("id")).body, "app.example.com")
	res := v.postForm(html.UnescapeString(login.action()), signInForm(login))
	require.Equal(t, http.StatusSeeOther, res.status, res.body)
	require.Equal(t, "/auth/account", res.header.Get("Location"))
	for _, page := range []string{"/auth/login?flow=" + flow.text("id"), "/auth/registration?flow=" + registration.text("id")} {
		require.Equal(t, "/auth/account", v.open(page).header.Get("Location"), "signed in already")
	}
	forged := v.get("/auth/self-service/logout/browser").text("logout_url") + "&return_to=https://app.example.com/x"
	v.open(forged).requireError(http.StatusBadRequest, "self_service_flow_return_to_forbidden")
	require.True(t, v.signedIn())
}
