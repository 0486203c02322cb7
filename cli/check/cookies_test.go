package check_test

import (
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

const healthyCookies = "ok   cookies     they reach the browser from"

// replaced returns a proxy's fault: it replaces a part of Set-Cookie.
func replaced(old, by string) func(http.Header) {
	return func(h http.Header) {
		for i, cookie := range h["Set-Cookie"] {
			h["Set-Cookie"][i] = strings.Replace(cookie, old, by, 1)
		}
	}
}

// cookiesMapped returns a proxy's fault: it passes on what keep returns of the cookies of a request.
func cookiesMapped(keep func(cookies []string) []string) func(*httputil.ProxyRequest) {
	return func(p *httputil.ProxyRequest) {
		setForwarded(p)
		if cookies := p.In.Header.Get("Cookie"); cookies != "" {
			p.Out.Header["Cookie"] = keep(strings.Split(cookies, "; "))
		}
	}
}

var (
	noCookies   = cookiesMapped(func([]string) []string { return nil })
	firstCookie = cookiesMapped(func(cookies []string) []string { return cookies[:1] })
	lastCookie  = cookiesMapped(func(cookies []string) []string { return cookies[len(cookies)-1:] })
	merged      = cookiesMapped(func(cookies []string) []string { return []string{strings.Join(cookies, ", ")} })
)

func TestCheckFollowsTheCookieToAppsOnOtherHosts(t *testing.T) {
	m := kit.NewSQLiteMachine(t)
	m.AddUser("ada@example.com")
	p := newFront(t, m, "auth.example.com")
	p.trust()
	m.Env = append(m.Env, "COOKIE_DOMAIN=example.com", "ACCESS=wiki.example.com=staff", "TRUSTED_PROXIES=127.0.0.0/8,::1")
	listen := p.start()

	found := findings(t, m, listen)
	require.Contains(t, found, healthyCookies)
	require.NotContains(t, found, "FAIL")

	for _, c := range []struct {
		fault func(http.Header)
		says  []string
	}{
		{replaced("; Domain=example.com", ""), []string{`Domain from "example.com" to "": browsers don't send them to every page of wiki.example.com, and an app there keeps redirecting to the sign-in page`}},
		{replaced("; Path=/", "; Path=/auth"), []string{`Path from "/" to "/auth"`, "to every page of auth.example.com, wiki.example.com, and"}},
		{replaced("; Domain=example.com", "; Domain=example.org"), []string{"browsers refuse them or don't send them back, and nobody can sign in – have it pass on Set-Cookie unchanged"}},
		{replaced("; Domain=example.com", "; Domain=com"), []string{"browsers refuse them"}},
		{replaced("; Secure", ""), []string{`Secure from "true" to "false": browsers refuse them`}},
		{replaced("; HttpOnly", ""), []string{`HttpOnly from "true" to "false"`, "their scope or protection"}},
		{replaced("; SameSite=Lax", "; SameSite=None"), []string{`SameSite from "Lax" to "None"`, "their scope or protection"}},
		{replaced("__Secure-", ""), []string{`the name from "__Secure-latchkey_flow" to "latchkey_flow"`}},
		{replaced("__Secure-", "__Host-"), []string{"browsers refuse them"}},
		{func(h http.Header) { h.Del("Set-Cookie") }, []string{"the proxy drops the cookie that https://auth.example.com"}},
	} {
		p.setResponse(c.fault)
		found := findings(t, m, listen)
		require.NotContains(t, found, healthyCookies)
		for _, says := range c.says {
			require.Contains(t, found, says)
		}
	}
	var cached []string
	p.setResponse(func(h http.Header) {
		if len(h["Set-Cookie"]) > 0 && cached == nil {
			cached = h["Set-Cookie"]
		} else if len(h["Set-Cookie"]) > 0 {
			h["Set-Cookie"] = cached
		}
	})
	require.Contains(t, findings(t, m, listen), "FAIL cookies     two visitors get the same cookie")
	p.setResponse(nil)

	require.Contains(t, findings(t, m, listen, "--cookie-domain=auth.example.com"), `FAIL cookies     COOKIE_DOMAIN is "auth.example.com" here and "example.com" at the server – check with the server's settings`)
}

func TestCheckSendsTwoCookiesOfOneName(t *testing.T) {
	const (
		notBefore = "FAIL cookies     the proxy drops a cookie that comes before another of the same name: people who have both can't sign in – have it"
		notAfter  = "FAIL cookies     the proxy drops a cookie that comes after another of the same name: people who have both can't sign in – have it"
	)
	for host, settings := range map[string][]string{
		"auth.example.com": {"COOKIE_DOMAIN=example.com"},
		"localhost":        nil, // with the prefix __Host-, when they have different names
	} {
		t.Run(host, func(t *testing.T) {
			m := kit.NewSQLiteMachine(t)
			m.AddUser("ada@example.com")
			p := newFront(t, m, host)
			p.trust()
			m.Env = append(m.Env, append(settings, "TRUSTED_PROXIES=127.0.0.0/8,::1")...)
			listen := p.start()
			require.Contains(t, findings(t, m, listen), healthyCookies)

			p.setRequest(noCookies)
			require.Contains(t, findings(t, m, listen), "FAIL cookies     the proxy doesn't pass our cookies on: nobody can sign in – have it, and any firewall")
			p.setRequest(firstCookie)
			found := findings(t, m, listen)
			require.Contains(t, found, notAfter)
			require.NotContains(t, found, notBefore)
			p.setRequest(lastCookie)
			found = findings(t, m, listen)
			require.Contains(t, found, notBefore)
			require.NotContains(t, found, notAfter)
			p.setRequest(merged)
			found = findings(t, m, listen)
			require.Contains(t, found, notBefore)
			require.Contains(t, found, notAfter)
			p.setRequest(setForwarded)
			p.setRefuse(func(r *http.Request) bool { return strings.Contains(r.Header.Get("Cookie"), ";") })
			require.Contains(t, findings(t, m, listen), "gets 406")
		})
	}
}

func TestCheckFindsAProxyThatLeavesOtherCookiesThanItsHostMayHave(t *testing.T) {
	m := kit.NewSQLiteMachine(t)
	m.AddUser("ada@example.com")
	p := newFront(t, m, "auth.example.com")
	p.trust()
	m.Env = append(m.Env, "TRUSTED_PROXIES=127.0.0.0/8,::1")
	listen := p.start()
	for _, fault := range []func(http.Header){
		replaced("; Path=/", "; Path=/; Domain=example.com"),
		replaced("; Path=/", "; Path=/auth"),
		replaced("; Secure", ""),
	} {
		p.setResponse(fault)
		require.Contains(t, findings(t, m, listen), "browsers refuse them or don't send them back, and nobody can sign in")
	}
}
