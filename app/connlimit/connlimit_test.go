package connlimit_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/app/connlimit"
)

// server is one whose requests to /slow last until release is closed.
type server struct {
	t       *testing.T
	guard   *connlimit.Guard
	address string
	release chan struct{}
	idle    chan string // addresses of clients whose request is over
}

func start(t *testing.T, limits connlimit.Limits) *server {
	s := &server{t: t, guard: connlimit.New(limits), release: make(chan struct{}), idle: make(chan string, 1000)}
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			w.(http.Flusher).Flush()
			<-s.release
		}
	}))
	web.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		s.guard.Track(conn, state)
		if state == http.StateIdle {
			s.idle <- conn.RemoteAddr().String()
		}
	}
	web.Start()
	t.Cleanup(web.Close)
	s.address = web.Listener.Addr().String()
	return s
}

// client is a connection from an address of this machine.
type client struct {
	t *testing.T
	s *server
	net.Conn
	in *bufio.Reader
}

func (s *server) connect(from string) *client {
	s.t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: time.Minute}
	conn, err := dialer.Dial("tcp", s.address)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close() })
	return &client{s.t, s, conn, bufio.NewReader(conn)}
}

func (c *client) send(text string) *client {
	c.t.Helper()
	_, err := io.WriteString(c, text)
	require.NoError(c.t, err)
	return c
}

// ask sends a request and reads the beginning of its answer. Unless it lasts, the connection is idle then: the
// server says so a little after its answer.
func (c *client) ask(path string) *client {
	c.t.Helper()
	c.send(fmt.Sprintf("GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path))
	res, err := http.ReadResponse(c.in, nil)
	require.NoError(c.t, err)
	require.Equal(c.t, http.StatusOK, res.StatusCode)
	if path != "/slow" {
		require.Equal(c.t, c.LocalAddr().String(), <-c.s.idle)
	}
	return c
}

// closed waits until the server has closed the connection.
func (c *client) closed() {
	c.t.Helper()
	require.NoError(c.t, c.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err := io.Copy(io.Discard, c.in)
	if timeout, ok := err.(net.Error); ok {
		require.False(c.t, timeout.Timeout(), "it is still open")
	}
}

func none(netip.Addr) bool { return false }

func TestConnectionThatWaitsLongestIsClosed(t *testing.T) {
	s := start(t, connlimit.Limits{Total: 3, PerClient: 100, Exempt: none})
	first, second, third := s.connect("127.0.0.1").ask("/"), s.connect("127.0.0.1").ask("/"), s.connect("127.0.0.1").ask("/")
	first.ask("/") // the second has waited longest now

	fourth := s.connect("127.0.0.1").ask("/")
	second.closed()
	fifth := s.connect("127.0.0.1").ask("/")
	third.closed()

	for _, open := range []*client{first, fourth, fifth} {
		open.ask("/")
	}
	require.Equal(t, 3, s.guard.Open())
}

func TestConnectionWithARequestInProgressIsKept(t *testing.T) {
	s := start(t, connlimit.Limits{Total: 2, PerClient: 100, Exempt: none})
	busy := []*client{s.connect("127.0.0.1").ask("/slow"), s.connect("127.0.0.1").ask("/slow")}

	s.connect("127.0.0.1").closed()

	require.Equal(t, 2, s.guard.Open())
	close(s.release)
	for _, c := range busy {
		end, err := c.in.ReadString('0') // of the chunked body
		require.NoError(t, err, end)
	}
}

// A header that never ends holds a connection, and what has been read of it.
func TestHalfSentHeadersAreBoundedByClient(t *testing.T) {
	s := start(t, connlimit.Limits{Total: 1000, PerClient: 10, Exempt: none})
	other := s.connect("127.0.0.2").ask("/")
	var flood []*client
	for range 100 {
		flood = append(flood, s.connect("127.0.0.1").send("GET / HTTP/1.1\r\nHost: localhost\r\nX-Half: "))
	}
	for _, c := range flood[:90] {
		c.closed()
	}
	require.Equal(t, 11, s.guard.Open())

	other.ask("/") // another's connection is not closed for it
	s.connect("127.0.0.1").ask("/")
}

func TestExemptAddressesHaveOnlyTheTotalBound(t *testing.T) {
	s := start(t, connlimit.Limits{Total: 20, PerClient: 2, Exempt: func(a netip.Addr) bool { return a == netip.MustParseAddr("127.0.0.1") }})
	var all []*client
	for range 20 {
		all = append(all, s.connect("127.0.0.1").ask("/"))
	}
	for _, c := range all {
		c.ask("/")
	}
	s.connect("127.0.0.1").ask("/")
	all[0].closed()
}
