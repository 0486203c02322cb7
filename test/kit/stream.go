package kit

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
)

// Stream is an event stream of a session.
type Stream struct {
	conn net.Conn
	in   *bufio.Reader
}

// Stream opens an event stream, which has begun when this returns.
func (s *Server) Stream(token string) *Stream {
	s.t.Helper()
	stream, err := s.OpenStream(token)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { stream.Close() })
	return stream
}

// OpenStream is Stream without failing the test. It is safe for concurrent use.
func (s *Server) OpenStream(token string) (*Stream, error) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		return nil, err
	}
	stream := &Stream{conn, bufio.NewReader(conn)}
	err = conn.SetDeadline(time.Now().Add(Timeout))
	if err == nil {
		_, err = fmt.Fprintf(conn, "GET /auth/sessions/events HTTP/1.1\r\nHost: localhost\r\nX-Session-Token: %s\r\n\r\n", token)
	}
	if err == nil {
		_, err = stream.ReadUntil("event: session")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open an event stream: %w", err), conn.Close())
	}
	return stream, nil
}

// ReadUntil reads up to the end of the event that has a line, and returns all that it read.
func (s *Stream) ReadUntil(line string) (string, error) { return ReadUntil(s.in, line) }

// ReadAll reads until the server ends the stream.
func (s *Stream) ReadAll() (string, error) {
	rest, err := io.ReadAll(s.in)
	return string(rest), err
}

// Close closes the connection.
func (s *Stream) Close() { _ = s.conn.Close() } // nothing is lost if that fails

// ReadUntil reads from an event stream up to the end of the event that has a line.
func ReadUntil(in *bufio.Reader, line string) (string, error) {
	var got strings.Builder
	found := false
	for {
		next, err := in.ReadString('\n')
		got.WriteString(next)
		if err != nil {
			return "", fmt.Errorf("%w after %s", err, got.String())
		}
		found = found || next == line+"\n"
		if found && next == "\n" {
			return got.String(), nil
		}
	}
}
