package test

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

// The server is killed during many sign-ins and logouts. Whatever it has answered holds after the restart.
func TestFaultKilledServerKeepsItsWord(t *testing.T) {
	for name, newMachine := range map[string]func(testing.TB) *kit.Machine{
		"SQLite":     kit.NewSQLiteMachine,
		"PostgreSQL": func(t testing.TB) *kit.Machine { return kit.NewMachineAt(t, kit.PostgresURL(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			killRepeatedly(t, newMachine(t))
		})
	}
}

func killRepeatedly(t *testing.T, m *kit.Machine) {
	// Attempts that were in progress when it was killed count as wrong passwords, of which one address
	// is allowed 50.
	const rounds, clients = 5, 8
	m.AddUser(person(0))
	wiki := kit.NewReceiver(t)
	m.Do("", "app", "add", "wiki", wiki.URL)
	for i := 1; i < clients; i++ {
		m.AddUser(person(i))
	}
	var all []trackedSession
	for round := range rounds {
		s := m.Start()
		requireAsAnswered(t, s, all)

		sessions := make([][]trackedSession, clients)
		answered := make(chan struct{})
		var working sync.WaitGroup
		for i := range clients {
			working.Go(func() { sessions[i] = signInAndOut(t, s, person(i), answered) })
		}
		for range 100 + rand.N(100) { // at another moment each time
			<-answered
		}
		s.Kill()
		go func() {
			working.Wait()
			close(answered)
		}()
		for range answered { // in progress when it was killed
		}

		var started, ended, open int
		for _, session := range slices.Concat(sessions...) {
			started++
			if session.ended {
				ended++
			} else if session.requested {
				open++
			}
			all = append(all, session)
		}
		t.Logf("round %d: %d sign-ins and %d logouts were answered, %d logouts were not", round+1, started, ended, open)
		require.NotZero(t, ended)
	}
	s := m.Start()
	requireAsAnswered(t, s, all)
	requireNotified(t, s, wiki, all)
}

// signInAndOut signs in, and every other time out again, until the server is gone.
func signInAndOut(t *testing.T, s *kit.Server, address string, answered chan<- struct{}) (sessions []trackedSession) {
	for i := 0; ; i++ {
		login := s.Login(address, kit.GoodPassword)
		if login.Err != nil {
			return sessions
		}
		answered <- struct{}{}
		if login.Status != http.StatusOK {
			t.Errorf("a right password is refused: %s", login.Body)
			continue
		}
		session := trackedSession{token: login.Text("session_token"), id: login.Text("session", "id"), requested: i%2 == 0}
		if session.requested {
			session.ended = s.Logout(session.token).Status == http.StatusNoContent
		}
		sessions = append(sessions, session)
	}
}
