package app_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"latchkey/app/config"
	"latchkey/app/returnto"
	"latchkey/models"
)

// fuzzed is a site with one person signed in, for requests that need no network.
type fuzzed struct {
	*site
	session models.Session
	login   string // the path and query to which an open API flow is submitted
}

func newFuzzed(f *testing.F) fuzzed {
	site := newSite(f, returns)
	session := site.startSession(site.register("ada@example.com"))
	action := site.visitor().get("/auth/self-service/login/api").text("ui.action")
	return fuzzed{site: site, session: session, login: strings.TrimPrefix(action, site.url)}
}

// serve answers a request whose parts need not be fit for a network.
func (f fuzzed) serve(t testing.TB, method, path, query, body string, headers ...header) answer {
	req := httptest.NewRequestWithContext(t.Context(), method, "http://localhost"+path, strings.NewReader(body))
	req.URL.RawQuery = query
	for _, change := range headers {
		change(req.Header)
	}
	if host, given := req.Header["Host"]; given {
		req.Host = host[0]
	}
	recorder := httptest.NewRecorder()
	f.app.ServeHTTP(recorder, req)
	f.log.Reset()
	return answer{t: t, status: recorder.Code, header: recorder.Header(), body: recorder.Body.String()}
}

// failures returns how often passwords were counted as wrong.
func (f fuzzed) failures(t *testing.T) (n int64) {
	require.NoError(t, f.db.Raw("SELECT COALESCE(SUM(failures), 0) FROM attempts").Scan(&n).Error)
	return n
}

func (f fuzzed) cookie() header { return with("Cookie", "latchkey_session="+f.session.Token) }

// requireSound checks what holds for every answer: it is none of our faults, and has the form that
// is documented.
func (r answer) requireSound() {
	r.t.Helper()
	require.Less(r.t, r.status, http.StatusInternalServerError, r.body)
	require.Equal(r.t, "no-store", r.header.Get("Cache-Control"))
	require.NotEmpty(r.t, r.header.Get("X-Request-Id"))
	for name, values := range r.header {
		for _, value := range values {
			require.False(r.t, strings.ContainsAny(value, "\r\n\x00"), "%s: %q", name, value)
		}
	}
	require.True(r.t, utf8.ValidString(r.body))
	if strings.HasPrefix(r.header.Get("Content-Type"), "application/json") {
		require.True(r.t, json.Valid([]byte(r.body)), r.body)
	}
}

func FuzzReturnToOfALogoutURL(f *testing.F) {
	site := newFuzzed(f)
	for _, seed := range append(trickyReturnTos, "/x", "/x?y=z&token=a#b", "/x//y", "/x#a/../../b", "https://app.example.com/x", "https://a.apps.example.com", "http://localhost/x", "https://limited.example.com/app/x") {
		f.Add(seed)
	}
	own := "http://localhost"
	token := site.serve(f, "GET", "/auth/self-service/logout/browser", "", "", site.cookie()).text("logout_token")
	f.Fuzz(func(t *testing.T, raw string) {
		res := site.serve(t, "GET", "/auth/self-service/logout/browser", url.Values{"return_to": {raw}}.Encode(), "", site.cookie())
		res.requireSound()
		if res.status != http.StatusOK {
			if len(raw) < 4000 { // else the address is too long
				res.requireError(http.StatusBadRequest, "self_service_flow_return_to_forbidden")
			}
			return
		}
		logout, err := url.Parse(res.text("logout_url"))
		require.NoError(t, err)
		require.Equal(t, own+"/auth/self-service/logout", logout.Scheme+"://"+logout.Host+logout.Path, "the URL is ours")
		query, err := url.ParseQuery(logout.RawQuery)
		require.NoError(t, err)
		require.Equal(t, []string{token}, query["token"])
		if raw == "" {
			require.Len(t, query, 1, "an empty value is absent")
			return
		}
		require.Len(t, query, 2)
		require.Equal(t, res.text("logout_token"), query.Get("token"))
		to := query["return_to"]
		require.Len(t, to, 1)
		require.Contains(t, []string{"", "localhost", "app.example.com", "limited.example.com"}, strings.TrimPrefix(hostOrWildcard(to[0]), "*"))

		// The logout goes there, by the rules of who opens it without the session's cookie.
		gone := site.serve(t, "GET", "/auth/self-service/logout", logout.RawQuery, "", asPage)
		require.Equal(t, http.StatusSeeOther, gone.status)
		location, err := url.Parse(gone.header.Get("Location"))
		require.NoError(t, err)
		resolved := logout.ResolveReference(location)
		target, err := logout.Parse(to[0])
		require.NoError(t, err)
		require.Equal(t, target.Scheme+"://"+target.Host+target.Path, resolved.Scheme+"://"+resolved.Host+resolved.Path)
	})
}

func hostOrWildcard(to string) string {
	host := returnto.Host(to)
	if strings.HasSuffix(host, ".apps.example.com") {
		return "*"
	}
	return host
}

func FuzzSessionCookie(f *testing.F) {
	site := newFuzzed(f)
	for _, seed := range []string{"", "x", site.session.Token, `"` + site.session.Token + `"`, strings.ToLower(site.session.Token), strings.Repeat("A", 26),
		"x; latchkey_session=" + site.session.Token, site.session.Token + "; latchkey_session=x", "\x00", "%", strings.Repeat("A", 40000)} {
		f.Add(seed, "")
		f.Add("x", seed)
	}
	f.Fuzz(func(t *testing.T, cookie, token string) {
		res := site.serve(t, "GET", "/auth/sessions/whoami", "", "", func(h http.Header) {
			h["Cookie"], h["X-Session-Token"] = []string{"latchkey_session=" + cookie}, []string{token}
		})
		res.requireSound()
		switch {
		case len(cookie)+len(token) > 32000:
			res.requireError(http.StatusRequestHeaderFieldsTooLarge, "")
		case res.status == http.StatusOK:
			require.True(t, strings.Contains(cookie, site.session.Token) || token == site.session.Token)
		default:
			res.requireError(http.StatusUnauthorized, "session_inactive")
			require.False(t, token == site.session.Token || cookie == site.session.Token && token == "")
		}
	})
}

func FuzzFlowID(f *testing.F) {
	site := newFuzzed(f)
	real := strings.TrimPrefix(site.login, "/auth/self-service/login?flow=")
	for _, seed := range []string{"", "x", real, real[1:], real + "A", real[:len(real)-1], real + "=", real + "\n", "2f1e9b0a-6e0c-4d6e-9a44-0a4a3a1f0d11", strings.Repeat("A", 20000), "\x00\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, id string) {
		res := site.serve(t, "GET", "/auth/self-service/login/flows", url.Values{"id": {id}}.Encode(), "")
		res.requireSound()
		if id == real {
			require.Equal(t, http.StatusOK, res.status)
			require.Equal(t, id, res.text("id"))
			return
		}
		require.Contains(t, []int{http.StatusBadRequest, http.StatusNotFound}, res.status, "only what was sealed here is a flow")
		page := site.serve(t, "GET", "/auth/login", url.Values{"flow": {id}}.Encode(), "", asPage)
		page.requireSound()
		require.Equal(t, http.StatusOK, page.status, "a person gets a fresh one")
	})
}

func FuzzLoginBody(f *testing.F) {
	site := newFuzzed(f)
	for _, body := range badBodies {
		f.Add(body.contentType == typeJSON, body.body)
	}
	f.Add(true, `{"method":"password","identifier":"a","password":"","remember":true,"transient_payload":{"a":[1,null]}}`)
	f.Add(true, `{"method":"oidc","identifier":"ada@example.com","password":"`+goodPassword+`"}`)
	f.Add(true, `{"traits":{"email":"a@b.example","name":null,"x":{}},"password":"\ud800"}`)
	f.Add(false, "method=password&identifier=ada%40example.com&password=")
	f.Add(false, "method=&identifier=%00&password=+&&=&x")
	f.Fuzz(func(t *testing.T, isJSON bool, body string) {
		contentType := typeForm
		if isJSON {
			contentType = typeJSON
		}
		path, query, _ := strings.Cut(site.login, "?")
		before := site.failures(t)
		res := site.serve(t, "POST", path, query, body, with("Content-Type", contentType), asPage)
		res.requireSound()
		require.Contains(t, []int{http.StatusOK, http.StatusBadRequest, http.StatusTooManyRequests, http.StatusRequestEntityTooLarge}, res.status)
		require.NotContains(t, res.body, "<", "an API flow has no page")

		// encoding/json and net/url are the judges of what can be read at all.
		var members map[string]any
		values, err := url.ParseQuery(body)
		if isJSON {
			err = json.Unmarshal([]byte(body), &members)
		}
		if err != nil && len(body) <= 64<<10 {
			res.requireError(http.StatusBadRequest, "")
		}
		if pass := values.Get("password"); !isJSON && len(pass) > 20 {
			require.NotContains(t, res.body, pass, "the password never comes back")
		}
		if pass, ok := members["password"].(string); isJSON && ok && len(pass) > 20 && members["identifier"] != pass {
			require.NotContains(t, res.body, pass, "the password never comes back")
		}
		if res.status != http.StatusOK && !strings.Contains(res.body, "4000006") {
			require.Equal(t, before, site.failures(t), "only a wrong password is counted")
		}
	})
}

func FuzzAccept(f *testing.F) {
	site := newFuzzed(f)
	for _, seed := range []string{"", "*/*", "text/html", "application/json", "text/html;q=0", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
		"application/json;q=NaN", `text/html;x="a,b"`, ";;,,//", "text/html;q=0.5, application/json;q=0.50001", "TEXT/*;Q=1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, accept string) {
		res := site.serve(t, "GET", "/nothing", "", "", func(h http.Header) { h["Accept"] = []string{accept} })
		if len(accept) > 30000 {
			return
		}
		res.requireSound()
		res.requireError(http.StatusNotFound, "")
		lower := strings.ToLower(accept)
		if strings.HasPrefix(res.header.Get("Content-Type"), "text/html") {
			require.True(t, strings.Contains(lower, "text/") || strings.Contains(lower, "*/*"), "nobody asked for a page")
		}
		json := site.serve(t, "GET", "/auth/sessions/whoami", "", "", func(h http.Header) { h["Accept"] = []string{accept} })
		require.Equal(t, "application/json; charset=utf-8", json.header.Get("Content-Type"))
	})
}

func FuzzHost(f *testing.F) {
	site := newFuzzed(f)
	for _, seed := range []string{"localhost", "localhost:8080", "a.localhost", "127.0.0.1", "[::1]:80", "::1", "[::1", "evil.example", "a:b:c.localhost", "127.0.0.1:99999",
		"localhost\r\nX: y", "evil.example/.localhost", "evil.example#.localhost", "a@b.localhost", "127.0.0.1.", "0x7f.1", "\xff.localhost", "1.1.1.1:080", "localhost:080", "localhost:80", "localhost:0", "localhost:", "127.0.0.1:", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, host string) {
		given := func(h http.Header) { h["Host"] = []string{host} }
		res := site.serve(t, "GET", "/auth/self-service/logout/browser", "return_to=/x", "", site.cookie(), given)
		res.requireSound()
		if res.status != http.StatusOK {
			require.Contains(t, []int{http.StatusMisdirectedRequest, http.StatusRequestHeaderFieldsTooLarge}, res.status)
			return
		}
		logout, err := url.Parse(res.text("logout_url"))
		require.NoError(t, err)
		require.Equal(t, host, logout.Host)
		require.Nil(t, logout.User)
		require.Equal(t, "/auth/self-service/logout", logout.Path)
		name := strings.ToLower(logout.Hostname())
		require.True(t, name == "localhost" || strings.HasSuffix(name, ".localhost") || strings.Trim(name, "0123456789.") == "" || strings.Trim(name, "0123456789abcdef:") == "", host)
	})
}

func FuzzForwarded(f *testing.F) {
	site := newFuzzed(f)
	proxied := fuzzed{site: site.restart(func(c *config.Config) { c.TrustedProxies = []string{"192.0.2.1"} }), login: site.login} // the address of httptest
	body, err := json.Marshal(map[string]string{"method": "password", "identifier": "ada@example.com", "password": goodPassword})
	require.NoError(f, err)
	for _, client := range []string{"", "203.0.113.9", "6.6.6.6, 203.0.113.9", "203.0.113.9,", ",", "::1", "[2001:db8::1]", "2001:db8::1%eth0", "203.0.113.9:80", "192.0.2.1", "unknown", "\x00", "1.2.3.4 , 192.0.2.1"} {
		f.Add(client, "https", "0d5a1ae2-5a4c-4d94-8d5a-6f0c5b5b8f11")
	}
	f.Add("203.0.113.9", "https, http", "0d5a1ae25a4c4d948d5a6f0c5b5b8f11")
	f.Add("203.0.113.9", "javascript", "{0d5a1ae2-5a4c-4d94-8d5a-6f0c5b5b8f11}\r\nX: y")
	f.Fuzz(func(t *testing.T, client, proto, id string) {
		sent := func(h http.Header) {
			h["X-Forwarded-For"], h["X-Forwarded-Proto"], h["X-Request-Id"] = []string{client}, []string{proto}, []string{id}
		}
		if len(client)+len(proto)+len(id) > 16<<10 {
			return
		}
		site.clock.advance(2 * time.Second) // nobody may sign in much more often
		for _, at := range []fuzzed{proxied, site} {
			trusted := at.site == proxied.site
			flow := at.serve(t, "GET", "/auth/self-service/login/api", "", "", sent)
			flow.requireSound()
			scheme := "http"
			if trusted && proto == "https" {
				scheme = "https"
			}
			require.True(t, strings.HasPrefix(flow.text("ui.action"), scheme+"://localhost/auth/"), "its scheme is all that a proxy says of our address")
			require.Regexp(t, `^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`, flow.header.Get("X-Request-Id"))

			action, err := url.Parse(flow.text("ui.action"))
			require.NoError(t, err)
			res := at.serve(t, "POST", action.Path, action.RawQuery, string(body), with("Content-Type", typeJSON), sent)
			res.requireSound()
			require.Equal(t, http.StatusOK, res.status, res.body)
			seen := res.text("session.devices.0.ip_address")
			_, err = netip.ParseAddr(seen)
			require.NoError(t, err)
			if !trusted {
				require.Equal(t, "192.0.2.1", seen, "nobody but a proxy says whose request it is")
			}
			if addr, err := netip.ParseAddr(strings.TrimSpace(client)); trusted && err == nil {
				require.Equal(t, addr.Unmap().WithZone("").String(), seen)
			}
			require.True(t, seen == "192.0.2.1" || strings.ContainsAny(client, "0123456789abcdefABCDEF:"), "made up from %q", client)
		}
	})
}

func FuzzPageToken(f *testing.F) {
	site := newFuzzed(f)
	bob := site.startSession(site.register("bob@example.com"))
	for range 3 {
		site.startSession(*site.session.Identity)
	}
	first := site.serve(f, "GET", "/auth/sessions", "page_size=1", "", site.cookie())
	require.Equal(f, "3", first.header.Get("X-Total-Count"))
	_, rest, _ := strings.Cut(first.header.Get("Link"), "page_token=")
	token, _, _ := strings.Cut(rest, ">")
	require.Len(f, token, 32)
	for _, seed := range []string{token, token[1:], token + "A", token[:31] + "_", strings.Repeat("_", 32), strings.Repeat("A", 32), "", "=", "\x00\xff"} {
		f.Add("1", seed)
	}
	for _, size := range []string{"", "0", "-1", "250", "251", "+1", "1e1", "00001", "9223372036854775808", "１"} {
		f.Add(size, token)
	}
	f.Fuzz(func(t *testing.T, size, token string) {
		res := site.serve(t, "GET", "/auth/sessions", url.Values{"page_size": {size}, "page_token": {token}}.Encode(), "", site.cookie())
		res.requireSound()
		if res.status != http.StatusOK {
			if len(size)+len(token) < 4000 { // else the address is too long
				res.requireError(http.StatusBadRequest, "")
			}
			return
		}
		var page []struct {
			ID       string
			Identity struct{ ID string }
		}
		require.NoError(t, json.Unmarshal([]byte(res.body), &page))
		require.LessOrEqual(t, len(page), 3)
		for _, s := range page {
			require.Equal(t, site.session.IdentityID.String(), s.Identity.ID)
			require.NotContains(t, []string{site.session.ID.String(), bob.ID.String()}, s.ID, "these are the person's other sessions")
		}
	})
}

func FuzzReceipt(f *testing.F) {
	site := newFuzzed(f)
	ada := site.signIn("ada@example.com")
	flow, device := ada.get("/auth/self-service/login/browser?refresh=true", asJSON).text("id"), ada.cookie("latchkey_device")
	ada.open(ada.logoutURL())
	good := ada.cookie("latchkey_receipt")
	for _, seed := range []string{"", "x", good, good[1:], good + "A", good + "=", good[:len(good)-1] + "_", `"` + good + `"`, flow, device, strings.Repeat("A", 200), "%00", "x; latchkey_receipt=" + good} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, cookie string) {
		held := func(h http.Header) { h["Cookie"] = []string{"latchkey_receipt=" + cookie} }
		if len(cookie) > 30000 {
			return
		}
		page := site.serve(t, "GET", "/auth/signed-out", "", "", asPage, held)
		page.requireSound()
		require.Equal(t, http.StatusOK, page.status)
		if strings.Contains(cookie, good) {
			return
		}
		require.NotContains(t, page.body, "ada@example.com", "only what was sealed here is a receipt")
		res := site.serve(t, "POST", "/auth/signed-out/everywhere", "", "", asJSON, held)
		res.requireSound()
		res.requireError(http.StatusForbidden, "")
	})
}

func FuzzLogoutBody(f *testing.F) {
	site := newFuzzed(f)
	token := site.session.Token
	for _, body := range badBodies {
		f.Add(body.body)
	}
	for _, seed := range []string{`{"session_token":"` + token + `"}`, `{"session_token":"` + token + `","session_token":"x"}`, `{"session_token":["` + token + `"]}`, `{"session_token":null}`,
		`{"Session_Token":"` + token + `"}`, `{"session_token":"` + strings.ToLower(token) + `"}`, `{"traits":{"session_token":"` + token + `"}}`, `{"session_token":"\ud800"}`, "{}{}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		res := site.serve(t, "DELETE", "/auth/self-service/logout/api", "", body, with("Content-Type", typeJSON))
		res.requireSound()
		require.Contains(t, []int{http.StatusNoContent, http.StatusBadRequest, http.StatusForbidden, http.StatusRequestEntityTooLarge}, res.status)
		var members map[string]any
		err := json.Unmarshal([]byte(body), &members)
		if err != nil && len(body) <= 64<<10 {
			res.requireError(http.StatusBadRequest, "")
		}
		if res.status == http.StatusNoContent {
			require.Equal(t, token, members["session_token"], "only its own token ends a session")
		}
	})
}
