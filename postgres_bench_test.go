package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dustin/go-humanize/english"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"latchkey/db/pgtest"
)

// postgresSessions is how many there are on PostgreSQL.
const postgresSessions = 100_000

// BenchmarkPostgres compares what instances of Latchkey on one PostgreSQL answer to what a bare gin
// handler does that reads one row by its key with pgx, over as many connections as one instance has,
// and answers the same bytes.
//
//	go test -run '^$' -bench Postgres .
func BenchmarkPostgres(b *testing.B) {
	table := &results{b: b}
	s, bare := newSeededPostgres(b, postgresSessions)
	for _, instances := range growthInstances {
		addresses := s.instances(instances)
		for _, endpoint := range []struct{ name, path, unit string }{
			{"whoami", whoamiPath, "whoami"}, {"verify", verifyPath, "verify"}, {"logout URL", logoutURLPath, "logout-url"},
		} {
			rates := inTurns(rounds,
				func() float64 { return s.load(b, bare, endpoint.path) },
				func() float64 { return s.loadOn(b, addresses, endpoint.path, connections, round) })
			table.add(endpoint.name+", "+english.Plural(instances, "instance", ""), "bare handler that reads a row", median(rates[1]),
				medianRatio(rates[1], rates[0]), fmt.Sprintf("%s-%d/bare", endpoint.unit, instances))
		}
	}
	b.ReportMetric(0, "ns/op") // means nothing here
	fmt.Print(table.String())
}

// newSeededPostgres returns a machine with that many sessions on a PostgreSQL of its own, one instance
// running, and the address of a bare handler that reads from the same server.
func newSeededPostgres(b *testing.B, sessions int) (s *seeded, bare string) {
	b.Helper()
	server := pgtest.Start(b)
	s = &seeded{machine: withoutSettings(newSQLiteMachine(b)), tokens: make([]string, sessions)}
	s.dsn = server.NewDatabase(b)
	s.env = []string{"DATABASE_URL=" + s.dsn}
	s.do(goodPassword, "user", "add", "first@example.com") // makes the tables
	for part := range s.parts(b) {
		copyTo(b, s.dsn, part)
	}
	// Nothing to be done while it is measured.
	execute(b, s.dsn, "VACUUM ANALYZE")

	beside := server.NewDatabase(b)
	execute(b, beside, "CREATE TABLE bare (token text PRIMARY KEY, row text NOT NULL)")
	rows := part{table: "bare", columns: []string{"token", "row"}}
	for _, token := range s.tokens {
		rows.rows = append(rows.rows, []any{token, strings.Repeat("x", 400)})
	}
	copyTo(b, beside, rows)
	execute(b, beside, "VACUUM ANALYZE")

	s.server = s.start()
	s.running = []string{s.address()}
	return s, startBare(b, s, bareDatabase+"="+beside)
}

// instances returns the addresses of that many, starting those that are missing.
func (s *seeded) instances(n int) []string {
	for len(s.running) < n {
		s.running = append(s.running, strings.TrimPrefix(s.start().url, "http://"))
	}
	return slices.Clone(s.running[:n])
}

func copyTo(b *testing.B, dsn string, part part) {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), dsn)
	require.NoError(b, err)
	_, err = conn.CopyFrom(b.Context(), pgx.Identifier{part.table}, part.columns, pgx.CopyFromRows(part.rows))
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
