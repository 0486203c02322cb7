package app_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// slowly sends the first part of a form to the login flow, and returns a function that sends the rest and returns the
// answer.
func (s *site) slowly(accept string) func(rest bool) answer {
	s.t.Helper()
	flow := s.visitor().get("/auth/self-service/login/api").text("ui.action")
	const first, rest = "method=password&identi", "fier=ada%40example.com&password=wrong"
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nAccept: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
		strings.TrimPrefix(flow, s.url), accept, typeForm, len(first)+len(rest), first)
	require.NoError(s.t, err)
	return func(all bool) answer {
		if all {
			_, err := io.WriteString(conn, rest)
			require.NoError(s.t, err)
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodPost})
		require.NoError(s.t, err)
		defer res.Body.Close()
		require.Equal(s.t, !all, res.Close)
		body, err := io.ReadAll(res.Body)
		require.NoError(s.t, err)
		return answer{t: s.t, status: res.StatusCode, header: res.Header, body: string(body)}
	}
}

// Anybody can send a body slowly. That is no failure of the database, and takes nothing of the time it has.
func TestSlowBodyIsRefusedAndBlamesNobodyElse(t *testing.T) {
	site := newSite(t)
	site.app.SetBodyTimeout(20 * time.Millisecond)
	for _, accept := range []string{"application/json", "text/html"} {
		res := site.slowly(accept)(false)
		res.requireError(http.StatusRequestTimeout, "")
		require.Contains(t, res.body, "arrive in time")
	}
	require.NotContains(t, site.logged(), "database")
	require.NotContains(t, site.logged(), `"level":"ERROR"`)
}

func TestBodyInPartsIsReadWhole(t *testing.T) {
	site := newSite(t)
	res := site.slowly("application/json")(true)
	require.Equal(t, http.StatusBadRequest, res.status, res.body)
	require.Contains(t, res.body, "4000006")
}
