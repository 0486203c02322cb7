package test

import (
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/stretchr/testify/require"

	"latchkey/app/password"
	"latchkey/models"
	"latchkey/test/kit"
)

// seeded is a machine with many sessions in its database.
type seeded struct {
	*kit.Machine
	server  *kit.Server
	running []string // addresses of all instances, if there are several
	barePID int      // of the bare handler
	tokens  []string // of all sessions
	hash    string   // of everybody's password
}

func (s *seeded) address() string { return strings.TrimPrefix(s.server.URL, "http://") }

// withDefaults makes a machine use the default settings, those of password hashes too.
func withDefaults(m *kit.Machine) *kit.Machine {
	m.Env = nil
	return m
}

// newSeeded returns a machine with that many sessions in SQLite.
func newSeeded(b *testing.B, sessions int) *seeded {
	b.Helper()
	s := &seeded{Machine: withDefaults(kit.NewSQLiteMachine(b)), tokens: make([]string, sessions)}
	s.Do(kit.GoodPassword, "user", "add", "first@example.com") // creates the tables
	s.fillSQLite(b)
	return s
}

// batch is rows of one table.
type batch struct {
	table   string
	columns []string
	rows    [][]any
}

// batchSize is the number of sessions whose rows are in memory at a time.
const batchSize = 10_000

// batches makes the rows: ten sessions a person, all just used.
func (s *seeded) batches(b *testing.B) iter.Seq[batch] {
	b.Helper()
	hash, err := password.NewHasher(password.Params{}).Hash(b.Context(), kit.GoodPassword)
	require.NoError(b, err)
	s.hash = hash
	return func(yield func(batch) bool) {
		now := time.Now().UTC().Truncate(time.Microsecond)
		later := now.Add(time.Hour)
		var owner uuid.UUID
		for begin := 0; begin < len(s.tokens); begin += batchSize {
			identities := batch{table: "identities", columns: strings.Fields("id email name groups active state_changed_at created_at updated_at")}
			addresses := batch{table: "addresses", columns: strings.Fields("id identity_id value is_primary created_at")}
			credentials := batch{table: "credentials", columns: strings.Fields("identity_id method hash created_at updated_at")}
			sessions := batch{table: "sessions", columns: strings.Fields("id token_hash identity_id authenticated_at confirmed_at last_seen_at " +
				"expires_at idle_seconds latest_expires_at remember method ip_address user_agent end_reason")}
			for i := begin; i < min(begin+batchSize, len(s.tokens)); i++ {
				if i%10 == 0 {
					owner = uuid.Must(uuid.NewV4())
					identities.rows = append(identities.rows, []any{owner, person(i / 10), "", "", true, now, now, now})
					addresses.rows = append(addresses.rows, []any{uuid.Must(uuid.NewV4()), owner, person(i / 10), true, now})
					credentials.rows = append(credentials.rows, []any{owner, models.MethodPassword, s.hash, now, now})
				}
				s.tokens[i] = rand.Text()
				hash := sha256.Sum256([]byte(s.tokens[i]))
				sessions.rows = append(sessions.rows, []any{uuid.Must(uuid.NewV4()), hash[:], owner, now, now, now, later, int64(3600), later, false,
					models.MethodPassword, "203.0.113.7", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", ""})
			}
			if !yield(identities) || !yield(addresses) || !yield(credentials) || !yield(sessions) {
				return
			}
		}
	}
}

// fillSQLite inserts many rows at a time, and recreates the indexes afterwards.
func (s *seeded) fillSQLite(b *testing.B) {
	b.Helper()
	raw, err := sql.Open("sqlite", s.fillingDSN())
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
	s.insertSQLite(b, raw)
	for _, statement := range indexes {
		exec(statement)
	}
	exec("PRAGMA wal_checkpoint(TRUNCATE)")
}

// fillingDSN is the file for fast inserts.
func (s *seeded) fillingDSN() string {
	return "file:" + s.DatabaseFile() + "?_time_integer_format=unix_micro&_pragma=synchronous(0)&_pragma=cache_size(-500000)"
}

// insertSQLite inserts the rows in one transaction.
func (s *seeded) insertSQLite(b *testing.B, raw *sql.DB) {
	b.Helper()
	tx, err := raw.Begin()
	require.NoError(b, err)
	prepared := map[string]*sql.Stmt{}
	for batch := range s.batches(b) {
		for rows := range slices.Chunk(batch.rows, 500) {
			row := "(?" + strings.Repeat(", ?", len(batch.columns)-1) + ")"
			insert := "INSERT INTO " + batch.table + " (" + strings.Join(batch.columns, ", ") + ") VALUES " + row + strings.Repeat(", "+row, len(rows)-1)
			if prepared[insert] == nil {
				prepared[insert], err = tx.Prepare(insert)
				require.NoError(b, err)
			}
			_, err := prepared[insert].Exec(slices.Concat(rows...)...)
			require.NoError(b, err)
		}
	}
	require.NoError(b, tx.Commit())
}
