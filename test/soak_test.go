package test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/app"
	"latchkey/cli"
	"latchkey/test/kit"
)

var soakFor = flag.Duration("soak", 5*time.Second, "how long the soak test takes; from a minute on it compares sizes")

// soakVariable is the environment variable that turns the test binary into a Latchkey that keeps nothing
// for longer than seconds.
const soakVariable = "LATCHKEY_TEST_SOAK"

func serveSoak() {
	cli.Main(app.Options{Keep: app.Keep{Every: time.Second, Ends: 5 * time.Second, Deliveries: 5 * time.Second}})
}

// soakPeople use soakAccounts in turn, since nobody may sign in to one very often.
const soakPeople, soakAccounts = 6, 120

// People sign in, use apps and pages, and sign out for a while, with an app that is notified. Every answer
// is the expected one, and neither memory, goroutines, files, the database nor its log keep growing.
//
//	go test -run Soak ./test -soak 5m
func TestFaultSoak(t *testing.T) {
	m := kit.NewSQLiteMachine(t)
	addAccounts(t, m, soakAccounts, cheap)
	wiki := kit.NewReceiver(t)
	m.Do("", "app", "add", "wiki", wiki.URL)
	m.Program = os.Args[0]
	m.Env = append(m.Env, soakVariable+"=1", "SESSION_RETENTION=5s", "LOG_LEVEL=warn")
	s := m.Start()
	filesBefore := openFiles(t, s)

	end := time.Now().Add(*soakFor)
	var rounds atomic.Int64
	var working sync.WaitGroup
	for i := range soakPeople {
		working.Go(func() {
			for n := i; time.Now().Before(end) && !t.Failed(); n += soakPeople {
				if err := visit(s, person(n%soakAccounts)); err != nil {
					t.Error(err)
				}
				rounds.Add(1)
			}
		})
	}
	lasting := s.SignIn(person(0))
	for range 2 { // constant reads, which can keep SQLite from resetting its log
		working.Go(func() {
			for time.Now().Before(end) && !t.Failed() {
				if status := s.Whoami(lasting); status != http.StatusOK {
					t.Errorf("whoami is answered %d", status)
				}
			}
		})
	}
	const samples = 60
	var sizes [samples]soakSizes
	for i := range sizes {
		time.Sleep(*soakFor / samples)
		sizes[i] = sizesOf(t, s, m)
	}
	working.Wait()

	t.Logf("%d rounds in %s, %d notifications", rounds.Load(), *soakFor, len(wiki.Tokens()))
	for i := 0; i < samples; i += samples / 6 {
		t.Log(sizes[i])
	}
	t.Log(sizes[samples-1])
	if *soakFor >= time.Minute {
		middle, last := largest(sizes[samples/3:2*samples/3]), largest(sizes[2*samples/3:])
		for name, slack := range map[string]float64{"resident KiB": 8 << 10, "files": 16, "database KiB": 1 << 10, "log KiB": 8 << 10} {
			require.LessOrEqual(t, last[name], middle[name]*1.2+slack, "%s: %v and then %v", name, middle, last)
		}
	}
	require.NotContains(t, s.Log(), `"level":"ERROR"`)
	requireNoLeaks(t, m, s, filesBefore)
}

// soakSizes is what must not grow.
type soakSizes map[string]float64

func sizesOf(t *testing.T, s *kit.Server, m *kit.Machine) soakSizes {
	sizes := soakSizes{"files": float64(openFiles(t, s))}
	for name, file := range map[string]string{"database KiB": m.DatabaseFile(), "log KiB": m.DatabaseFile() + "-wal"} {
		if info, err := os.Stat(file); err == nil {
			sizes[name] = float64(info.Size() >> 10)
		}
	}
	if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID())); err == nil {
		_, rest, _ := strings.Cut(string(status), "VmRSS:")
		sizes["resident KiB"], _ = strconv.ParseFloat(strings.Fields(rest)[0], 64)
	}
	return sizes
}

func largest(all []soakSizes) soakSizes {
	result := soakSizes{}
	for _, sizes := range all {
		for name, size := range sizes {
			result[name] = max(result[name], size)
		}
	}
	return result
}

// visit signs a person in, has apps ask who it is and a page listen, and signs out in one of several ways.
func visit(s *kit.Server, address string) error {
	login := s.Login(address, kit.GoodPassword)
	if login.Status != http.StatusOK {
		return fmt.Errorf("a sign-in is answered %d: %s %w", login.Status, login.Body, login.Err)
	}
	token := login.Text("session_token")
	stream, err := s.OpenStream(token)
	if err != nil {
		return err
	}
	defer stream.Close()
	want := func(what string, a kit.Answer, status int) {
		if err == nil && a.Status != status {
			err = fmt.Errorf("%s is answered %d: %s %v", what, a.Status, a.Body, a.Err)
		}
	}
	for range 5 {
		who := s.Get(whoamiPath, token)
		want("whoami", who, http.StatusOK)
		if got := who.Text("identity", "traits", "email"); err == nil && got != address {
			return fmt.Errorf("%s is signed in as %s", address, got)
		}
		want("verify", s.GetWithCookie(verifyPath, token), http.StatusOK)
	}
	want("the list of sessions", s.Get("/auth/sessions", token), http.StatusOK)
	link := s.GetWithCookie(logoutURLPath, token)
	want("the logout URL", link, http.StatusOK)
	if rand.N(2) == 0 {
		want("a logout", s.GetWithCookie(link.Text("logout_url"), token), http.StatusNoContent)
	} else {
		want("a logout", s.Logout(token), http.StatusNoContent)
	}
	want("whoami after the logout", s.Get(whoamiPath, token), http.StatusUnauthorized)
	if err != nil {
		return err
	}
	heard, err := stream.ReadAll()
	if err != nil || !strings.Contains(heard, "event: ended") {
		return fmt.Errorf("the stream had %q %w", heard, err)
	}
	return nil
}
