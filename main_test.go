package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"latchkey/db"
	"latchkey/db/pgtest"
)

// goodPassword is everybody's in these tests.
const goodPassword = "correct horse battery"

// patience is how long something may take that is sure to come, on however slow a machine.
const patience = time.Minute

var buildDir string

func TestMain(m *testing.M) {
	if address := os.Getenv(bareAddress); address != "" {
		serveBare(address)
		return
	}
	if os.Getenv(soaking) != "" {
		serveSoaking()
		return
	}
	var err error
	if buildDir, err = os.MkdirTemp("", "latchkey"); err != nil {
		panic(err)
	}
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 16 // as many as a test has clients
	code := m.Run()
	if err := os.RemoveAll(buildDir); err != nil {
		panic(err)
	}
	os.Exit(code)
}

// binary builds the program as its users do, once, and returns where it is.
var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(buildDir, "latchkey")
	build := exec.Command("go", "build", "-buildvcs=auto", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", errors.Join(err, errors.New(string(out)))
	}
	return path, nil
})

// machine is a directory in which the program runs, with its database and hardly any environment.
type machine struct {
	t   testing.TB
	dir string
	dsn string
	env []string
	// program is what runs; "" for the one that users build.
	program string
}

// newMachine returns one where hashing is cheap.
func newMachine(t testing.TB) *machine {
	if pgtest.On() {
		return newMachineAt(t, pgtest.New(t))
	}
	return newSQLiteMachine(t)
}

// newMachineAt is newMachine with the database at a URL.
func newMachineAt(t testing.TB, dsn string) *machine {
	m := newSQLiteMachine(t)
	m.dsn = dsn
	m.env = append(m.env, "DATABASE_URL="+dsn)
	return m
}

// newSQLiteMachine is newMachine with SQLite, whatever the tests are to use.
func newSQLiteMachine(t testing.TB) *machine {
	dir := t.TempDir()
	return &machine{t: t, dir: dir, dsn: "sqlite:" + filepath.Join(dir, "latchkey.db"), env: []string{"PASSWORD_MEMORY=64", "PASSWORD_PASSES=1"}}
}

// database returns where the SQLite file is.
func (m *machine) database() string { return strings.TrimPrefix(m.dsn, "sqlite:") }

// open opens the database beside whoever else has.
func (m *machine) open() *gorm.DB {
	m.t.Helper()
	database, err := db.Open(m.t.Context(), m.dsn)
	require.NoError(m.t, err)
	m.t.Cleanup(func() { require.NoError(m.t, db.Close(database)) })
	return database
}

func (m *machine) command(args ...string) *exec.Cmd {
	m.t.Helper()
	path, err := m.program, error(nil)
	if path == "" {
		path, err = binary()
	}
	require.NoError(m.t, err)
	cmd := exec.Command(path, args...)
	cmd.Dir = m.dir
	cmd.Env = append([]string{"HOME=" + m.dir}, m.env...)
	return cmd
}

// result is how a command ended.
type result struct {
	code           int
	stdout, stderr string
}

// run runs a command to its end.
func (m *machine) run(stdin string, args ...string) result {
	m.t.Helper()
	return m.finish(m.command(args...), stdin)
}

func (m *machine) finish(cmd *exec.Cmd, stdin string) result {
	m.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(m.t, err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// do runs a command that must succeed and returns what it prints.
func (m *machine) do(stdin string, args ...string) string {
	m.t.Helper()
	r := m.run(stdin, args...)
	require.Zero(m.t, r.code, r.stderr)
	require.Empty(m.t, r.stderr)
	return r.stdout
}

// refuse runs a command that must fail with one sentence on standard error, and returns that.
func (m *machine) refuse(stdin string, args ...string) string {
	m.t.Helper()
	return m.refused(m.run(stdin, args...))
}

func (m *machine) refused(r result) string {
	m.t.Helper()
	require.NotZero(m.t, r.code, r.stdout)
	require.Empty(m.t, r.stdout)
	require.Regexp(m.t, `^latchkey: error: [^\n]+\n$`, r.stderr)
	return r.stderr
}

// addUser makes an account.
func (m *machine) addUser(address string) {
	m.t.Helper()
	m.do(goodPassword+"\n", "user", "add", address)
}

// server is a running Latchkey.
type server struct {
	t      testing.TB
	url    string
	setup  string // the setup link, "" if none was printed
	stdout string // all that it printed until it was ready
	cmd    *exec.Cmd
	log    string // the file that it logs to
	done   chan struct{}
}

var announcement = regexp.MustCompile(`^Latchkey is at (\S+)\n(?:Make the first account: (\S+)\n)?$`)

// start starts a server on a free port and waits until it is ready.
func (m *machine) start(args ...string) *server {
	m.t.Helper()
	return m.launch(m.command(args...))
}

func (m *machine) launch(cmd *exec.Cmd) *server {
	m.t.Helper()
	cmd.Env = append([]string{"LISTEN=localhost:0"}, cmd.Env...)
	// Files, since what has been printed can be read from them at any time without waiting.
	stdout, err := os.CreateTemp(m.dir, "stdout")
	require.NoError(m.t, err)
	defer stdout.Close()
	stderr, err := os.CreateTemp(m.dir, "stderr")
	require.NoError(m.t, err)
	defer stderr.Close()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	require.NoError(m.t, cmd.Start())
	s := &server{t: m.t, cmd: cmd, log: stderr.Name(), done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // ProcessState says how it ended
		close(s.done)
	}()
	m.t.Cleanup(func() {
		s.kill()
		if m.t.Failed() {
			log := s.logged()
			m.t.Log(log[max(0, len(log)-4000):])
		}
	})
	var found []string
	s.await("its address", func() bool {
		printed, err := os.ReadFile(stdout.Name())
		require.NoError(m.t, err)
		found = announcement.FindStringSubmatch(string(printed))
		return found != nil
	})
	s.url = found[1]
	s.await("ready", func() bool { return s.get("/auth/health/ready", "").status == http.StatusOK })
	// All that it announces has been printed before it answers.
	printed, err := os.ReadFile(stdout.Name())
	require.NoError(m.t, err)
	found = announcement.FindStringSubmatch(string(printed))
	require.NotNil(m.t, found, "%s", printed)
	s.stdout, s.setup = found[0], found[2]
	return s
}

// await waits for what the running process is about to do.
func (s *server) await(what string, done func() bool) {
	s.t.Helper()
	s.awaitFor(patience, what, done)
}

func (s *server) awaitFor(patience time.Duration, what string, done func() bool) {
	s.t.Helper()
	deadline := time.After(patience)
	for !done() {
		select {
		case <-s.done:
			require.FailNow(s.t, "the server has ended", "%s", s.logged())
		case <-deadline:
			require.FailNow(s.t, "waited too long for "+what, "%s", s.logged())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (s *server) logged() string {
	log, err := os.ReadFile(s.log)
	require.NoError(s.t, err)
	return string(log)
}

func (s *server) signal(signal os.Signal) { require.NoError(s.t, s.cmd.Process.Signal(signal)) }

// ended waits for the process to end and returns its exit status.
func (s *server) ended() int {
	s.t.Helper()
	select {
	case <-s.done:
	case <-time.After(patience):
		require.FailNow(s.t, "the server does not end")
	}
	return s.cmd.ProcessState.ExitCode()
}

// stop stops it as hosts do.
func (s *server) stop() {
	s.t.Helper()
	http.DefaultClient.CloseIdleConnections() // or the server gives them time to be let go
	s.signal(syscall.SIGTERM)
	require.Zero(s.t, s.ended(), s.logged())
}

// kill is what nobody can prepare for.
func (s *server) kill() {
	_ = s.cmd.Process.Kill() // it may have ended
	<-s.done
}

// answer is what came back from the server; err where nothing did.
type answer struct {
	status int
	header http.Header
	body   string
	err    error
}

// text returns a member of the JSON body by its path.
func (a answer) text(path ...string) string {
	var value any
	if json.Unmarshal([]byte(a.body), &value) != nil {
		return ""
	}
	for _, name := range path {
		object, _ := value.(map[string]any)
		value = object[name]
	}
	text, _ := value.(string)
	return text
}

// get asks for a path or URL, as a program with a session token, or with none as nobody.
func (s *server) get(target, token string) answer {
	return s.send(s.t.Context(), http.MethodGet, target, token, nil)
}

// send sends a request with a JSON body. It is safe for concurrent use.
func (s *server) send(ctx context.Context, method, target, token string, body any) answer {
	if strings.HasPrefix(target, "/") {
		target = s.url + target
	}
	var sent bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&sent).Encode(body); err != nil {
			return answer{err: err}
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, target, &sent)
	if err != nil {
		return answer{err: err}
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("X-Session-Token", token)
	}
	return do(req)
}

func do(req *http.Request) answer {
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	return answer{status: res.StatusCode, header: res.Header, body: string(got), err: err}
}

// register makes an account as a program does; setup is a setup link or "".
func (s *server) register(address, setup string) answer {
	query := url.Values{}
	if u, err := url.Parse(setup); err == nil && setup != "" {
		query = u.Query()
	}
	flow := s.get("/auth/self-service/registration/api?"+query.Encode(), "")
	if flow.status != http.StatusOK {
		return flow
	}
	return s.send(s.t.Context(), http.MethodPost, flow.text("ui", "action"), "",
		map[string]string{"method": "password", "traits.email": address, "password": goodPassword})
}

// tryLogin signs in as a program does. It is safe for concurrent use.
func (s *server) tryLogin(address, password string) answer {
	flow := s.get("/auth/self-service/login/api", "")
	if flow.status != http.StatusOK {
		return flow
	}
	return s.send(s.t.Context(), http.MethodPost, flow.text("ui", "action"), "",
		map[string]string{"method": "password", "identifier": address, "password": password})
}

// signIn returns a session token.
func (s *server) signIn(address string) string {
	s.t.Helper()
	a := s.tryLogin(address, goodPassword)
	require.Equal(s.t, http.StatusOK, a.status, "%s %v", a.body, a.err)
	return a.text("session_token")
}

// logout ends the session of a token. It is safe for concurrent use.
func (s *server) logout(token string) answer {
	return s.send(s.t.Context(), http.MethodDelete, "/auth/self-service/logout/api", "", map[string]string{"session_token": token})
}

// whoami returns the status for a session token.
func (s *server) whoami(token string) int { return s.get("/auth/sessions/whoami", token).status }
