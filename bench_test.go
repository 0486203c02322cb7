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
	"iter"
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
	server  *server
	running []string // addresses of all instances, if there are several
	barePID int      // of the bare handler
	tokens  []string // of all sessions
	hash    string   // of everybody's password
}

func (s *seeded) address() string { return strings.TrimPrefix(s.server.url, "http://") }

// withoutSettings has a machine hash as passwords are hashed by default.
func withoutSettings(m *machine) *machine {
	m.env = nil
	return m
}

// newSeeded returns a machine with SQLite and that many sessions.
func newSeeded(b *testing.B, sessions int) *seeded {
	b.Helper()
	s := &seeded{machine: withoutSettings(newSQLiteMachine(b)), tokens: make([]string, sessions)}
	s.do(goodPassword, "user", "add", "first@example.com") // makes the tables
	s.fillSQLite(b)
	return s
}

// part is rows of one table.
type part struct {
	table   string
	columns []string
	rows    [][]any
}

// partSize is for how many sessions there are rows in memory at a time.
const partSize = 10_000

// parts makes the rows: ten sessions a person, all in use just now.
func (s *seeded) parts(b *testing.B) iter.Seq[part] {
	b.Helper()
	hash, err := password.NewHasher(password.Params{}).Hash(b.Context(), goodPassword)
	require.NoError(b, err)
	s.hash = hash
	return func(yield func(part) bool) {
		now := time.Now().UTC().Truncate(time.Microsecond)
		later := now.Add(time.Hour)
		var owner uuid.UUID
		for begin := 0; begin < len(s.tokens); begin += partSize {
			identities := part{table: "identities", columns: strings.Fields("id email name groups active state_changed_at created_at updated_at")}
			credentials := part{table: "credentials", columns: strings.Fields("identity_id method hash created_at updated_at")}
			sessions := part{table: "sessions", columns: strings.Fields("id token_hash identity_id authenticated_at confirmed_at last_seen_at " +
				"expires_at idle_seconds latest_expires_at remember method ip_address user_agent end_reason")}
			for i := begin; i < min(begin+partSize, len(s.tokens)); i++ {
				if i%10 == 0 {
					owner = uuid.Must(uuid.NewV4())
					identities.rows = append(identities.rows, []any{owner, person(i / 10), "", "", true, now, now, now})
					credentials.rows = append(credentials.rows, []any{owner, models.MethodPassword, s.hash, now, now})
				}
				s.tokens[i] = rand.Text()
				hash := sha256.Sum256([]byte(s.tokens[i]))
				sessions.rows = append(sessions.rows, []any{uuid.Must(uuid.NewV4()), hash[:], owner, now, now, now, later, int64(3600), later, false,
					models.MethodPassword, "203.0.113.7", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", ""})
			}
			if !yield(identities) || !yield(credentials) || !yield(sessions) {
				return
			}
		}
	}
}

// fillSQLite inserts many rows at a time, and makes the indexes afterwards.
func (s *seeded) fillSQLite(b *testing.B) {
	b.Helper()
	raw, err := sql.Open("sqlite", "file:"+s.database()+"?_time_integer_format=unix_micro&_pragma=synchronous(0)&_pragma=cache_size(-500000)")
	require.NoError(b, err)
	raw.SetMaxOpenConns(1)
	defer func() { require.NoError(b, raw.Close()) }()
	exec := func(statement string) {
		_, err := raw.Exec(statement)
		require.NoError(b, err)
	}
	indexes := map[string]string{}
	found, err := raw.Query("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'sessions' AND sql IS NOT NULL")
	require.NoError(b, err)
	for found.Next() {
		var name, statement string
		require.NoError(b, found.Scan(&name, &statement))
		indexes[name] = statement
	}
	require.NoError(b, errors.Join(found.Err(), found.Close()))
	for name := range indexes {
		exec("DROP INDEX " + name)
	}

	tx, err := raw.Begin()
	require.NoError(b, err)
	prepared := map[string]*sql.Stmt{}
	for part := range s.parts(b) {
		for rows := range slices.Chunk(part.rows, 500) {
			row := "(?" + strings.Repeat(", ?", len(part.columns)-1) + ")"
			insert := "INSERT INTO " + part.table + " (" + strings.Join(part.columns, ", ") + ") VALUES " + row + strings.Repeat(", "+row, len(rows)-1)
			if prepared[insert] == nil {
				prepared[insert], err = tx.Prepare(insert)
				require.NoError(b, err)
			}
			_, err := prepared[insert].Exec(slices.Concat(rows...)...)
			require.NoError(b, err)
		}
	}
	require.NoError(b, tx.Commit())
	for _, statement := range indexes {
		exec(statement)
	}
	exec("PRAGMA wal_checkpoint(TRUNCATE)")
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
	return s.loadOn(b, []string{address}, path, connections, round)
}

// loadOn spreads the connections over all addresses.
func (s *seeded) loadOn(b *testing.B, addresses []string, path string, connections int, round time.Duration) float64 {
	b.Helper()
	return answers(b, addresses, connections, round, func(int) func() []byte {
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
	return answers(b, []string{s.address()}, hashConnections, hashRound, func(i int) func() []byte {
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
func answers(b *testing.B, addresses []string, connections int, round time.Duration, requests func(connection int) func() []byte) float64 {
	b.Helper()
	var done atomic.Int64
	var all sync.WaitGroup
	begin := time.Now()
	for i := range connections {
		all.Go(func() {
			conn, err := net.Dial("tcp", addresses[i%len(addresses)])
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
