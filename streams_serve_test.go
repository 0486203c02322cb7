package main

import (
	"bufio"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// stream opens an event stream, which has begun when this returns.
func (s *server) stream(token string) *bufio.Reader {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	require.NoError(s.t, err)
	s.t.Cleanup(func() { conn.Close() })
	require.NoError(s.t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = conn.Write([]byte("GET /auth/sessions/events HTTP/1.1\r\nHost: localhost\r\nX-Session-Token: " + token + "\r\n\r\n"))
	require.NoError(s.t, err)
	in := bufio.NewReader(conn)
	_, err = readUntil(in, "event: session")
	require.NoError(s.t, err)
	return in
}

func TestStopWaitsForNoStream(t *testing.T) {
	m := newMachine(t)
	m.addUser("ada@example.com")
	s := m.start()
	token := s.signIn("ada@example.com")
	streams := []*bufio.Reader{s.stream(token), s.stream(token)}

	s.signal(syscall.SIGTERM)

	select {
	case <-s.done:
	case <-time.After(shutdownTimeout - 5*time.Second):
		require.FailNow(t, "the server waits for its streams")
	}
	require.Zero(t, s.ended(), s.logged())
	for _, in := range streams {
		left, err := readUntil(in, "event: ended")
		require.Error(t, err, left)
	}
	require.Equal(t, http.StatusOK, m.start().whoami(token), "it ended no session")
}

func TestStreamHearsOfACommandOfTheOperator(t *testing.T) {
	m := newMachine(t)
	for command, reason := range map[string]string{"session end --user": "operator", "user disable": "disabled", "user delete": "deleted"} {
		address := strings.Fields(command)[1] + "@example.com"
		m.addUser(address)
		s := m.start()
		in := s.stream(s.signIn(address))

		m.do("", append(strings.Fields(command), address)...)

		ended, err := readUntil(in, "event: ended")
		require.NoError(t, err, command)
		require.Contains(t, ended, `"reason":"`+reason+`"`)
		s.stop()
	}
}
