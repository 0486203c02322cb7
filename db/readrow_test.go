package db_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"latchkey/db"
	"latchkey/test/kit"
)

const rowQuery = "SELECT text, number FROM rows WHERE key = $1"

// rows is a table beside Latchkey's, of which single rows are read.
type rows struct {
	*db.DB
	t    testing.TB
	path string // on SQLite
}

func newRows(t testing.TB) rows {
	path := filepath.Join(t.TempDir(), "test.db")
	database, err := db.Open(t.Context(), kit.DatabaseURL(t, path))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, database.Close()) })
	r := rows{database, t, path}
	blob := "BLOB"
	if kit.UsesPostgres() {
		blob = "BYTEA"
	}
	r.exec("CREATE TABLE rows (key " + blob + " PRIMARY KEY, text TEXT NOT NULL, number BIGINT NOT NULL)")
	return r
}

func newSQLiteRows(t testing.TB) rows {
	if kit.UsesPostgres() {
		t.Skip("of SQLite alone")
	}
	return newRows(t)
}

func (r rows) exec(statement string, values ...any) {
	r.t.Helper()
	_, err := r.Pool().ExecContext(r.t.Context(), statement, values...)
	require.NoError(r.t, err)
}

func (r rows) get(n byte) (text string, number int64, found bool) {
	r.t.Helper()
	err := r.ReadRow(r.t.Context(), rowQuery, key(n), &text, &number)
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return "", 0, false
	}
	require.NoError(r.t, err)
	return text, number, true
}

// withoutLog takes the write-ahead log from the file, so that a writer keeps readers out. It returns a
// connection that another process might have.
func (r rows) withoutLog() *sql.DB {
	r.Pool().SetMaxIdleConns(0)
	other, err := sql.Open("sqlite", "file:"+r.path)
	require.NoError(r.t, err)
	r.t.Cleanup(func() { require.NoError(r.t, other.Close()) })
	other.SetMaxOpenConns(1)
	var mode string
	require.NoError(r.t, other.QueryRowContext(r.t.Context(), "PRAGMA journal_mode = DELETE").Scan(&mode))
	require.Equal(r.t, "delete", mode)
	return other
}

func key(n byte) []byte { return []byte{n, 31: 0} }

func TestRowIsWhatIsCommitted(t *testing.T) {
	r := newRows(t)
	_, _, found := r.get(1)
	require.False(t, found)

	r.exec("INSERT INTO rows VALUES ($1, 'é', -7)", key(1))
	text, number, found := r.get(1)
	require.True(t, found)
	require.Equal(t, "é", text)
	require.EqualValues(t, -7, number)

	tx, err := r.Pool().BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(t.Context(), "UPDATE rows SET number = 8")
	require.NoError(t, err)
	_, number, _ = r.get(1)
	require.EqualValues(t, -7, number, "not committed yet")
	require.NoError(t, tx.Commit())
	_, number, _ = r.get(1)
	require.EqualValues(t, 8, number)

	r.exec("DELETE FROM rows")
	_, _, found = r.get(1)
	require.False(t, found)
}

func TestRowOfATableThatWasMadeAnew(t *testing.T) {
	r := newSQLiteRows(t)
	r.get(1)
	r.exec("DROP TABLE rows")
	r.exec("CREATE TABLE rows (number INTEGER, key BLOB, text TEXT)")
	r.exec("INSERT INTO rows VALUES (1, ?, 'of another table')", key(1))
	text, _, _ := r.get(1)
	require.Equal(t, "of another table", text)
}

func TestRowOfEachType(t *testing.T) {
	r := newRows(t)
	id, at := uuid.Must(uuid.NewV4()), time.Date(2026, 11, 25, 9, 0, 0, 123456000, time.UTC)
	require.NoError(t, r.Query(t.Context()).Exec("DROP TABLE rows").Error)
	type row struct {
		Key    []byte    `gorm:"primaryKey"`
		ID     uuid.UUID `gorm:"type:uuid"`
		Number int64
		Yes    bool
		At     time.Time
		Ended  *time.Time
		Text   string
	}
	require.NoError(t, r.Query(t.Context()).Migrator().CreateTable(&row{}))
	all := []row{{key(1), id, 1 << 60, true, at, &at, "text"}, {key(2), uuid.Nil, -1, false, time.Unix(0, 0).UTC(), nil, ""}}
	require.NoError(t, r.Query(t.Context()).Create(&all).Error)

	for _, want := range all {
		got := row{Key: want.Key, Ended: &time.Time{}}
		err := r.ReadRow(t.Context(), "SELECT id, number, yes, at, ended, text FROM rows WHERE key = $1", want.Key,
			&got.ID, &got.Number, &got.Yes, &got.At, &got.Ended, &got.Text)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

// A read that went on would keep what was written since from being moved to the file, for ever.
func TestNoReadGoesOn(t *testing.T) {
	r := newSQLiteRows(t)
	r.exec("INSERT INTO rows VALUES (?, 'a', 1)", key(1))
	r.get(1)
	r.get(2)
	err := r.ReadRow(t.Context(), rowQuery, key(1), new(int), new(int64))
	require.EqualError(t, err, "read column 0: *int can't be read")

	var busy, log, moved int
	require.NoError(t, r.Pool().QueryRowContext(t.Context(), "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &log, &moved))
	require.Zero(t, busy)
	info, err := os.Stat(r.path + "-wal")
	require.NoError(t, err)
	require.Zero(t, info.Size())
}

func TestRowsAreWholeWhileOthersWrite(t *testing.T) {
	r := newRows(t)
	r.exec("INSERT INTO rows VALUES ($1, 'x', 1)", key(1))
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for ctx.Err() == nil {
				text, number, found := r.get(1)
				if !found || int64(len(text)) != number {
					t.Errorf("%d x, %d said", len(text), number)
				}
			}
		})
	}
	for n := range 300 {
		r.exec("UPDATE rows SET text = $1, number = $2", strings.Repeat("x", n*20), n*20)
		if _, number, _ := r.get(1); number != int64(n*20) {
			t.Errorf("%d instead of %d, which was committed", number, n*20)
		}
	}
	stop()
	running.Wait()
}

func TestFileCutShortIsAnErrorAndNoCrash(t *testing.T) {
	r := newSQLiteRows(t)
	for n := range byte(100) {
		r.exec("INSERT INTO rows VALUES (?, ?, 1)", key(n), strings.Repeat("x", 3000))
	}
	r.exec("PRAGMA wal_checkpoint(TRUNCATE)")
	r.get(99)

	require.NoError(t, os.Truncate(r.path, 4096))

	var failed error
	for n := range byte(100) {
		err := r.ReadRow(t.Context(), rowQuery, key(n), new(string), new(int64))
		failed = errors.Join(failed, err)
	}
	require.Error(t, failed)
	require.True(t, db.Unavailable(failed), "%v", failed)
}

func TestErrorsOfReadRow(t *testing.T) {
	r := newSQLiteRows(t)
	r.exec("INSERT INTO rows VALUES (?, 'a', 1)", key(1))
	err := r.ReadRow(t.Context(), "SELECT text FROM nowhere WHERE key = ?", key(1), new(string))
	require.ErrorContains(t, err, "no such table: nowhere")
	require.False(t, db.Unavailable(err))
	err = r.ReadRow(t.Context(), "DELETE FROM rows WHERE key = ?", key(1))
	require.ErrorContains(t, err, "readonly")
	require.Panics(t, func() {
		_ = r.ReadRow(t.Context(), rowQuery, key(1), (*string)(nil)) // not a fault of memory
	})
	_, _, found := r.get(1)
	require.True(t, found, "it goes on")

	require.NoError(t, r.Close())
	err = r.ReadRow(t.Context(), rowQuery, key(1))
	require.EqualError(t, err, "the database is closed")
}

// Another process may lock the file, such as the sqlite3 shell.
func TestReadRowWaitsForALock(t *testing.T) {
	for _, opened := range []bool{false, true} {
		t.Run(fmt.Sprintf("connected %t", opened), func(t *testing.T) {
			r := newSQLiteRows(t)
			r.exec("INSERT INTO rows VALUES (?, 'a', 1)", key(1))
			other := r.withoutLog()
			if opened {
				r.get(1)
			}
			_, err := other.ExecContext(t.Context(), "BEGIN EXCLUSIVE")
			require.NoError(t, err)

			ctx, cancel := context.WithCancel(t.Context())
			const readers = 20 // more than there are connections
			done := make(chan error, readers)
			for range readers {
				go func() { done <- r.ReadRow(ctx, rowQuery, key(1), new(string), new(int64)) }()
			}
			select {
			case err := <-done:
				require.FailNow(t, "it doesn't wait", "%v", err)
			case <-time.After(50 * time.Millisecond):
			}
			cancel()
			for range readers {
				require.ErrorIs(t, <-done, context.Canceled)
			}

			limited, cancelLimited := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancelLimited()
			err = r.ReadRow(limited, rowQuery, key(1), new(string), new(int64))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.True(t, db.Unavailable(err))

			go func() { done <- r.ReadRow(t.Context(), rowQuery, key(1), new(string), new(int64)) }()
			_, err = other.ExecContext(t.Context(), "COMMIT")
			require.NoError(t, err)
			require.NoError(t, <-done)
		})
	}
}
