package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"latchkey/app"
	"latchkey/models"
)

func TestOnlyTheSetupLinkMakesTheFirstAccount(t *testing.T) {
	m := newMachine(t)
	s := m.start()
	require.Regexp(t, `^http://localhost:\d+$`, s.url)
	require.Regexp(t, `^`+s.url+`/auth/registration\?setup=[A-Z2-7]{26}$`, s.setup)

	require.Equal(t, http.StatusForbidden, s.register("stranger@example.com", "").status)
	require.Equal(t, http.StatusForbidden, s.register("stranger@example.com", s.url+"/auth/registration?setup="+strings.Repeat("A", 26)).status)

	require.Equal(t, http.StatusOK, s.register("ada@example.com", s.setup).status)

	require.Equal(t, http.StatusForbidden, s.register("stranger@example.com", s.setup).status, "it has been used")
	require.NotContains(t, s.logged(), s.setup[len(s.setup)-26:])
	s.stop()
	require.Empty(t, m.start().setup, "there is an account")
	require.Equal(t, 1, strings.Count(m.do("", "user", "list"), "@"))
}

func TestSetupLinkIsTheSameOnEveryInstanceAndForOneAccount(t *testing.T) {
	m := newMachine(t)
	first, second := m.start(), m.start()
	_, token, _ := strings.Cut(first.setup, "?setup=")
	require.Equal(t, second.url+"/auth/registration?setup="+token, second.setup)
	second.stop()
	second = m.start()
	require.Contains(t, second.setup, token, "a restart changes nothing")

	require.Equal(t, http.StatusOK, second.register("ada@example.com", first.setup).status)
	require.Equal(t, http.StatusForbidden, first.register("stranger@example.com", first.setup).status)

	m.do("", "user", "delete", "ada@example.com")
	require.Equal(t, http.StatusForbidden, first.register("stranger@example.com", first.setup).status, "it has known an account")
	first.stop()
	require.NotContains(t, m.start().setup, token, "another link for another first account")
}

func TestSetupLinkDiesWithAnAccountMadeElsewhere(t *testing.T) {
	m := newMachine(t)
	s := m.start()
	m.addUser("ada@example.com")

	require.Equal(t, http.StatusForbidden, s.register("stranger@example.com", s.setup).status)
}

func TestSetupLinkOpenedTwiceAtOnceMakesOneAccount(t *testing.T) {
	m := newMachine(t)
	s := m.start()
	statuses := make([]int, 8)
	var all sync.WaitGroup
	for i := range statuses {
		all.Go(func() { statuses[i] = s.register(fmt.Sprintf("person%d@example.com", i), s.setup).status })
	}
	all.Wait()

	won := 0
	for _, status := range statuses {
		if status == http.StatusOK {
			won++
			continue
		}
		require.Equal(t, http.StatusForbidden, status)
	}
	require.Equal(t, 1, won)
	require.Equal(t, 1, strings.Count(m.do("", "user", "list"), "@"))
}

func TestOpenRegistrationNeedsNoLink(t *testing.T) {
	m := newMachine(t)
	s := m.start("--registration=open")
	require.Empty(t, s.setup)
	require.Equal(t, http.StatusOK, s.register("ada@example.com", "").status)
	require.Equal(t, http.StatusOK, s.register("bob@example.com", "").status)
}

func TestHelpNamesEverySetting(t *testing.T) {
	help := newMachine(t).do("", "--help")
	settings := 0
	for field := range reflect.TypeFor[app.Config]().Fields() {
		if field.Tag.Get("kong") == "-" {
			continue
		}
		settings++
		name := field.Tag.Get("env")
		require.NotEmpty(t, name, field.Name)
		require.NotEmpty(t, field.Tag.Get("help"), name)
		require.Contains(t, help, "($"+name+")")
		require.Contains(t, help, "--"+strings.ToLower(strings.ReplaceAll(name, "_", "-")), "the flag of %s", name)
	}
	require.Greater(t, settings, 20)
	for _, command := range []string{"serve", "user add", "user list", "user disable", "user enable", "user delete",
		"user password", "session list", "session end", "backup", "check", "healthcheck", "version"} {
		require.Contains(t, help, "\n  "+command+" ")
	}
}

func TestWrongSettingStopsTheStart(t *testing.T) {
	for _, setting := range []string{
		"LISTEN=nowhere", "LISTEN=localhost:99999", "LISTEN=localhost:http:80", "PORT=web", "PORT=70000",
		"DATABASE_URL=postgres://localhost:1/latchkey", "DATABASE_URL=postgres://localhost:x/latchkey", "DATABASE_URL=sqlite:", "DATABASE_URL=sqlite:no/such/directory/latchkey.db",
		"BASE_URL=example.com", "BASE_URL=https://example.com/auth", "COOKIE_DOMAIN=example.com",
		"ALLOWED_RETURN_URLS=app.example.com", "LOGIN_RETURN_URL=javascript:alert(1)", "LOGOUT_RETURN_URL=//example.com",
		"CORS_ALLOWED_ORIGINS=*", "TRUSTED_PROXIES=proxy.example.com", "LOG_LEVEL=loud", "DEV=perhaps", "REGISTRATION=ajar",
		"PASSWORD_MIN_LENGTH=4", "PASSWORD_MEMORY=1", "PASSWORD_PASSES=1000", "PASSWORD_LANES=300",
		"SESSION_LIFETIME=forever", "SESSION_IDLE=1s", "REMEMBER_LIFETIME=-1h", "REMEMBER_IDLE=7", "SESSION_RETENTION=-1h",
		"SITE_NAME= ", "SITE_LOGO=no-such-file.svg", "SITE_ACCENT=red", "CLEAR_SITE_DATA=a\nb",
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.env = append(m.env, "LISTEN=localhost:0", setting)

			sentence := m.refuse("")

			name, _, _ := strings.Cut(setting, "=")
			flag := "--" + strings.ToLower(strings.ReplaceAll(name, "_", "-"))
			require.True(t, strings.Contains(sentence, name) || strings.Contains(sentence, flag), sentence)
		})
	}
}

func TestAddressInUse(t *testing.T) {
	listener, err := net.Listen("tcp", "localhost:0")
	require.NoError(t, err)
	defer listener.Close()
	sentence := newMachine(t).refuse("", "--listen="+listener.Addr().String())
	require.Contains(t, sentence, "address already in use; choose another address with LISTEN or PORT")
}

func TestWhereItListens(t *testing.T) {
	for _, c := range []struct {
		listen string
		port   uint16
		want   string
	}{
		{"", 0, "localhost:8080"}, // who is just trying it out opens it to nobody else
		{"", 5000, ":5000"},       // where PORT is set, a router in front of it must get in
		{"127.0.0.1:4433", 5000, "127.0.0.1:4433"},
	} {
		require.Equal(t, c.want, (&app.Config{Listen: c.listen, Port: c.port}).Address())
	}
	for listening, want := range map[string]string{
		"127.0.0.1:8080": "localhost:8080", "[::]:5000": "localhost:5000", "0.0.0.0:5000": "localhost:5000", ":5000": "localhost:5000",
		"127.0.0.2:80": "127.0.0.2:80", "192.0.2.1:80": "192.0.2.1:80", "[::1]:80": "[::1]:80",
	} {
		require.Equal(t, want, app.Reachable(listening), listening)
	}
}

func TestPortListensEverywhere(t *testing.T) {
	port := freePort(t)
	m := newMachine(t)
	m.env = append(m.env, "LISTEN=", "PORT="+port)
	s := m.start()
	require.Equal(t, "http://localhost:"+port, s.url)

	addresses, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, address := range addresses {
		ip := address.(*net.IPNet).IP
		if ip.IsLinkLocalUnicast() {
			continue // it would need its zone
		}
		require.Equal(t, http.StatusOK, s.get("http://"+net.JoinHostPort(ip.String(), port)+"/auth/health/alive", "").status, ip)
	}
}

// freePort returns a port that is free as long as nobody else asks for one.
func freePort(t *testing.T) string {
	listener, err := net.Listen("tcp", ":0")
	require.NoError(t, err)
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	return port
}

func TestAnnouncesBaseURL(t *testing.T) {
	m := newMachine(t)
	port := freePort(t)
	cmd := m.command("--base-url=https://id.example.com", "--listen=localhost:"+port)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer func() { require.NoError(t, cmd.Wait()) }()
	lines := bufio.NewScanner(stdout)
	require.True(t, lines.Scan())
	require.Equal(t, "Latchkey is at https://id.example.com", lines.Text())
	require.True(t, lines.Scan())
	require.Regexp(t, `^Make the first account: https://id\.example\.com/auth/registration\?setup=\w+$`, lines.Text())
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
}

func TestDatabaseIsItsOwnersAlone(t *testing.T) {
	m := newSQLiteMachine(t)
	m.start()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(m.database() + suffix)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), info.Name())
	}
}

func TestProcessesOpenANewDatabaseAtOnce(t *testing.T) {
	for range 20 {
		m := newMachine(t)
		results := make([]result, 6)
		var all sync.WaitGroup
		for i := range results {
			all.Go(func() { results[i] = m.run(goodPassword, "user", "add", fmt.Sprintf("person%d@example.com", i)) })
		}
		all.Wait()
		for _, r := range results {
			require.Zero(t, r.code, r.stderr)
		}
		require.Equal(t, len(results), strings.Count(m.do("", "user", "list"), "@"))
	}
}

func TestLogsForPrograms(t *testing.T) {
	m := newMachine(t)
	m.addUser("ada@example.com")
	s := m.start()
	token := s.signIn("ada@example.com")
	require.Equal(t, http.StatusNoContent, s.logout(token).status)
	s.stop()

	requests := 0
	for line := range strings.Lines(s.logged()) {
		var entry struct{ Time, Level, Msg, Path string }
		require.NoError(t, json.Unmarshal([]byte(line), &entry), line)
		if entry.Msg == "request" {
			requests++
		}
	}
	require.GreaterOrEqual(t, requests, 3)
	require.NotContains(t, s.logged(), token)
	require.NotContains(t, s.logged(), goodPassword)
}

// heldBack is a sign-in whose body the server is waiting for.
type heldBack struct {
	t    *testing.T
	conn net.Conn
	body string
}

// holdBack begins a sign-in and returns when its handler has begun to read: the server asks for
// the body (RFC 9110 §10.1.1) then and not before.
func (s *server) holdBack(t *testing.T, address string) heldBack {
	t.Helper()
	action := s.get("/auth/self-service/login/api", "").text("ui", "action")
	h := heldBack{t: t, body: fmt.Sprintf(`{"method":"password","identifier":%q,"password":%q}`, address, goodPassword)}
	var err error
	h.conn, err = net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { h.conn.Close() })
	require.NoError(t, h.conn.SetDeadline(time.Now().Add(patience)))
	_, err = fmt.Fprintf(h.conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"+
		"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n", strings.TrimPrefix(action, s.url), len(h.body))
	require.NoError(t, err)
	const proceed = "HTTP/1.1 100 Continue\r\n\r\n"
	got := make([]byte, len(proceed))
	_, err = h.conn.Read(got)
	require.NoError(t, err)
	require.Equal(t, proceed, string(got))
	return h
}

// finish sends the body and returns the session token.
func (h heldBack) finish() string {
	h.t.Helper()
	_, err := h.conn.Write([]byte(h.body))
	require.NoError(h.t, err)
	res, err := http.ReadResponse(bufio.NewReader(h.conn), nil)
	require.NoError(h.t, err)
	defer res.Body.Close()
	require.Equal(h.t, http.StatusOK, res.StatusCode)
	var signedIn struct {
		Token string `json:"session_token"`
	}
	require.NoError(h.t, json.NewDecoder(res.Body).Decode(&signedIn))
	return signedIn.Token
}

func TestStopFinishesWhatIsUnderWay(t *testing.T) {
	m := newMachine(t)
	m.addUser("ada@example.com")
	s := m.start()
	login := s.holdBack(t, "ada@example.com")

	s.signal(syscall.SIGTERM)
	s.await("it takes no new requests", func() bool { return s.get("/auth/health/alive", "").err != nil })
	token := login.finish() // the password is hashed after all that

	require.Zero(t, s.ended(), s.logged())
	require.Equal(t, http.StatusOK, m.start().whoami(token))
}

func TestSecondInterruptDoesNotWait(t *testing.T) {
	m := newMachine(t)
	m.addUser("ada@example.com")
	s := m.start()
	s.holdBack(t, "ada@example.com")

	s.signal(os.Interrupt)
	s.await("it takes no new requests", func() bool { return s.get("/auth/health/alive", "").err != nil })
	s.signal(os.Interrupt)

	require.Equal(t, 130, s.ended(), s.logged())
}

func TestStopWritesDownWhichSessionsWereInUse(t *testing.T) {
	m := newMachine(t)
	m.addUser("ada@example.com")
	s := m.start()
	tokens := make([]string, 100)
	for i := range tokens {
		tokens[i] = s.signIn("ada@example.com")
	}
	// As if they had last been in use an hour ago.
	database, ago := m.open(), time.Now().Add(-time.Hour).UTC()
	setLastSeen(t, database, ago)

	for _, token := range tokens {
		require.Equal(t, http.StatusOK, s.whoami(token))
	}
	s.stop()

	stale, err := gorm.G[models.Session](database).Where("last_seen_at <= ?", ago).Count(t.Context(), "id")
	require.NoError(t, err)
	require.Zero(t, stale)
}

func setLastSeen(t *testing.T, database *gorm.DB, at time.Time) {
	t.Helper()
	n, err := gorm.G[models.Session](database).Where("ended_at IS NULL").
		Set(clause.Assignment{Column: clause.Column{Name: "last_seen_at"}, Value: at}).Update(t.Context())
	require.NoError(t, err)
	require.NotZero(t, n)
}
