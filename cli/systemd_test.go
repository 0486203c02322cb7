package cli

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

func TestServesOnTheSocketOfSystemd(t *testing.T) {
	s := kit.NewSystemd(t)
	service := s.Start()
	require.Equal(t, "http://localhost:"+s.Address[strings.LastIndexByte(s.Address, ':')+1:], service.URL)
	require.True(t, strings.HasPrefix(service.Setup, service.URL+"/auth/registration?setup="), service.Setup)
	require.Contains(t, service.Log(), "healthcheck", "LISTEN is another address")

	require.Equal(t, "ready\n", s.Do("", "healthcheck", "--listen="+s.Address))

	service.Signal(syscall.SIGTERM)
	s.AwaitNotification("STOPPING=1")
	require.Zero(t, service.Wait(), service.Log())
	conn, err := net.Dial("tcp", s.Address)
	require.NoError(t, err, "the socket is still there")
	require.NoError(t, conn.Close())
}

func TestRefusesSocketsThatItCannotServe(t *testing.T) {
	s := kit.NewSystemd(t)
	require.Contains(t, s.RequireRefused(s.Finish(s.Activated(s.Socket, s.Socket), "")), "systemd passes 2 sockets")

	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(filepath.Dir(s.Notify.LocalAddr().String()), "s"), Net: "unix"})
	require.NoError(t, err)
	defer listener.Close()
	file, err := listener.File()
	require.NoError(t, err)
	defer file.Close()
	require.Contains(t, s.RequireRefused(s.Finish(s.Activated(file), "")), "not TCP")
}

func TestSocketsOfAnotherProcessAreNotTaken(t *testing.T) {
	s := kit.NewSystemd(t)
	s.Env = append(s.Env, "LISTEN_FDS=1", "LISTEN_PID=1")
	require.NotContains(t, s.Machine.Start().URL, s.Address)
}

// systemd must not restart a server because its database is away: a restart would only keep it from answering.
func TestWatchdogIsNotifiedAlsoWhileTheDatabaseIsAway(t *testing.T) {
	s := kit.NewSystemd(t)
	s.Env = append(s.Env, "WATCHDOG_USEC=300000")
	service := s.Start()
	s.AwaitNotification("WATCHDOG=1")

	database := openDatabase(t, s.Machine)
	require.NoError(t, database.Query(t.Context()).Exec("ALTER TABLE identities RENAME TO gone").Error)
	require.Equal(t, http.StatusServiceUnavailable, service.Get("/auth/health/ready", "").Status)
	for range 10 { // some may have been sent before
		s.AwaitNotification("WATCHDOG=1")
	}
	require.Equal(t, http.StatusServiceUnavailable, service.Get("/auth/health/ready", "").Status)
	require.Equal(t, http.StatusOK, service.Get("/auth/health/alive", "").Status)

	require.NoError(t, database.Query(t.Context()).Exec("ALTER TABLE gone RENAME TO identities").Error)
	service.Stop()
}

// A start that waits for its database must not time out, nor be restarted for it.
func TestSystemdLearnsThatTheDatabaseIsWaitedFor(t *testing.T) {
	s := kit.NewSystemd(t)
	s.Env = append(s.Env, "WATCHDOG_USEC=300000", "DATABASE_URL=postgres://latchkey:a-secret@127.0.0.1:1/latchkey")
	service := kit.StartServer(t, s.Activated(s.Socket), "http://"+s.Address)
	require.Contains(t, s.AwaitNotification("READY=1"), "STATUS=Waiting for the database")
	s.AwaitNotification("WATCHDOG=1")
	require.Equal(t, http.StatusServiceUnavailable, service.Get("/auth/health/ready", "").Status)
	require.Equal(t, http.StatusOK, service.Get("/auth/health/alive", "").Status)

	service.Signal(syscall.SIGTERM)
	s.AwaitNotification("STOPPING=1")
	require.Zero(t, service.Wait(), service.Log())
	conn, err := net.Dial("tcp", s.Address)
	require.NoError(t, err, "the socket is still there")
	require.NoError(t, conn.Close())
}

func TestSystemdDoesNotRestartAWrongSetting(t *testing.T) {
	unit, err := os.ReadFile("../docs/latchkey.service")
	require.NoError(t, err)
	m := kit.NewMachine(t)
	require.Contains(t, string(unit), fmt.Sprintf("RestartPreventExitStatus=%d\n", m.Run("", "--base-url=example.com").Code))
	require.NotEqual(t, 80, m.Run("", "--database-url=sqlite:/dev/null/latchkey.db").Code, "it may work later")
}
