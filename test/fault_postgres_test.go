package test

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

	"latchkey/test/kit"
)

// clientBackends selects the connections of Latchkey.
const clientBackends = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"

// maxConnections is those of the pool and the one that listens.
const maxConnections = 10 + 1

// faultOfPostgres starts a server. It returns its URL, what happens to it under load, and the server that
// is there afterwards.
type faultOfPostgres func(t *testing.T) (url string, happen func(c *crowd), after func() *kit.Postgres)

func TestFaultsOfPostgres(t *testing.T) {
	for name, fault := range map[string]faultOfPostgres{
		"restarted": func(t *testing.T) (string, func(*crowd), func() *kit.Postgres) {
			server := kit.StartPostgres(t)
			return server.URL("postgres"), func(c *crowd) {
				server.Stop(t)
				c.await("the fault to show", c.moreUnavailable())
				require.NoError(t, server.Run())
			}, func() *kit.Postgres { return server }
		},
		"connections cut": func(t *testing.T) (string, func(*crowd), func() *kit.Postgres) {
			server := kit.StartPostgres(t)
			return server.URL("postgres"), func(c *crowd) {
				for range 10 {
					before := c.unavailable.Load() + c.readsUnavailable.Load()
					c.await("the fault to show", func() bool {
						server.Exec(t, "SELECT pg_terminate_backend(pid) "+clientBackends)
						return c.unavailable.Load()+c.readsUnavailable.Load() > before
					})
					c.await("sign-ins and sign-outs", c.moreLogins())
				}
			}, func() *kit.Postgres { return server }
		},
		"silent for 10 seconds": func(t *testing.T) (string, func(*crowd), func() *kit.Postgres) {
			server := kit.StartPostgres(t)
			between := newWire(t, server.Port)
			return between.url(), func(c *crowd) {
				begin := time.Now()
				between.cut()
				shown := c.moreUnavailable()
				c.await("the fault to show", func() bool { return time.Since(begin) > 10*time.Second && shown() })
				between.restore()
			}, func() *kit.Postgres { return server }
		},
		"read-only for a while": func(t *testing.T) (string, func(*crowd), func() *kit.Postgres) {
			server := kit.StartPostgres(t)
			set := func(readOnly string) {
				server.Exec(t, "ALTER SYSTEM SET default_transaction_read_only = "+readOnly)
				server.Exec(t, "SELECT pg_reload_conf()")
			}
			return server.URL("postgres"), func(c *crowd) {
				set("on")
				c.await("the fault to show", func() bool { return writesFail(c) })
				c.await("readers to go on", c.moreReads())
				require.Zero(t, c.readsUnavailable.Load())
				set("off")
			}, func() *kit.Postgres { return server }
		},
		"its standby takes over": func(t *testing.T) (string, func(*crowd), func() *kit.Postgres) {
			primary := kit.StartPostgres(t)
			standby := primary.Standby(t)
			url := fmt.Sprintf("postgres://postgres@127.0.0.1:%d,127.0.0.1:%d/postgres?sslmode=disable&target_session_attrs=read-write",
				primary.Port, standby.Port)
			return url, func(c *crowd) {
				primary.Stop(t)
				c.await("the fault to show", c.moreUnavailable())
				require.Equal(t, 1, standby.QueryInt(t, "SELECT pg_promote()::int"))
			}, func() *kit.Postgres { return standby }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, happen, after := fault(t)
			m := kit.NewMachineAt(t, url)
			addPeople(t, m)
			s := m.Start()
			c := newCrowd(t, s)
			c.start()
			c.await("sign-ins and sign-outs", c.moreLogins())
			before := openFiles(t, s)

			happen(c)

			again := time.Now()
			c.await("sign-ins and sign-outs to work again by themselves", c.moreLogins())
			c.await("readers", c.moreReads())
			t.Logf("everybody got in and out again after %s", time.Since(again).Round(time.Millisecond))
			c.stop()
			t.Log(c)
			requireAsAnswered(t, s, c.sessions)
			s.Await("no more connections than there may be", func() bool { return after().QueryInt(t, "SELECT count(*) "+clientBackends) <= maxConnections })
			requireNoLeaks(t, m, s, before)
			requireAsAnswered(t, m.Start(), c.sessions)
		})
	}
}

// moreUnavailable returns a function that reports whether several requests of both kinds have been answered
// with 503 since moreUnavailable was called.
func (c *crowd) moreUnavailable() func() bool {
	writers, readers := c.unavailable.Load(), c.readsUnavailable.Load()
	return func() bool {
		return c.unavailable.Load() >= writers+crowdSize && c.readsUnavailable.Load() >= readers+crowdSize
	}
}

// wire forwards connections to a server. While it is cut, nothing arrives, and neither side learns of it.
type wire struct {
	t        testing.TB
	listener net.Listener
	gate     sync.RWMutex // read-locked to forward something, locked while the wire is cut
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
			w.running.Go(func() { w.forward(far, near) })
			w.running.Go(func() { w.forward(near, far) })
		}
	})
	return w
}

// forward copies what arrives, and the end of it.
func (w *wire) forward(to, from net.Conn) {
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		w.gate.RLock()
		if n > 0 && err == nil {
			_, err = to.Write(buffer[:n])
		}
		w.gate.RUnlock()
		if err != nil {
			_, _ = io.Copy(io.Discard, from) // the other side is closed
			return
		}
	}
}

func (w *wire) cut()     { w.gate.Lock() }
func (w *wire) restore() { w.gate.Unlock() }

func (w *wire) url() string {
	return fmt.Sprintf("postgres://postgres:a-secret@%s/postgres?sslmode=disable", w.listener.Addr())
}

// A pooler routes connections of the primary to a standby that lags behind. From the first write on,
// nothing is answered from it.
func TestFaultPoolerLeadsToAStandby(t *testing.T) {
	t.Parallel()
	primary := kit.StartPostgres(t)
	standby := primary.Standby(t)
	url, routeTo := primary.Bouncer(t, "postgres")
	m := kit.NewMachineAt(t, url)
	m.AddUser("ada@example.com")
	s := m.Start()
	kept, ended := s.SignIn("ada@example.com"), s.SignIn("ada@example.com")
	primary.Exec(t, "ALTER SYSTEM SET synchronous_standby_names = ''")
	primary.Exec(t, "SELECT pg_reload_conf()")
	standby.Exec(t, "SELECT pg_wal_replay_pause()")
	require.Equal(t, http.StatusNoContent, s.Logout(ended).Status)

	routeTo(standby)
	s.Await("a write to be refused", func() bool {
		return s.Login("ada@example.com", kit.GoodPassword).Status == http.StatusServiceUnavailable
	})
	for range 30 { // more often than there are connections
		require.Equal(t, http.StatusServiceUnavailable, s.Whoami(ended))
		require.Equal(t, http.StatusServiceUnavailable, s.Whoami(kept))
		require.Equal(t, http.StatusServiceUnavailable, s.Logout(kept).Status)
	}
	routeTo(primary)

	s.Await("the primary to be in use again", func() bool { return s.Whoami(ended) == http.StatusUnauthorized })
	s.Await("sign-outs", func() bool { return s.Logout(kept).Status == http.StatusNoContent })
}

func TestFaultStopWhilePostgresIsSilent(t *testing.T) {
	t.Parallel()
	between := newWire(t, kit.StartPostgres(t).Port)
	m := kit.NewMachineAt(t, between.url())
	m.AddUser("ada@example.com")
	s := m.Start()
	token := s.SignIn("ada@example.com")
	in := s.Stream(token)
	between.cut()
	defer between.restore()

	begin := time.Now()
	s.Stop()

	require.Less(t, time.Since(begin), kit.Timeout)
	_, err := in.ReadUntil("event: ended")
	require.Error(t, err, "the session has not ended")
	require.NotContains(t, strings.ToLower(s.Log()), "panic")
}
