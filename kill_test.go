package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/db/pgtest"
)

// answeredSession is a session whose start was answered, and what is known of its end.
type answeredSession struct {
	token, id    string
	asked, ended bool // its end was asked for; that was answered
}

// The server is killed in the middle of many sign-ins and logouts. Whatever it has answered is so
// after the restart; what it has not may have happened or not.
func TestFaultKilledServerKeepsItsWord(t *testing.T) {
	for name, newMachine := range map[string]func(testing.TB) *machine{
		"SQLite":     newSQLiteMachine,
		"PostgreSQL": func(t testing.TB) *machine { return newMachineAt(t, pgtest.New(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			killAgainAndAgain(t, newMachine(t))
		})
	}
}

func killAgainAndAgain(t *testing.T, m *machine) {
	// Attempts that were under way when it was killed count as wrong passwords, of which one
	// address has 50 free.
	const rounds, clients = 5, 8
	m.addUser(person(0))
	wiki := newWiki(t)
	m.do("", "app", "add", "wiki", wiki.url)
	for i := 1; i < clients; i++ {
		m.addUser(person(i))
	}
	var all []answeredSession
	for round := range rounds {
		s := m.start()
		requireKept(t, s, all)

		sessions := make([][]answeredSession, clients)
		answered := make(chan struct{})
		var working sync.WaitGroup
		for i := range clients {
			working.Go(func() { sessions[i] = signInAndOut(s, person(i), answered) })
		}
		for range 100 + rand.N(100) { // any moment will do, as long as it is another one each time
			<-answered
		}
		s.kill()
		go func() {
			working.Wait()
			close(answered)
		}()
		for range answered { // on their way when it was killed
		}

		var started, ended, open int
		for _, session := range slices.Concat(sessions...) {
			started++
			if session.ended {
				ended++
			} else if session.asked {
				open++
			}
			all = append(all, session)
		}
		t.Logf("round %d: %d sign-ins and %d logouts were answered, %d logouts were not", round+1, started, ended, open)
		require.NotZero(t, ended)
	}
	s := m.start()
	requireKept(t, s, all)
	requireTold(t, s, wiki, all)
}

func person(i int) string { return fmt.Sprintf("person%d@example.com", i) }

// signInAndOut signs in, and every other time out again, until the server is gone.
func signInAndOut(s *server, address string, answered chan<- struct{}) (sessions []answeredSession) {
	for i := 0; ; i++ {
		login := s.tryLogin(address, goodPassword)
		if login.err != nil {
			return sessions
		}
		answered <- struct{}{}
		if login.status != http.StatusOK {
			s.t.Errorf("a right password is refused: %s", login.body)
			continue
		}
		session := answeredSession{token: login.text("session_token"), id: login.text("session", "id"), asked: i%2 == 0}
		if session.asked {
			session.ended = s.logout(session.token).status == http.StatusNoContent
		}
		sessions = append(sessions, session)
	}
}

// requireTold waits until the app has heard of every logout that was answered.
func requireTold(t *testing.T, s *server, wiki *wiki, sessions []answeredSession) {
	t.Helper()
	for _, session := range sessions {
		if session.ended {
			// A lease of one who was killed is over in a minute.
			s.awaitFor(3*time.Minute, "the app to be told", func() bool { return wiki.heardOf(session.id) })
		} else if !session.asked {
			require.False(t, wiki.heardOf(session.id), "the app was told of what has not ended")
		}
	}
}

// requireKept compares what clients were told with what is so.
func requireKept(t *testing.T, s *server, sessions []answeredSession) {
	t.Helper()
	for _, session := range sessions {
		switch status := s.whoami(session.token); {
		case session.ended:
			require.Equal(t, http.StatusUnauthorized, status, "a logout that was answered is undone")
		case !session.asked:
			require.Equal(t, http.StatusOK, status, "a sign-in that was answered is lost")
		}
	}
}
