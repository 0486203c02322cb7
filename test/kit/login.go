package kit

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// PendingLogin is a sign-in whose body the server is waiting for.
type PendingLogin struct {
	t    testing.TB
	conn net.Conn
	body string
}

// BeginLogin begins a sign-in and returns when its handler has begun to read the body, which is when
// the server asks for it (RFC 9110 §10.1.1).
func (s *Server) BeginLogin(address string) PendingLogin {
	s.t.Helper()
	action := s.Get("/auth/self-service/login/api", "").Text("ui", "action")
	p := PendingLogin{t: s.t, body: fmt.Sprintf(`{"method":"password","identifier":%q,"password":%q}`, address, GoodPassword)}
	var err error
	p.conn, err = net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	require.NoError(s.t, err)
	s.t.Cleanup(func() { p.conn.Close() })
	require.NoError(s.t, p.conn.SetDeadline(time.Now().Add(Timeout)))
	_, err = fmt.Fprintf(p.conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"+
		"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n", strings.TrimPrefix(action, s.URL), len(p.body))
	require.NoError(s.t, err)
	const proceed = "HTTP/1.1 100 Continue\r\n\r\n"
	got := make([]byte, len(proceed))
	_, err = p.conn.Read(got)
	require.NoError(s.t, err)
	require.Equal(s.t, proceed, string(got))
	return p
}

// Finish sends the body and returns the session token.
func (p PendingLogin) Finish() string {
	p.t.Helper()
	_, err := p.conn.Write([]byte(p.body))
	require.NoError(p.t, err)
	res, err := http.ReadResponse(bufio.NewReader(p.conn), nil)
	require.NoError(p.t, err)
	defer res.Body.Close()
	require.Equal(p.t, http.StatusOK, res.StatusCode)
	var answer struct {
		Token string `json:"session_token"`
	}
	require.NoError(p.t, json.NewDecoder(res.Body).Decode(&answer))
	return answer.Token
}
