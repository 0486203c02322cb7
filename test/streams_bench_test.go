package test

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
	"latchkey/test/kit"
)

const (
	manyStreams = 10_000
	ownStreams  = 1_000 // of one person, each of another session
	openers     = 64
	endRounds   = 7
)

// BenchmarkStreams measures the memory that open event streams take, and the time from "end all others" to
// the event on the last of a person's streams.
//
//	go test -run '^$' -bench Streams ./test
func BenchmarkStreams(b *testing.B) {
	raiseFileLimit(b, manyStreams+ownStreams+200)
	table := &results{b: b}
	m := newSeeded(b, manyStreams)
	server := m.Start()
	m.server = server
	warm := openStreams(b, m.address(), m.tokens[:openers])
	closeStreams(warm)

	before := statusKiB(b, server, "VmRSS:")
	streams := openStreams(b, m.address(), m.tokens)
	time.Sleep(3 * time.Second) // for the garbage of opening them to be collected
	after := statusKiB(b, server, "VmRSS:")
	table.add(fmt.Sprintf("memory of each of %d streams", manyStreams), "", 0, (after-before)/manyStreams, "resident/stream-KiB")

	var times []float64
	address := "somebody@example.com"
	m.Do(kit.GoodPassword, "user", "add", address)
	for range endRounds {
		tokens := m.newSessions(b, address, ownStreams+1)
		own := openStreams(b, m.address(), tokens[1:])
		heard := awaitEnds(b, own)
		begin := time.Now()
		ended := server.Send(b.Context(), http.MethodDelete, "/auth/sessions", tokens[0], nil)
		answered := time.Since(begin)
		require.Equal(b, http.StatusOK, ended.Status, ended.Body)
		last := heard().Sub(begin)
		times = append(times, float64(last.Microseconds())/1000)
		b.Logf("answered after %s, the last of %d heard after %s", answered, ownStreams, last)
		closeStreams(own)
	}
	table.add(fmt.Sprintf("from the request that ends %d sessions to the last of their streams", ownStreams), "", 0, median(times), "last-stream-ms")
	table.add("resident at most", "", 0, residentMiB(b, server), "resident-MiB")
	closeStreams(streams)

	b.ReportMetric(0, "ns/op") // meaningless here
	fmt.Print(table.String())
}

// raiseFileLimit raises the number of files that this process, and the server that it starts, may have open
// to the hard limit.
func raiseFileLimit(b *testing.B, n uint64) {
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
func statusKiB(b *testing.B, s *kit.Server, name string) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID()))
	if err != nil {
		b.Skip("memory can't be measured here: there is no /proc")
	}
	_, rest, _ := strings.Cut(string(status), name)
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	require.NoError(b, err)
	return float64(kib)
}

// newSessions starts many sessions of a person, without hashing passwords.
func (s *seeded) newSessions(b *testing.B, address string, n int) []string {
	b.Helper()
	database, err := db.Open(b.Context(), "sqlite:"+s.DatabaseFile())
	require.NoError(b, err)
	defer func() { require.NoError(b, database.Close()) }()
	store := models.New(database, time.Now)
	identity, err := store.Identities.ByEmail(b.Context(), address)
	require.NoError(b, err)
	passwords, err := store.Credentials.Of(b.Context(), identity.ID, models.MethodPassword)
	require.NoError(b, err)
	proof := models.Proof{Method: models.MethodPassword, AAL: models.AAL1, Credential: passwords[0].ID, Version: passwords[0].Version, At: time.Now()}
	tokens := make([]string, n)
	for i := range tokens {
		session, err := store.Sessions.Start(b.Context(), models.SignIn{Identity: identity, Proof: proof, Lifetime: time.Hour, Idle: time.Hour})
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
	if err := conn.SetReadDeadline(time.Now().Add(kit.Timeout)); err != nil {
		return nil, err
	}
	_, err = kit.ReadUntil(bufio.NewReaderSize(conn, 1024), "event: session")
	return conn, err
}

// awaitEnds waits for the end of the session on every stream. What it returns waits for all of them, and
// returns when the last one got it.
func awaitEnds(b *testing.B, streams []net.Conn) func() time.Time {
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
