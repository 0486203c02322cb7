package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/db/pgtest"
)

// findings returns what 'latchkey check' prints, after checking that its exit status fits.
func (m *machine) findings(args ...string) string {
	m.t.Helper()
	r := m.run("", append([]string{"check"}, args...)...)
	for line := range strings.Lines(r.stdout) {
		require.Regexp(m.t, `^(ok  |warn|FAIL) [a-zA-Z_]+ +\S`, line)
	}
	if strings.Contains(r.stdout, "FAIL") {
		require.Equal(m.t, 1, r.code, r.stdout)
		require.Regexp(m.t, `^latchkey: error: \d+ things? (is|are) wrong\n$`, r.stderr)
	} else {
		require.Zero(m.t, r.code, r.stdout+r.stderr)
		require.Empty(m.t, r.stderr)
	}
	return r.stdout
}

func TestCheckOfAServerThatIsWell(t *testing.T) {
	for name, m := range map[string]*machine{"SQLite": newSQLiteMachine(t), "PostgreSQL": newMachineAt(t, pgtest.Start(t).NewDatabase(t))} {
		t.Run(name, func(t *testing.T) {
			m.t = t
			m.addUser("ada@example.com")
			s := m.start()
			s.signIn("ada@example.com")

			found := m.findings("--listen=" + strings.TrimPrefix(s.url, "http://"))

			require.NotContains(t, found, "FAIL")
			require.NotContains(t, found, "warn schema")
			for _, want := range []string{"ok   settings", "ok   cookies", "ok   schema", "1 account, 1 active session", "ok   keys", "ok   server", "ok   clock       as that of the server"} {
				require.Contains(t, found, want)
			}
		})
	}
}

func TestCheckFindsAServerThatForgets(t *testing.T) {
	server := pgtest.Start(t, "-c", "synchronous_commit=off")
	m := newMachineAt(t, server.NewDatabase(t))
	m.addUser("ada@example.com")
	require.Contains(t, m.findings(), "a power cut undoes what was answered, sign-outs too (synchronous_commit=off, fsync=on)")
	m = newMachineAt(t, server.URL("nowhere"))
	require.Contains(t, m.findings(), "FAIL database")
}

func TestCheckChangesNothing(t *testing.T) {
	m := newSQLiteMachine(t)
	require.Contains(t, m.findings(), "FAIL database    there is none at")
	require.NoFileExists(t, m.database())

	require.NoError(t, os.WriteFile(m.database(), nil, 0o600))
	require.Contains(t, m.findings(), "warn schema")
	info, err := os.Stat(m.database())
	require.NoError(t, err)
	require.Zero(t, info.Size(), "it makes no tables")
}

func TestCheckFindsWhatIsWrong(t *testing.T) {
	wrong := func(prepare func(m *machine), want string, args ...string) {
		t.Helper()
		m := newSQLiteMachine(t)
		m.addUser("ada@example.com")
		prepare(m)
		require.Contains(t, m.findings(args...), want)
	}
	statement := func(sql string) func(*machine) {
		return func(m *machine) { require.NoError(t, m.open().Exec(sql).Error) }
	}
	nothing := func(*machine) {}

	wrong(nothing, "FAIL settings    BASE_URL is", "--base-url=example.com")
	wrong(nothing, "FAIL cookies     ACCESS has wiki.example.com", "--base-url=https://auth.example.com", "--access=wiki.example.com=staff")
	wrong(func(m *machine) { require.NoError(t, os.Chmod(m.database(), 0o644)) }, "chmod 600 latchkey.db")
	wrong(func(m *machine) { require.NoError(t, os.Chmod(m.dir, 0o777)) }, "chmod go-w")
	wrong(func(m *machine) {
		require.NoError(t, os.WriteFile(m.database(), []byte(strings.Repeat("no database", 1000)), 0o600))
	}, "FAIL database")
	wrong(statement("PRAGMA foreign_keys = 0; INSERT INTO credentials VALUES ('x', 'password', 'x', 0, 0)"), "rows refer to others that are not there – restore")
	wrong(statement("INSERT INTO migrations VALUES ('999912310001_of_tomorrow')"), "warn schema      a newer version has been here (999912310001_of_tomorrow)")
	wrong(statement("DELETE FROM migrations"), "warn schema")
	wrong(statement(fmt.Sprintf("INSERT INTO ends (session_id, reason, at) VALUES ('x', 'logout', %d)", time.Now().Add(24*time.Hour).UnixMicro())), "FAIL clock")
	wrong(statement("INSERT INTO signing_keys VALUES ('k', x'00', 0, NULL)"), "FAIL keys")
	wrong(func(m *machine) { m.do("", "app", "add", "wiki", "https://no-such-host.invalid/logout") }, "FAIL apps        wiki is told at no-such-host.invalid")
	wrong(nothing, "warn server      nothing answers at http://localhost:1", "--listen=localhost:1")
}

// TestCheckAsksThroughTheProxy has a reverse proxy with a certificate in front, which is set up in
// all the wrong ways in turn.
func TestCheckAsksThroughTheProxy(t *testing.T) {
	m := newSQLiteMachine(t)
	m.addUser("ada@example.com")
	var rewrite func(*httputil.ProxyRequest)
	var target *url.URL
	proxy := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(target)
			p.Out.Host = p.In.Host
			rewrite(p)
		}}).ServeHTTP(w, r)
	}))
	defer proxy.Close()
	base := "https://localhost:" + fmt.Sprint(proxy.Listener.Addr().(*net.TCPAddr).Port)
	m.env = append(m.env, "BASE_URL="+base)
	well := func(p *httputil.ProxyRequest) { // as docs/nginx.md has it
		p.Out.Header.Set("X-Forwarded-For", "127.0.0.1")
		p.Out.Header.Set("X-Forwarded-Proto", "https")
	}

	// The certificate is one that this machine trusts, and that will have to be renewed.
	certificate := selfSigned(t, 5*24*time.Hour+time.Hour)
	proxy.TLS = certificate.config()
	proxy.StartTLS()
	roots := filepath.Join(m.dir, "roots.pem")
	require.NoError(t, os.WriteFile(roots, certificate.pem, 0o600))

	start := func(settings ...string) (listen string) {
		t.Helper()
		port := freePort(t)
		listen = "--listen=localhost:" + port
		cmd := m.command(append(settings, listen)...)
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		target = &url.URL{Scheme: "http", Host: "localhost:" + port}
		require.Eventually(t, func() bool { return m.run("", "healthcheck", listen).code == 0 }, patience, 50*time.Millisecond)
		return listen
	}
	rewrite = well
	listen := start("--trusted-proxies=127.0.0.0/8,::1")
	require.Contains(t, m.findings(listen), "FAIL certificate", "nobody trusts it")
	m.env = append(m.env, "SSL_CERT_FILE="+roots)

	found := m.findings(listen)
	require.NotContains(t, found, "FAIL")
	require.Contains(t, found, "leads here; this machine is seen as 127.0.0.1")
	require.Contains(t, found, "ends in 5 days")

	rewrite = func(p *httputil.ProxyRequest) {
		well(p)
		p.Out.Header["X-Forwarded-For"] = p.In.Header["X-Forwarded-For"]
	}
	require.Contains(t, m.findings(listen), "passes on what anybody claims in X-Forwarded-For")
	rewrite = func(p *httputil.ProxyRequest) { well(p); p.Out.Header.Del("X-Forwarded-For") }
	require.Contains(t, m.findings(listen), "sends no X-Forwarded-For")
	rewrite = func(p *httputil.ProxyRequest) {
		well(p)
		p.Out.Header.Del("X-Forwarded-Proto")
		p.Out.Host = "127.0.0.1:8080"
	}
	found = m.findings(listen)
	require.Contains(t, found, `warn proxy       it sends Host "127.0.0.1:8080"`)
	require.Contains(t, found, `warn proxy       it sends X-Forwarded-Proto ""`)
	rewrite = func(p *httputil.ProxyRequest) { well(p); p.Out.URL.Path = "/x" + p.Out.URL.Path }
	require.Contains(t, m.findings(listen), "FAIL BASE_URL")
	rewrite = well

	require.Contains(t, m.findings(start()), "which is not in TRUSTED_PROXIES")
	require.Contains(t, m.findings(start("--trusted-proxies=127.0.0.0/8,::1", "--base-url=https://other.example.com")), `and "https://other.example.com" at the server`)
	other := newSQLiteMachine(t)
	other.addUser("eve@example.com")
	m.dsn, other.dsn = other.dsn, m.dsn
	require.Contains(t, m.findings(listen, "--database-url="+m.dsn), "another database")
}

// certificate is one for localhost, which signs itself.
type certificate struct {
	key *ecdsa.PrivateKey
	der []byte
	pem []byte
}

func selfSigned(t *testing.T, lasts time.Duration) certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lasts),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return certificate{key: key, der: der, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

func (c certificate) config() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{c.der}, PrivateKey: c.key}}}
}
