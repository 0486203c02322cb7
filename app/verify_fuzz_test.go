package app_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/app"
	"latchkey/app/returnto"
)

func FuzzWhatAProxyAsks(f *testing.F) {
	site := newSite(f, forApps, func(c *app.Config) {
		c.TrustedProxies, c.Access = []string{"192.0.2.1"}, "*=staff open.example.com=guests" // the address of httptest
	})
	ada := site.register("ada@example.com")
	require.NoError(f, site.store.Identities.AddToGroup(f.Context(), ada.ID, "guests"))
	fuzz := fuzzed{site: site, session: site.startSession(ada)}
	cookie := with("Cookie", "__Secure-latchkey_session="+fuzz.session.Token)
	for _, uri := range append(trickyReturnTos, "/", "/x?y=z#a", "//evil.example", "/\\evil.example", "@evil.example", "/%2e%2e/", "/\r\nX: y") {
		f.Add("GET", "https", "open.example.com", uri)
	}
	for _, host := range []string{"wiki.example.com", "OPEN.example.com.:443", "open.example.com, wiki.example.com", "evil.example", "open.example.com@evil.example",
		"open.example.com#.evil.example", "open.example.com\\.evil.example", "bücher.example.com", "xn--.example.com", "[::1]:80", "127.1", "open。example。com", "*.example.com", ".", "%6fpen.example.com"} {
		f.Add("POST", "https", host, "/")
	}
	f.Add("get", "javascript", "", "x")
	f.Fuzz(func(t *testing.T, method, proto, host, uri string) {
		asked := func(h http.Header) {
			h["X-Forwarded-Method"], h["X-Forwarded-Proto"] = []string{method}, []string{proto}
			h["X-Forwarded-Host"], h["X-Forwarded-Uri"] = []string{host}, []string{uri}
		}
		if len(method)+len(proto)+len(host)+len(uri) > 16<<10 {
			return
		}
		res := fuzz.serve(t, "GET", "/auth/verify", "", "", asPage, asked)
		res.requireSound()
		require.Contains(t, []int{http.StatusSeeOther, http.StatusUnauthorized, http.StatusForbidden}, res.status)
		if res.status == http.StatusSeeOther {
			to, err := url.Parse(res.header.Get("Location"))
			require.NoError(t, err)
			require.Equal(t, "https://auth.example.com/auth/login", to.Scheme+"://"+to.Host+to.Path)
			if back := to.Query().Get("return_to"); back != "" {
				require.True(t, strings.HasSuffix("."+returnto.Host(back), ".example.com"), back)
			}
		}

		res = fuzz.serve(t, "GET", "/auth/verify", "", "", asPage, asked, cookie)
		res.requireSound()
		open := app.HostName(host) == "open.example.com"
		require.Equal(t, open, res.status == http.StatusOK, host)
		require.Equal(t, !open, res.status == http.StatusForbidden, host)
	})
}

func FuzzHeaderText(f *testing.F) {
	for _, seed := range []string{"", " ", "  ", "Ada", `Ada "☃" <b>%0d%0a`, "a\r\nX: y", "\x00\xff", "%", " é "} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		written := app.HeaderText(text)
		require.Equal(t, strings.TrimSpace(written), written)
		require.NotRegexp(t, `[^ -~]`, written)
		back, err := url.PathUnescape(written)
		require.NoError(t, err)
		require.Equal(t, text, back)
	})
}

func FuzzHostName(f *testing.F) {
	for _, seed := range []string{"", "a", "A.example.com.:443", "[::1]:80", "bücher.example.com", "a:b", "a..b", "127.1", "a@b", "。", "a:99999", ":80", "[::1", "xn--", "a.:1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, authority string) {
		host := app.HostName(authority)
		if host == "" {
			return
		}
		require.Equal(t, host, app.HostName(host), "it stays what it is")
		require.Equal(t, host, app.HostName(host+":8443"))
		require.Equal(t, host, returnto.Host("http://"+host), "browsers take it for the same")
		require.NotRegexp(t, `[^a-z0-9._:\[\]-]`, host)
	})
}

func FuzzAccess(f *testing.F) {
	for _, seed := range []string{"", " ", "wiki.example.com=staff,editors *.lab.example.com=lab", "*=a", "*.=a", "*.*=a", "a=b a=c", "A.example=b a.example.=c", "a:80=b", "[::1]=b",
		"127.1=b", "*.127.0.0.1=b", "bücher.example=b", "a=", "=a", "a=b=c", "a=b,,c", "a=b\u00a0c=d", "*.com=a x.com=b", "\x00=a"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, setting string) {
		allow, err := app.ReadAccess(setting)
		if err != nil {
			require.ErrorContains(t, err, "ACCESS has ")
			return
		}
		for _, entry := range strings.Fields(setting) {
			name, groups, _ := strings.Cut(entry, "=")
			domain, wildcard := strings.CutPrefix(name, "*.")
			host := app.HostName(domain)
			if wildcard || name == "*" {
				host = strings.TrimSuffix("q7."+strings.TrimPrefix(host, "*"), ".")
				require.False(t, allow(host), "%q is for nobody without a group", host)
				continue // whose it is, an entry closer to it may say
			}
			require.False(t, allow(host), "%q is for nobody without a group", host)
			require.False(t, allow(host, "q7"), host)
			for _, group := range strings.Split(groups, ",") {
				require.True(t, allow(host, "q7", group), "%q is for %q", host, group)
			}
		}
	})
}
