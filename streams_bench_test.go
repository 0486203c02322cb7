package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/db"
	"latchkey/models"
)

const (
	manyStreams = 10_000
	ownStreams  = 1_000 // of one person, each of a session of its own
	openers     = 64
	endRounds   = 7
)

// BenchmarkStreams measures, on one machine and over loopback, what open event streams cost a real
// server in memory, and how long after "end all others" the last of a person's streams has heard.
//
//	go test -run '^$' -bench Streams .
func BenchmarkStreams(b *testing.B) {
	needFiles(b, manyStreams+ownStreams+200)
	table := &results{b: b}
	m := newSeeded(b, manyStreams)
	server := m.machine.start()
	m.server = server
	warm := openStreams(b, m.address(), m.tokens[:openers])
	closeStreams(warm)

	before := server.statusKiB(b, "VmRSS:")
	streams := openStreams(b, m.address(), m.tokens)
	time.Sleep(3 * time.Second) // to have collected what opening them left behind
	after := server.statusKiB(b, "VmRSS:")
	table.add(fmt.Sprintf("memory of each of %d streams", manyStreams), "", 0, (after-before)/manyStreams, "resident/stream-KiB")

	var times []float64
	address := "somebody@example.com"
	m.do(goodPassword, "user", "add", address)
	for range endRounds {
		tokens := m.newSessions(b, address, ownStreams+1)
		own := openStreams(b, m.address(), tokens[1:])
		heard := listen(b, own)
		begin := time.Now()
		ended := server.send(b.Context(), http.MethodDelete, "/auth/sessions", tokens[0], nil)
		answered := time.Since(begin)
		require.Equal(b, http.StatusOK, ended.status, ended.body)
		last := heard().Sub(begin)
		times = append(times, float64(last.Microseconds())/1000)
		b.Logf("answered after %s, the last of %d heard after %s", answered, ownStreams, last)
		closeStreams(own)
	}
	table.add(fmt.Sprintf("from the request that ends %d sessions to the last of their streams", ownStreams), "", 0, median(times), "last-stream-ms")
	table.add("resident at most", "", 0, server.residentMiB(b), "resident-MiB")
	closeStreams(streams)

	b.ReportMetric(0, "ns/op") // means nothing here
	fmt.Print(table.String())
}

// needFiles raises the number of files that this process, and the server that it starts, may have
// open to what the system allows at most.
func needFiles(b *testing.B, n uint64) {
	b.Helper()
	var limit syscall.Rlimit
	require.NoError(b, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	if limit.Max < n {
		b.Skipf("%d open files are needed and %d are allowed: raise 'ulimit -Hn'", n, limit.Max)
	}
	limit.Cur = limit.Max
	require.NoError(b, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
}

// statusKiB returns a number of /proc/PID/status.
func (s *server) statusKiB(b *testing.B, name string) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		b.Skip("memory can't be measured here: there is no /proc")
	}
	_, rest, _ := strings.Cut(string(status), name)
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	require.NoError(b, err)
	return float64(kib)
}

// newSessions signs a person in many times, past the password hashing.
func (s *seeded) newSessions(b *testing.B, address string, n int) []string {
	b.Helper()
	database, err := db.Open(b.Context(), "sqlite:"+s.database())
	require.NoError(b, err)
	defer func() { require.NoError(b, db.Close(database)) }()
	store := models.New(database, time.Now)
	identity, err := store.Identities.ByEmail(b.Context(), address)
	require.NoError(b, err)
	hash, err := store.Identities.PasswordHash(b.Context(), identity.ID)
	require.NoError(b, err)
	tokens := make([]string, n)
	for i := range tokens {
		session, err := store.Sessions.Start(b.Context(), models.SignIn{Identity: identity, PasswordHash: hash, Lifetime: time.Hour, Idle: time.Hour})
		require.NoError(b, err)
		tokens[i] = session.Token
	}
	return tokens
}

// openStreams opens a stream for each session, and returns when all have begun.
func openStreams(b *testing.B, address string, tokens []string) []net.Conn {
	b.Helper()
	streams := make([]net.Conn, len(tokens))
	var all sync.WaitGroup
	for opener := range openers {
		all.Go(func() {
			for i := opener; i < len(tokens); i += openers {
				conn, err := openStream(address, tokens[i])
				if err != nil {
					b.Error(err)
					return
				}
				streams[i] = conn
			}
		})
	}
	all.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return streams
}

func openStream(address, token string) (net.Conn, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(conn, "GET /auth/sessions/events HTTP/1.1\r\nHost: localhost\r\nCookie: latchkey_session=%s\r\n\r\n", token); err != nil {
		return nil, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	_, err = readUntil(bufio.NewReaderSize(conn, 1024), "event: session")
	return conn, err
}

// readUntil reads up to the end of the event with that line.
func readUntil(in *bufio.Reader, wanted string) (string, error) {
	var got strings.Builder
	found := false
	for {
		line, err := in.ReadString('\n')
		got.WriteString(line)
		if err != nil {
			return "", fmt.Errorf("%w after %s", err, got.String())
		}
		found = found || line == wanted+"\n"
		if found && line == "\n" {
			return got.String(), nil
		}
	}
}

// listen waits for the end on every stream. What it returns waits for all, and returns when the last
// one heard.
func listen(b *testing.B, streams []net.Conn) func() time.Time {
	b.Helper()
	heard := make([]time.Time, len(streams))
	var all sync.WaitGroup
	for i, conn := range streams {
		all.Go(func() {
			buffer := make([]byte, 512)
			n, err := conn.Read(buffer)
			heard[i] = time.Now()
			if err != nil || !bytes.Contains(buffer[:n], []byte("event: ended")) {
				b.Errorf("%s: %v", buffer[:n], err)
			}
		})
	}
	return func() (last time.Time) {
		all.Wait()
		for _, at := range heard {
			if at.After(last) {
				last = at
			}
		}
		return last
	}
}

func closeStreams(streams []net.Conn) {
	for _, conn := range streams {
		conn.Close()
	}
}
