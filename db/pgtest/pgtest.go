// Package pgtest runs tests on real PostgreSQL servers, which it starts from the programs that
// Debian's package postgresql installs.
package pgtest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// Variable is the environment variable that has the tests of all packages use PostgreSQL, with any
// value, instead of SQLite.
const Variable = "LATCHKEY_TEST_POSTGRES"

// On reports whether the tests are to use PostgreSQL.
func On() bool { return os.Getenv(Variable) != "" }

// DSN returns where a test keeps its data: on PostgreSQL if that is on, else in the SQLite file.
func DSN(t testing.TB, file string) string {
	t.Helper()
	if !On() {
		return "sqlite:" + file
	}
	return New(t)
}

// New returns the URL of an empty place for tables on the server that the tests of one process share.
// It is a schema, since making and dropping a database takes longer than many a test.
func New(t testing.TB) string {
	t.Helper()
	need(t)
	server, err := shared()
	require.NoError(t, err)
	name := server.newName()
	server.Exec(t, "CREATE SCHEMA "+name)
	t.Cleanup(func() { server.Exec(t, "DROP SCHEMA "+name+" CASCADE") })
	return server.URL("postgres") + "&search_path=" + name
}

// shared is not stopped: it ends with the process.
var shared = sync.OnceValues(func() (*Server, error) {
	server := &Server{shared: true}
	// What survives a power cut is of no interest to the tests that share a server.
	return server, server.start("-F")
})

// Server is a PostgreSQL of its own on loopback, with a superuser "postgres" that needs no password.
type Server struct {
	Dir  string // its data
	Port int

	command *exec.Cmd
	life    io.Closer // the server stops when it is closed, be it by the end of this process
	log     bytes.Buffer
	made    atomic.Int64
	shared  bool // nobody will remove Dir
}

// Start starts a server for one test; options are those of the program postgres.
func Start(t testing.TB, options ...string) *Server {
	t.Helper()
	need(t)
	s := &Server{}
	t.Cleanup(func() { s.clear(t) })
	require.NoError(t, s.start(options...))
	return s
}

// clear leaves nothing of a server but, if the test has failed, the end of its log.
func (s *Server) clear(t testing.TB) {
	if s.command != nil {
		s.stop()
	}
	if t.Failed() {
		log := s.log.String()
		t.Log(log[max(0, len(log)-4000):])
	}
	require.NoError(t, os.RemoveAll(s.Dir))
}

// need skips the test where PostgreSQL is not installed.
func need(t testing.TB) {
	t.Helper()
	if program("postgres") != "" {
		return
	}
	missing(t, "PostgreSQL", "postgresql")
}

func missing(t testing.TB, what, debianPackage string) {
	t.Helper()
	message := "this test needs " + what + ": install Debian's package " + debianPackage
	if os.Getenv("CI") == "true" {
		require.FailNow(t, message)
	}
	t.Skip(message)
}

// program returns the path of the newest version of one of PostgreSQL's programs, "" if there is none.
// Debian has them in a directory for each version.
func program(name string) string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name) // the pattern is well-formed
	if len(found) == 0 {
		path, _ := exec.LookPath(name) // "" with the error
		return path
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(strings.Split(path, "/")[4]) // 0 for what is no version
		return n
	}
	return slices.MaxFunc(found, func(x, y string) int { return cmp.Compare(version(x), version(y)) })
}

// Command returns a command of one of PostgreSQL's programs, run as a user that it accepts: not root.
func Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(program(name), args...)
	cmd.Dir = "/"
	if owner, ok := owner(); ok {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: owner}
	}
	return cmd
}

// owner returns whom servers run as; false where that is who runs the tests.
func owner() (*syscall.Credential, bool) {
	if os.Getuid() != 0 {
		return nil, false
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		return nil, false // initdb will say what is wrong
	}
	uid, _ := strconv.ParseUint(account.Uid, 10, 32) // user.Lookup has read it
	gid, _ := strconv.ParseUint(account.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, true
}

func (s *Server) start(options ...string) error {
	if err := s.NewDir(); err != nil {
		return err
	}
	out, err := Command("initdb", "-D", s.Dir, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync").CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	if s.Port, err = freePort(); err != nil {
		return err
	}
	return s.Run(options...)
}

// NewDir makes the directory for the data.
func (s *Server) NewDir() (err error) {
	if s.Dir, err = os.MkdirTemp("", "latchkey-postgres"); err != nil {
		return err
	}
	if owner, ok := owner(); ok {
		return os.Chown(s.Dir, int(owner.Uid), int(owner.Gid))
	}
	return nil
}

// Standby starts a server that follows this one, and returns when nothing is committed any more that
// it does not have.
func (s *Server) Standby(t testing.TB) *Server {
	t.Helper()
	standby := &Server{}
	t.Cleanup(func() { standby.clear(t) })
	require.NoError(t, standby.NewDir())
	out, err := Command("pg_basebackup", "-D", standby.Dir, "-h", "127.0.0.1", "-p", strconv.Itoa(s.Port), "-U", "postgres",
		"--write-recovery-conf", "--checkpoint=fast", "--no-sync").CombinedOutput()
	require.NoError(t, err, "%s", out)
	standby.Port, err = freePort()
	require.NoError(t, err)
	require.NoError(t, standby.Run())
	s.Exec(t, "ALTER SYSTEM SET synchronous_standby_names = '*'")
	s.Exec(t, "SELECT pg_reload_conf()")
	require.Eventually(t, func() bool {
		return s.One(t, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == 1
	}, time.Minute, 10*time.Millisecond)
	return standby
}

// Bouncer starts PgBouncer in front of the server, which has more clients than connections and gives each
// transaction whichever is free. It returns the URL of a database there, and what leads all clients, as
// connected as they are, to another server.
func (s *Server) Bouncer(t testing.TB, database string) (url string, leadTo func(*Server)) {
	t.Helper()
	if program("pgbouncer") == "" {
		missing(t, "PgBouncer", "pgbouncer")
	}
	port, err := freePort()
	require.NoError(t, err)
	config := filepath.Join(s.Dir, "pgbouncer.ini")
	configure := func(to *Server) {
		require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "[databases]\n* = host=127.0.0.1 port=%d user=postgres\n"+
			"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\nunix_socket_dir =\nauth_type = any\n"+
			"pool_mode = transaction\ndefault_pool_size = 3\nmax_client_conn = 200\n", to.Port, port), 0o644))
	}
	configure(s)
	bouncer := Command("pgbouncer", config)
	require.NoError(t, bouncer.Start())
	t.Cleanup(func() {
		_ = bouncer.Process.Kill() // it keeps nothing
		_ = bouncer.Wait()
	})
	front := &Server{Port: port}
	require.NoError(t, front.await())
	return front.URL(database), func(to *Server) {
		configure(to)
		require.NoError(t, bouncer.Process.Signal(syscall.SIGHUP))
	}
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return listener.Addr().(*net.TCPAddr).Port, listener.Close()
}

// Run starts the server on its data and waits until it takes connections.
func (s *Server) Run(options ...string) error {
	args := append([]string{program("postgres"), "-p", strconv.Itoa(s.Port), "-k", s.Dir,
		"-c", "listen_addresses=127.0.0.1", "-c", "max_connections=400"}, options...)
	stop := `"$@" & read -r _; kill -QUIT $!; wait $!`
	if s.shared {
		stop += `; rm -rf "$PGDATA"`
	}
	// The shell stops the server when its input ends, which it does however the tests end.
	s.command = Command("postgres")
	s.command.Path = "/bin/sh"
	s.command.Args = append([]string{"sh", "-c", stop, "sh"}, args...)
	s.command.Env = append(os.Environ(), "PGDATA="+s.Dir)
	s.command.Stdout, s.command.Stderr = &s.log, &s.log
	life, err := s.command.StdinPipe()
	if err != nil {
		return err
	}
	s.life = life
	if err := s.command.Start(); err != nil {
		return err
	}
	return s.await()
}

func (s *Server) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL does not start: %w: %s", err, s.log.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// URL returns the address of a database.
func (s *Server) URL(database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", s.Port, database)
}

// Stop stops the server at once, as a crash does: what was committed is there after the next Run.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.stop()
}

func (s *Server) stop() {
	_ = s.life.Close()
	_ = s.command.Wait() // ended by a signal
	s.command = nil
}

func (s *Server) newName() string { return "test" + strconv.Itoa(int(s.made.Add(1))) }

// NewDatabase makes an empty database, which is dropped after the test, and returns its URL.
func (s *Server) NewDatabase(t testing.TB) string {
	t.Helper()
	name := s.newName()
	s.Exec(t, "CREATE DATABASE "+name)
	t.Cleanup(func() { s.Exec(t, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)") })
	return s.URL(name)
}

// Exec has a statement executed by the superuser.
func (s *Server) Exec(t testing.TB, statement string, args ...any) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	require.NoError(t, err)
	_, err = conn.Exec(ctx, statement, args...)
	require.NoError(t, err)
	require.NoError(t, conn.Close(ctx))
}

// One returns the number that a query finds.
func (s *Server) One(t testing.TB, query string, args ...any) (n int) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	require.NoError(t, err)
	require.NoError(t, conn.QueryRow(ctx, query, args...).Scan(&n))
	require.NoError(t, conn.Close(ctx))
	return n
}
