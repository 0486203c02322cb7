package kit

import (
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Server is a running Latchkey.
type Server struct {
	URL    string
	Setup  string // the setup link, "" if none was printed
	Stdout string // what it printed until it was ready

	t    testing.TB
	cmd  *exec.Cmd
	log  string // file with its standard error
	done chan struct{}
}

var announcement = regexp.MustCompile(`^\{.*"msg":"serving","url":"(\S+)"\}\n(?:\{.*"msg":"make the first account","url":"(\S+)"\}\n)?$`)

// Launch starts a command that serves, on a free port, and waits until it is ready.
func (m *Machine) Launch(cmd *exec.Cmd) *Server {
	m.t.Helper()
	cmd.Env = append([]string{"LISTEN=localhost:0"}, cmd.Env...)
	stdout, err := os.CreateTemp(m.Dir, "stdout")
	require.NoError(m.t, err)
	defer stdout.Close()
	cmd.Stdout = stdout
	s := StartServer(m.t, cmd, "")
	printed := func() []string {
		text, err := os.ReadFile(stdout.Name())
		require.NoError(m.t, err)
		return announcement.FindStringSubmatch(string(text))
	}
	s.Await("its address", func() bool { return printed() != nil })
	s.URL = printed()[1]
	s.Await("ready", func() bool { return s.Get(m.basePath()+"/health/ready", "").Status == http.StatusOK })
	found := printed() // all of it: the announcement is complete before a request is answered
	require.NotNil(m.t, found)
	s.Stdout, s.Setup = found[0], found[2]
	return s
}

// StartServer starts a command that serves at a URL and returns at once.
func StartServer(t testing.TB, cmd *exec.Cmd, url string) *Server {
	t.Helper()
	stderr, err := os.CreateTemp(t.TempDir(), "stderr") // a file can be read at any time without blocking
	require.NoError(t, err)
	defer stderr.Close()
	cmd.Stderr = stderr
	require.NoError(t, cmd.Start())
	s := &Server{URL: url, t: t, cmd: cmd, log: stderr.Name(), done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // ProcessState says how it ended
		close(s.done)
	}()
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			log := s.Log()
			t.Log(log[max(0, len(log)-4000):])
		}
	})
	return s
}

// PID returns the id of the process.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Log returns what the server has logged so far.
func (s *Server) Log() string {
	log, err := os.ReadFile(s.log)
	require.NoError(s.t, err)
	return string(log)
}

// Await waits until done returns true; it fails the test if the server ends before, or after Timeout.
func (s *Server) Await(what string, done func() bool) {
	s.t.Helper()
	s.AwaitFor(Timeout, what, done)
}

// AwaitFor is Await with another timeout.
func (s *Server) AwaitFor(timeout time.Duration, what string, done func() bool) {
	s.t.Helper()
	deadline := time.After(timeout)
	for !done() {
		select {
		case <-s.done:
			require.FailNow(s.t, "the server has ended", "%s", s.Log())
		case <-deadline:
			require.FailNow(s.t, "waited too long for "+what, "%s", s.Log())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// Signal sends the server a signal.
func (s *Server) Signal(signal os.Signal) {
	s.t.Helper()
	require.NoError(s.t, s.cmd.Process.Signal(signal))
}

// Wait waits for the process to end and returns its exit status.
func (s *Server) Wait() int {
	s.t.Helper()
	return s.WaitFor(Timeout)
}

// WaitFor is Wait with another timeout.
func (s *Server) WaitFor(timeout time.Duration) int {
	s.t.Helper()
	select {
	case <-s.done:
	case <-time.After(timeout):
		require.FailNow(s.t, "the server does not end", "%s", s.Log())
	}
	return s.cmd.ProcessState.ExitCode()
}

// Stop stops the server as hosts do, by SIGTERM.
func (s *Server) Stop() {
	s.t.Helper()
	Client.CloseIdleConnections() // or the server gives them time to go away
	s.Signal(syscall.SIGTERM)
	require.Zero(s.t, s.Wait(), s.Log())
}

// Kill ends the server without giving it time to finish anything.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill() // it may have ended
	<-s.done
}
