package test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

// ownerURL is how Latchkey reaches a server on which it has a role and a database of its own.
func ownerURL(t *testing.T, server *kit.Postgres) string {
	t.Helper()
	server.Exec(t, "CREATE ROLE latchkey LOGIN PASSWORD 'another'")
	server.Exec(t, "CREATE DATABASE latchkey OWNER latchkey")
	return fmt.Sprintf("postgres://latchkey:a-secret@127.0.0.1:%d/latchkey?connect_timeout=1", server.Port)
}

func TestFaultPostgresAwayAtTheStart(t *testing.T) {
	for name, fault := range map[string]func(t *testing.T) (url string, mend func()){
		"nobody there": func(t *testing.T) (string, func()) {
			server := kit.StartPostgres(t)
			url := ownerURL(t, server)
			server.Stop(t)
			return url, func() { require.NoError(t, server.Run()) }
		},
		"takes no more connections": func(t *testing.T) (string, func()) {
			server := kit.StartPostgres(t)
			url := ownerURL(t, server)
			server.Exec(t, "ALTER ROLE latchkey CONNECTION LIMIT 0")
			return url, func() { server.Exec(t, "ALTER ROLE latchkey CONNECTION LIMIT -1") }
		},
		"silent": func(t *testing.T) (string, func()) {
			between := newWire(t, kit.StartPostgres(t).Port)
			between.cut()
			return between.url() + "&connect_timeout=1", between.restore
		},
		"a standby": func(t *testing.T) (string, func()) {
			primary := kit.StartPostgres(t)
			url := ownerURL(t, primary)
			standby := primary.Standby(t)
			url = strings.Replace(url, fmt.Sprint(primary.Port), fmt.Sprint(standby.Port), 1)
			return url, func() { standby.Exec(t, "SELECT pg_promote()") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, mend := fault(t)
			m := kit.NewMachineAt(t, url)
			m.Env = append(m.Env, "METRICS_LISTEN=127.0.0.1:0")
			s, printed := startWithoutDatabase(t, m)
			requireUnavailable(t, s)
			require.Empty(t, printed(), "it announces no address")
			require.Contains(t, s.Log(), `"level":"WARN","msg":"database unreachable; serving 503 until it is there"`)
			require.Contains(t, s.Log(), "DATABASE_URL: open the database")
			require.Contains(t, s.Log(), " on 127.0.0.1: ")
			refusal := m.Refuse("", "user", "list")
			require.Contains(t, refusal, "DATABASE_URL: open the database")

			mend()

			s.Await("the database to be in use", func() bool { return s.Get("/auth/health/ready", "").Status == http.StatusOK })
			require.Regexp(t, `"msg":"serving","url":"http://localhost:\d+"\}\n\{.*"msg":"make the first account","url":"http://localhost:\d+/auth/registration\?setup=`, printed())
			require.Contains(t, s.Log(), `"msg":"database reached"`)
			require.Contains(t, s.Log(), `"msg":"metrics"`)
			require.Equal(t, http.StatusUnauthorized, s.Whoami("nobody"))
			m.AddUser("ada@example.com")
			require.Equal(t, http.StatusOK, s.Whoami(s.SignIn("ada@example.com")))
			s.Stop()
			require.NotContains(t, s.Log(), "a-secret")
		})
	}
}

// startWithoutDatabase starts the server, and waits until it answers. printed returns its standard output so far.
func startWithoutDatabase(t *testing.T, m *kit.Machine) (s *kit.Server, printed func() string) {
	t.Helper()
	port := kit.FreePort(t)
	stdout, err := os.Create(filepath.Join(m.Dir, "stdout"))
	require.NoError(t, err)
	defer stdout.Close()
	cmd := m.Command("--listen=localhost:" + port)
	cmd.Stdout = stdout
	s = kit.StartServer(t, cmd, "http://localhost:"+port)
	s.Await("it to answer", func() bool { return s.Get("/auth/health/alive", "").Status == http.StatusOK })
	return s, func() string {
		text, err := os.ReadFile(stdout.Name())
		require.NoError(t, err)
		return string(text)
	}
}

// requireUnavailable requires all that the server answers without a database.
func requireUnavailable(t *testing.T, s *kit.Server) {
	t.Helper()
	for _, path := range []string{"/auth/health/ready", "/auth/sessions/whoami", "/auth/verify", "/auth/login", "/", "/auth/no-such-page"} {
		answer := s.Get(path, "a-token")
		require.Equal(t, http.StatusServiceUnavailable, answer.Status, path)
		require.Equal(t, "5", answer.Header.Get("Retry-After"), path)
		require.Contains(t, answer.Text("error", "reason"), "The database can't be used right now", path)
		require.Equal(t, answer.Header.Get("X-Request-Id"), answer.Text("error", "request"), path)
	}
	posted := s.Send(t.Context(), http.MethodPost, "/auth/self-service/login?flow=x", "", map[string]string{"method": "password"})
	require.Equal(t, http.StatusServiceUnavailable, posted.Status)

	page := getPage(t.Context(), s, "/auth/login?return_to=/wiki")
	require.Equal(t, http.StatusServiceUnavailable, page.Status)
	require.Contains(t, page.Body, "<h1")
	require.Contains(t, page.Body, "Temporarily unavailable")
	require.Contains(t, page.Body, `href="/auth/login?return_to=/wiki"`, "it can be tried again")
	require.Contains(t, page.Header.Get("Content-Security-Policy"), "style-src 'self'")
	_, rest, found := strings.Cut(page.Body, `rel="stylesheet" href="`)
	require.True(t, found)
	style, _, _ := strings.Cut(rest, `"`)
	require.Equal(t, http.StatusOK, s.Get(style, "").Status, "it has its style")
}

func getPage(ctx context.Context, s *kit.Server, path string) kit.Answer {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
	if err != nil {
		return kit.Answer{Err: err}
	}
	req.Header.Set("Accept", "text/html")
	return kit.Do(req)
}

// That a setting is wrong may only show once the server is there.
func TestFaultPostgresRejectsThePasswordInTheEnd(t *testing.T) {
	t.Parallel()
	server := kit.StartPostgres(t)
	m := kit.NewMachineAt(t, ownerURL(t, server))
	server.Stop(t)
	rules := "host all latchkey 127.0.0.1/32 scram-sha-256\nhost all postgres 127.0.0.1/32 trust\n"
	require.NoError(t, os.WriteFile(filepath.Join(server.Dir, "pg_hba.conf"), []byte(rules), 0o600))
	s, _ := startWithoutDatabase(t, m)

	require.NoError(t, server.Run())

	require.Equal(t, 1, s.Wait())
	require.Contains(t, s.Log(), `"msg":"Latchkey stops","error":"DATABASE_URL: open the database latchkey on 127.0.0.1: the server rejected the password of latchkey`)
	require.NotContains(t, s.Log(), "a-secret")
	require.Contains(t, m.Refuse(""), "the server rejected the password of latchkey", "now it stops immediately")
	server.Exec(t, "ALTER ROLE latchkey PASSWORD 'a-secret'")
	server.Exec(t, "ALTER DATABASE latchkey RENAME TO other")
	require.Contains(t, m.Refuse(""), "the server has no such database")
}

func TestFaultStopWhilePostgresIsWaitedFor(t *testing.T) {
	t.Parallel()
	silent := newWire(t, kit.StartPostgres(t).Port)
	silent.cut()
	defer silent.restore()
	s, printed := startWithoutDatabase(t, kit.NewMachineAt(t, silent.url()+"&connect_timeout=1"))

	s.Stop()

	require.Empty(t, printed())
	require.NotContains(t, s.Log(), `"level":"ERROR"`)
}
