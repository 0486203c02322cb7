package kit

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Systemd is a machine that plays systemd: it keeps the socket of the service open and receives its
// notifications. What it runs is a copy of the program, which can be replaced.
type Systemd struct {
	*Machine
	Socket  *os.File
	Address string // of the socket
	Notify  *net.UnixConn
}

// NewSystemd returns a machine like NewMachine's with a socket on loopback.
func NewSystemd(t testing.TB) *Systemd {
	t.Helper()
	s := &Systemd{Machine: NewMachine(t)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.Address = listener.Addr().String()
	s.Socket, err = listener.(*net.TCPListener).File()
	require.NoError(t, err)
	require.NoError(t, listener.Close()) // the file is another reference to the socket
	t.Cleanup(func() { require.NoError(t, s.Socket.Close()) })

	dir, err := os.MkdirTemp("", "n") // the path of a Unix socket must be short
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	notify := filepath.Join(dir, "notify")
	s.Notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Notify.Close()) })
	s.Env = append(s.Env, "NOTIFY_SOCKET="+notify)

	s.Program = filepath.Join(s.Dir, "latchkey")
	s.Install()
	return s
}

// Install replaces the program, also while it runs.
func (s *Systemd) Install() {
	s.t.Helper()
	program, err := os.ReadFile(Binary(s.t))
	require.NoError(s.t, err)
	require.NoError(s.t, os.WriteFile(s.Program+".new", program, 0o700))
	require.NoError(s.t, os.Rename(s.Program+".new", s.Program))
}

// Activated returns a command that runs the program with files as its sockets (sd_listen_fds(3)).
func (s *Systemd) Activated(files ...*os.File) *exec.Cmd {
	s.t.Helper()
	cmd := s.Command()
	cmd.Path = "/bin/sh"
	cmd.Args = []string{"sh", "-c", `export LISTEN_PID=$$; exec "$0"`, s.Program}
	cmd.ExtraFiles = files
	cmd.Env = append(cmd.Env, fmt.Sprint("LISTEN_FDS=", len(files)))
	return cmd
}

// Start starts the service on the socket and waits until it says that it is ready.
func (s *Systemd) Start() *Server {
	s.t.Helper()
	service := s.Launch(s.Activated(s.Socket))
	require.Contains(s.t, s.AwaitNotification("READY=1"), "STATUS=Latchkey is at "+service.URL)
	return service
}

// AwaitNotification waits for a notification with a line, and returns it.
func (s *Systemd) AwaitNotification(line string) string {
	s.t.Helper()
	require.NoError(s.t, s.Notify.SetReadDeadline(time.Now().Add(Timeout)))
	message := make([]byte, 4096)
	for {
		n, err := s.Notify.Read(message)
		require.NoError(s.t, err, "no notification has %s", line)
		if strings.Contains("\n"+string(message[:n])+"\n", "\n"+line+"\n") {
			return string(message[:n])
		}
	}
}
