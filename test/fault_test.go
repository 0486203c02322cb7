package test

import (
	"database/sql"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/app/password"
	"latchkey/test/kit"
)

// All tests of faults, those of a killed server and of a wrong clock included, are run by
//
//	go test -run Fault ./...

// fault is something that happens to the database of a server under load.
type fault struct {
	// dir returns the directory of the database; nil for one of the test's own.
	dir   func(t *testing.T) string
	begin func(t *testing.T, database string)
	// shows reports whether the fault has had its effects, before it ends.
	shows func(c *crowd) bool
	end   func(t *testing.T, database string)
	// readsWork says that whoami works while it lasts.
	readsWork bool
}

// writesFail reports whether several writes have failed.
func writesFail(c *crowd) bool { return c.unavailable.Load() >= 8 }

func TestFaultsOfTheDatabase(t *testing.T) {
	for name, f := range map[string]fault{
		"the disk is full": {
			dir: smallDisk, begin: fillDisk, shows: writesFail, readsWork: true,
			end: func(t *testing.T, database string) { require.NoError(t, os.Remove(filler(database))) },
		},
		"the files are read-only": {
			begin: func(t *testing.T, database string) { setImmutable(t, database, "+i") }, shows: writesFail, readsWork: true,
			end: func(t *testing.T, database string) { setImmutable(t, database, "-i") },
		},
		"the files are moved away": {
			begin: func(t *testing.T, database string) { moveFiles(t, database, database+".away") },
			shows: func(c *crowd) bool { return writesFail(c) && c.readsUnavailable.Load() >= 8 },
			end:   func(t *testing.T, database string) { moveFiles(t, database+".away", database) },
		},
		"another process locks it for 10 seconds": {
			begin: func(t *testing.T, database string) { lockFor(t, database, 10*time.Second) }, readsWork: true,
			shows: func(c *crowd) bool { return c.unavailable.Load() > 0 },
			end:   func(*testing.T, string) {},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testFault(t, f)
		})
	}
}

// testFault makes a fault happen to a server under load, and end.
func testFault(t *testing.T, f fault) {
	dir := t.TempDir()
	if f.dir != nil {
		dir = f.dir(t)
	}
	database := filepath.Join(dir, "latchkey.db")
	m := newMachineWithFile(t, database)
	addPeople(t, m)
	s := m.Start()
	c := newCrowd(t, s)
	c.start()
	c.await("sign-ins and sign-outs", c.moreLogins())
	before := openFiles(t, s)

	f.begin(t, database)
	c.await("the fault to show", func() bool { return f.shows(c) })
	if f.readsWork {
		c.await("whoami to go on", c.moreReads())
	}
	f.end(t, database)

	c.await("sign-ins and sign-outs to work again by themselves", c.moreLogins())
	c.stop()
	t.Log(c)
	if f.readsWork {
		require.Zero(t, c.readsUnavailable.Load(), "whoami needs neither disk space nor a lock")
	}
	requireAsAnswered(t, s, c.sessions)
	requireNoLeaks(t, m, s, before)
	requireAsAnswered(t, m.Start(), c.sessions)
}

// newMachineWithFile is kit.NewSQLiteMachine with another SQLite file.
func newMachineWithFile(t testing.TB, database string) *kit.Machine {
	m := kit.NewSQLiteMachine(t)
	m.DatabaseURL = "sqlite:" + database
	m.Env = append(m.Env, "DATABASE_URL="+m.DatabaseURL)
	return m
}

// smallDisk mounts a file system of a few megabytes and returns its directory.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=8m", "none", dir).CombinedOutput()
	kit.Need(t, err == nil, "Linux and root, to mount a small disk: %v %s", err, out)
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

// setImmutable changes an attribute that, unlike a mode, also concerns root and open files; how is +i or -i.
func setImmutable(t *testing.T, database, how string) {
	t.Helper()
	out, err := exec.Command("chattr", append([]string{how}, append(databaseFiles(database), filepath.Dir(database))...)...).CombinedOutput()
	kit.Need(t, err == nil, "Linux and root, for a file that nobody can write: %v %s", err, out)
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

// lockFor keeps everybody else from writing for a while.
func lockFor(t *testing.T, database string, d time.Duration) {
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

// When the database is replaced under a running server, as by restoring a backup without stopping it, nobody
// gets in or out until the server is restarted.
func TestFaultReplacedDatabase(t *testing.T) {
	t.Parallel()
	m := kit.NewSQLiteMachine(t)
	m.AddUser("ada@example.com")
	s := m.Start()
	kept, other := s.SignIn("ada@example.com"), s.SignIn("ada@example.com")
	backup := m.DatabaseFile() + ".backup"
	require.NoError(t, openDatabase(t, m).Query(t.Context()).Exec("VACUUM INTO ?", backup).Error)
	require.Equal(t, http.StatusNoContent, s.Logout(other).Status)

	require.NoError(t, os.Rename(m.DatabaseFile(), m.DatabaseFile()+".old"))
	require.NoError(t, os.Rename(backup, m.DatabaseFile()))

	require.Equal(t, http.StatusServiceUnavailable, s.Logout(kept).Status, "the restart would undo it")
	require.Equal(t, http.StatusServiceUnavailable, s.Whoami(kept))
	require.Equal(t, http.StatusServiceUnavailable, s.Login("ada@example.com", kit.GoodPassword).Status)
	require.Equal(t, http.StatusServiceUnavailable, s.Get("/auth/health/ready", "").Status)
	require.Contains(t, s.Log(), "was replaced while it was open: restart Latchkey")

	require.NoError(t, os.Rename(m.DatabaseFile()+".old", m.DatabaseFile()))
	s.Await("ready", func() bool { return s.Get("/auth/health/ready", "").Status == http.StatusOK })
	require.Equal(t, http.StatusOK, s.Whoami(kept))
	require.Equal(t, http.StatusUnauthorized, s.Whoami(other))
	require.Equal(t, http.StatusNoContent, s.Logout(kept).Status)
	s.Kill()
	s = m.Start()
	require.Equal(t, http.StatusUnauthorized, s.Whoami(kept))
	require.Equal(t, http.StatusUnauthorized, s.Whoami(other))
}

// A server whose database was removed starts with a new one, in which nobody is signed in.
func TestFaultRemovedDatabase(t *testing.T) {
	t.Parallel()
	m := kit.NewSQLiteMachine(t)
	m.AddUser("ada@example.com")
	s := m.Start()
	token := s.SignIn("ada@example.com")
	for _, file := range databaseFiles(m.DatabaseFile()) {
		require.NoError(t, os.Remove(file))
	}

	require.Equal(t, http.StatusServiceUnavailable, s.Logout(token).Status)
	require.Equal(t, http.StatusServiceUnavailable, s.Whoami(token))
	require.Contains(t, s.Log(), "was removed while it was open: put it back, or restart Latchkey")
	require.NoFileExists(t, m.DatabaseFile(), "no empty one takes its place")

	s.Stop()
	s = m.Start()
	require.NotEmpty(t, s.Setup)
	require.Equal(t, http.StatusUnauthorized, s.Whoami(token))
}

// The write-ahead log beside the file holds the last answers. Once it is removed, everything is answered
// with 503, and stopping the server saves what was answered before.
func TestFaultRemovedWriteAheadLog(t *testing.T) {
	t.Parallel()
	m := kit.NewSQLiteMachine(t)
	m.AddUser("ada@example.com")
	s := m.Start()
	kept, ended := s.SignIn("ada@example.com"), s.SignIn("ada@example.com")
	require.Equal(t, http.StatusNoContent, s.Logout(ended).Status)
	require.NoError(t, os.Remove(m.DatabaseFile()+"-wal"))

	require.Equal(t, http.StatusServiceUnavailable, s.Logout(kept).Status)
	require.Equal(t, http.StatusServiceUnavailable, s.Whoami(kept))
	require.Contains(t, s.Log(), "-wal was removed while it was open: restart Latchkey")

	s.Stop()
	s = m.Start()
	require.Equal(t, http.StatusUnauthorized, s.Whoami(ended), "a logout that was answered is undone")
	require.Equal(t, http.StatusOK, s.Whoami(kept))
	require.Equal(t, http.StatusNoContent, s.Logout(kept).Status)
}

// More people sign in than the cores can hash passwords for. Some are told that the site is busy, which does not
// count as a wrong password, and the others get in meanwhile.
func TestFaultMoreSignInsThanCanBe(t *testing.T) {
	const people, each, refusals = 8, 5, 150 // more than the wrong passwords that a network is allowed
	m := kit.NewSQLiteMachine(t)
	m.Env = append(m.Env, "PASSWORD_MEMORY=262144", "GOMAXPROCS=2") // slow, and equally few at a time on any machine
	addAccounts(t, m, people, password.Params{MemoryKiB: 262144})
	s := m.Start()
	token := s.SignIn(person(0))
	var signedIn, refused atomic.Int64
	var all sync.WaitGroup
	for i := range people * each {
		all.Go(func() {
			for refused.Load() < refusals && !t.Failed() {
				switch a := s.Login(person(i%people), kit.GoodPassword); a.Status {
				case http.StatusOK:
					signedIn.Add(1)
				case http.StatusBadRequest:
					refused.Add(1)
					if wait, err := strconv.Atoi(a.Header.Get("Retry-After")); err != nil || wait < 1 {
						t.Errorf("refused without a time to come back: %v", a.Header)
					}
					time.Sleep(20 * time.Millisecond) // or there would only be refusals
				default:
					t.Errorf("a right password is answered %d: %s %v", a.Status, a.Body, a.Err)
				}
			}
		})
	}
	s.Await("refusals", func() bool {
		if status := s.Whoami(token); status != http.StatusOK {
			t.Errorf("whoami is answered %d", status)
		}
		return refused.Load() >= refusals || t.Failed()
	})
	all.Wait()
	t.Logf("%d sign-ins, %d refusals", signedIn.Load(), refused.Load())
	require.NotZero(t, signedIn.Load())

	require.Equal(t, http.StatusBadRequest, s.Login(person(1), "a wrong password").Status, "not yet too many")
	require.Equal(t, http.StatusOK, s.Login(person(1), kit.GoodPassword).Status)
}
