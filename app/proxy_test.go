package app_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"html"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/stretchr/testify/require"

	"latchkey/app/returnto"
	"latchkey/test/kit"
)

// proxies are those that the README has a configuration for.
var proxies = []struct {
	name  string
	start func(t *testing.T, p *proxied)
}{
	{"nginx", startNginx},
	{"caddy", startCaddy},
}

// proxied is https://example.com as in the README: its proxy before Latchkey and its app. Only
// ports and paths differ.
type proxied struct {
	*site
	latchkey, app string // HOST:PORT
	http, https   string // of the proxy
	cert, key     string // files
	dir           string
	roots         *x509.CertPool
}

func behind(t *testing.T, start func(*testing.T, *proxied)) *proxied {
	t.Helper()
	kit.NeedProgram(t, "node", "nodejs")
	for name, value := range settingsIn(t, codeIn(t, "README.md", "sh", "TRUSTED_PROXIES=127.0.0.1")) {
		t.Setenv(name, value)
	}
	p := &proxied{site: newSite(t), app: freeAddress(t), http: freeAddress(t), https: freeAddress(t), dir: t.TempDir()}
	p.latchkey = strings.TrimPrefix(p.url, "http://")
	p.url = os.Getenv("BASE_URL")
	p.makeCertificate(t)
	script := filepath.Join(p.dir, "app.mjs")
	p.write(t, script, adapt(t, codeIn(t, "README.md", "js", "createServer"),
		"127.0.0.1:8080", p.latchkey, "3000", portOf(p.app)))
	startProgram(t, exec.Command("node", script), p.app)
	start(t, p)
	return p
}

// settingsIn returns the environment that a shell line begins with.
func settingsIn(t *testing.T, line string) map[string]string {
	t.Helper()
	settings := map[string]string{}
	for word := range strings.FieldsSeq(line) {
		if name, value, ok := strings.Cut(word, "="); ok {
			settings[name] = value
		}
	}
	require.NotEmpty(t, settings)
	return settings
}

func startNginx(t *testing.T, p *proxied) {
	p.runNginx(t, adapt(t, codeIn(t, "README.md", "nginx", "server"),
		"listen 80;", "listen "+p.http+";", "listen 443 ssl;", "listen "+p.https+" ssl;",
		"/etc/ssl/example.com.crt", p.cert, "/etc/ssl/example.com.key", p.key,
		"127.0.0.1:8080", p.latchkey, "127.0.0.1:3000", p.app), p.http, p.https)
}

// runNginx starts nginx with what is to be inside of http { … }.
func (p *proxied) runNginx(t *testing.T, servers string, addresses ...string) {
	t.Helper()
	kit.NeedProgram(t, "nginx", "nginx-light")
	config := filepath.Join(p.dir, "nginx.conf")
	var temporary strings.Builder
	for _, what := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temporary, "%s_temp_path %s/%s;\n", what, p.dir, what)
	}
	p.write(t, config, fmt.Sprintf("daemon off; master_process off; pid %s/pid;\nevents {}\nhttp {\naccess_log off;\n%s%s}\n",
		p.dir, &temporary, servers))
	startProgram(t, exec.Command("nginx", "-e", "stderr", "-p", p.dir, "-c", config), addresses...)
}

func startCaddy(t *testing.T, p *proxied) {
	p.runCaddy(t, adapt(t, codeIn(t, "README.md", "caddy", "example.com"),
		"example.com {", fmt.Sprintf("example.com {\ntls %s %s", p.cert, p.key), // no authority answers here
		"127.0.0.1:8080", p.latchkey, "127.0.0.1:3000", p.app))
}

// runCaddy starts Caddy with these sites.
func (p *proxied) runCaddy(t *testing.T, sites string) {
	t.Helper()
	kit.NeedProgram(t, "caddy", "caddy")
	config := filepath.Join(p.dir, "Caddyfile")
	p.write(t, config, fmt.Sprintf("{\nadmin off\ndefault_bind 127.0.0.1\nhttp_port %s\nhttps_port %s\nservers {\nprotocols h1 h2\n}\n}\n%s",
		portOf(p.http), portOf(p.https), sites))
	caddy := exec.Command("caddy", "run", "--config", config, "--adapter", "caddyfile")
	caddy.Env = append(os.Environ(), "HOME="+p.dir, "XDG_DATA_HOME="+p.dir, "XDG_CONFIG_HOME="+p.dir)
	startProgram(t, caddy, p.http, p.https)
}

// from returns a visitor whose browser is at that address of the loopback network.
func (p *proxied) from(address string) *visitor {
	v := p.visitor()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: 5 * time.Second}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: p.roots},
		DialContext: func(ctx context.Context, network, host string) (net.Conn, error) {
			switch {
			case strings.HasSuffix(host, "example.com:80"):
				host = p.http
			case strings.HasSuffix(host, "example.com:443"):
				host = p.https
			}
			return dialer.DialContext(ctx, network, host)
		},
	}
	p.t.Cleanup(transport.CloseIdleConnections)
	v.client.Transport = transport
	return v
}

var (
	signOutLink = regexp.MustCompile(`<a href="([^"]*)">Sign out</a>`)
	hostCookie  = "__Host-latchkey_session"
)

func TestAnAppAndLatchkeyBehindOneProxy(t *testing.T) {
	for _, proxy := range proxies {
		t.Run(proxy.name, func(t *testing.T) {
			p := behind(t, proxy.start)
			p.register("ada@example.com")
			ada := p.from("127.0.0.2")

			// The app sends who is not signed in to Latchkey, with the way back.
			res := ada.open("/notes?page=2")
			require.Equal(t, http.StatusSeeOther, res.status, res.body)
			res = ada.open(res.header.Get("Location"))
			require.Equal(t, http.StatusOK, res.status, res.body)
			res = ada.postForm(res.action(), url.Values{"method": {"password"}, "identifier": {"ada@example.com"}, "password": {goodPassword}},
				with("Origin", p.url))
			require.Equal(t, http.StatusSeeOther, res.status, res.body)
			require.Equal(t, "/notes?page=2", res.header.Get("Location"))
			require.NotEmpty(t, ada.cookie(hostCookie))
			require.Contains(t, strings.Join(res.header.Values("Set-Cookie"), "\n"), "Secure")

			// The app asks for her, and has a link for her.
			res = ada.open("/notes?page=2")
			require.Equal(t, http.StatusOK, res.status, res.body)
			require.Contains(t, res.body, "Hello ada@example.com")
			link := signOutLink.FindStringSubmatch(res.body)
			require.NotNil(t, link, res.body)
			signOut := html.UnescapeString(link[1])
			require.True(t, strings.HasPrefix(signOut, "https://example.com/auth/self-service/logout?token="), signOut)

			res = ada.open(signOut)
			require.Equal(t, http.StatusSeeOther, res.status, res.body)
			require.Equal(t, "/goodbye", res.header.Get("Location"))
			require.False(t, ada.signedIn())
			require.Equal(t, "Goodbye.", ada.open("/goodbye").body)
			require.Equal(t, http.StatusSeeOther, ada.open("/notes?page=2").status, "the app lets nobody in any more")
		})
	}
}

func TestAProxyTellsWhoAsksAndNobodyElseDoes(t *testing.T) {
	for _, proxy := range proxies {
		t.Run(proxy.name, func(t *testing.T) {
			p := behind(t, proxy.start)
			p.register("ada@example.com")
			const claimed = "7e3a8f5c-9b0d-4c1e-8f2a-6d5b4c3a2910"
			forged := func(h http.Header) {
				h.Set("X-Forwarded-For", "203.0.113.9")
				h.Set("X-Forwarded-Proto", "http")
				h.Set("X-Forwarded-Host", "evil.example")
				h.Set("X-Real-Ip", "203.0.113.9")
				h.Set("Forwarded", "for=203.0.113.9;host=evil.example")
				h.Set("X-Request-Id", claimed)
			}
			for _, asked := range []struct{ way, origin string }{
				{"through the proxy", p.url},
				{"past it", "http://" + p.latchkey},
			} {
				v := p.from("127.0.0.2")
				flow := v.get(asked.origin+"/auth/self-service/login/api", forged)
				require.True(t, strings.HasPrefix(flow.text("ui.action"), "https://example.com/auth/"), flow.body)
				action := strings.Replace(flow.text("ui.action"), p.url, asked.origin, 1)
				res := v.postJSON(action, map[string]any{"method": "password", "identifier": "ada@example.com", "password": goodPassword}, forged)
				require.Equal(t, http.StatusOK, res.status, res.body)
				require.Equal(t, "127.0.0.2", res.text("session.devices.0.ip_address"), asked.way)
				require.NotEqual(t, claimed, res.header.Get("X-Request-Id"), asked.way)
				require.NotEqual(t, uuid.Nil, uuid.FromStringOrNil(res.header.Get("X-Request-Id")), asked.way)
			}
		})
	}
}

func TestAProxyPassesWhatLatchkeyNeeds(t *testing.T) {
	for _, proxy := range proxies {
		t.Run(proxy.name, func(t *testing.T) {
			p := behind(t, proxy.start)
			v := p.from("127.0.0.2")

			res := v.open("http://example.com/auth/login?return_to=/x")
			require.Contains(t, []int{http.StatusMovedPermanently, http.StatusPermanentRedirect}, res.status)
			require.Equal(t, "https://example.com/auth/login?return_to=/x", res.header.Get("Location"))

			res = v.open("/auth")
			require.GreaterOrEqual(t, res.status, 300)
			require.Less(t, res.status, 400)
			require.Contains(t, res.header.Get("Location"), "/auth/", "not the app's")

			// The longest return_to there is, of what takes most room in a flow, goes there and back.
			p.register("ada@example.com")
			for _, filler := range []string{"&", `"`} {
				v, longest := p.from("127.0.0.2"), "/?"+strings.Repeat(filler, returnto.MaxLength-2)
				res = v.open("/auth/self-service/login/browser?return_to=" + url.QueryEscape(longest))
				require.Equal(t, http.StatusSeeOther, res.status, res.body)
				res = v.open(res.header.Get("Location"))
				require.Equal(t, http.StatusOK, res.status, res.body)
				res = v.postForm(res.action(), url.Values{"method": {"password"}, "identifier": {"ada@example.com"}, "password": {goodPassword}})
				require.Equal(t, http.StatusSeeOther, res.status, res.body)
				require.Equal(t, longest, res.header.Get("Location"))
			}
		})
	}
}

func (p *proxied) write(t *testing.T, file, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
}

// makeCertificate makes what the authority would give for example.com.
func (p *proxied) makeCertificate(t *testing.T) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"example.com", "*.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
	p.cert, p.key = filepath.Join(p.dir, "tls.crt"), filepath.Join(p.dir, "tls.key")
	p.write(t, p.cert, string(certificate))
	p.write(t, p.key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
	p.roots = x509.NewCertPool()
	require.True(t, p.roots.AppendCertsFromPEM(certificate))
}

// freeAddress returns an address that a server can listen on.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return listener.Addr().String()
}

func portOf(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

// startProgram starts a server, returns when it listens on the addresses, and ends it with the test.
// It returns the file that holds what the server prints.
func startProgram(t *testing.T, cmd *exec.Cmd, addresses ...string) string {
	t.Helper()
	output, err := os.Create(filepath.Join(t.TempDir(), "output"))
	require.NoError(t, err)
	cmd.Stdout, cmd.Stderr = output, output
	require.NoError(t, cmd.Start())
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }() // it is killed, which is an error
	said := func() string {
		text, err := os.ReadFile(output.Name())
		require.NoError(t, err)
		return string(text)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-exited
		require.NoError(t, output.Close())
		if t.Failed() {
			t.Logf("%s said:\n%s", cmd.Args[0], said())
		}
	})
	deadline := time.After(30 * time.Second)
	for _, address := range addresses {
		for conn, err := net.Dial("tcp", address); ; conn, err = net.Dial("tcp", address) {
			if err == nil {
				require.NoError(t, conn.Close())
				break
			}
			select {
			case <-time.After(20 * time.Millisecond):
			case <-exited:
				t.Fatalf("%s ended at once", cmd.Args[0])
			case <-deadline:
				t.Fatalf("%s does not listen on %s", cmd.Args[0], address)
			}
		}
	}
	return output.Name()
}
