package cli

import (
	"bufio"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"latchkey/app/config"
	"latchkey/db"
	"latchkey/models"
	"latchkey/test/kit"
)

func TestAddressInUse(t *testing.T) {
	listener, err := net.Listen("tcp", "localhost:0")
	require.NoError(t, err)
	defer listener.Close()
	sentence := kit.NewMachine(t).Refuse("", "--listen="+listener.Addr().String())
	require.Contains(t, sentence, "address already in use; choose another address with LISTEN or PORT")
}

func TestWhereItListens(t *testing.T) {
	for _, c := range []struct {
		listen string
		port   uint16
		want   string
	}{
		{"", 0, "localhost:8080"}, // trying it out exposes it to nobody else
		{"", 5000, ":5000"},       // where hosts set PORT, their router must reach it
		{"127.0.0.1:4433", 5000, "127.0.0.1:4433"},
	} {
		require.Equal(t, c.want, (&config.Config{Listen: c.listen, Port: c.port}).Address())
	}
	for listening, want := range map[string]string{
		"127.0.0.1:8080": "localhost:8080", "[::]:5000": "localhost:5000", "0.0.0.0:5000": "localhost:5000", ":5000": "localhost:5000",
		"127.0.0.2:80": "127.0.0.2:80", "192.0.2.1:80": "192.0.2.1:80", "[::1]:80": "[::1]:80",
	} {
		require.Equal(t, want, config.Reachable(listening), listening)
	}
}

func TestPortListensEverywhere(t *testing.T) {
	port := kit.FreePort(t)
	m := kit.NewMachine(t)
	m.Env = append(m.Env, "LISTEN=", "PORT="+port)
	s := m.Start()
	require.Equal(t, "http://localhost:"+port, s.URL)

	addresses, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, address := range addresses {
		ip := address.(*net.IPNet).IP
		if ip.IsLinkLocalUnicast() {
			continue // it needs a zone
		}
		require.Equal(t, http.StatusOK, s.Get("http://"+net.JoinHostPort(ip.String(), port)+"/auth/health/alive", "").Status, ip)
	}
}

func TestAnnouncesBaseURL(t *testing.T) {
	m := kit.NewMachine(t)
	port := kit.FreePort(t)
	cmd := m.Command("--base-url=https://id.example.com", "--listen=localhost:"+port)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer func() { require.NoError(t, cmd.Wait()) }()
	lines := bufio.NewScanner(stdout)
	require.True(t, lines.Scan())
	require.Regexp(t, `^\{"time":".+","level":"INFO","msg":"serving","url":"https://id\.example\.com"\}$`, lines.Text())
	require.True(t, lines.Scan())
	require.Regexp(t, `^\{"time":".+","level":"INFO","msg":"make the first account","url":"https://id\.example\.com/auth/registration\?setup=\w+"\}$`, lines.Text())
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
}

func TestDatabaseIsItsOwnersAlone(t *testing.T) {
	m := kit.NewSQLiteMachine(t)
	m.Start()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(m.DatabaseFile() + suffix)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), info.Name())
	}
}

func TestServeWarnsOfFilesThatOthersCanRead(t *testing.T) {
	m := kit.NewSQLiteMachine(t)
	m.AddUser("ada@example.com")
	key := filepath.Join(m.Dir, "key")
	require.NoError(t, os.WriteFile(key, []byte(strings.Repeat("k", 40)), 0o600))
	m.Env = append(m.Env, "SECRET_KEY_FILE="+key)
	require.NoError(t, os.Chmod(m.Dir, 0o700))
	s := m.Start()
	s.Stop()
	require.NotContains(t, s.Log(), "chmod")

	require.NoError(t, os.Chmod(m.DatabaseFile(), 0o644))
	require.NoError(t, os.Chmod(key, 0o440))
	require.NoError(t, os.Chmod(m.Dir, 0o777))
	s = m.Start()

	require.Contains(t, s.Log(), "chmod 600 "+m.DatabaseFile())
	require.Contains(t, s.Log(), "chmod 600 "+key)
	require.Contains(t, s.Log(), "chmod go-w "+m.Dir)
}

func TestLogsForPrograms(t *testing.T) {
	m := kit.NewMachine(t)
	m.AddUser("ada@example.com")
	s := m.Start()
	token := s.SignIn("ada@example.com")
	require.Equal(t, http.StatusNoContent, s.Logout(token).Status)
	s.Stop()

	requests := 0
	for line := range strings.Lines(s.Log()) {
		var entry struct{ Time, Level, Msg, Path string }
		require.NoError(t, json.Unmarshal([]byte(line), &entry), line)
		if entry.Msg == "request" {
			requests++
		}
	}
	require.GreaterOrEqual(t, requests, 3)
	require.NotContains(t, s.Log(), token)
	require.NotContains(t, s.Log(), kit.GoodPassword)
}

func TestStopFinishesWhatIsUnderWay(t *testing.T) {
	m := kit.NewMachine(t)
	m.AddUser("ada@example.com")
	s := m.Start()
	login := s.BeginLogin("ada@example.com")

	s.Signal(syscall.SIGTERM)
	s.Await("it takes no new requests", func() bool { return s.Get("/auth/health/alive", "").Err != nil })
	token := login.Finish() // the password is hashed after all that

	require.Zero(t, s.Wait(), s.Log())
	require.Equal(t, http.StatusOK, m.Start().Whoami(token))
}

func TestSecondInterruptDoesNotWait(t *testing.T) {
	m := kit.NewMachine(t)
	m.AddUser("ada@example.com")
	s := m.Start()
	s.BeginLogin("ada@example.com")

	s.Signal(os.Interrupt)
	s.Await("it takes no new requests", func() bool { return s.Get("/auth/health/alive", "").Err != nil })
	s.Signal(os.Interrupt)

	require.Equal(t, 130, s.Wait(), s.Log())
}

func TestStopWritesDownWhichSessionsWereInUse(t *testing.T) {
	m := kit.NewMachine(t)
	m.AddUser("ada@example.com")
	s := m.Start()
	tokens := make([]string, 50)
	for i := range tokens {
		tokens[i] = s.SignIn("ada@example.com")
	}
	// As if they had last been used an hour ago.
	database, ago := openDatabase(t, m), time.Now().Add(-time.Hour).UTC()
	setLastSeen(t, database, ago)

	for _, token := range tokens {
		require.Equal(t, http.StatusOK, s.Whoami(token))
	}
	s.Stop()

	stale, err := gorm.G[models.Session](database.Query(t.Context())).Where("last_seen_at <= ?", ago).Count(t.Context(), "id")
	require.NoError(t, err)
	require.Zero(t, stale)
}

func setLastSeen(t *testing.T, database *db.DB, at time.Time) {
	t.Helper()
	n, err := gorm.G[models.Session](database.Query(t.Context())).Where("ended_at IS NULL").
		Set(clause.Assignment{Column: clause.Column{Name: "last_seen_at"}, Value: at}).Update(t.Context())
	require.NoError(t, err)
	require.NotZero(t, n)
}

func TestStopWaitsForNoStream(t *testing.T) {
	m := kit.NewMachine(t)
	m.AddUser("ada@example.com")
	s := m.Start()
	token := s.SignIn("ada@example.com")
	streams := []*kit.Stream{s.Stream(token), s.Stream(token)}

	s.Signal(syscall.SIGTERM)

	require.Zero(t, s.WaitFor(shutdownTimeout-5*time.Second), s.Log())
	for _, in := range streams {
		left, err := in.ReadUntil("event: ended")
		require.Error(t, err, left)
	}
	require.Equal(t, http.StatusOK, m.Start().Whoami(token), "it ended no session")
}
