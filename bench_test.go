package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/alexedwards/argon2id"
	"github.com/gofrs/uuid/v5"
	"github.com/stretchr/testify/require"

	"latchkey/app/password"
	"latchkey/models"
)

var million = flag.Bool("million", false, "benchmark with 1,000,000 sessions too; filling the database takes a while")

const (
	rounds      = 7
	round       = time.Second
	connections = 32
	// Hashing is slow: sign-ins need longer rounds, and fewer connections so as not to be sent away.
	hashRound       = 2 * time.Second
	hashConnections = 8

	whoamiPath    = "/auth/sessions/whoami"
	logoutURLPath = "/auth/self-service/logout/browser"
	verifyPath    = "/auth/verify"
)

// BenchmarkSpeed compares, in one run and on one machine, what Latchkey adds to the least that
// could answer: a bare gin handler with the same bytes, bare Argon2id. All of them are processes
// of their own, asked over loopback in turns; a ratio is the median of its rounds'.
//
//	go test -run '^$' -bench Speed . [-million]
func BenchmarkSpeed(b *testing.B) {
	table := &results{b: b}

	first := readyTime(b, func() *machine { return withoutSettings(newSQLiteMachine(b)) })
	table.add("first start to ready", "", 0, first, "first-ready-ms")

	small := newSeeded(b, 100_000)
	again := readyTime(b, func() *machine { return small.machine })
	table.add("start to ready, 100,000 sessions", "", 0, again, "ready-ms")
	small.server = small.machine.start()

	bare := startBare(b, small)
	for _, endpoint := range []struct{ name, path, unit string }{
		{"whoami", whoamiPath, "whoami/bare"}, {"verify", verifyPath, "verify/bare"}, {"logout URL", logoutURLPath, "logout-url/bare"},
	} {
		rates := inTurns(rounds,
			func() float64 { return small.load(b, bare, endpoint.path) },
			func() float64 { return small.load(b, small.address(), endpoint.path) })
		table.add(endpoint.name+", 100,000 sessions", "bare gin handler", median(rates[1]), medianRatio(rates[1], rates[0]), endpoint.unit)
	}
	table.add("resident at most until here", "", 0, small.server.residentMiB(b), "resident-MiB")

	if *million {
		large := newSeeded(b, 1_000_000)
		large.server = large.machine.start()
		for _, endpoint := range []struct{ name, path, unit string }{
			{"whoami", whoamiPath, "whoami-1M/100k"}, {"verify", verifyPath, "verify-1M/100k"}, {"logout URL", logoutURLPath, "logout-url-1M/100k"},
		} {
			rates := inTurns(rounds,
				func() float64 { return small.load(b, small.address(), endpoint.path) },
				func() float64 { return large.load(b, large.address(), endpoint.path) })
			table.add(endpoint.name+", 1,000,000 sessions", "100,000 sessions", median(rates[1]), medianRatio(rates[1], rates[0]), endpoint.unit)
		}
		table.add("resident at most, 1,000,000 sessions", "", 0, large.server.residentMiB(b), "resident-1M-MiB")
	}

	rates := inTurns(rounds,
		func() float64 { return hashes(b, small.hash) },
		func() float64 { return small.signIns(b) })
	table.add("sign-in", "bare Argon2id", median(rates[1]), medianRatio(rates[1], rates[0]), "sign-in/argon2id")

	b.ReportMetric(0, "ns/op") // means nothing here
	fmt.Print(table.String())  // Log would cut it short
}

// results is the table at the end, and the metrics of the benchmark.
type results struct {
	b    *testing.B
	rows bytes.Buffer
}

func (r *results) add(what, against string, perSecond, value float64, unit string) {
	r.b.ReportMetric(value, unit)
	if against == "" {
		fmt.Fprintf(&r.rows, "%s\t\t%.0f %s\t\n", what, value, unit[strings.LastIndex(unit, "-")+1:])
		return
	}
	fmt.Fprintf(&r.rows, "%s\t%.0f a second\t%.2f of\t%s\n", what, perSecond, value, against)
}

func (r *results) String() string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s\n", r.rows.String())
	if err := w.Flush(); err != nil {
		r.b.Error(err)
	}
	return out.String()
}

// inTurns calls each function n times, one after the other, and returns what each returned.
func inTurns(n int, measure ...func() float64) [][]float64 {
	all := make([][]float64, len(measure))
	for range n {
		for i := range measure {
			all[i] = append(all[i], measure[i]())
		}
	}
	return all
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

func medianRatio(of, to []float64) float64 {
	ratios := make([]float64, len(of))
	for i := range of {
		ratios[i] = of[i] / to[i]
	}
	return median(ratios)
}

// seeded is a machine whose database is full.
type seeded struct {
	*machine
	server *server
	tokens []string // of all sessions
	hash   string   // of everybody's password
}

func (s *seeded) address() string { return strings.TrimPrefix(s.server.url, "http://") }

// withoutSettings has a machine hash as passwords are hashed by default.
func withoutSettings(m *machine) *machine {
	m.env = nil
	return m
}

// newSeeded fills the tables directly: ten sessions a person, all in use just now.
func newSeeded(b *testing.B, sessions int) *seeded {
	b.Helper()
	s := &seeded{machine: withoutSettings(newSQLiteMachine(b)), tokens: make([]string, sessions)}
	var err error
	s.hash, err = password.NewHasher(password.Params{}).Hash(b.Context(), goodPassword)
	require.NoError(b, err)
	s.do(goodPassword, "user", "add", "first@example.com") // makes the tables
	raw, err := sql.Open("sqlite", "file:"+s.database()+"?_time_integer_format=unix_micro&_pragma=synchronous(0)&_pragma=cache_size(-500000)")
	require.NoError(b, err)
	defer func() { require.NoError(b, raw.Close()) }()
	tx, err := raw.Begin()
	require.NoError(b, err)
	insert := func(table, columns string) func(...any) {
		statement, err := tx.Prepare("INSERT INTO " + table + " (" + columns + ") VALUES (?" + strings.Repeat(", ?", strings.Count(columns, ",")) + ")")
		require.NoError(b, err)
		return func(values ...any) {
			_, err := statement.Exec(values...)
			require.NoError(b, err)
		}
	}
	identity := insert("identities", "id, email, name, groups, active, state_changed_at, created_at, updated_at")
	credential := insert("credentials", "identity_id, method, hash, created_at, updated_at")
	session := insert("sessions", "id, token_hash, identity_id, authenticated_at, confirmed_at, last_seen_at, expires_at, idle_seconds, "+
		"latest_expires_at, remember, method, ip_address, user_agent, end_reason")
	now := time.Now().UTC()
	var owner uuid.UUID
	for i := range s.tokens {
		if i%10 == 0 {
			owner = uuid.Must(uuid.NewV4())
			identity(owner, person(i/10), "", "", true, now, now, now)
			credential(owner, models.MethodPassword, s.hash, now, now)
		}
		s.tokens[i] = rand.Text()
		hash := sha256.Sum256([]byte(s.tokens[i]))
		session(uuid.Must(uuid.NewV4()), hash[:], owner, now, now, now, now.Add(time.Hour), 3600, now.Add(time.Hour), false, models.MethodPassword,
			"203.0.113.7", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "")
	}
	require.NoError(b, tx.Commit())
	_, err = raw.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
	require.NoError(b, err)
	return s
}

// readyTime returns the median time from a process's start to its first 200 of health/ready, in milliseconds.
func readyTime(b *testing.B, where func() *machine) float64 {
	b.Helper()
	var times []float64
	for range rounds {
		m := where()
		listener, err := net.Listen("tcp", "localhost:0")
		require.NoError(b, err)
		address := listener.Addr().String()
		require.NoError(b, listener.Close())
		cmd := m.command("--listen=" + address)
		begin := time.Now()
		require.NoError(b, cmd.Start())
		for http.StatusOK != status("http://"+address+"/auth/health/ready") {
			require.Less(b, time.Since(begin), patience)
			time.Sleep(200 * time.Microsecond)
		}
		times = append(times, float64(time.Since(begin).Microseconds())/1000)
		require.NoError(b, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(b, cmd.Wait())
	}
	return median(times)
}

func status(url string) int {
	res, err := http.Get(url)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	return res.StatusCode
}

// residentMiB returns the most memory that the process has had resident, in MiB.
func (s *server) residentMiB(b *testing.B) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if errors.Is(err, os.ErrNotExist) {
		return 0 // not Linux
	}
	require.NoError(b, err)
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	require.NoError(b, err)
	return float64(kib) / 1024
}

// load asks for a path with the cookies of random sessions and returns the answers a second.
func (s *seeded) load(b *testing.B, address, path string) float64 {
	b.Helper()
	return s.loadOn(b, address, path, connections, round)
}

func (s *seeded) loadOn(b *testing.B, address, path string, connections int, round time.Duration) float64 {
	b.Helper()
	return answers(b, address, connections, round, func(int) func() []byte {
		head := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nCookie: latchkey_session=", path)
		request := []byte(head + s.tokens[0] + "\r\n\r\n")
		return func() []byte {
			copy(request[len(head):], s.tokens[mathrand.IntN(len(s.tokens))])
			return request
		}
	})
}

// signIns has people sign in, one on each connection, and returns the sign-ins a second.
func (s *seeded) signIns(b *testing.B) float64 {
	b.Helper()
	action := strings.TrimPrefix(s.server.get("/auth/self-service/login/api", "").text("ui", "action"), s.server.url)
	return answers(b, s.address(), hashConnections, hashRound, func(i int) func() []byte {
		body := fmt.Sprintf(`{"method":"password","identifier":%q,"password":%q}`, person(i), goodPassword)
		request := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n"+
			"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", action, len(body), body)
		return func() []byte { return request }
	})
}

// hashes returns how many passwords a second all cores verify that do nothing else.
func hashes(b *testing.B, hash string) float64 {
	b.Helper()
	var done atomic.Int64
	var all sync.WaitGroup
	begin := time.Now()
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for time.Since(begin) < hashRound {
				if ok, err := argon2id.ComparePasswordAndHash(goodPassword, hash); err != nil || !ok {
					b.Error(ok, err)
				}
				done.Add(1)
			}
		})
	}
	all.Wait()
	return float64(done.Load()) / time.Since(begin).Seconds()
}

// answers sends requests for a round, one at a time on each of many kept connections, and returns
// how many were answered with 200 a second. It does as little as possible itself, since it runs on
// the cores of whom it measures.
func answers(b *testing.B, address string, connections int, round time.Duration, requests func(connection int) func() []byte) float64 {
	b.Helper()
	var done atomic.Int64
	var all sync.WaitGroup
	begin := time.Now()
	for i := range connections {
		all.Go(func() {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			next, in := requests(i), bufio.NewReader(conn)
			for time.Since(begin) < round {
				if _, err = conn.Write(next()); err == nil {
					err = readOK(in)
				}
				if err != nil {
					b.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	all.Wait()
	return float64(done.Load()) / time.Since(begin).Seconds()
}

// readOK reads one answer, which must be a 200 of known length.
func readOK(in *bufio.Reader) error {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("answered %s", line)
	}
	length := 0
	for len(line) > len("\r\n") {
		if line, err = in.ReadSlice('\n'); err != nil {
			return err
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
	}
	_, err = in.Discard(length)
	return err
}
