package test

import (
	"database/sql"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

const (
	sizingSessions = 100_000
	sizingRounds   = 3
	sizingRepeats  = 20 // of each request whose lines in the log are measured
)

// BenchmarkSizing measures what docs/sizing.md says: disk per session, memory, processor time per sign-in, and
// bytes of log per request. Linux only.
//
//	go test -run '^$' -bench Sizing ./test
func BenchmarkSizing(b *testing.B) {
	table := &results{b: b}
	s := &seeded{Machine: withDefaults(kit.NewSQLiteMachine(b)), tokens: make([]string, sizingSessions)}
	table.add("disk for 1,000,000 sessions, SQLite", "", 0, s.sqliteGrowth(b), "sqlite-1M-MB")
	table.add("disk for 1,000,000 sessions, PostgreSQL", "", 0, postgresGrowth(b), "postgres-1M-MB")

	s.Env = append(s.Env, "LOG_LEVEL=debug")
	s.server = s.Start()
	table.add("resident after the start", "", 0, residentMiB(b, s.server), "start-MiB")
	s.load(b, s.address(), whoamiPath)
	table.add("resident at most, whoami on 32 connections", "", 0, residentMiB(b, s.server), "whoami-MiB")
	times := alternate(sizingRounds,
		func() float64 { return perCall(b, os.Getpid(), func() float64 { return hashRate(b, s.hash) }) },
		func() float64 { return perCall(b, s.server.PID(), func() float64 { return s.signIns(b) }) })
	table.add("processor time of a bare Argon2id", "", 0, median(times[0]), "argon2id-ms")
	table.add("processor time of a sign-in", "", 0, median(times[1]), "sign-in-ms")
	table.add("resident at most, sign-ins on 8 connections", "", 0, residentMiB(b, s.server), "sign-ins-MiB")

	for _, request := range []struct {
		name, unit string
		send       func(i int)
	}{
		{"sign-in", "sign-in", func(i int) { s.server.SignIn(person(i)) }},
		{"sign-out", "sign-out", func(i int) { s.server.Logout(s.tokens[i]) }},
		{"whoami", "whoami", func(int) { s.server.Whoami(s.tokens[len(s.tokens)-1]) }},
	} {
		info, debug := s.logged(request.unit, request.send)
		table.add("log of a "+request.name, "", 0, info, request.unit+"-log-info-bytes")
		table.add("log of a "+request.name+", LOG_LEVEL=debug", "", 0, debug, request.unit+"-log-debug-bytes")
	}
	b.ReportMetric(0, "ns/op") // meaningless here
	fmt.Print(table.String())
}

// sqliteGrowth fills the database as sign-ins do, with its indexes in place, and returns the megabytes that a
// million sessions take.
func (s *seeded) sqliteGrowth(b *testing.B) float64 {
	b.Helper()
	s.Do(kit.GoodPassword, "user", "add", "first@example.com") // creates the tables
	size := func() int64 {
		info, err := os.Stat(s.DatabaseFile())
		require.NoError(b, err)
		return info.Size()
	}
	before := size()
	raw, err := sql.Open("sqlite", s.fillingDSN())
	require.NoError(b, err)
	raw.SetMaxOpenConns(1)
	s.insertSQLite(b, raw)
	_, err = raw.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
	require.NoError(b, err)
	require.NoError(b, raw.Close())
	return perMillion(size() - before)
}

// postgresGrowth is sqliteGrowth for PostgreSQL.
func postgresGrowth(b *testing.B) float64 {
	b.Helper()
	server := kit.StartPostgres(b)
	s := &seeded{Machine: kit.NewMachineAt(b, server.URL("postgres")), tokens: make([]string, sizingSessions)}
	s.Do(kit.GoodPassword, "user", "add", "first@example.com") // creates the tables
	size := func() int64 { return int64(server.QueryInt(b, "SELECT pg_database_size('postgres')::int")) }
	before := size()
	for batch := range s.batches(b) {
		copyTo(b, s.DatabaseURL, batch)
	}
	return perMillion(size() - before)
}

// perMillion returns the megabytes of a million sessions, of the bytes of those that were inserted.
func perMillion(bytes int64) float64 { return float64(bytes) / sizingSessions }

// perCall returns the milliseconds of processor time that a process spends on each of the calls that are made
// for a round, at the rate that is returned.
func perCall(b *testing.B, pid int, load func() (rate float64)) float64 {
	b.Helper()
	before := processorTime(b, pid)
	calls := load() * hashRound.Seconds() // nearly
	return float64((processorTime(b, pid) - before).Milliseconds()) / calls
}

// logged returns how many bytes the server logs each time, at level info and at level debug.
func (s *seeded) logged(name string, send func(i int)) (info, debug float64) {
	before := len(s.server.Log())
	for i := range sizingRepeats {
		send(i)
	}
	last := "/auth/after-" + name
	s.server.Get(last, "")
	var lines []string
	s.server.Await("the log", func() bool {
		text, _, complete := strings.Cut(s.server.Log()[before:], last)
		lines = strings.SplitAfter(text, "\n")
		return complete
	})
	for _, line := range lines[:len(lines)-1] {
		debug += float64(len(line)) / sizingRepeats
		if !strings.Contains(line, `"level":"DEBUG"`) {
			info += float64(len(line)) / sizingRepeats
		}
	}
	return info, debug
}
