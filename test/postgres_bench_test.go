package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dustin/go-humanize/english"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

// postgresSessions is the number of sessions in PostgreSQL.
const postgresSessions = 100_000

// BenchmarkPostgres compares instances of Latchkey on one PostgreSQL with a bare gin handler that answers the
// same bytes after reading one row by its key with pgx, over as many connections as one instance has.
//
//	go test -run '^$' -bench Postgres ./test
func BenchmarkPostgres(b *testing.B) {
	table := &results{b: b}
	s, bare := newSeededPostgres(b, postgresSessions)
	for _, instances := range growthInstances {
		addresses := s.instances(instances)
		for _, endpoint := range []struct{ name, path, unit string }{
			{"whoami", whoamiPath, "whoami"}, {"verify", verifyPath, "verify"}, {"logout URL", logoutURLPath, "logout-url"},
		} {
			rates := alternate(*rounds,
				func() float64 { return s.load(b, bare, endpoint.path) },
				func() float64 { return s.loadOn(b, addresses, endpoint.path, connections, round) })
			table.add(endpoint.name+", "+english.Plural(instances, "instance", ""), "bare handler that reads a row", median(rates[1]),
				medianRatio(rates[1], rates[0]), fmt.Sprintf("%s-%d/bare", endpoint.unit, instances))
		}
	}
	b.ReportMetric(0, "ns/op") // meaningless here
	fmt.Print(table.String())
}

// newSeededPostgres returns a machine with that many sessions on a PostgreSQL of its own, one instance
// running, and the address of a bare handler that reads from the same server.
func newSeededPostgres(b *testing.B, sessions int) (s *seeded, bare string) {
	b.Helper()
	server := kit.StartPostgres(b)
	s = &seeded{Machine: withDefaults(kit.NewSQLiteMachine(b)), tokens: make([]string, sessions)}
	s.DatabaseURL = server.NewDatabase(b)
	s.Env = []string{"DATABASE_URL=" + s.DatabaseURL}
	s.Do(kit.GoodPassword, "user", "add", "first@example.com") // creates the tables
	for batch := range s.batches(b) {
		copyTo(b, s.DatabaseURL, batch)
	}
	// Leave no maintenance for when it is measured.
	execute(b, s.DatabaseURL, "VACUUM ANALYZE")

	beside := server.NewDatabase(b)
	execute(b, beside, "CREATE TABLE bare (token text PRIMARY KEY, row text NOT NULL)")
	rows := batch{table: "bare", columns: []string{"token", "row"}}
	for _, token := range s.tokens {
		rows.rows = append(rows.rows, []any{token, strings.Repeat("x", 400)})
	}
	copyTo(b, beside, rows)
	execute(b, beside, "VACUUM ANALYZE")

	s.server = s.Start()
	s.running = []string{s.address()}
	return s, startBare(b, s, bareDatabase+"="+beside)
}

// instances returns the addresses of n instances, starting those that are missing.
func (s *seeded) instances(n int) []string {
	for len(s.running) < n {
		s.running = append(s.running, strings.TrimPrefix(s.Start().URL, "http://"))
	}
	return slices.Clone(s.running[:n])
}

func copyTo(b *testing.B, dsn string, batch batch) {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), dsn)
	require.NoError(b, err)
	_, err = conn.CopyFrom(b.Context(), pgx.Identifier{batch.table}, batch.columns, pgx.CopyFromRows(batch.rows))
	require.NoError(b, err)
	require.NoError(b, conn.Close(b.Context()))
}

func execute(b *testing.B, dsn, statement string) {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), dsn)
	require.NoError(b, err)
	_, err = conn.Exec(b.Context(), statement)
	require.NoError(b, err)
	require.NoError(b, conn.Close(b.Context()))
}
