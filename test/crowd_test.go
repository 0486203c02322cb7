package test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/app/password"
	"latchkey/db"
	"latchkey/models"
	"latchkey/test/kit"
)

const crowdSize = 4

// crowdAccounts is how many accounts the crowd uses in turn, since nobody may sign in to one very often.
const crowdAccounts = 30 * crowdSize

func addPeople(t *testing.T, m *kit.Machine) { addAccounts(t, m, crowdAccounts, cheap) }

// cheap are the costs of passwords on a kit.Machine.
var cheap = password.Params{MemoryKiB: 64, Passes: 1, Lanes: 1}

// addAccounts adds the accounts of the first n people, with passwords of these costs.
func addAccounts(t *testing.T, m *kit.Machine, n int, costs password.Params) {
	t.Helper()
	database, err := db.Open(t.Context(), m.DatabaseURL)
	require.NoError(t, err)
	defer func() { require.NoError(t, database.Close()) }()
	hash, err := password.NewHasher(costs).Hash(t.Context(), kit.GoodPassword)
	require.NoError(t, err)
	store := models.New(database, time.Now)
	for i := range n {
		_, _, err := store.Identities.Create(t.Context(), models.NewIdentity{Email: person(i),
			Credential: models.NewCredential{Method: models.MethodPassword, Secret: hash}})
		require.NoError(t, err)
	}
}

// crowd is people who sign in and out without pause, and apps that ask who they are. An answer other than
// the expected one, the documented 503, or a flow that says that the site is busy, fails the test.
type crowd struct {
	t       *testing.T
	s       *kit.Server
	kept    []string // a session of each person that nobody ends
	done    context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex
	sessions []trackedSession
	longest  time.Duration

	in, out, read                 atomic.Int64 // sign-ins, sign-outs and whoamis that worked
	unavailable, readsUnavailable atomic.Int64 // answers with 503: all but of whoami, of whoami
}

func newCrowd(t *testing.T, s *kit.Server) *crowd {
	c := &crowd{t: t, s: s}
	for i := range crowdSize {
		c.kept = append(c.kept, s.SignIn(person(i)))
	}
	return c
}

func (c *crowd) String() string {
	return fmt.Sprintf("%d sign-ins, %d sign-outs and %d whoamis worked; 503 for %d and %d whoamis; the slowest answer took %s",
		c.in.Load(), c.out.Load(), c.read.Load(), c.unavailable.Load(), c.readsUnavailable.Load(), c.longest.Round(time.Millisecond))
}

func (c *crowd) start() {
	ctx, cancel := context.WithCancel(c.t.Context())
	c.done = cancel
	for i := range crowdSize {
		c.running.Go(func() {
			for n := i; ctx.Err() == nil; n += crowdSize {
				c.signInAndOut(person(n % crowdAccounts))
			}
		})
		c.running.Go(func() {
			for ctx.Err() == nil {
				c.whoami(person(i), c.kept[i])
				time.Sleep(time.Millisecond) // leave the cores to others
			}
		})
	}
}

// stop waits for the answers of all requests.
func (c *crowd) stop() {
	c.done()
	c.running.Wait()
}

func (c *crowd) await(what string, done func() bool) {
	c.t.Helper()
	c.s.Await(what, func() bool { return c.t.Failed() || done() })
	if c.t.Failed() {
		c.stop()
		c.t.FailNow()
	}
}

// moreLogins returns a function that reports whether there have been several sign-ins and sign-outs a
// person since moreLogins was called.
func (c *crowd) moreLogins() func() bool {
	in, out := c.in.Load(), c.out.Load()
	return func() bool { return c.in.Load() >= in+5*crowdSize && c.out.Load() >= out+5*crowdSize }
}

// moreReads is like moreLogins for whoami.
func (c *crowd) moreReads() func() bool {
	read := c.read.Load()
	return func() bool { return c.read.Load() >= read+10*crowdSize }
}

// maxAnswerTime is more than two waits of five seconds for each write of a sign-in, and the queue for
// hashing, take on a busy machine.
const maxAnswerTime = 45 * time.Second

// request sends a request, whose answer must have one of the wanted statuses or be the documented 503,
// which it counts.
func (c *crowd) request(what string, unavailable *atomic.Int64, send func() kit.Answer, wanted ...int) kit.Answer {
	begin := time.Now()
	a := send()
	took := time.Since(begin)
	c.mu.Lock()
	c.longest = max(c.longest, took)
	c.mu.Unlock()
	switch {
	case c.t.Context().Err() != nil: // the test is over
	case a.Err != nil:
		c.t.Errorf("%s: %v", what, a.Err)
	case took > maxAnswerTime:
		c.t.Errorf("%s took %s", what, took)
	case a.Status == http.StatusBadRequest && strings.Contains(a.Body, "This site is busy."):
		unavailable.Add(1)
		if wait, err := strconv.Atoi(a.Header.Get("Retry-After")); err != nil || wait < 1 {
			c.t.Errorf("%s: busy without a time to come back: %v", what, a.Header)
		}
	case a.Status == http.StatusServiceUnavailable:
		unavailable.Add(1)
		if wait, err := strconv.Atoi(a.Header.Get("Retry-After")); err != nil || wait < 1 || a.Text("error", "status") != "Service Unavailable" ||
			a.Text("error", "reason") == "" || a.Text("error", "request") != a.Header.Get("X-Request-Id") {
			c.t.Errorf("%s: not the documented error: %v %s", what, a.Header, a.Body)
		}
	case !slices.Contains(wanted, a.Status):
		c.t.Errorf("%s: answered %d: %s", what, a.Status, a.Body)
	}
	return a
}

func (c *crowd) whoami(address, token string) {
	a := c.request("whoami", &c.readsUnavailable, func() kit.Answer { return c.s.Get(whoamiPath, token) }, http.StatusOK)
	if a.Status == http.StatusOK {
		c.read.Add(1)
		c.checkIdentity(a.Text("identity", "traits", "email"), address)
	}
}

func (c *crowd) checkIdentity(got, want string) {
	if got != want {
		c.t.Errorf("%q is signed in as %q", want, got)
	}
}

func (c *crowd) signInAndOut(address string) {
	login := c.request("a sign-in", &c.unavailable, func() kit.Answer { return c.s.Login(address, kit.GoodPassword) }, http.StatusOK)
	if login.Status != http.StatusOK {
		return
	}
	c.in.Add(1)
	c.checkIdentity(login.Text("session", "identity", "traits", "email"), address)
	session := trackedSession{token: login.Text("session_token"), id: login.Text("session", "id"), requested: true}
	// Some of those whose logout failed are kept to see what becomes of them.
	for try := 0; try < 2 && !session.ended; try++ {
		session.ended = c.request("a sign-out", &c.unavailable, func() kit.Answer { return c.s.Logout(session.token) }, http.StatusNoContent).Status == http.StatusNoContent
	}
	if session.ended {
		c.out.Add(1)
		c.request("whoami after a sign-out", &c.readsUnavailable, func() kit.Answer { return c.s.Get(whoamiPath, session.token) }, http.StatusUnauthorized)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sessions = append(c.sessions, session)
}
