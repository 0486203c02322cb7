package test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

// client sends requests one after the other. Any failure ends it: it never repeats a request.
type client struct {
	address   string
	keepAlive bool
	token     string
	people    []string // who sign in in turn, since nobody may do it very often
	next      int
	answers   atomic.Int64
	failure   atomic.Pointer[string]

	conn net.Conn
	in   *bufio.Reader
}

func (c *client) run(done <-chan struct{}) {
	for turn := 0; ; turn++ {
		select {
		case <-done:
			return
		default:
		}
		var err error
		if turn%10 == 9 { // a write, which no proxy may repeat
			err = c.signIn()
		} else {
			_, err = c.send("GET", "/auth/sessions/whoami", "")
		}
		if err != nil {
			said := fmt.Sprintf("turn %d: %v", turn, err)
			c.failure.Store(&said)
			return
		}
		c.answers.Add(1)
	}
}

func (c *client) signIn() error {
	flow, err := c.send("GET", "/auth/self-service/login/api", "")
	if err != nil {
		return err
	}
	action := kit.Answer{Body: flow}.Text("ui", "action")
	_, err = c.send("POST", action[strings.Index(action, "/auth/"):],
		fmt.Sprintf(`{"method":"password","identifier":%q,"password":%q}`, c.people[c.next%len(c.people)], kit.GoodPassword))
	c.next++
	return err
}

func (c *client) send(method, target, body string) (string, error) {
	if c.conn == nil {
		conn, err := net.Dial("tcp", c.address)
		if err != nil {
			return "", err
		}
		c.conn, c.in = conn, bufio.NewReader(conn)
	}
	if err := c.conn.SetDeadline(time.Now().Add(kit.Timeout)); err != nil {
		return "", err
	}
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nContent-Type: application/json\r\nContent-Length: %d\r\n",
		method, target, len(body))
	if method == "GET" && strings.HasSuffix(target, "whoami") {
		head += "X-Session-Token: " + c.token + "\r\n"
	}
	if !c.keepAlive {
		head += "Connection: close\r\n"
	}
	if _, err := io.WriteString(c.conn, head+"\r\n"+body); err != nil {
		return "", fmt.Errorf("%s %s: %w", method, target, err)
	}
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", method, target, err)
	}
	got, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s %s", method, target, res.Status, got)
	}
	if res.Close {
		c.conn.Close()
		c.conn = nil
	}
	return string(got), err
}

// startNginx starts nginx in front of the service, with keep-alive connections to it, and returns its
// address.
func startNginx(t *testing.T, s *kit.Systemd) string {
	t.Helper()
	program := kit.NeedProgram(t, "nginx", "nginx-light")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	config := filepath.Join(s.Dir, "nginx.conf")
	var temporary strings.Builder
	for _, what := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temporary, "%s_temp_path %s/%s;\n", what, s.Dir, what)
	}
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `daemon off; master_process off; pid %s/pid;
events {}
http {
	access_log off;
	%s
	upstream latchkey {
		server %s;
		keepalive 16;
	}
	server {
		listen %s;
		location / {
			proxy_pass http://latchkey;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_set_header Host localhost;
		}
	}
}

`, s.Dir, &temporary, s.Address, address), 0o600))
	nginx := exec.Command(program, "-e", "stderr", "-p", s.Dir, "-c", config)
	log, err := os.Create(filepath.Join(s.Dir, "nginx.log"))
	require.NoError(t, err)
	nginx.Stdout, nginx.Stderr = log, log
	require.NoError(t, nginx.Start())
	t.Cleanup(func() {
		_ = nginx.Process.Kill() // it may have ended
		_ = nginx.Wait()
		require.NoError(t, log.Close())
		if t.Failed() {
			said, _ := os.ReadFile(log.Name())
			t.Logf("nginx: %s", said)
		}
	})
	deadline := time.Now().Add(kit.Timeout)
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			require.NoError(t, conn.Close())
			return address
		}
		require.True(t, time.Now().Before(deadline), "nginx does not listen")
		time.Sleep(10 * time.Millisecond)
	}
}

// TestNobodyNoticesARestart replaces the program under clients that fail with any request, on a socket that
// stays open. The next process starts before the other one stops, as with several instances, or after
// that, as by 'systemctl restart'.
func TestNobodyNoticesARestart(t *testing.T) {
	s := kit.NewSystemd(t)
	s.AddUser("ada@example.com")
	const accountsPerClient = 10
	addAccounts(t, s.Machine, 8*accountsPerClient, cheap)
	service := s.Start()
	token := service.SignIn("ada@example.com")
	proxy := startNginx(t, s)
	events := service.Stream(token)

	var clients []*client
	for _, address := range []string{s.Address, s.Address, proxy, proxy} {
		for _, keepAlive := range []bool{true, false} {
			// Each has accounts of its own: sign-ins to one account wait for each other.
			c := &client{address: address, keepAlive: keepAlive, token: token}
			for range accountsPerClient {
				c.people = append(c.people, person(accountsPerClient*len(clients)+len(c.people)))
			}
			clients = append(clients, c)
		}
	}
	done := make(chan struct{})
	var all sync.WaitGroup
	for _, c := range clients {
		all.Go(func() { c.run(done) })
	}
	stop := sync.OnceFunc(func() {
		close(done)
		all.Wait()
	})
	defer stop()
	// awaitAnswers returns when every client has had more answers.
	awaitAnswers := func(by *kit.Server) {
		t.Helper()
		for _, c := range clients {
			enough := c.answers.Load() + 20
			by.Await("answers", func() bool { return c.failure.Load() != nil || c.answers.Load() >= enough })
			if failure := c.failure.Load(); failure != nil {
				require.FailNow(t, "a request failed", "%s, keep-alive: %v: %s", c.address, c.keepAlive, *failure)
			}
		}
	}

	awaitAnswers(service)
	for round := range 4 {
		s.Install()
		old := service
		if round%2 == 0 {
			service = s.Start()
			awaitAnswers(service)
		}
		old.Signal(syscall.SIGTERM)
		require.Zero(t, old.Wait(), old.Log())
		if round%2 == 1 {
			service = s.Start()
		}
		awaitAnswers(service)

		// The stream has ended, the session has not: open another one.
		left, err := events.ReadUntil("event: ended")
		require.Error(t, err, left)
		events = service.Stream(token)
	}
	stop()
	total := int64(0)
	for _, c := range clients {
		require.Nil(t, c.failure.Load())
		total += c.answers.Load()
	}
	t.Logf("%d requests and no failure over 4 restarts", total)

	require.Equal(t, http.StatusNoContent, service.Logout(token).Status)
	_, err := events.ReadUntil("event: ended")
	require.NoError(t, err, "the new stream has the end")
}

func TestStoppingServerSendsLoadBalancersElsewhere(t *testing.T) {
	m := kit.NewMachine(t)
	m.AddUser("ada@example.com")
	s := m.Start()
	login := s.BeginLogin("ada@example.com")
	kept := &client{address: strings.TrimPrefix(s.URL, "http://"), keepAlive: true}
	_, err := kept.send("GET", "/auth/health/ready", "")
	require.NoError(t, err)
	require.NotNil(t, kept.conn)
	kit.Client.CloseIdleConnections()

	s.Signal(syscall.SIGTERM)
	s.Await("it stops", func() bool { return strings.Contains(s.Log(), "stopping") })
	_, err = kept.send("GET", "/auth/health/ready", "")

	require.ErrorContains(t, err, "503")
	require.Nil(t, kept.conn, "the server closes the connection")
	require.NotEmpty(t, login.Finish())
	require.Zero(t, s.Wait(), s.Log())
}
