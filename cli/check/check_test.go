package check_test

import (
	"fmt"
	"net/http/httputil"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/db"
	"latchkey/test/kit"
)

// findings returns what 'latchkey check' prints, after checking its exit status.
func findings(t *testing.T, m *kit.Machine, args ...string) string {
	t.Helper()
	r := m.Run("", append([]string{"check"}, args...)...)
	for line := range strings.Lines(r.Stdout) {
		require.Regexp(t, `^(ok  |warn|FAIL) [a-zA-Z_]+ +\S`, line)
	}
	if strings.Contains(r.Stdout, "FAIL") {
		require.Equal(t, 1, r.Code, r.Stdout)
		require.Regexp(t, `^latchkey: error: \d+ problems? found\n$`, r.Stderr)
	} else {
		require.Zero(t, r.Code, r.Stdout+r.Stderr)
		require.Empty(t, r.Stderr)
	}
	return r.Stdout
}

func TestCheckOfAHealthyServer(t *testing.T) {
	for name, newMachine := range map[string]func(testing.TB) *kit.Machine{
		"SQLite":     kit.NewSQLiteMachine,
		"PostgreSQL": func(t testing.TB) *kit.Machine { return kit.NewMachineAt(t, kit.StartPostgres(t).NewDatabase(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.AddUser("ada@example.com")
			s := m.Start()
			s.SignIn("ada@example.com")

			found := findings(t, m, "--listen="+strings.TrimPrefix(s.URL, "http://"))

			require.NotContains(t, found, "FAIL")
			require.NotContains(t, found, "warn schema")
			for _, want := range []string{"ok   settings", "ok   cookies", "ok   schema", "1 account, 1 active session", "ok   keys", "ok   server", "ok   clock       agrees with the server"} {
				require.Contains(t, found, want)
			}
		})
	}
}

func TestCheckFindsAServerThatLosesCommits(t *testing.T) {
	server := kit.StartPostgres(t, "-c", "synchronous_commit=off")
	m := kit.NewMachineAt(t, server.NewDatabase(t))
	m.AddUser("ada@example.com")
	require.Contains(t, findings(t, m), "a power cut undoes what was answered, sign-outs too (synchronous_commit=off, fsync=on)")
	m = kit.NewMachineAt(t, server.URL("nowhere"))
	require.Contains(t, findings(t, m), "FAIL database")
}

func TestCheckChangesNothing(t *testing.T) {
	m := kit.NewSQLiteMachine(t)
	require.Contains(t, findings(t, m), "FAIL database    there is none at")
	require.NoFileExists(t, m.DatabaseFile())

	require.NoError(t, os.WriteFile(m.DatabaseFile(), nil, 0o600))
	require.Contains(t, findings(t, m), "warn schema")
	info, err := os.Stat(m.DatabaseFile())
	require.NoError(t, err)
	require.Zero(t, info.Size(), "it makes no tables")
}

func TestCheckFindsWhatIsWrong(t *testing.T) {
	wrong := func(prepare func(m *kit.Machine), want string, args ...string) {
		t.Helper()
		m := kit.NewSQLiteMachine(t)
		m.AddUser("ada@example.com")
		prepare(m)
		require.Contains(t, findings(t, m, args...), want)
	}
	statement := func(sql string) func(*kit.Machine) {
		return func(m *kit.Machine) {
			database, err := db.Open(t.Context(), m.DatabaseURL)
			require.NoError(t, err)
			require.NoError(t, database.Query(t.Context()).Exec(sql).Error)
			require.NoError(t, database.Close())
		}
	}
	nothing := func(*kit.Machine) {}

	wrong(nothing, "FAIL settings    BASE_URL is", "--base-url=example.com")
	wrong(nothing, "warn REGISTRATION it is open: people can register with any address", "--registration=open")
	wrong(nothing, "FAIL cookies     ACCESS has wiki.example.com", "--base-url=https://auth.example.com", "--access=wiki.example.com=staff")
	wrong(func(m *kit.Machine) { require.NoError(t, os.Chmod(m.DatabaseFile(), 0o644)) }, "chmod 600 latchkey.db")
	wrong(func(m *kit.Machine) { require.NoError(t, os.Chmod(m.Dir, 0o777)) }, "chmod go-w")
	wrong(func(m *kit.Machine) {
		require.NoError(t, os.WriteFile(m.DatabaseFile(), []byte(strings.Repeat("no database", 1000)), 0o600))
	}, "FAIL database")
	wrong(statement("PRAGMA foreign_keys = 0; INSERT INTO credentials (identity_id, method, hash, created_at, updated_at) VALUES ('x', 'password', 'x', 0, 0)"), "rows refer to missing rows – restore")
	wrong(statement("INSERT INTO migrations VALUES ('999912310001_of_tomorrow')"), "warn schema      a newer version has been here (999912310001_of_tomorrow)")
	wrong(statement("DELETE FROM migrations"), "warn schema")
	wrong(statement(fmt.Sprintf("INSERT INTO ends (session_id, reason, at) VALUES ('x', 'logout', %d)", time.Now().Add(24*time.Hour).UnixMicro())), "FAIL clock")
	wrong(func(m *kit.Machine) {
		m.Start().Stop() // makes the keys
		statement("UPDATE signing_keys SET private_key = x'00'")(m)
	}, "FAIL keys")
	wrong(func(m *kit.Machine) { m.Do("", "app", "add", "wiki", "https://no-such-host.invalid/logout") }, "FAIL apps        wiki is notified at no-such-host.invalid")
	wrong(nothing, "warn server      nothing answers at http://localhost:1", "--listen=localhost:1")
	wrong(func(m *kit.Machine) { m.Start().Stop() }, "have it pass /sso/ to Latchkey", "--listen=localhost:1", "--base-url=http://localhost:1", "--base-path=/sso")
}

// TestCheckAsksThroughTheProxy runs the check behind a reverse proxy with a certificate, with one
// misconfiguration after the other.
func TestCheckAsksThroughTheProxy(t *testing.T) {
	m := kit.NewSQLiteMachine(t)
	m.AddUser("ada@example.com")
	p := newFront(t, m, "localhost")
	set, start, correct := p.setRequest, p.start, setForwarded
	listen := start("--trusted-proxies=127.0.0.0/8,::1")
	require.Contains(t, findings(t, m, listen), "FAIL certificate", "nobody trusts it")
	p.trust()

	found := findings(t, m, listen)
	require.NotContains(t, found, "FAIL")
	require.Contains(t, found, "leads here; this machine is seen as 127.0.0.1")
	require.Contains(t, found, "expires in 5 days")

	set(func(p *httputil.ProxyRequest) {
		correct(p)
		p.Out.Header["X-Forwarded-For"] = p.In.Header["X-Forwarded-For"]
	})
	require.Contains(t, findings(t, m, listen), "passes on the client's own X-Forwarded-For")
	set(func(p *httputil.ProxyRequest) { correct(p); p.Out.Header.Del("X-Forwarded-For") })
	require.Contains(t, findings(t, m, listen), "sends no X-Forwarded-For")
	for _, hidden := range []string{"unknown", "x"} {
		set(func(p *httputil.ProxyRequest) { correct(p); p.Out.Header.Set("X-Forwarded-For", hidden) })
		require.Contains(t, findings(t, m, listen), fmt.Sprintf("FAIL proxy       everybody counts as one client: 127.0.0.1 has sent %q as X-Forwarded-For", hidden))
	}
	set(func(p *httputil.ProxyRequest) { correct(p); p.Out.Header.Set("X-Forwarded-For", "198.51.100.7:5678") })
	require.Contains(t, findings(t, m, listen), "this machine is seen as 198.51.100.7")
	set(func(p *httputil.ProxyRequest) {
		correct(p)
		p.Out.Header.Del("X-Forwarded-Proto")
		p.Out.Host = "127.0.0.1:8080"
	})
	found = findings(t, m, listen)
	require.Contains(t, found, `warn proxy       it sends Host "127.0.0.1:8080"`)
	require.Contains(t, found, `warn proxy       it sends X-Forwarded-Proto ""`)
	set(func(p *httputil.ProxyRequest) { correct(p); p.Out.Host = "latchkey.example.net" })
	require.Contains(t, findings(t, m, listen), `FAIL proxy       it sends Host "latchkey.example.net"`)
	set(func(p *httputil.ProxyRequest) { correct(p); p.Out.URL.Path = "/x" + p.Out.URL.Path })
	require.Contains(t, findings(t, m, listen), "FAIL BASE_URL")
	set(correct)

	forwarded := start("--trusted-proxies=127.0.0.0/8,::1", "--client-ip-header=Forwarded")
	require.Contains(t, findings(t, m, forwarded), "sends no Forwarded: everybody")
	set(func(p *httputil.ProxyRequest) {
		correct(p)
		p.Out.Header["Forwarded"] = p.In.Header["Forwarded"]
	})
	require.Contains(t, findings(t, m, forwarded), "passes on the client's own Forwarded")
	set(func(p *httputil.ProxyRequest) { correct(p); p.Out.Header.Set("Forwarded", `for="[2001:db8::1]:443"`) })
	require.Contains(t, findings(t, m, forwarded), "this machine is seen as 2001:db8::1")
	set(correct)

	require.Contains(t, findings(t, m, start()), "which is not in TRUSTED_PROXIES")
	require.Contains(t, findings(t, m, start("--trusted-proxies=127.0.0.0/8,::1", "--base-url=https://other.example.com")), `and "https://other.example.com" at the server`)
	other := kit.NewSQLiteMachine(t)
	other.AddUser("eve@example.com")
	m.DatabaseURL, other.DatabaseURL = other.DatabaseURL, m.DatabaseURL
	require.Contains(t, findings(t, m, listen, "--database-url="+m.DatabaseURL), "another database")
}
