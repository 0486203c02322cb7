package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/app/password"
	"latchkey/models"
)

// All faults, those of a kill and of the clock included, are run by
//
//	go test -run Fault ./...

// fault is something that happens to the database of a server under load.
type fault struct {
	// place makes the directory of the database; nil for one of the test's own.
	place func(t *testing.T) string
	begin func(t *testing.T, database string)
	// begun, where not nil, tells whether enough has happened before the end.
	begun func(c *crowd) bool
	end   func(t *testing.T, database string)
	// readers are those who ask who is signed in: while it lasts they go on, or are turned away too.
	readersGoOn bool
}

// enough is that writers have been turned away again and again.
func enough(c *crowd) bool { return c.turnedAway.Load() >= 8 }

func TestFaultsOfTheDatabase(t *testing.T) {
	for name, f := range map[string]fault{
		"the disk is full": {
			place: smallDisk, begin: fillDisk, begun: enough, readersGoOn: true,
			end: func(t *testing.T, database string) { require.NoError(t, os.Remove(filler(database))) },
		},
		"the files are read-only": {
			begin: func(t *testing.T, database string) { immutable(t, database, "+i") }, begun: enough, readersGoOn: true,
			end: func(t *testing.T, database string) { immutable(t, database, "-i") },
		},
		"the files are moved away": {
			begin: func(t *testing.T, database string) { moveFiles(t, database, database+".away") },
			begun: func(c *crowd) bool { return enough(c) && c.readersTurnedAway.Load() >= 8 },
			end:   func(t *testing.T, database string) { moveFiles(t, database+".away", database) },
		},
		"another process locks it for 10 seconds": {
			begin: func(t *testing.T, database string) { lock(t, database, 10*time.Second) }, readersGoOn: true,
			begun: func(c *crowd) bool { return c.turnedAway.Load() > 0 },
			end:   func(*testing.T, string) {},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			withstand(t, f)
		})
	}
}

// withstand has a fault happen to a server under load, and come to its end.
func withstand(t *testing.T, f fault) {
	dir := t.TempDir()
	if f.place != nil {
		dir = f.place(t)
	}
	database := filepath.Join(dir, "latchkey.db")
	m := newMachineOn(t, database)
	addPeople(m)
	s := m.start()
	c := newCrowd(s)
	c.start()
	c.await("sign-ins and sign-outs", c.working())
	before := s.openFiles()

	f.begin(t, database)
	c.await("the fault to show", func() bool { return f.begun(c) })
	if f.readersGoOn {
		c.await("readers to go on", c.reading())
	}
	f.end(t, database)

	c.await("sign-ins and sign-outs to work again by themselves", c.working())
	c.stop()
	t.Log(c)
	if f.readersGoOn {
		require.Zero(t, c.readersTurnedAway.Load(), "who only reads needs no disk space and no lock")
	}
	requireKept(t, s, c.sessions)
	requireNoLeaks(t, m, s, before)
	requireKept(t, m.start(), c.sessions)
}

// newMachineOn is newSQLiteMachine with its SQLite file elsewhere.
func newMachineOn(t testing.TB, database string) *machine {
	m := newSQLiteMachine(t)
	m.dsn = "sqlite:" + database
	m.env = append(m.env, "DATABASE_URL="+m.dsn)
	return m
}

const crowdSize = 4

func addPeople(m *machine) {
	for i := range crowdSize {
		m.addUser(person(i))
	}
}

// crowd is people who sign in and out without pause, and apps that ask for each of them who they
// are. What it is answered is noted, and must be what it may be.
type crowd struct {
	s     *server
	lasts []string // a session of each that nobody ends
	done  context.CancelFunc
	busy  sync.WaitGroup

	mu       sync.Mutex
	sessions []answeredSession
	longest  time.Duration

	in, out, read                 atomic.Int64 // sign-ins, sign-outs and whoamis that worked
	turnedAway, readersTurnedAway atomic.Int64 // with 503
}

func newCrowd(s *server) *crowd {
	c := &crowd{s: s}
	for i := range crowdSize {
		c.lasts = append(c.lasts, s.signIn(person(i)))
	}
	return c
}

func (c *crowd) String() string {
	return fmt.Sprintf("%d sign-ins, %d sign-outs and %d whoamis worked; %d and %d were answered with 503; the longest answer took %s",
		c.in.Load(), c.out.Load(), c.read.Load(), c.turnedAway.Load(), c.readersTurnedAway.Load(), c.longest.Round(time.Millisecond))
}

func (c *crowd) start() {
	ctx, cancel := context.WithCancel(c.s.t.Context())
	c.done = cancel
	for i := range crowdSize {
		c.busy.Go(func() {
			for ctx.Err() == nil {
				c.signInAndOut(person(i))
			}
		})
		c.busy.Go(func() {
			for ctx.Err() == nil {
				c.ask(person(i), c.lasts[i])
				time.Sleep(time.Millisecond) // the cores are for others too
			}
		})
	}
}

// stop waits for the answers that are on their way.
func (c *crowd) stop() {
	c.done()
	c.busy.Wait()
}

func (c *crowd) await(what string, done func() bool) {
	c.s.t.Helper()
	c.s.await(what, func() bool { return c.s.t.Failed() || done() })
	if c.s.t.Failed() {
		c.stop()
		c.s.t.FailNow()
	}
}

// working tells whether everybody could have signed in and out since.
func (c *crowd) working() func() bool {
	in, out := c.in.Load(), c.out.Load()
	return func() bool { return c.in.Load() >= in+5*crowdSize && c.out.Load() >= out+5*crowdSize }
}

func (c *crowd) reading() func() bool {
	read := c.read.Load()
	return func() bool { return c.read.Load() >= read+10*crowdSize }
}

// boundedTime is what no answer may take longer than: two waits of five seconds for each of the
// writes of a sign-in, and a queue for hashing, on a machine that is busy.
const boundedTime = 45 * time.Second

// timed returns what a request is answered, which must be what is wanted or the documented 503.
func (c *crowd) timed(what string, unavailable *atomic.Int64, request func() answer, wanted ...int) answer {
	begin := time.Now()
	a := request()
	took := time.Since(begin)
	c.mu.Lock()
	c.longest = max(c.longest, took)
	c.mu.Unlock()
	switch {
	case c.s.t.Context().Err() != nil: // the test is over
	case a.err != nil:
		c.s.t.Errorf("%s: %v", what, a.err)
	case took > boundedTime:
		c.s.t.Errorf("%s took %s", what, took)
	case a.status == http.StatusServiceUnavailable:
		unavailable.Add(1)
		if wait, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || wait < 1 || a.text("error", "status") != "Service Unavailable" ||
			a.text("error", "reason") == "" || a.text("error", "request") != a.header.Get("X-Request-Id") {
			c.s.t.Errorf("%s: not the documented error: %v %s", what, a.header, a.body)
		}
	case !slices.Contains(wanted, a.status):
		c.s.t.Errorf("%s: answered %d: %s", what, a.status, a.body)
	}
	return a
}

func (c *crowd) ask(address, token string) {
	a := c.timed("whoami", &c.readersTurnedAway, func() answer { return c.s.get(whoamiPath, token) }, http.StatusOK)
	if a.status == http.StatusOK {
		c.read.Add(1)
		c.requireWho(a.text("identity", "traits", "email"), address)
	}
}

func (c *crowd) requireWho(got, want string) {
	if got != want {
		c.s.t.Errorf("%q is signed in as %q", want, got)
	}
}

func (c *crowd) signInAndOut(address string) {
	login := c.timed("a sign-in", &c.turnedAway, func() answer { return c.s.tryLogin(address, goodPassword) }, http.StatusOK)
	if login.status != http.StatusOK {
		return
	}
	c.in.Add(1)
	c.requireWho(login.text("session", "identity", "traits", "email"), address)
	session := answeredSession{token: login.text("session_token"), id: login.text("session", "id"), asked: true}
	// Of those that could not be ended, some are left to see what becomes of them.
	for try := 0; try < 2 && !session.ended; try++ {
		session.ended = c.timed("a sign-out", &c.turnedAway, func() answer { return c.s.logout(session.token) }, http.StatusNoContent).status == http.StatusNoContent
	}
	if session.ended {
		c.out.Add(1)
		c.timed("whoami after a sign-out", &c.readersTurnedAway, func() answer { return c.s.get(whoamiPath, session.token) }, http.StatusUnauthorized)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sessions = append(c.sessions, session)
}

// requireNoLeaks waits until the server has no more files open than before, and then ends it with
// what prints its goroutines, of which there are few without requests.
func requireNoLeaks(t *testing.T, m *machine, s *server, filesBefore int) {
	t.Helper()
	// The pool, and that of db/lookup, may have opened the rest of their connections meanwhile, each with
	// two files.
	const pool = (8 + 8) * 2
	s.await(fmt.Sprintf("no more than the %d files that were open before", filesBefore),
		func() bool {
			http.DefaultClient.CloseIdleConnections()
			return s.openFiles() <= filesBefore+pool
		})
	n := s.goroutines()
	t.Logf("%d goroutines at the end", n)
	if n > mostGoroutines {
		require.FailNow(t, "goroutines have leaked", "%d are left:\n%s", n, s.logged())
	}
}

// mostGoroutines is more than a server without requests has, and less than have been turned away.
const mostGoroutines = 40

// openFiles counts what the process has open.
func (s *server) openFiles() int {
	s.t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid))
	if os.IsNotExist(err) {
		return 0 // not Linux
	}
	require.NoError(s.t, err)
	return len(entries)
}

var goroutineHead = regexp.MustCompile(`(?m)^goroutine \d+ `)

// goroutines ends the process as nobody should, and counts what it was doing.
func (s *server) goroutines() int {
	s.t.Helper()
	s.signal(syscall.SIGQUIT)
	s.ended()
	return len(goroutineHead.FindAllString(s.logged(), -1))
}

// smallDisk returns a directory that is a disk of its own.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=8m", "none", dir).CombinedOutput(); err != nil {
		cantHere(t, fmt.Sprintf("a small disk needs Linux and root: %v %s", err, out))
	}
	t.Cleanup(func() {
		out, err := exec.Command("umount", dir).CombinedOutput()
		require.NoError(t, err, "%s", out)
	})
	return dir
}

func filler(database string) string { return filepath.Join(filepath.Dir(database), "filler") }

func fillDisk(t *testing.T, database string) {
	t.Helper()
	f, err := os.Create(filler(database))
	require.NoError(t, err)
	for _, size := range []int{1 << 20, 4096, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		require.ErrorIs(t, err, syscall.ENOSPC)
	}
	require.NoError(t, f.Close())
}

func databaseFiles(database string) []string {
	return []string{database, database + "-wal", database + "-shm"}
}

// immutable changes what, unlike a mode, holds for root and for files that are open, too.
func immutable(t *testing.T, database, how string) {
	t.Helper()
	out, err := exec.Command("chattr", append([]string{how}, append(databaseFiles(database), filepath.Dir(database))...)...).CombinedOutput()
	if err != nil {
		cantHere(t, fmt.Sprintf("a file that nobody can write needs Linux and root: %v %s", err, out))
	}
	if how == "+i" {
		t.Cleanup(func() { // or the directory can't be removed
			_ = exec.Command("chattr", append([]string{"-i", filepath.Dir(database)}, databaseFiles(database)...)...).Run()
		})
	}
}

func moveFiles(t *testing.T, from, to string) {
	t.Helper()
	for i, file := range databaseFiles(from) {
		require.NoError(t, os.Rename(file, databaseFiles(to)[i]))
	}
}

// lock keeps everybody else from writing for a while.
func lock(t *testing.T, database string, d time.Duration) {
	t.Helper()
	pool, err := sql.Open("sqlite", "file:"+database+"?_txlock=exclusive&_pragma=busy_timeout(30000)")
	require.NoError(t, err)
	tx, err := pool.Begin()
	require.NoError(t, err)
	released := make(chan struct{})
	time.AfterFunc(d, func() {
		defer close(released)
		if err := errors.Join(tx.Rollback(), pool.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { <-released })
}

// A database that is replaced under a running server, as by who restores a backup without stopping it,
// gets nobody in and out until the server is restarted.
func TestFaultReplacedDatabase(t *testing.T) {
	t.Parallel()
	m := newSQLiteMachine(t)
	m.addUser("ada@example.com")
	s := m.start()
	kept, other := s.signIn("ada@example.com"), s.signIn("ada@example.com")
	backup := m.database() + ".backup"
	require.NoError(t, m.open().Exec("VACUUM INTO ?", backup).Error)
	require.Equal(t, http.StatusNoContent, s.logout(other).status)

	require.NoError(t, os.Rename(m.database(), m.database()+".old"))
	require.NoError(t, os.Rename(backup, m.database()))

	require.Equal(t, http.StatusServiceUnavailable, s.logout(kept).status, "it would be undone by the restart")
	require.Equal(t, http.StatusServiceUnavailable, s.whoami(kept))
	require.Equal(t, http.StatusServiceUnavailable, s.tryLogin("ada@example.com", goodPassword).status)
	require.Equal(t, http.StatusServiceUnavailable, s.get("/auth/health/ready", "").status)
	require.Contains(t, s.logged(), "has been replaced while it was open: restart Latchkey")

	require.NoError(t, os.Rename(m.database()+".old", m.database()))
	s.await("ready", func() bool { return s.get("/auth/health/ready", "").status == http.StatusOK })
	require.Equal(t, http.StatusOK, s.whoami(kept))
	require.Equal(t, http.StatusUnauthorized, s.whoami(other))
	require.Equal(t, http.StatusNoContent, s.logout(kept).status)
	s.kill()
	s = m.start()
	require.Equal(t, http.StatusUnauthorized, s.whoami(kept))
	require.Equal(t, http.StatusUnauthorized, s.whoami(other))
}

// Whose database is removed begins with a new one: nobody is signed in to that.
func TestFaultRemovedDatabase(t *testing.T) {
	t.Parallel()
	m := newSQLiteMachine(t)
	m.addUser("ada@example.com")
	s := m.start()
	token := s.signIn("ada@example.com")
	for _, file := range databaseFiles(m.database()) {
		require.NoError(t, os.Remove(file))
	}

	require.Equal(t, http.StatusServiceUnavailable, s.logout(token).status)
	require.Equal(t, http.StatusServiceUnavailable, s.whoami(token))
	require.Contains(t, s.logged(), "has been removed while it was open: put it back, or restart Latchkey")
	require.NoFileExists(t, m.database(), "no empty one takes its place")

	s.stop()
	s = m.start()
	require.NotEmpty(t, s.setup)
	require.Equal(t, http.StatusUnauthorized, s.whoami(token))
}

// The log beside the file holds what was answered last. Without it nothing more is promised, and what
// was is saved by the stop.
func TestFaultRemovedWriteAheadLog(t *testing.T) {
	t.Parallel()
	m := newSQLiteMachine(t)
	m.addUser("ada@example.com")
	s := m.start()
	kept, ended := s.signIn("ada@example.com"), s.signIn("ada@example.com")
	require.Equal(t, http.StatusNoContent, s.logout(ended).status)
	require.NoError(t, os.Remove(m.database()+"-wal"))

	require.Equal(t, http.StatusServiceUnavailable, s.logout(kept).status)
	require.Equal(t, http.StatusServiceUnavailable, s.whoami(kept))
	require.Contains(t, s.logged(), "-wal has been removed while it was open: restart Latchkey")

	s.stop()
	s = m.start()
	require.Equal(t, http.StatusUnauthorized, s.whoami(ended), "a logout that was answered is undone")
	require.Equal(t, http.StatusOK, s.whoami(kept))
	require.Equal(t, http.StatusNoContent, s.logout(kept).status)
}

// More people sign in than the cores can hash for. Who can't be served soon is told so, not counted as
// who had a wrong password, and the others are served meanwhile.
func TestFaultMoreSignInsThanCanBe(t *testing.T) {
	const people, each, refusals = 8, 5, 150 // more than the wrong passwords that a network has free
	m := newSQLiteMachine(t)
	m.env = append(m.env, "PASSWORD_MEMORY=262144", "GOMAXPROCS=2") // slow, and on any machine as few at a time
	hash, err := password.NewHasher(password.Params{MemoryKiB: 262144}).Hash(t.Context(), goodPassword)
	require.NoError(t, err)
	store := models.New(m.open(), time.Now)
	for i := range people {
		_, err := store.Identities.Create(t.Context(), person(i), "", hash, false)
		require.NoError(t, err)
	}
	s := m.start()
	token := s.signIn(person(0))
	var signedIn, refused atomic.Int64
	var all sync.WaitGroup
	for i := range people * each {
		all.Go(func() {
			for refused.Load() < refusals && !t.Failed() {
				switch a := s.tryLogin(person(i%people), goodPassword); a.status {
				case http.StatusOK:
					signedIn.Add(1)
				case http.StatusServiceUnavailable:
					refused.Add(1)
					if wait, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || wait < 1 {
						t.Errorf("refused without a time to come back: %v", a.header)
					}
					time.Sleep(20 * time.Millisecond) // or there would be nothing but refusals
				default:
					t.Errorf("a right password is answered %d: %s %v", a.status, a.body, a.err)
				}
			}
		})
	}
	s.await("refusals", func() bool {
		if status := s.whoami(token); status != http.StatusOK {
			t.Errorf("whoami is answered %d", status)
		}
		return refused.Load() >= refusals || t.Failed()
	})
	all.Wait()
	t.Logf("%d sign-ins, %d refusals", signedIn.Load(), refused.Load())
	require.NotZero(t, signedIn.Load())

	require.Equal(t, http.StatusBadRequest, s.tryLogin(person(1), "a wrong password").status, "not yet too many")
	require.Equal(t, http.StatusOK, s.tryLogin(person(1), goodPassword).status)
}
