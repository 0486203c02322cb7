package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/db/pgtest"
)

// ours are the connections of Latchkey to the server of a test.
const ours = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"

// mostConnections is those of the pool and the one that listens.
const mostConnections = 10 + 1

// faultOfPostgres makes a server, and returns its URL, what happens to it under load, and the server
// that there is afterwards.
type faultOfPostgres func(t *testing.T) (url string, happen func(c *crowd), after func() *pgtest.Server)

func TestFaultsOfPostgres(t *testing.T) {
	for name, fault := range map[string]faultOfPostgres{
		"restarted": func(t *testing.T) (string, func(*crowd), func() *pgtest.Server) {
			server := pgtest.Start(t)
			return server.URL("postgres"), func(c *crowd) {
				server.Stop(t)
				c.await("the fault to show", c.allTurnedAway())
				require.NoError(t, server.Run())
			}, func() *pgtest.Server { return server }
		},
		"connections cut": func(t *testing.T) (string, func(*crowd), func() *pgtest.Server) {
			server := pgtest.Start(t)
			return server.URL("postgres"), func(c *crowd) {
				for range 10 {
					before := c.turnedAway.Load() + c.readersTurnedAway.Load()
					c.await("the fault to show", func() bool {
						server.Exec(t, "SELECT pg_terminate_backend(pid) "+ours)
						return c.turnedAway.Load()+c.readersTurnedAway.Load() > before
					})
					c.await("sign-ins and sign-outs", c.working())
				}
			}, func() *pgtest.Server { return server }
		},
		"silent for 10 seconds": func(t *testing.T) (string, func(*crowd), func() *pgtest.Server) {
			server := pgtest.Start(t)
			between := newWire(t, server.Port)
			return between.url(), func(c *crowd) {
				begin := time.Now()
				between.cut()
				shown := c.allTurnedAway()
				c.await("the fault to show", func() bool { return time.Since(begin) > 10*time.Second && shown() })
				between.mend()
			}, func() *pgtest.Server { return server }
		},
		"read-only for a while": func(t *testing.T) (string, func(*crowd), func() *pgtest.Server) {
			server := pgtest.Start(t)
			set := func(readOnly string) {
				server.Exec(t, "ALTER SYSTEM SET default_transaction_read_only = "+readOnly)
				server.Exec(t, "SELECT pg_reload_conf()")
			}
			return server.URL("postgres"), func(c *crowd) {
				set("on")
				c.await("the fault to show", func() bool { return enough(c) })
				c.await("readers to go on", c.reading())
				require.Zero(t, c.readersTurnedAway.Load())
				set("off")
			}, func() *pgtest.Server { return server }
		},
		"its standby takes over": func(t *testing.T) (string, func(*crowd), func() *pgtest.Server) {
			primary := pgtest.Start(t)
			standby := primary.Standby(t)
			url := fmt.Sprintf("postgres://postgres@127.0.0.1:%d,127.0.0.1:%d/postgres?sslmode=disable&target_session_attrs=read-write",
				primary.Port, standby.Port)
			return url, func(c *crowd) {
				primary.Stop(t)
				c.await("the fault to show", c.allTurnedAway())
				require.Equal(t, 1, standby.One(t, "SELECT pg_promote()::int"))
			}, func() *pgtest.Server { return standby }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, happen, after := fault(t)
			m := newMachineAt(t, url)
			addPeople(m)
			s := m.start()
			c := newCrowd(s)
			c.start()
			c.await("sign-ins and sign-outs", c.working())
			before := s.openFiles()

			happen(c)

			again := time.Now()
			c.await("sign-ins and sign-outs to work again by themselves", c.working())
			c.await("readers", c.reading())
			t.Logf("everybody got in and out again after %s", time.Since(again).Round(time.Millisecond))
			c.stop()
			t.Log(c)
			requireKept(t, s, c.sessions)
			s.await("no more connections than there may be", func() bool { return after().One(t, "SELECT count(*) "+ours) <= mostConnections })
			requireNoLeaks(t, m, s, before)
			requireKept(t, m.start(), c.sessions)
		})
	}
}

// allTurnedAway tells whether readers and writers have been turned away again and again since.
func (c *crowd) allTurnedAway() func() bool {
	writers, readers := c.turnedAway.Load(), c.readersTurnedAway.Load()
	return func() bool {
		return c.turnedAway.Load() >= writers+crowdSize && c.readersTurnedAway.Load() >= readers+crowdSize
	}
}

// wire is a way to a server on which, while it is cut, nothing arrives and nobody is told.
type wire struct {
	t        testing.TB
	listener net.Listener
	passing  sync.RWMutex // held by who passes something on, and while the wire is cut
	running  sync.WaitGroup
}

func newWire(t testing.TB, port int) *wire {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &wire{t: t, listener: listener}
	t.Cleanup(func() { listener.Close(); w.running.Wait() })
	w.running.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				near.Close()
				continue
			}
			w.running.Go(func() { w.pass(far, near) })
			w.running.Go(func() { w.pass(near, far) })
		}
	})
	return w
}

// pass passes on what comes, the end too.
func (w *wire) pass(to, from net.Conn) {
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		w.passing.RLock()
		if n > 0 && err == nil {
			_, err = to.Write(buffer[:n])
		}
		w.passing.RUnlock()
		if err != nil {
			_, _ = io.Copy(io.Discard, from) // nobody takes it any more
			return
		}
	}
}

func (w *wire) cut()  { w.passing.Lock() }
func (w *wire) mend() { w.passing.Unlock() }

func (w *wire) url() string {
	return fmt.Sprintf("postgres://postgres:a-secret@%s/postgres?sslmode=disable", w.listener.Addr())
}

// A pooler leads connections that were the primary's to a standby, which lags behind. From the first
// write on nobody is told what that one believes.
func TestFaultPoolerLeadsToAStandby(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t)
	standby := primary.Standby(t)
	url, leadTo := primary.Bouncer(t, "postgres")
	m := newMachineAt(t, url)
	m.addUser("ada@example.com")
	s := m.start()
	kept, ended := s.signIn("ada@example.com"), s.signIn("ada@example.com")
	primary.Exec(t, "ALTER SYSTEM SET synchronous_standby_names = ''")
	primary.Exec(t, "SELECT pg_reload_conf()")
	standby.Exec(t, "SELECT pg_wal_replay_pause()")
	require.Equal(t, http.StatusNoContent, s.logout(ended).status)

	leadTo(standby)
	s.await("a write to be refused", func() bool {
		return s.tryLogin("ada@example.com", goodPassword).status == http.StatusServiceUnavailable
	})
	for range 30 { // as often as there are connections, and more
		require.Equal(t, http.StatusServiceUnavailable, s.whoami(ended))
		require.Equal(t, http.StatusServiceUnavailable, s.whoami(kept))
		require.Equal(t, http.StatusServiceUnavailable, s.logout(kept).status)
	}
	leadTo(primary)

	s.await("the primary to be in use again", func() bool { return s.whoami(ended) == http.StatusUnauthorized })
	s.await("sign-outs", func() bool { return s.logout(kept).status == http.StatusNoContent })
}

func TestFaultPostgresAwayAtTheStart(t *testing.T) {
	t.Parallel()
	silent := newWire(t, pgtest.Start(t).Port)
	silent.cut()
	defer silent.mend()
	for what, url := range map[string]string{
		"nobody there": "postgres://latchkey:a-secret@127.0.0.1:1,127.0.0.1:2/latchkey",
		"silent":       silent.url(),
	} {
		m := newMachineAt(t, url)
		m.env = append(m.env, "LISTEN=localhost:0")
		r := m.run("")
		require.Equal(t, 1, r.code, what)
		require.Regexp(t, `^latchkey: error: DATABASE_URL: open the database \w+ on 127\.0\.0\.1: [^\n]+\n$`, r.stderr, what)
		require.NotContains(t, r.stderr, "a-secret")
		require.Empty(t, r.stdout, "it does not say that it is anywhere")
	}
}

func TestFaultStopWhilePostgresIsSilent(t *testing.T) {
	t.Parallel()
	between := newWire(t, pgtest.Start(t).Port)
	m := newMachineAt(t, between.url())
	m.addUser("ada@example.com")
	s := m.start()
	token := s.signIn("ada@example.com")
	in := s.stream(token)
	between.cut()
	defer between.mend()

	begin := time.Now()
	s.stop()

	require.Less(t, time.Since(begin), patience)
	_, err := readUntil(in, "event: ended")
	require.Error(t, err, "nobody said that it has ended")
	require.NotContains(t, strings.ToLower(s.logged()), "panic")
}
