package main

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
)

// manager plays systemd: it keeps the socket that services are reached by, and hears how they are.
type manager struct {
	*machine
	socket  *os.File
	address string
	news    *net.UnixConn
	program string // where it is installed
}

func newManager(t *testing.T) *manager {
	t.Helper()
	s := &manager{machine: newMachine(t)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.address = listener.Addr().String()
	s.socket, err = listener.(*net.TCPListener).File()
	require.NoError(t, err)
	require.NoError(t, listener.Close()) // the file is another reference to the socket
	t.Cleanup(func() { require.NoError(t, s.socket.Close()) })

	dir, err := os.MkdirTemp("", "n") // since the path of a socket must be short
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	notify := filepath.Join(dir, "notify")
	s.news, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.news.Close()) })
	s.env = append(s.env, "NOTIFY_SOCKET="+notify)

	s.program = filepath.Join(s.dir, "latchkey")
	s.install()
	return s
}

// install replaces the program, also while it runs.
func (s *manager) install() {
	s.t.Helper()
	built, err := binary()
	require.NoError(s.t, err)
	program, err := os.ReadFile(built)
	require.NoError(s.t, err)
	require.NoError(s.t, os.WriteFile(s.program+".new", program, 0o700))
	require.NoError(s.t, os.Rename(s.program+".new", s.program))
}

// activated returns the program with these files as its sockets.
func (s *manager) activated(files ...*os.File) *exec.Cmd {
	s.t.Helper()
	cmd := s.command()
	cmd.Path = "/bin/sh"
	cmd.Args = []string{"sh", "-c", `export LISTEN_PID=$$; exec "$0"`, s.program}
	cmd.ExtraFiles = files
	cmd.Env = append(cmd.Env, fmt.Sprint("LISTEN_FDS=", len(files)))
	return cmd
}

// start starts the service and returns when it says that it is ready.
func (s *manager) start() *server {
	s.t.Helper()
	service := s.launch(s.activated(s.socket))
	require.Contains(s.t, s.hear("READY=1"), "STATUS=Latchkey is at "+service.url)
	return service
}

// hear waits until a service says this, and returns all that it says with it.
func (s *manager) hear(state string) string {
	s.t.Helper()
	require.NoError(s.t, s.news.SetReadDeadline(time.Now().Add(patience)))
	message := make([]byte, 4096)
	for {
		n, err := s.news.Read(message)
		require.NoError(s.t, err, "nobody says %s", state)
		if strings.Contains("\n"+string(message[:n])+"\n", "\n"+state+"\n") {
			return string(message[:n])
		}
	}
}

func TestServesOnTheSocketOfSystemd(t *testing.T) {
	s := newManager(t)
	service := s.start()
	require.Equal(t, "http://localhost:"+s.address[strings.LastIndexByte(s.address, ':')+1:], service.url)
	require.True(t, strings.HasPrefix(service.setup, service.url+"/auth/registration?setup="), service.setup)
	require.Contains(t, service.logged(), "healthcheck", "LISTEN says something else")

	require.Equal(t, "ready\n", s.do("", "healthcheck", "--listen="+s.address))

	service.signal(syscall.SIGTERM)
	s.hear("STOPPING=1")
	require.Zero(t, service.ended(), service.logged())
	conn, err := net.Dial("tcp", s.address)
	require.NoError(t, err, "the socket is still there")
	require.NoError(t, conn.Close())
}

func TestRefusesSocketsThatItCannotServe(t *testing.T) {
	s := newManager(t)
	require.Contains(t, s.refused(s.finish(s.activated(s.socket, s.socket), "")), "systemd passes 2 sockets")

	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(filepath.Dir(s.news.LocalAddr().String()), "s"), Net: "unix"})
	require.NoError(t, err)
	defer listener.Close()
	file, err := listener.File()
	require.NoError(t, err)
	defer file.Close()
	require.Contains(t, s.refused(s.finish(s.activated(file), "")), "not TCP")
}

func TestSocketsOfAnotherProcessAreNotTaken(t *testing.T) {
	s := newManager(t)
	s.env = append(s.env, "LISTEN_FDS=1", "LISTEN_PID=1")
	require.NotContains(t, s.machine.start().url, s.address)
}

func TestWatchdogHearsOnlyOfAServerThatWorks(t *testing.T) {
	s := newManager(t)
	s.env = append(s.env, "WATCHDOG_USEC=300000")
	service := s.start()
	s.hear("WATCHDOG=1")
	s.hear("WATCHDOG=1")

	database := s.open()
	require.NoError(t, database.Exec("ALTER TABLE identities RENAME TO gone").Error)
	service.await("word of it", func() bool { return strings.Contains(service.logged(), "systemd is not told") })
	// What it said before has been sent by now, and nothing comes after it.
	empty := make([]byte, 4096)
	for {
		require.NoError(t, s.news.SetReadDeadline(time.Now().Add(900*time.Millisecond)))
		if _, err := s.news.Read(empty); err != nil {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			break
		}
	}

	require.NoError(t, database.Exec("ALTER TABLE gone RENAME TO identities").Error)
	s.hear("WATCHDOG=1")
	service.stop()
}

func TestWrongSettingIsNotTriedAgain(t *testing.T) {
	unit, err := os.ReadFile("docs/latchkey.service")
	require.NoError(t, err)
	m := newMachine(t)
	require.Contains(t, string(unit), fmt.Sprintf("RestartPreventExitStatus=%d\n", m.run("", "--base-url=example.com").code))
	require.NotEqual(t, 80, m.run("", "--database-url=sqlite:no/such/directory/latchkey.db").code, "that may pass")
}

// client asks again and again, and takes nothing but the right answer: it never repeats a request.
type client struct {
	address string
	keeps   bool // its connection, as long as the server does
	token   string
	person  string
	answers atomic.Int64
	failure atomic.Pointer[string]

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
		if turn%10 == 9 { // something that writes, and that no proxy may repeat
			err = c.signIn()
		} else {
			_, err = c.ask("GET", "/auth/sessions/whoami", "")
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
	flow, err := c.ask("GET", "/auth/self-service/login/api", "")
	if err != nil {
		return err
	}
	action := answer{body: flow}.text("ui", "action")
	_, err = c.ask("POST", action[strings.Index(action, "/auth/"):],
		fmt.Sprintf(`{"method":"password","identifier":%q,"password":%q}`, c.person, goodPassword))
	return err
}

func (c *client) ask(method, target, body string) (string, error) {
	if c.conn == nil {
		conn, err := net.Dial("tcp", c.address)
		if err != nil {
			return "", err
		}
		c.conn, c.in = conn, bufio.NewReader(conn)
	}
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nContent-Type: application/json\r\nContent-Length: %d\r\n",
		method, target, len(body))
	if method == "GET" && strings.HasSuffix(target, "whoami") {
		head += "X-Session-Token: " + c.token + "\r\n"
	}
	if !c.keeps {
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

// nginx starts one in front of the service, with connections that it keeps, and returns its address.
func (s *manager) nginx() string {
	s.t.Helper()
	installed(s.t, "nginx", "nginx-light")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(s.t, err)
	address := listener.Addr().String()
	require.NoError(s.t, listener.Close())
	config := filepath.Join(s.dir, "nginx.conf")
	var temporary strings.Builder
	for _, what := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temporary, "%s_temp_path %s/%s;\n", what, s.dir, what)
	}
	require.NoError(s.t, os.WriteFile(config, fmt.Appendf(nil, `daemon off; master_process off; pid %s/pid;
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
`, s.dir, &temporary, s.address, address), 0o600))
	nginx := exec.Command("nginx", "-e", "stderr", "-p", s.dir, "-c", config)
	log, err := os.Create(filepath.Join(s.dir, "nginx.log"))
	require.NoError(s.t, err)
	nginx.Stdout, nginx.Stderr = log, log
	require.NoError(s.t, nginx.Start())
	s.t.Cleanup(func() {
		_ = nginx.Process.Kill() // it may have ended
		_ = nginx.Wait()
		require.NoError(s.t, log.Close())
		if s.t.Failed() {
			said, _ := os.ReadFile(log.Name())
			s.t.Logf("nginx: %s", said)
		}
	})
	deadline := time.Now().Add(patience)
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			require.NoError(s.t, conn.Close())
			return address
		}
		require.True(s.t, time.Now().Before(deadline), "nginx does not listen")
		time.Sleep(10 * time.Millisecond)
	}
}

// installed skips the test where a program is missing, and fails it where all must be there.
func installed(t testing.TB, program, debianPackage string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		cantHere(t, fmt.Sprintf("%s is not installed: apt-get install %s", program, debianPackage))
	}
}

// cantHere skips the test for want of something, and fails it in CI, where all must be there.
func cantHere(t testing.TB, message string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(message)
	}
	t.Skip(message)
}

// TestNobodyNoticesARestart replaces the program again and again under clients that count every
// failure, with the socket kept as systemd does: one process before the other has gone, as
// several instances do, and one after the other, as 'systemctl restart' does.
func TestNobodyNoticesARestart(t *testing.T) {
	s := newManager(t)
	s.addUser("ada@example.com")
	service := s.start()
	token := service.signIn("ada@example.com")
	proxy := s.nginx()
	events := service.stream(token)

	var clients []*client
	for _, address := range []string{s.address, s.address, proxy, proxy} {
		for _, keeps := range []bool{true, false} {
			// Each has an account, since sign-ins of one wait for one another.
			person := fmt.Sprintf("person%d@example.com", len(clients))
			s.addUser(person)
			clients = append(clients, &client{address: address, keeps: keeps, token: token, person: person})
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
	// served returns when every client has had more answers.
	served := func(by *server) {
		t.Helper()
		for _, c := range clients {
			enough := c.answers.Load() + 20
			by.await("answers", func() bool { return c.failure.Load() != nil || c.answers.Load() >= enough })
			if failure := c.failure.Load(); failure != nil {
				require.FailNow(t, "a request failed", "%s, keeps its connection: %v: %s", c.address, c.keeps, *failure)
			}
		}
	}

	served(service)
	for round := range 4 {
		s.install()
		old := service
		if round%2 == 0 {
			service = s.start()
			served(service)
		}
		old.signal(syscall.SIGTERM)
		require.Zero(t, old.ended(), old.logged())
		if round%2 == 1 {
			service = s.start()
		}
		served(service)

		// The stream has ended without a word about the session, and begins anew.
		left, err := readUntil(events, "event: ended")
		require.Error(t, err, left)
		events = service.stream(token)
	}
	stop()
	total := int64(0)
	for _, c := range clients {
		require.Nil(t, c.failure.Load())
		total += c.answers.Load()
	}
	t.Logf("%d requests and no failure over 4 restarts", total)

	require.Equal(t, http.StatusNoContent, service.logout(token).status)
	_, err := readUntil(events, "event: ended")
	require.NoError(t, err, "the new stream hears of the end")
}

func TestStoppingServerSendsLoadBalancersElsewhere(t *testing.T) {
	m := newMachine(t)
	m.addUser("ada@example.com")
	s := m.start()
	login := s.holdBack(t, "ada@example.com")
	kept := &client{address: strings.TrimPrefix(s.url, "http://"), keeps: true}
	_, err := kept.ask("GET", "/auth/health/ready", "")
	require.NoError(t, err)
	require.NotNil(t, kept.conn)
	http.DefaultClient.CloseIdleConnections()

	s.signal(syscall.SIGTERM)
	s.await("it stops", func() bool { return strings.Contains(s.logged(), "stopping") })
	_, err = kept.ask("GET", "/auth/health/ready", "")

	require.ErrorContains(t, err, "503")
	require.Nil(t, kept.conn, "the server lets go")
	require.NotEmpty(t, login.finish())
	require.Zero(t, s.ended(), s.logged())
}
