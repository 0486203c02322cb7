package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
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
)

var soakFor = flag.Duration("soak", 5*time.Second, "how long the soak test takes; from a minute on it compares sizes")

// soaking is the environment variable that turns the test binary into a Latchkey that forgets soon: an
// hour shrunk to five minutes.
const soaking = "LATCHKEY_SOAKING"

func serveSoaking() {
	run(&cli{Config: app.Config{Keep: app.Keep{Every: time.Second, Ends: 5 * time.Second, Deliveries: 5 * time.Second}}})
}

const soakers = 6

// People sign in, ask, listen and sign out for a while, with an app that is told. Every answer is as it
// should be, and nothing grows that is not to: memory, goroutines, files, the database and its log.
//
//	go test -run Soak -soak 5m .
func TestFaultSoak(t *testing.T) {
	m := newSQLiteMachine(t)
	for i := range soakers {
		m.addUser(person(i))
	}
	wiki := newWiki(t)
	m.do("", "app", "add", "wiki", wiki.url)
	m.program = os.Args[0]
	m.env = append(m.env, soaking+"=1", "SESSION_RETENTION=5s", "LOG_LEVEL=warn")
	s := m.start()
	filesBefore := s.openFiles()

	end := time.Now().Add(*soakFor)
	var rounds atomic.Int64
	var working sync.WaitGroup
	for i := range soakers {
		working.Go(func() {
			for time.Now().Before(end) && !t.Failed() {
				if err := s.day(person(i)); err != nil {
					t.Error(err)
				}
				rounds.Add(1)
			}
		})
	}
	lasting := s.signIn(person(0))
	for range 2 { // constant readers, which keep SQLite from emptying its log if anything does
		working.Go(func() {
			for time.Now().Before(end) && !t.Failed() {
				if status := s.whoami(lasting); status != http.StatusOK {
					t.Errorf("whoami is answered %d", status)
				}
			}
		})
	}
	const samples = 60
	var sizes [samples]soakSizes
	for i := range sizes {
		time.Sleep(*soakFor / samples)
		sizes[i] = s.sizes(m)
	}
	working.Wait()

	t.Logf("%d rounds in %s, apps told %d times", rounds.Load(), *soakFor, len(wiki.told()))
	for i := 0; i < samples; i += samples / 6 {
		t.Log(sizes[i])
	}
	t.Log(sizes[samples-1])
	if *soakFor >= time.Minute {
		middle, last := most(sizes[samples/3:2*samples/3]), most(sizes[2*samples/3:])
		for name, slack := range map[string]float64{"resident KiB": 8 << 10, "files": 16, "database KiB": 1 << 10, "log KiB": 8 << 10} {
			require.LessOrEqual(t, last[name], middle[name]*1.2+slack, "%s: %v and then %v", name, middle, last)
		}
	}
	require.NotContains(t, s.logged(), `"level":"ERROR"`)
	requireNoLeaks(t, m, s, filesBefore)
}

// soakSizes are what must not grow.
type soakSizes map[string]float64

func (s *server) sizes(m *machine) soakSizes {
	sizes := soakSizes{"files": float64(s.openFiles())}
	for name, file := range map[string]string{"database KiB": m.database(), "log KiB": m.database() + "-wal"} {
		if info, err := os.Stat(file); err == nil {
			sizes[name] = float64(info.Size() >> 10)
		}
	}
	if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid)); err == nil {
		_, rest, _ := strings.Cut(string(status), "VmRSS:")
		sizes["resident KiB"], _ = strconv.ParseFloat(strings.Fields(rest)[0], 64)
	}
	return sizes
}

func most(all []soakSizes) soakSizes {
	largest := soakSizes{}
	for _, sizes := range all {
		for name, size := range sizes {
			largest[name] = max(largest[name], size)
		}
	}
	return largest
}

// day is what one person does: signs in, is asked for by apps, has a page open, and signs out in one of
// the ways there are.
func (s *server) day(address string) error {
	login := s.tryLogin(address, goodPassword)
	if login.status != http.StatusOK {
		return fmt.Errorf("a sign-in is answered %d: %s %w", login.status, login.body, login.err)
	}
	token := login.text("session_token")
	listening, err := s.listenTo(token)
	if err != nil {
		return err
	}
	defer listening.Close()
	want := func(what string, a answer, status int) {
		if err == nil && a.status != status {
			err = fmt.Errorf("%s is answered %d: %s %v", what, a.status, a.body, a.err)
		}
	}
	for range 5 {
		who := s.get(whoamiPath, token)
		want("whoami", who, http.StatusOK)
		if got := who.text("identity", "traits", "email"); err == nil && got != address {
			return fmt.Errorf("%s is signed in as %s", address, got)
		}
		want("verify", s.asBrowser(verifyPath, token), http.StatusOK)
	}
	want("the list of sessions", s.get("/auth/sessions", token), http.StatusOK)
	link := s.asBrowser(logoutURLPath, token)
	want("the logout URL", link, http.StatusOK)
	if rand.N(2) == 0 {
		want("a logout", s.asBrowser(link.text("logout_url"), token), http.StatusNoContent)
	} else {
		want("a logout", s.logout(token), http.StatusNoContent)
	}
	want("whoami after the logout", s.get(whoamiPath, token), http.StatusUnauthorized)
	if err != nil {
		return err
	}
	heard, err := io.ReadAll(listening)
	if err != nil || !strings.Contains(string(heard), "event: ended") {
		return fmt.Errorf("the page heard %q %w", heard, err)
	}
	return nil
}

// asBrowser is get with the token in a cookie.
func (s *server) asBrowser(target, token string) answer {
	if strings.HasPrefix(target, "/") {
		target = s.url + target
	}
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, target, nil)
	if err != nil {
		return answer{err: err}
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Cookie", "latchkey_session="+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{err: err}
	}
	body, err := io.ReadAll(res.Body)
	return answer{status: res.StatusCode, header: res.Header, body: string(body), err: errors.Join(err, res.Body.Close())}
}

// listenTo opens an event stream, which has begun when this returns. It is safe for concurrent use.
func (s *server) listenTo(token string) (io.ReadCloser, error) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		return nil, err
	}
	err = conn.SetDeadline(time.Now().Add(patience))
	if err == nil {
		_, err = conn.Write([]byte("GET /auth/sessions/events HTTP/1.1\r\nHost: localhost\r\nX-Session-Token: " + token + "\r\n\r\n"))
	}
	in := bufio.NewReader(conn)
	if err == nil {
		_, err = readUntil(in, "event: session")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("no stream: %w", err), conn.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{in, conn}, nil
}
