package app_test

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"latchkey/app/config"
	"latchkey/models"
	"latchkey/test/kit"
)

// guards are the proxies that a document tells how to protect an app with.
var guards = []struct {
	name, doc string
	start     func(t *testing.T, p *protected)
}{
	{"nginx", "docs/nginx.md", guardWithNginx},
	{"caddy", "docs/caddy.md", guardWithCaddy},
	{"haproxy", "docs/haproxy.md", func(t *testing.T, p *protected) { guardWithHAProxy(t, p) }},
}

// protected is https://app.example.com behind a proxy that asks https://auth.example.com, as in one
// of the documents. Only ports and paths differ.
type protected struct {
	*proxied
	doc string
	app *recorder
}

func (p *protected) appURL(path string) string { return "https://app.example.com" + path }

func protect(t *testing.T, doc string, start func(*testing.T, *protected), configure ...func(*config.Config)) *protected {
	t.Helper()
	return protectBy(t, "", doc, start, configure...)
}

// protectBy is protect with something else at an address in Latchkey's place.
func protectBy(t *testing.T, impostor, doc string, start func(*testing.T, *protected), configure ...func(*config.Config)) *protected {
	t.Helper()
	for name, value := range settingsIn(t, codeIn(t, doc, "sh", "TRUSTED_PROXIES=127.0.0.1")) {
		t.Setenv(name, value)
	}
	p := &protected{doc: doc, app: newRecorder(t), proxied: &proxied{site: newSite(t, configure...), http: freeAddress(t), https: freeAddress(t), dir: t.TempDir()}}
	p.latchkey = cmp.Or(impostor, strings.TrimPrefix(p.url, "http://"))
	p.proxied.app = p.app.address
	p.url = os.Getenv("BASE_URL")
	p.makeCertificate(t)
	start(t, p)
	return p
}

func guardWithNginx(t *testing.T, p *protected) {
	p.runNginx(t, adapt(t, codeIn(t, p.doc, "nginx", "auth_request"),
		// Whatever host is asked for, as where no other server is before this one.
		"listen 443 ssl;\n    server_name app.example.com;", "listen "+p.https+" ssl default_server;\n    server_name app.example.com;",
		"listen 443 ssl;", "listen "+p.https+" ssl;",
		"/etc/ssl/example.com.crt", p.cert, "/etc/ssl/example.com.key", p.key,
		"127.0.0.1:8080", p.latchkey, "127.0.0.1:3000", p.app.address), p.https)
}

func guardWithCaddy(t *testing.T, p *protected) {
	own := fmt.Sprintf("tls %s %s", p.cert, p.key) // no authority answers here
	p.runCaddy(t, adapt(t, codeIn(t, p.doc, "caddy", "forward_auth"),
		"auth.example.com {", "auth.example.com {\n"+own, "app.example.com {", "app.example.com {\n"+own,
		"127.0.0.1:8080", p.latchkey, "127.0.0.1:3000", p.app.address))
}

func guardWithHAProxy(t *testing.T, p *protected, changes ...string) {
	kit.NeedProgram(t, "haproxy", "haproxy")
	file := func(name string) string { return filepath.Join(p.dir, name) }
	certificate, err := os.ReadFile(p.cert)
	require.NoError(t, err)
	key, err := os.ReadFile(p.key)
	require.NoError(t, err)
	p.write(t, file("example.com.pem"), string(certificate)+string(key))
	p.write(t, file("latchkey.lua"), adapt(t, codeIn(t, p.doc, "lua", "register_action"), append(changes, "127.0.0.1:8080", p.latchkey)...))
	p.write(t, file("haproxy.cfg"), adapt(t, codeIn(t, p.doc, "haproxy", "frontend"),
		"/etc/haproxy/latchkey.lua", file("latchkey.lua"), "/etc/ssl/example.com.pem", file("example.com.pem"),
		"bind :443", "bind "+p.https, "127.0.0.1:8080", p.latchkey, "127.0.0.1:3000", p.app.address))
	startProgram(t, exec.Command("haproxy", "-db", "-f", file("haproxy.cfg")), p.https)
}

// recorder is an app that knows nothing of Latchkey. It answers with the request as it got it.
type recorder struct {
	address string
	mu      sync.Mutex
	got     int
}

// recorded is a request as the app got it.
type recorded struct {
	Method, URI, Host, Body string
	Header                  http.Header
}

func newRecorder(t *testing.T) *recorder {
	t.Helper()
	r := &recorder{}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.address = strings.TrimPrefix(server.URL, "http://")
	return r
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.got++
	r.mu.Unlock()
	switch req.URL.Path {
	case "/page":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, "<!DOCTYPE html><title>App</title><h1>Hello %s at %s</h1>", req.Header.Get("Remote-Email"), html.EscapeString(req.RequestURI))
		return
	case "/socket":
		echo(w, req)
		return
	case "/refuses":
		w.Header().Set("X-From", "the app")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, "the app's own refusal")
		return
	case "/asks":
		w.Header().Set("WWW-Authenticate", "Basic")
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, "the app's own question")
		return
	}
	body, _ := io.ReadAll(req.Body)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(recorded{Method: req.Method, URI: req.RequestURI, Host: req.Host, Body: string(body), Header: req.Header})
}

// echo switches protocols as for a web socket, and sends back what comes.
func echo(w http.ResponseWriter, req *http.Request) {
	if !strings.EqualFold(req.Header.Get("Upgrade"), "websocket") {
		http.Error(w, "upgrade to websocket", http.StatusUpgradeRequired)
		return
	}
	conn, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	accept := sha1.Sum([]byte(req.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455 §4.2.2
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\nX-User: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(accept[:]), req.Header.Get("Remote-User"))
	_, _ = io.Copy(conn, buffered)
}

// requests returns how many requests have come to the app.
func (r *recorder) requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got
}

// recorded reads the app's answer.
func (r answer) recorded() recorded {
	r.t.Helper()
	require.Equal(r.t, http.StatusOK, r.status, r.body)
	var got recorded
	require.NoError(r.t, json.Unmarshal([]byte(r.body), &got), r.body)
	return got
}

// signIn goes from a page of the app through the sign-in form and back, and returns where it ends.
func (p *protected) signIn(v *visitor, email, page string) string {
	p.t.Helper()
	res := v.open(p.appURL(page))
	require.Equal(p.t, http.StatusSeeOther, res.status, res.body)
	res = v.open(res.header.Get("Location"))
	require.Equal(p.t, http.StatusOK, res.status, res.body)
	require.Contains(p.t, res.body, "Sign in to continue to app.example.com.")
	res = v.postForm(res.action(), url.Values{"method": {"password"}, "identifier": {email}, "password": {goodPassword}}, with("Origin", p.url))
	require.Equal(p.t, http.StatusSeeOther, res.status, res.body)
	return res.header.Get("Location")
}

// signedIn returns a browser in which somebody has signed in.
func (p *protected) signedIn(email string) *visitor {
	p.t.Helper()
	v := p.from("127.0.0.2")
	p.signIn(v, email, "/")
	return v
}

func eachGuard(t *testing.T, test func(t *testing.T, guard func(configure ...func(*config.Config)) *protected)) {
	for _, g := range guards {
		t.Run(g.name, func(t *testing.T) {
			test(t, func(configure ...func(*config.Config)) *protected { return protect(t, g.doc, g.start, configure...) })
		})
	}
}

func TestAProtectedAppKnowsWhoItIs(t *testing.T) {
	eachGuard(t, func(t *testing.T, guard func(...func(*config.Config)) *protected) {
		p := guard()
		ada := p.register("ada@example.com")
		require.NoError(t, p.store.Identities.Rename(t.Context(), ada.ID, `Ada "☃" <b>%0d%0a {http.request.uuid} $host %[src]`))
		require.NoError(t, p.store.Identities.AddToGroup(t.Context(), ada.ID, "staff"))
		require.NoError(t, p.store.Identities.AddToGroup(t.Context(), ada.ID, "editors"))
		v := p.from("127.0.0.2")
		const page = "/notes?page=2&q=a%20b&r=%2F%26"

		require.Equal(t, p.appURL(page), p.signIn(v, "ada@example.com", page))
		require.Zero(t, p.app.requests(), "nothing has come to the app")

		got := v.open(p.appURL(page)).recorded()
		require.Equal(t, page, got.URI)
		require.Equal(t, "app.example.com", got.Host)
		require.Equal(t, []string{"ada@example.com"}, got.Header["Remote-User"])
		require.Equal(t, []string{"ada@example.com"}, got.Header["Remote-Email"])
		require.Equal(t, []string{`Ada "%E2%98%83" <b>%250d%250a {http.request.uuid} $host %25[src]`}, got.Header["Remote-Name"])
		require.Equal(t, []string{"editors,staff"}, got.Header["Remote-Groups"])

		got = v.postForm(p.appURL("/notes"), url.Values{"note": {"é"}}).recorded()
		require.Equal(t, "POST", got.Method)
		require.Equal(t, "note=%C3%A9", got.Body)
		require.Equal(t, []string{"ada@example.com"}, got.Header["Remote-User"])

		for path, want := range map[string]answer{
			"/refuses": {status: http.StatusForbidden, body: "the app's own refusal"},
			"/asks":    {status: http.StatusUnauthorized, body: "the app's own question"},
		} {
			res := v.open(p.appURL(path))
			require.Equal(t, want.status, res.status)
			require.Equal(t, want.body, res.body)
		}
	})
}

func TestAProtectedAppIsLeftWithTheSession(t *testing.T) {
	eachGuard(t, func(t *testing.T, guard func(...func(*config.Config)) *protected) {
		p := guard()
		p.register("ada@example.com")
		here, there := p.signedIn("ada@example.com"), p.signedIn("ada@example.com")
		here.open(p.appURL("/")).recorded()
		there.open(p.appURL("/")).recorded()

		res := here.get(p.url+"/auth/self-service/logout/browser", asJSON)
		require.Equal(t, http.StatusSeeOther, here.open(res.text("logout_url")).status)
		before := p.app.requests()
		require.Equal(t, http.StatusSeeOther, here.open(p.appURL("/")).status)
		require.Equal(t, http.StatusUnauthorized, here.get(p.appURL("/"), asJSON).status)
		require.Equal(t, before, p.app.requests())
		there.open(p.appURL("/")).recorded()

		ada, err := p.store.Identities.ByEmail(t.Context(), "ada@example.com")
		require.NoError(t, err)
		_, err = p.store.Sessions.EndAll(t.Context(), ada.ID)
		require.NoError(t, err)
		require.Equal(t, http.StatusSeeOther, there.open(p.appURL("/")).status)
		require.Equal(t, before+1, p.app.requests())
	})
}

func TestAProtectedAppAnswersEveryKindOfStranger(t *testing.T) {
	eachGuard(t, func(t *testing.T, guard func(...func(*config.Config)) *protected) {
		p := guard()
		v := p.from("127.0.0.2")
		login := func(back string) string {
			return "https://auth.example.com/auth/login?" + url.Values{"return_to": {back}}.Encode()
		}
		for _, c := range []struct{ method, path, back string }{
			{"GET", "/", "https://app.example.com/"},
			{"GET", "/a/b%20c?x=1&y=%26#", "https://app.example.com/a/b%20c?x=1&y=%26"},
			{"HEAD", "/a?x=1", "https://app.example.com/a?x=1"},
			{"POST", "/a?x=1", "https://app.example.com/"},
			{"PUT", "/a", "https://app.example.com/"},
			{"GET", "/?" + strings.Repeat("&", 1900), "https://app.example.com/?" + strings.Repeat("&", 1900)},
		} {
			body := ""
			if c.method == "POST" || c.method == "PUT" {
				body = "note=x"
			}
			res := v.send(c.method, p.appURL(c.path), body, asPage, with("Content-Type", "application/x-www-form-urlencoded"))
			require.Equal(t, http.StatusSeeOther, res.status, "%s %s: %s", c.method, c.path, res.body)
			require.Equal(t, login(c.back), res.header.Get("Location"))
		}
		for _, headers := range [][]header{
			{asJSON}, {asPage, with("Sec-Fetch-Mode", "cors")}, {asPage, with("X-Requested-With", "XMLHttpRequest")}, {with("Accept", "*/*")},
			{asJSON, with("Content-Type", "application/json")},
		} {
			for _, method := range []string{"GET", "POST"} {
				res := v.send(method, p.appURL("/api?x=1"), "", headers...)
				res.requireError(http.StatusUnauthorized, "session_inactive")
				require.Empty(t, res.header.Get("Location"))
			}
		}
		require.Zero(t, p.app.requests())
	})
}

func TestAProtectedAppByHTTP2(t *testing.T) {
	eachGuard(t, func(t *testing.T, guard func(...func(*config.Config)) *protected) {
		p := guard()
		p.register("ada@example.com")
		v := p.from("127.0.0.2")
		v.client.Transport.(*http.Transport).ForceAttemptHTTP2 = true // nginx is asked for it and declines
		const page = "/notes?page=2&q=a%20b"
		require.Equal(t, p.appURL(page), p.signIn(v, "ada@example.com", page))
		u, err := url.Parse(p.appURL("/"))
		require.NoError(t, err)
		v.jar.SetCookies(u, []*http.Cookie{{Name: "a", Value: "b"}, {Name: "c", Value: "d"}})

		got := v.get(p.appURL(page), asPage, with("Remote-User", "root"), with("Remote_User", "root"), with("X-Forwarded-Host", "other.example.com")).recorded()

		require.Equal(t, page, got.URI)
		require.Equal(t, "app.example.com", got.Host)
		require.Equal(t, []string{"ada@example.com"}, got.Header["Remote-User"])
		require.NotContains(t, got.Header, "Remote_user")
		cookies := strings.Join(got.Header["Cookie"], "; ")
		require.Contains(t, cookies, "a=b")
		require.Contains(t, cookies, "c=d")
		require.NotContains(t, cookies, "latchkey")
	})
}

func TestNoStrangerSpeaksForLatchkey(t *testing.T) {
	eachGuard(t, func(t *testing.T, guard func(...func(*config.Config)) *protected) {
		p := guard()
		p.register("ada@example.com") // without a name or a group
		v := p.signedIn("ada@example.com")
		token := v.token("https://app.example.com/")
		for name, lines := range map[string]string{
			"as it is written":    "Remote-User: root\r\nRemote-Email: root@example.com\r\nRemote-Name: Root\r\nRemote-Groups: admin",
			"underscores":         "remote_user: root\r\nRemote_Email: root@example.com\r\nREMOTE_NAME: Root\r\nRemote_Groups: admin",
			"upper case":          "REMOTE-USER: root\r\nREMOTE-EMAIL: root@example.com\r\nREMOTE-NAME: Root\r\nREMOTE-GROUPS: admin",
			"lower case":          "remote-user: root\r\nremote-email: root@example.com\r\nremote-name: Root\r\nremote-groups: admin",
			"twice":               "Remote-User: root\r\nRemote-User: root\r\nRemote-Groups: admin\r\nRemote-Groups: admin\r\nRemote-Name: Root\r\nRemote-Name: Root",
			"empty and full":      "Remote-User:\r\nRemote-User: root\r\nRemote-Groups:\r\nRemote-Groups: admin\r\nRemote-Name: \r\nRemote-Name: Root",
			"empty":               "Remote-User:\r\nRemote-Email:\r\nRemote-Name:\r\nRemote-Groups:",
			"hop by hop":          "Connection: Remote-User, Remote-Email, X-Forwarded-Host, close\r\nRemote-Groups: admin",
			"hop by hop, upgrade": "Connection: Upgrade, Remote-User, Remote-Email\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
		} {
			res := p.raw(t, "app.example.com", "GET /x HTTP/1.1\r\nHost: app.example.com\r\nAccept: text/html\r\nCookie: "+token+"\r\n"+lines+"\r\n\r\n")
			got := res.recorded()
			said := map[string]string{}
			for header, values := range got.Header {
				plain := strings.ReplaceAll(strings.ToLower(header), "_", "-")
				if strings.HasPrefix(plain, "remote") {
					require.NotContains(t, header, "_", name)
					require.Len(t, values, 1, "%s: %s", name, header)
					if values[0] != "" {
						said[plain] = values[0]
					}
				}
			}
			require.Equal(t, map[string]string{"remote-user": "ada@example.com", "remote-email": "ada@example.com"}, said, name)
		}
	})
}

// forged are headers that apps and Latchkey may believe, since proxies send them.
var forged = []string{"Forwarded", "X-Real-IP", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Server",
	"X-Forwarded-Scheme", "X-Forwarded-Ssl", "X-Forwarded-Method", "X-Forwarded-Uri", "X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups",
	"X-Forwarded-Preferred-Username", "X-Forwarded-Access-Token", "X-Original-URL", "X-Original-Method", "X-Rewrite-URL",
	"Remote-User", "Remote-Email", "Remote-Name", "Remote-Groups", "X-Remote-User", "X-Remote-Email", "X-Remote-Name", "X-Remote-Group", "X-Remote-Groups"}

// forgeries returns the headers with a value that a test recognizes, as they are written and with underscores,
// and with a Connection header that names them.
func forgeries() string {
	var lines strings.Builder
	for _, name := range forged {
		fmt.Fprintf(&lines, "%s: forged\r\n%s: forged\r\n%s: forged\r\n", name, strings.ReplaceAll(name, "-", "_"), strings.ToUpper(name))
	}
	return lines.String() + "Traceparent: forged\r\nConnection: " + strings.Join(forged, ", ") + ", Cookie-2\r\n"
}

// believed are the headers that Latchkey may believe.
var believed = []string{"Forwarded", "X-Real-Ip", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Method", "X-Forwarded-Uri", "X-Original-Url", "X-Original-Method", "Traceparent"}

// requireNothingForged fails if a forged header is there, in any spelling, but for those that harmless is true for.
func requireNothingForged(t *testing.T, got http.Header, harmless func(name string) bool) {
	t.Helper()
	for name, values := range got {
		if harmless(name) {
			continue
		}
		require.NotContains(t, strings.Join(values, ","), "forged", name)
		require.NotContains(t, name, "_", "apps take it for the header with dashes")
	}
	require.NotContains(t, strings.ToLower(got.Get("Connection")), "r", "no header is named to be dropped: %v", got["Connection"])
}

func TestNothingForgedArrives(t *testing.T) {
	for _, g := range guards {
		t.Run(g.name, func(t *testing.T) {
			asked := make(chan http.Header, 10)
			latchkey := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked <- r.Header.Clone()
				w.Header().Set("Remote-User", "ada")
				for _, name := range []string{"Remote-Email", "Remote-Name", "Remote-Groups"} {
					w.Header().Set(name, "")
				}
			}))
			t.Cleanup(latchkey.Close)
			p := protectBy(t, strings.TrimPrefix(latchkey.URL, "http://"), g.doc, g.start)

			const cookies = "a=b; __Secure-latchkey_session=s; a-__Secure-latchkey_x=1; c=d; __Secure-latchkey_device=d; e=__Secure-latchkey_f"
			got := p.raw(t, "app.example.com", "POST /x?y HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 0\r\nCookie: "+cookies+"\r\n"+forgeries()+"\r\n").recorded().Header
			requireNothingForged(t, got, func(name string) bool { return name == "Traceparent" })
			require.Equal(t, []string{"ada"}, got["Remote-User"])
			require.Equal(t, []string{"https"}, got["X-Forwarded-Proto"])
			require.Regexp(t, `^127\.0\.0\.\d+$`, got.Get("X-Forwarded-For"))
			require.Equal(t, "a=b; a-__Secure-latchkey_x=1; c=d; e=__Secure-latchkey_f", strings.Join(strings.Fields(strings.ReplaceAll(got.Get("Cookie"), ";", "; ")), " "), "the cookies of others are whole")

			verify := <-asked
			requireNothingForged(t, verify, func(string) bool { return false })
			require.Equal(t, []string{"app.example.com"}, verify["X-Forwarded-Host"])
			require.Equal(t, []string{"POST"}, verify["X-Forwarded-Method"])
			require.Equal(t, []string{"/x?y"}, verify["X-Forwarded-Uri"])
			require.Contains(t, verify.Get("Cookie"), "__Secure-latchkey_session=s")

			p.raw(t, "auth.example.com", "GET /auth/login HTTP/1.1\r\nHost: auth.example.com\r\n"+forgeries()+"\r\n")
			requireNothingForged(t, <-asked, func(name string) bool { return !slices.Contains(believed, name) })
		})
	}
}

func TestPublicPathsAndPreflightsPassTheProxies(t *testing.T) {
	eachGuard(t, func(t *testing.T, guard func(...func(*config.Config)) *protected) {
		p := guard(func(c *config.Config) {
			c.Access = "app.example.com=SIGNED-IN,PREFLIGHT app.example.com/public/*=PUBLIC"
		})
		send := func(request, lines string) answer {
			return p.raw(t, "app.example.com", request+" HTTP/1.1\r\nHost: app.example.com\r\nAccept: application/json\r\nConnection: close\r\n"+lines+"\r\n")
		}
		for _, request := range []string{"GET /public/x?y=z", "POST /public/"} {
			got := send(request, "Remote-User: root\r\nContent-Length: 0\r\n").recorded()
			require.Empty(t, strings.Join(got.Header["Remote-User"], ""), "nobody is signed in")
		}
		const preflight = "Origin: https://spa.example.com\r\nAccess-Control-Request-Method: PUT\r\n"
		require.Equal(t, "OPTIONS", send("OPTIONS /x", preflight).recorded().Method)
		before := p.app.requests()
		for request, lines := range map[string]string{
			"GET /x": "", "GET /public/../x": "", "GET /public/%2e%2e/x": "", "GET /public/..;/x": "", "GET //public/x": "", "GET /PUBLIC/x": "", "GET /public": "", "OPTIONS /x": "",
			"POST /x": preflight + "Content-Length: 0\r\n", "GET /x?": "X-Original-URL: https://app.example.com/public/x\r\nX-Forwarded-Uri: /public/x\r\nX-Forwarded-Method: OPTIONS\r\n" + preflight,
		} {
			res := send(request, lines)
			require.Contains(t, []int{http.StatusUnauthorized, http.StatusBadRequest, http.StatusMovedPermanently, http.StatusPermanentRedirect}, res.status, "%s: %s", request, res.body)
		}
		require.Equal(t, before, p.app.requests())
	})
}

func TestNoStrangerSpeaksForTheProxy(t *testing.T) {
	eachGuard(t, func(t *testing.T, guard func(...func(*config.Config)) *protected) {
		p := guard(func(c *config.Config) { c.Access = "app.example.com=staff" })
		p.register("ada@example.com")
		v := p.signedIn("ada@example.com")
		token := v.token("https://app.example.com/")
		forged := []string{
			"X-Forwarded-Host: other.example.com", "x-forwarded-host: other.example.com", "X_Forwarded_Host: other.example.com",
			"X-Forwarded-Host: other.example.com\r\nX-Forwarded-Host: other.example.com", "X-Forwarded-Host:", "Forwarded: host=other.example.com",
			"X-Forwarded-Host: other.example.com\r\nX-Forwarded-Uri: /\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Proto: https",
			"Connection: X-Forwarded-Host, X-Forwarded-Uri", "X-Original-Host: other.example.com\r\nX-Host: other.example.com",
		}
		for _, lines := range forged {
			res := p.raw(t, "app.example.com", "GET /x HTTP/1.1\r\nHost: app.example.com\r\nAccept: application/json\r\nCookie: "+token+"\r\n"+lines+"\r\n\r\n")
			require.Equal(t, http.StatusForbidden, res.status, "%s: %s", lines, res.body)
		}
		// A host that is for everybody, asked for where the proxy has the app.
		for _, request := range []string{
			"GET /x HTTP/1.1\r\nHost: other.example.com", "GET https://other.example.com/x HTTP/1.1\r\nHost: app.example.com",
			"GET https://app.example.com/x HTTP/1.1\r\nHost: other.example.com", "GET /x HTTP/1.1\r\nHost: app.example.com\r\nHost: other.example.com",
			"GET /x HTTP/1.1\r\nHost: other.example.com\r\nHost: app.example.com", "GET /x HTTP/1.0", "GET /x HTTP/1.1\r\nHost:",
			"GET /x HTTP/1.1\r\nHost: app.example.com.", "GET /x HTTP/1.1\r\nHost: APP.example.com:443", "GET /x HTTP/1.1\r\nHost: app.example.com, other.example.com",
		} {
			res := p.raw(t, "app.example.com", request+"\r\nAccept: application/json\r\nCookie: "+token+"\r\nConnection: close\r\n\r\n")
			require.NotContains(t, res.body, `"Remote-User"`, request)
		}
		require.Zero(t, p.app.requests())

		// Nor are strangers sent elsewhere.
		for _, lines := range append(forged, "X-Forwarded-Host: evil.example\r\nX-Forwarded-Uri: //evil.example/\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Method: POST",
			"X-Forwarded-Uri: @evil.example/", "X-Original-URL: /evil\r\nX-Rewrite-URL: /evil") {
			res := p.raw(t, "app.example.com", "GET /x?y=z HTTP/1.1\r\nHost: app.example.com\r\nAccept: text/html\r\n"+lines+"\r\n\r\n")
			require.Equal(t, http.StatusSeeOther, res.status, "%s: %s", lines, res.body)
			require.Equal(t, "https://auth.example.com/auth/login?return_to=https%3A%2F%2Fapp.example.com%2Fx%3Fy%3Dz", res.header.Get("Location"), lines)
		}
	})
}

func TestAnAppForSomePeople(t *testing.T) {
	eachGuard(t, func(t *testing.T, guard func(...func(*config.Config)) *protected) {
		p := guard(func(c *config.Config) { c.Access = "app.example.com=staff" })
		ada := p.register("ada@example.com")
		v := p.signedIn("ada@example.com")
		for _, method := range []string{"GET", "HEAD", "POST"} {
			res := v.send(method, p.appURL("/x"), "", asPage)
			require.Equal(t, http.StatusForbidden, res.status, res.body)
			require.Contains(t, res.header.Get("Content-Type"), "text/html")
			if method != "HEAD" {
				require.Contains(t, res.body, "You are signed in as <bdi>ada@example.com</bdi>. Ask")
			}
			res = v.send(method, p.appURL("/x"), "", asJSON)
			require.Equal(t, http.StatusForbidden, res.status, res.body)
			require.Contains(t, res.header.Get("Content-Type"), "application/json")
		}
		require.Zero(t, p.app.requests())

		require.NoError(t, p.store.Identities.AddToGroup(t.Context(), ada.ID, "staff"))

		require.Equal(t, []string{"staff"}, v.open(p.appURL("/x")).recorded().Header["Remote-Groups"])
	})
}

func TestAProtectedAppGetsItsOwnCookiesAndNoOther(t *testing.T) {
	eachGuard(t, func(t *testing.T, guard func(...func(*config.Config)) *protected) {
		p := guard()
		p.register("ada@example.com")
		v := p.signedIn("ada@example.com")
		token := v.token("https://app.example.com/")
		flow, device, receipt := "__Secure-latchkey_flow=f", "__Secure-latchkey_device=d", "__Secure-latchkey_receipt=r"
		for sent, want := range map[string]string{
			token:                     "",
			"a=b; " + token:           "a=b",
			token + "; a=b":           "a=b",
			"a=b; " + token + "; c=d": "a=b; c=d",
			"a=b;" + token + ";c=d":   "a=b; c=d",
			token + "; " + flow + "; " + device + "; " + receipt:                     "",
			flow + "; a=b; " + token + "; c=d; " + receipt + "; " + device + "; e=f": "a=b; c=d; e=f",
			device + "; " + flow + "; a=b,c; " + token + `; c="d"`:                   `a=b,c; c="d"`,
		} {
			res := p.raw(t, "app.example.com", "GET /x HTTP/1.1\r\nHost: app.example.com\r\nCookie: "+sent+"\r\n\r\n")
			got := strings.Join(res.recorded().Header["Cookie"], "; ")
			var pairs []string
			for pair := range strings.SplitSeq(got, ";") {
				if pair = strings.TrimSpace(pair); pair != "" {
					pairs = append(pairs, pair)
				}
			}
			require.Equal(t, want, strings.Join(pairs, "; "), sent)
		}
		other := "__Secure-latchkey_session=" + strings.Repeat("A", 26)
		for _, sent := range []string{token + "; " + other, token + "; " + other + "; " + other + "; " + other + "; " + other, token + "; a=b; " + other + "; c=d; " + other, token + "\r\nCookie: " + other, token + "; __Secure-latchkey_session =x"} {
			res := p.raw(t, "app.example.com", "GET /x HTTP/1.1\r\nHost: app.example.com\r\nCookie: "+sent+"\r\n\r\n")
			require.NotContains(t, strings.Join(res.recorded().Header["Cookie"], "; "), "latchkey_", sent)
		}
	})
}

func TestWebSocketsPassToAProtectedApp(t *testing.T) {
	eachGuard(t, func(t *testing.T, guard func(...func(*config.Config)) *protected) {
		p := guard()
		p.register("ada@example.com")
		v := p.signedIn("ada@example.com")
		const upgrade = "GET /socket HTTP/1.1\r\nHost: app.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-Fetch-Mode: websocket\r\nOrigin: https://app.example.com\r\n"

		refused := p.raw(t, "app.example.com", upgrade+"\r\n")
		require.Equal(t, http.StatusUnauthorized, refused.status, refused.body)
		require.Zero(t, p.app.requests())

		conn := p.dial(t, "app.example.com")
		_, err := io.WriteString(conn, upgrade+"Cookie: "+v.token("https://app.example.com/")+"\r\n\r\n")
		require.NoError(t, err)
		in := bufio.NewReader(conn)
		res, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusSwitchingProtocols, res.StatusCode)
		require.Equal(t, "ada@example.com", res.Header.Get("X-User"))
		for _, word := range []string{"hello\n", "again\n"} {
			_, err = io.WriteString(conn, word)
			require.NoError(t, err)
			back, err := in.ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, word, back)
		}
	})
}

func TestWithoutLatchkeyNobodyGetsToTheApp(t *testing.T) {
	eachGuard(t, func(t *testing.T, guard func(...func(*config.Config)) *protected) {
		p := guard()
		p.register("ada@example.com")
		v := p.signedIn("ada@example.com")
		v.open(p.appURL("/")).recorded()

		p.server.Close()

		for method, as := range map[string]header{"GET": asPage, "POST": asJSON} {
			res := v.send(method, p.appURL("/"), "", as)
			require.GreaterOrEqual(t, res.status, 500, res.body)
		}
		require.Equal(t, 1, p.app.requests())
	})
}

func TestABrokenLatchkeyLetsNobodyToTheApp(t *testing.T) {
	for name, say := range map[string]func(net.Conn){
		"hangs up":       func(net.Conn) {},
		"talks nonsense": func(c net.Conn) { fmt.Fprint(c, "200 OK\r\n\r\n") },
		"breaks off":     func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 200 OK\r\nRemote-User: ro") },
		"never answers":  func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
	} {
		for _, g := range guards {
			t.Run(g.name+" "+name, func(t *testing.T) {
				if name == "never answers" && g.name != "haproxy" {
					return // those wait for a minute
				}
				p := protectBy(t, listen(t, say), g.doc, g.start)
				res := p.from("127.0.0.2").open(p.appURL("/"))
				require.GreaterOrEqual(t, res.status, 500, res.body)
				require.Zero(t, p.app.requests())
			})
		}
	}
}

// listen has each connection talked to and closed, and returns where.
func listen(t *testing.T, say func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, listener.Close()) })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = bufio.NewReader(conn).ReadString('\n') // of a request
				say(conn)
			}()
		}
	}()
	return listener.Addr().String()
}

func TestHAProxyLetsNobodyThroughWhereItsLuaFails(t *testing.T) {
	for name, change := range map[string][2]string{
		"at the start":      {"local request =", "error('x'); local request ="},
		"at the answer":     {"if answer.status == 200 then", "error('x'); if answer.status == 200 then"},
		"before its last":   {`txn:set_var("txn.latchkey", true)`, "error('x')"},
		"without an answer": {"core.httpclient():get(", "(function() end)("},
	} {
		t.Run(name, func(t *testing.T) {
			p := protect(t, "docs/haproxy.md", func(t *testing.T, p *protected) { guardWithHAProxy(t, p, change[:]...) })
			p.register("ada@example.com")
			token := p.sessionFor("ada@example.com")
			res := p.raw(t, "app.example.com", "GET / HTTP/1.1\r\nHost: app.example.com\r\nCookie: "+token+"\r\n\r\n")
			require.GreaterOrEqual(t, res.status, 500, res.body)
			require.Zero(t, p.app.requests())
		})
	}
}

// sessionFor signs somebody in past the proxy, and returns the cookie.
func (p *protected) sessionFor(email string) string {
	p.t.Helper()
	v := p.visitor()
	flow := v.get("http://"+p.latchkey+"/auth/self-service/login/api", asJSON)
	action := strings.Replace(flow.text("ui.action"), p.url, "http://"+p.latchkey, 1)
	res := v.postJSON(action, map[string]any{"method": "password", "identifier": email, "password": goodPassword})
	require.Equal(p.t, http.StatusOK, res.status, res.body)
	return "__Secure-latchkey_session=" + res.text("session_token")
}

// browser opens a tab of a real browser to which the proxy is the world.
func (p *protected) browser(t *testing.T) *tab {
	t.Helper()
	kit.NeedProgram(t, "chromium", "chromium")
	there := "127.0.0.1:" + portOf(p.https)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("ignore-certificate-errors", true), // of an authority of this test
		chromedp.Flag("host-resolver-rules", "MAP auth.example.com:443 "+there+", MAP app.example.com:443 "+there+", MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"))
	ctx, closeBrowser := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(closeBrowser)
	ctx, closeTab := chromedp.NewContext(ctx)
	t.Cleanup(closeTab)
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)
	return &tab{t: t, site: "https://app.example.com", ctx: ctx}
}

func TestAProtectedAppInARealBrowser(t *testing.T) {
	p := protect(t, "docs/nginx.md", guardWithNginx, func(c *config.Config) { c.Access = "app.example.com=staff" })
	ada := p.register("ada@example.com")
	require.NoError(t, p.store.Identities.AddToGroup(t.Context(), ada.ID, "staff"))
	p.register("bob@example.com")
	b := p.browser(t)
	const page = "/page?x=1&y=a%20b"

	// To the sign-in page and back.
	b.open(page)
	b.arrives("Sign in")
	require.Contains(t, b.text(), "Sign in to continue to app.example.com.")
	b.signIn("ada@example.com", goodPassword)
	b.arrives("Hello ada@example.com at " + page)
	require.Equal(t, "https://app.example.com"+page, eval[string](b, "location.href"))
	status := func() int {
		return eval[int](b, `fetch("/api", { headers: { "X-Requested-With": "fetch" } }).then((r) => r.status)`)
	}
	require.Equal(t, http.StatusOK, status())

	// Out, in a tab of its own; the app's page has not heard of it.
	session, err := p.store.Sessions.AllActive(t.Context(), "ada@example.com")
	require.NoError(t, err)
	require.NoError(t, p.store.Sessions.End(t.Context(), session[0].ID, models.EndedByLogout))
	require.Equal(t, http.StatusUnauthorized, status(), "not a page to sign in")
	b.open(page)
	b.arrives("Sign in")

	// Somebody for whom the app is not.
	b.signIn("bob@example.com", goodPassword)
	b.arrives("You don’t have access to app.example.com")
	require.Equal(t, "https://app.example.com"+page, eval[string](b, "location.href"))
	require.Contains(t, b.text(), "You are signed in as bob@example.com.")
	b.until(`getComputedStyle(document.querySelector("a.button")).backgroundColor !== "rgba(0, 0, 0, 0)"`)
	b.click("a.button")
	b.arrives("Sign in")
	b.signIn("ada@example.com", goodPassword)
	b.arrives("Hello ada@example.com at " + page)
}

// token returns the session's cookie as the browser would send it.
func (v *visitor) token(target string) string {
	u, err := url.Parse(target)
	require.NoError(v.site.t, err)
	for _, cookie := range v.jar.Cookies(u) {
		if cookie.Name == "__Secure-latchkey_session" {
			return cookie.Name + "=" + cookie.Value
		}
	}
	require.FailNow(v.site.t, "no session")
	return ""
}

// dial connects to the proxy as for a host.
func (p *protected) dial(t *testing.T, host string) net.Conn {
	t.Helper()
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: p.roots, ServerName: host}}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, err := dialer.DialContext(ctx, "tcp", p.https)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	return conn
}

// raw sends bytes that no client would, and reads the answer.
func (p *protected) raw(t *testing.T, host, request string) answer {
	t.Helper()
	conn := p.dial(t, host)
	_, err := io.WriteString(conn, request)
	require.NoError(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err, request)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return answer{t: t, status: res.StatusCode, header: res.Header, body: string(body)}
}
