package app_test

import (
	"cmp"
	"html"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"latchkey/app/config"

	"github.com/stretchr/testify/require"
)

func TestOnlyLoopbackNamesAndAddressesAreServedWithoutBaseURL(t *testing.T) {
	site := newSite(t)
	for _, host := range []string{"localhost", "localhost:8080", "LOCALHOST:8080", "app.localhost", "a.b.localhost:3000", "127.0.0.1", "127.0.0.1:8080",
		"192.168.1.7", "203.0.113.7:80", "[::1]", "[::1]:8080", "[2001:db8::7]:8080", "localhost:80"} {
		res := site.visitor().get("/auth/self-service/login/browser?return_to=/x", asJSON, with("Host", host))
		require.Equal(t, http.StatusOK, res.status, "%s: %s", host, res.body)
		require.True(t, strings.HasPrefix(res.text("ui.action"), "http://"+host+"/auth/self-service/login?flow="), res.text("ui.action"))
	}
	for _, host := range []string{"example.com", "evil.example:8080", "localhost.evil.example", "evillocalhost", "localhost.", "127.0.0.1.evil.example",
		"127.0.0.1.nip.io", "0x7f.1", "127.1", "2130706433", "0177.0.0.1", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:080", "127.0.0.1:x",
		"localhost:8080:8080", "localhost:", "::1", "[::1", "::1]", "[::1]x", "[::ffff:127.0.0.1]", "[localhost]", ".localhost",
		"a..localhost", "a:b:c.localhost", "evil.example:80:.localhost", "a,b.localhost", "$.localhost", "%41.localhost", "*.localhost", "-", "_", "latchkey", "xn--.localhost"} {
		for _, path := range []string{"/", "/auth/login", "/auth/sessions/whoami", "/auth/self-service/login/browser?return_to=/x", "/auth/health/ready", "/x"} {
			page := site.visitor().get(path, asPage, with("Host", host))
			page.requireError(http.StatusMisdirectedRequest, "")
			require.Contains(t, page.body, "BASE_URL")
			require.Empty(t, page.header.Values("Set-Cookie"))
			site.visitor().get(path, asJSON, with("Host", host)).requireError(http.StatusMisdirectedRequest, "")
		}
	}
	for _, host := range []string{"[fe80::1%eth0]", "[fe80::1%25eth0]", ""} { // net/http's client would not send them so
		site.raw("GET", "GET /auth/login HTTP/1.1\r\nConnection: close\r\nHost: "+host+"\r\n\r\n").requireError(http.StatusMisdirectedRequest, "")
	}
}

func TestNoHeaderSteersTheURLsOfAnUntrustedClient(t *testing.T) {
	forged := []header{asJSON, with("X-Forwarded-Host", "evil.example"), with("X-Forwarded-Proto", "https"), with("X-Forwarded-For", "203.0.113.66"),
		with("X-Forwarded-Port", "444"), with("X-Forwarded-Prefix", "/evil"), with("Forwarded", "for=203.0.113.66;host=evil.example;proto=https"),
		with("X-Original-URL", "/auth/account"), with("X-Rewrite-URL", "/auth/account"), with("X-Host", "evil.example"), with("X-Real-IP", "203.0.113.66"),
		with("X-Request-Id", "0d5a1ae2-5a4c-4d94-8d5a-6f0c5b5b8f11"), with("X-HTTP-Method-Override", "DELETE")}
	for _, c := range []struct {
		why, origin, scheme, ip string
		keepsID                 bool
		configure               func(*config.Config)
	}{
		{why: "nothing set", scheme: "http://", ip: "127.0.0.1", configure: func(*config.Config) {}},
		{why: "another proxy is trusted", scheme: "http://", ip: "127.0.0.1", configure: func(c *config.Config) { c.TrustedProxies = []string{"10.0.0.0/8", "::1"} }},
		{why: "this proxy is trusted", scheme: "https://", ip: "203.0.113.66", keepsID: true,
			configure: func(c *config.Config) { c.TrustedProxies = []string{"10.0.0.0/8", "127.0.0.1"} }},
		{why: "BASE_URL is set", origin: "https://login.example.com", ip: "127.0.0.1", configure: func(c *config.Config) { c.BaseURL = "https://login.example.com/" }},
		{why: "both", origin: "http://login.example.com:8080", ip: "203.0.113.66", keepsID: true,
			configure: func(c *config.Config) {
				c.BaseURL, c.TrustedProxies = "http://login.example.com:8080", []string{"127.0.0.0/8"}
			}},
	} {
		t.Run(c.why, func(t *testing.T) {
			site := newSite(t, c.configure)
			site.register("ada@example.com")
			origin := c.origin
			if origin == "" {
				origin = c.scheme + strings.TrimPrefix(site.url, "http://")
			}
			v := site.visitor()

			flow := v.get("/auth/self-service/login/api?return_to="+origin+"/x", forged...)
			require.Equal(t, http.StatusOK, flow.status, flow.body)
			require.True(t, strings.HasPrefix(flow.text("ui.action"), origin+"/auth/self-service/login?flow="), flow.text("ui.action"))
			require.Equal(t, c.keepsID, flow.header.Get("X-Request-Id") == "0d5a1ae2-5a4c-4d94-8d5a-6f0c5b5b8f11")
			v.get("/auth/self-service/login/api?return_to=https://evil.example/", forged...).
				requireError(http.StatusBadRequest, "self_service_flow_return_to_forbidden")

			in := v.postJSON(site.url+strings.TrimPrefix(flow.text("ui.action"), origin),
				map[string]string{"method": "password", "identifier": "ada@example.com", "password": goodPassword}, forged...)
			require.Equal(t, http.StatusOK, in.status, in.body)
			require.Equal(t, c.ip, in.text("session.devices.0.ip_address"))
			require.Equal(t, origin+"/auth/schemas/default", in.text("session.identity.schema_url"))
			require.Equal(t, http.StatusNotFound, v.get("/x", forged...).status, "the path is that of the request line")
		})
	}
}

func TestOnlyItsHostAndInternalOnesAreServedWithBaseURL(t *testing.T) {
	const base = "https://login.example.com"
	site := newSite(t, func(c *config.Config) { c.BaseURL = base })
	const flow = "/auth/self-service/login/browser"
	for _, host := range []string{"login.example.com", "LOGIN.example.com", "login.example.com:443", "login.example.com:80", "localhost", "127.0.0.1:8080",
		"10.0.0.1:8080", "[::1]:8080", "latchkey", "latchkey:8080", "latchkey_1", "auth.internal", "nas.local:8080", "latchkey.default.svc.cluster.local", "x.home.arpa"} {
		res := site.visitor().get(flow+"?return_to="+base+"/x", asJSON, with("Host", host))
		require.Equal(t, http.StatusOK, res.status, "%s: %s", host, res.body)
		require.True(t, strings.HasPrefix(res.text("ui.action"), base+"/auth/"), res.body)
		site.visitor().get(flow+"?return_to=http://"+host+".evil.example/", asJSON, with("Host", host)).
			requireError(http.StatusBadRequest, "self_service_flow_return_to_forbidden")
	}
	for _, host := range []string{"evil.example", "login.example.com.evil.example", "evil.example:443", "xlogin.example.com", "example.com", "login.example.com:8080",
		"a:b:c", "login.example.com.", ".local", "a b", "login.example.com@evil.example", "127.0.0.1.nip.io", "evil.localdomain", "ü"} {
		for _, path := range []string{"/", "/auth/login", "/auth/sessions/whoami", flow, "/auth/openapi.json", "/x"} {
			page := site.raw("GET", "GET "+path+" HTTP/1.1\r\nConnection: close\r\nAccept: text/html\r\nHost: "+host+"\r\n\r\n")
			if strings.ContainsAny(host, " ü@") {
				require.Equal(t, http.StatusBadRequest, page.status, "net/http refuses it")
				continue
			}
			page.requireError(http.StatusMisdirectedRequest, "")
			require.Empty(t, page.header.Values("Set-Cookie"))
			require.Contains(t, page.body, "login.example.com")
		}
	}
	// Proxies and load balancers call these by names of their own.
	for path, status := range map[string]int{"/auth/verify": 401, "/auth/health/ready": 200, "/auth/health/alive": 200, "/auth/health/request": 403} {
		require.Equal(t, status, site.visitor().get(path, asJSON, with("Host", "10.1.2.3.pool.example.net")).status, path)
	}
}

func TestPageAtAnotherOriginSaysWhichToOpen(t *testing.T) {
	site := newSite(t, func(c *config.Config) {
		c.BaseURL, c.TrustedProxies = "https://login.example.com", []string{"127.0.0.1"}
	})
	site.register("ada@example.com")
	for why, c := range map[string]struct {
		host    string
		headers []header
		wrong   bool
	}{
		"the address":                           {host: "login.example.com"},
		"the address behind a proxy":            {host: "login.example.com", headers: []header{with("X-Forwarded-Proto", "https")}},
		"an address in the network":             {host: "192.168.1.7:8080", wrong: true},
		"this machine":                          {host: "localhost:8080", wrong: true},
		"a name in the network":                 {host: "nas.local", wrong: true},
		"another site":                          {host: "evil.example", wrong: true},
		"another port":                          {host: "login.example.com:8080", wrong: true},
		"http":                                  {host: "login.example.com", headers: []header{with("X-Forwarded-Proto", "http")}, wrong: true},
		"https decrypted before a proxy":        {host: "login.example.com", headers: []header{with("X-Forwarded-Proto", "http"), with("Sec-Fetch-Site", "none")}},
		"a proxy that keeps the host to itself": {host: "127.0.0.1:8080", headers: []header{with("X-Forwarded-For", "203.0.113.7")}},
		"a proxy that tells the host elsewhere": {host: "127.0.0.1:8080", headers: []header{with("X-Forwarded-For", "203.0.113.7"), with("X-Forwarded-Host", "login.example.com")}},
		"a proxy that tells another host":       {host: "127.0.0.1:8080", headers: []header{with("X-Forwarded-For", "203.0.113.7"), with("X-Forwarded-Host", "192.168.1.7")}, wrong: true},
	} {
		t.Run(why, func(t *testing.T) {
			v := site.visitor()
			headers := append([]header{asPage, with("Host", c.host)}, c.headers...)
			page := v.get("/auth/login?return_to=%2Fauth%2Faccount", headers...).in(t)
			if !c.wrong {
				require.Equal(t, http.StatusOK, page.status, page.body)
				require.Contains(t, page.body, "<form")
				return
			}
			page.requireError(http.StatusMisdirectedRequest, "")
			require.Contains(t, page.body, `href="https://login.example.com/auth/login?return_to=%2Fauth%2Faccount"`)
			require.NotContains(t, page.body, "<form")
			require.NotContains(t, page.body, "BASE_URL")
			require.Empty(t, page.header.Values("Set-Cookie"))
			post := v.send(http.MethodPost, "/auth/self-service/login?flow=x", "", append(headers, with("Content-Type", typeForm))...).in(t)
			post.requireError(http.StatusMisdirectedRequest, "")
			require.Contains(t, post.body, `href="https://login.example.com/auth/account"`)
			if config.LocalHost(c.host) { // apps and commands on this machine
				require.Equal(t, http.StatusUnauthorized, v.get("/auth/sessions/whoami", append(headers, asJSON)...).status)
			}
		})
	}
}

// A proxy may not say that the browser used http. The browser then keeps no cookie of the form.
func TestFormByHTTPIsToldTheAddressInsteadOfToAllowCookies(t *testing.T) {
	site := newSite(t, func(c *config.Config) { c.BaseURL = "https://login.example.com" })
	for why, origin := range map[string]header{"no origin": with("Origin", ""), "a hidden one": with("Origin", "null"), "http": with("Origin", "http://login.example.com")} {
		page := site.visitor().open("/auth/login")
		action := regexp.MustCompile(`action="([^"]+)"`).FindStringSubmatch(page.body)[1]
		res := site.visitor().send(http.MethodPost, strings.TrimPrefix(html.UnescapeString(action), "https://login.example.com"), "method=password&identifier=ada", asPage, origin, with("Content-Type", typeForm)).in(t)
		res.requireError(http.StatusMisdirectedRequest, "")
		require.Contains(t, res.body, `href="https://login.example.com/auth/account"`, why)
		require.NotContains(t, res.body, "cookie", why)
	}
}

func TestRequestIDIsKeptFromATrustedProxyIfItIsAUUID(t *testing.T) {
	site := newSite(t, func(c *config.Config) { c.TrustedProxies = []string{"127.0.0.1"} })
	for sent, kept := range map[string]string{
		"7d9f4a52-0c0e-4c52-8d3a-0b6a9e5b1f10": "7d9f4a52-0c0e-4c52-8d3a-0b6a9e5b1f10",
		"7D9F4A52-0C0E-4C52-8D3A-0B6A9E5B1F10": "7d9f4a52-0c0e-4c52-8d3a-0b6a9e5b1f10",
		"":                                     "", "x": "", "7d9f4a52": "", "<script>": "", strings.Repeat("7d9f4a52", 100): "",
		"7d9f4a52-0c0e-4c52-8d3a-0b6a9e5b1f10, 7d9f4a52-0c0e-4c52-8d3a-0b6a9e5b1f11": "",
	} {
		res := site.visitor().get("/auth/sessions/whoami", with("X-Request-Id", sent))
		res.requireError(http.StatusUnauthorized, "session_inactive")
		if kept != "" {
			require.Equal(t, kept, res.header.Get("X-Request-Id"))
		} else {
			require.NotEqual(t, sent, res.header.Get("X-Request-Id"))
		}
	}
}

func TestClientIsTheLastAddressThatAProxyWasNotTrustedWith(t *testing.T) {
	site := newSite(t, func(c *config.Config) { c.TrustedProxies = []string{"127.0.0.1", "10.0.0.0/8"} })
	site.register("ada@example.com")
	for sent, want := range map[string]string{
		"": "127.0.0.1", "203.0.113.1": "203.0.113.1", "6.6.6.6, 203.0.113.1": "203.0.113.1", "6.6.6.6, 203.0.113.1, 10.1.2.3": "203.0.113.1",
		"127.0.0.1, 203.0.113.1": "203.0.113.1", "10.0.0.1, 10.0.0.2": "10.0.0.1", "2001:db8::1": "2001:db8::1", "x": "127.0.0.1",
		"203.0.113.7:5678": "203.0.113.7", "[2001:db8::1]:443": "2001:db8::1", "fe80::1%eth0": "fe80::1",
		"203.0.113.1, x": "127.0.0.1", "<script>": "127.0.0.1", strings.Repeat("6.6.6.6,", 1000) + "203.0.113.1": "203.0.113.1",
	} {
		res := site.visitor().tryLogin("ada@example.com", goodPassword, with("X-Forwarded-For", sent))
		require.Equal(t, http.StatusOK, res.status, res.body)
		require.Equal(t, want, res.text("session.devices.0.ip_address"), "%.50q", sent)
	}
}

func TestOneSettingNamesTheHeaderWithTheClient(t *testing.T) {
	claims := func(own string) header {
		return func(h http.Header) {
			h.Set("X-Forwarded-For", "203.0.113.1")
			h.Set("Forwarded", "for=203.0.113.1")
			h.Set("X-Real-IP", "203.0.113.1")
			name, value, _ := strings.Cut(own, ": ")
			h.Set(name, value)
		}
	}
	for name, own := range map[string]string{
		"": "X-Forwarded-For: 203.0.113.7:5678", "forwarded": `Forwarded: for="203.0.113.7:5678";proto=https`, "x-real-ip": "X-Real-IP: 203.0.113.7",
	} {
		site := newSite(t, func(c *config.Config) {
			c.TrustedProxies, c.ClientIPHeader = []string{"127.0.0.1"}, cmp.Or(name, c.ClientIPHeader)
		})
		site.register("ada@example.com")
		v := site.visitor()
		require.Equal(t, "203.0.113.7", v.tryLogin("ada@example.com", goodPassword, claims(own)).text("session.devices.0.ip_address"), own)
		require.Contains(t, site.log.String(), `"client":"203.0.113.7"`)
		require.NotContains(t, site.log.String(), "203.0.113.1\"")
		require.NotContains(t, site.log.String(), "a proxy doesn't give")

		v.lockOut("ada@example.com", claims(own))
		require.Equal(t, http.StatusOK, v.tryLogin("ada@example.com", goodPassword, claims(strings.Replace(own, "113.7", "113.8", 1))).status, "another client")
	}
}

func TestAProxyThatGivesNoAddressIsInTheLogOnce(t *testing.T) {
	site := newSite(t, behindProxy)
	site.register("ada@example.com")
	for range 3 {
		require.Equal(t, "127.0.0.1", site.visitor().tryLogin("ada@example.com", goodPassword, from("203.0.113.7, unknown")).text("session.devices.0.ip_address"))
	}
	const warning = `"level":"WARN","msg":"a proxy doesn't send the client's address; all of its clients are throttled as one","error":"127.0.0.1 has sent \"unknown\" as X-Forwarded-For: it hides the client's address"`
	require.Equal(t, 1, strings.Count(site.log.String(), warning), site.log.String())
}
