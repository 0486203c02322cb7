package kit

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
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

// postgresVariable is the environment variable that, with any value, makes the tests of all packages
// use PostgreSQL instead of SQLite.
const postgresVariable = "LATCHKEY_TEST_POSTGRES"

// UsesPostgres reports whether tests that run on either database use PostgreSQL.
func UsesPostgres() bool { return os.Getenv(postgresVariable) != "" }

// DatabaseURL returns the URL of an empty database for the test: on PostgreSQL if UsesPostgres, else
// that of the given SQLite file.
func DatabaseURL(t testing.TB, file string) string {
	t.Helper()
	if !UsesPostgres() {
		return "sqlite:" + file
	}
	return PostgresURL(t)
}

// PostgresURL returns the URL of an empty schema on a PostgreSQL server that all tests of the process
// share. Creating and dropping a database would take longer than many a test.
func PostgresURL(t testing.TB) string {
	t.Helper()
	needPostgres(t)
	server, err := sharedPostgres()
	require.NoError(t, err)
	name := server.newName()
	server.Exec(t, "CREATE SCHEMA "+name)
	t.Cleanup(func() { server.Exec(t, "DROP SCHEMA "+name+" CASCADE") })
	return server.URL("postgres") + "&search_path=" + name
}

// sharedPostgres starts the shared server, which stops when the process ends.
var sharedPostgres = sync.OnceValues(func() (*Postgres, error) {
	server := &Postgres{shared: true}
	return server, server.start("-F") // no test of a power cut shares it
})

// Postgres is a PostgreSQL server on loopback whose superuser "postgres" needs no password. It is
// started from the programs of Debian's package postgresql.
type Postgres struct {
	Dir  string // data directory
	Port int

	command *exec.Cmd
	life    io.Closer // the server stops when it is closed, be it by the end of this process
	log     bytes.Buffer
	made    atomic.Int64
	shared  bool // no test cleans Dir up
}

// StartPostgres starts a server for one test, with options of the program postgres.
func StartPostgres(t testing.TB, options ...string) *Postgres {
	t.Helper()
	needPostgres(t)
	s := &Postgres{}
	t.Cleanup(func() { s.cleanUp(t) })
	require.NoError(t, s.start(options...))
	return s
}

// cleanUp stops the server, removes its data and logs the end of its log if the test has failed.
func (s *Postgres) cleanUp(t testing.TB) {
	if s.command != nil {
		s.stop()
	}
	if t.Failed() {
		log := s.log.String()
		t.Log(log[max(0, len(log)-4000):])
	}
	require.NoError(t, os.RemoveAll(s.Dir))
}

func needPostgres(t testing.TB) {
	t.Helper()
	Need(t, postgresProgram("postgres") != "", "PostgreSQL: apt-get install postgresql")
}

// postgresProgram returns the path of the newest version of one of PostgreSQL's programs, "" if there
// is none. Debian has a directory for each version.
func postgresProgram(name string) string {
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

// postgresCommand returns a command that runs one of PostgreSQL's programs as a user other than root,
// which they refuse.
func postgresCommand(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(postgresProgram(name), args...)
	cmd.Dir = "/"
	if uid, gid, ok := postgresUser(); ok {
		runAs(cmd, uid, gid)
	}
	return cmd
}

// postgresUser returns the user that servers run as; ok is false if the user of the tests will do.
func postgresUser() (uid, gid uint32, ok bool) {
	if os.Getuid() != 0 {
		return 0, 0, false
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		return 0, 0, false // initdb will say what is wrong
	}
	number := func(id string) uint32 {
		n, _ := strconv.ParseUint(id, 10, 32) // user.Lookup has parsed it
		return uint32(n)
	}
	return number(account.Uid), number(account.Gid), true
}

func (s *Postgres) start(options ...string) error {
	if err := s.makeDir(); err != nil {
		return err
	}
	out, err := postgresCommand("initdb", "-D", s.Dir, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync").CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	if s.Port, err = freePort("127.0.0.1:0"); err != nil {
		return err
	}
	return s.Run(options...)
}

// makeDir creates the data directory.
func (s *Postgres) makeDir() (err error) {
	if s.Dir, err = os.MkdirTemp("", "latchkey-postgres"); err != nil {
		return err
	}
	if uid, gid, ok := postgresUser(); ok {
		return os.Chown(s.Dir, int(uid), int(gid))
	}
	return nil
}

// Standby starts a server that replicates this one. When it returns, replication is synchronous: a
// commit waits until the standby has it.
func (s *Postgres) Standby(t testing.TB) *Postgres {
	t.Helper()
	standby := &Postgres{}
	t.Cleanup(func() { standby.cleanUp(t) })
	require.NoError(t, standby.makeDir())
	out, err := postgresCommand("pg_basebackup", "-D", standby.Dir, "-h", "127.0.0.1", "-p", strconv.Itoa(s.Port), "-U", "postgres",
		"--write-recovery-conf", "--checkpoint=fast", "--no-sync").CombinedOutput()
	require.NoError(t, err, "%s", out)
	standby.Port, err = freePort("127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, standby.Run())
	s.Exec(t, "ALTER SYSTEM SET synchronous_standby_names = '*'")
	s.Exec(t, "SELECT pg_reload_conf()")
	require.Eventually(t, func() bool {
		return s.QueryInt(t, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == 1
	}, time.Minute, 10*time.Millisecond)
	return standby
}

// Bouncer starts PgBouncer in front of the server, in transaction mode and with fewer connections than
// clients. It returns the URL of a database there, and a function that routes all clients to another
// server without disconnecting them.
func (s *Postgres) Bouncer(t testing.TB, database string) (url string, routeTo func(*Postgres)) {
	t.Helper()
	NeedProgram(t, "pgbouncer", "pgbouncer")
	port, err := freePort("127.0.0.1:0")
	require.NoError(t, err)
	config := filepath.Join(s.Dir, "pgbouncer.ini")
	configure := func(to *Postgres) {
		require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "[databases]\n* = host=127.0.0.1 port=%d user=postgres\n"+
			"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\nunix_socket_dir =\nauth_type = any\n"+
			"pool_mode = transaction\ndefault_pool_size = 3\nmax_client_conn = 200\n", to.Port, port), 0o644))
	}
	configure(s)
	bouncer := postgresCommand("pgbouncer", config)
	var log bytes.Buffer
	bouncer.Stderr = &log
	require.NoError(t, bouncer.Start())
	t.Cleanup(func() {
		_ = bouncer.Process.Kill() // it has no state
		_ = bouncer.Wait()
		require.NotContains(t, log.String(), "got packet 'A'", "PgBouncer warns of notifications that nobody expects")
	})
	front := &Postgres{Port: port}
	require.NoError(t, front.await())
	return front.URL(database), func(to *Postgres) {
		configure(to)
		require.NoError(t, bouncer.Process.Signal(syscall.SIGHUP))
	}
}

// Run starts the server on its data and waits until it accepts connections.
func (s *Postgres) Run(options ...string) error {
	args := append([]string{postgresProgram("postgres"), "-p", strconv.Itoa(s.Port), "-k", s.Dir,
		"-c", "listen_addresses=127.0.0.1", "-c", "max_connections=400"}, options...)
	stop := `"$@" & read -r _; kill -QUIT $!; wait $!`
	if s.shared {
		stop += `; rm -rf "$PGDATA"`
	}
	// The shell stops the server when its input ends, which it does however the tests end.
	s.command = postgresCommand("postgres")
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

func (s *Postgres) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("start PostgreSQL: %w: %s", err, s.log.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// URL returns the address of a database.
func (s *Postgres) URL(database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", s.Port, database)
}

// Stop stops the server at once, as a crash does. Committed data is there after the next Run.
func (s *Postgres) Stop(t testing.TB) {
	t.Helper()
	s.stop()
}

// Log returns what the server has logged, once it has stopped.
func (s *Postgres) Log() string { return s.log.String() }

func (s *Postgres) stop() {
	_ = s.life.Close()
	_ = s.command.Wait() // killed by a signal
	s.command = nil
}

func (s *Postgres) newName() string { return "test" + strconv.Itoa(int(s.made.Add(1))) }

// NewDatabase creates an empty database, which is dropped after the test, and returns its URL.
func (s *Postgres) NewDatabase(t testing.TB) string {
	t.Helper()
	name := s.newName()
	s.Exec(t, "CREATE DATABASE "+name)
	t.Cleanup(func() { s.Exec(t, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)") })
	return s.URL(name)
}

// Exec executes a statement as the superuser.
func (s *Postgres) Exec(t testing.TB, statement string, args ...any) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	require.NoError(t, err)
	_, err = conn.Exec(ctx, statement, args...)
	require.NoError(t, err)
	require.NoError(t, conn.Close(ctx))
}

// QueryInt returns the number that a query selects.
func (s *Postgres) QueryInt(t testing.TB, query string, args ...any) (n int) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	require.NoError(t, err)
	require.NoError(t, conn.QueryRow(ctx, query, args...).Scan(&n))
	require.NoError(t, conn.Close(ctx))
	return n
}
