package test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

// trackedSession is a session whose sign-in was answered, and what is known of its logout.
type trackedSession struct {
	token, id        string
	requested, ended bool // its logout was requested; it was answered
}

// requireNotified waits until the app has a logout token for every logout that was answered.
func requireNotified(t *testing.T, s *kit.Server, wiki *kit.Receiver, sessions []trackedSession) {
	t.Helper()
	for _, session := range sessions {
		if session.ended {
			// The lease of a server that was killed ends after a minute.
			s.AwaitFor(3*time.Minute, "the app to be notified", func() bool { return wiki.Received(session.id) })
		} else if !session.requested {
			require.False(t, wiki.Received(session.id), "the app was notified of a session that has not ended")
		}
	}
}

// requireAsAnswered checks that the server still knows what clients were answered.
func requireAsAnswered(t *testing.T, s *kit.Server, sessions []trackedSession) {
	t.Helper()
	for _, session := range sessions {
		switch status := s.Whoami(session.token); {
		case session.ended:
			require.Equal(t, http.StatusUnauthorized, status, "a logout that was answered is undone")
		case !session.requested:
			require.Equal(t, http.StatusOK, status, "a sign-in that was answered is lost")
		}
	}
}
