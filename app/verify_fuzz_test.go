package app_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/app/access"
	"latchkey/app/config"
	"latchkey/app/returnto"
)

func FuzzWhatAProxyAsks(f *testing.F) {
	site := newSite(f, forApps, func(c *config.Config) {
		c.TrustedProxies, c.Access = []string{"192.0.2.1"}, "*=staff open.example.com=guests open.example.com/public/*=PUBLIC" // the address of httptest
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
	for _, uri := range []string{"/public/x", "/public/../x", "/public/%2e%2e/x", "/public/?/../x"} {
		f.Add("GET", "https", "open.example.com", uri)
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
		if res.status == http.StatusOK {
			require.Equal(t, "open.example.com", access.HostName(host))
			require.True(t, strings.HasPrefix(uri, "/public/"), uri)
			require.Equal(t, []string{""}, res.header["Remote-User"])
		} else {
			require.Contains(t, []int{http.StatusSeeOther, http.StatusUnauthorized, http.StatusForbidden}, res.status)
		}
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
		open := access.HostName(host) == "open.example.com"
		require.Equal(t, open, res.status == http.StatusOK, host)
		require.Equal(t, !open, res.status == http.StatusForbidden, host)
	})
}
