package lookup_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"latchkey/db/lookup"
)

const query = "SELECT text, number FROM rows WHERE key = ?"

// file is a database with a Pool beside an ordinary connection.
type file struct {
	*lookup.Pool
	t    *testing.T
	path string
	sql  *sql.DB
}

func newFile(t *testing.T) file {
	path := filepath.Join(t.TempDir(), "test.db")
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)")
	require.NoError(t, err)
	f := file{lookup.New(path, time.Second, func() error { return nil }), t, path, db}
	t.Cleanup(func() { require.NoError(t, errors.Join(f.Close(), db.Close())) })
	f.exec("CREATE TABLE rows (key BLOB PRIMARY KEY, text TEXT, number INTEGER)")
	return f
}

func (f file) exec(statement string, values ...any) {
	f.t.Helper()
	_, err := f.sql.ExecContext(f.t.Context(), statement, values...)
	require.NoError(f.t, err)
}

func (f file) get(n byte) (text string, number int64, found bool) {
	f.t.Helper()
	found, err := f.Row(query, key(n), func(r lookup.Row) error {
		text, number = r.Text(0), r.Int(1)
		return nil
	})
	require.NoError(f.t, err)
	return text, number, found
}

func key(n byte) [32]byte { return [32]byte{n} }

func blob(n byte) []byte { k := key(n); return k[:] }

func TestRowIsWhatIsCommitted(t *testing.T) {
	f := newFile(t)
	_, _, found := f.get(1)
	require.False(t, found)

	f.exec("INSERT INTO rows VALUES (?, 'é', -7), (?, NULL, NULL)", blob(1), blob(2))
	text, number, found := f.get(1)
	require.True(t, found)
	require.Equal(t, "é", text)
	require.EqualValues(t, -7, number)
	found, err := f.Row(query, key(2), func(r lookup.Row) error {
		require.True(t, r.Null(0))
		require.Empty(t, r.Text(0))
		require.Zero(t, r.Int(1))
		return nil
	})
	require.NoError(t, err)
	require.True(t, found)

	tx, err := f.sql.Begin()
	require.NoError(t, err)
	_, err = tx.Exec("UPDATE rows SET number = 8")
	require.NoError(t, err)
	_, number, _ = f.get(1)
	require.EqualValues(t, -7, number, "not committed yet")
	require.NoError(t, tx.Commit())
	_, number, _ = f.get(1)
	require.EqualValues(t, 8, number)

	f.exec("DELETE FROM rows")
	_, _, found = f.get(1)
	require.False(t, found)
	f.exec("DROP TABLE rows")
	f.exec("CREATE TABLE rows (number INTEGER, key BLOB, text TEXT)")
	f.exec("INSERT INTO rows VALUES (1, ?, 'of another table')", blob(1))
	text, _, _ = f.get(1)
	require.Equal(t, "of another table", text)
}

// A read that went on would keep what was written since from being moved to the file, for ever.
func TestNoReadGoesOn(t *testing.T) {
	f := newFile(t)
	f.exec("INSERT INTO rows VALUES (?, 'a', 1)", blob(1))
	f.get(1)
	f.get(2)
	_, err := f.Row(query, key(1), func(lookup.Row) error { return errors.New("no good") })
	require.EqualError(t, err, "no good")

	var busy, log, moved int
	require.NoError(t, f.sql.QueryRow("PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &log, &moved))
	require.Zero(t, busy)
	info, err := os.Stat(f.path + "-wal")
	require.NoError(t, err)
	require.Zero(t, info.Size())
}

func TestRowsAreWholeWhileOthersWrite(t *testing.T) {
	f := newFile(t)
	f.exec("INSERT INTO rows VALUES (?, 'x', 1)", blob(1))
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for ctx.Err() == nil {
				text, number, found := f.get(1)
				if !found || int64(len(text)) != number {
					t.Errorf("%d x, %d said", len(text), number)
				}
			}
		})
	}
	for n := range 300 {
		f.exec("UPDATE rows SET text = ?, number = ?", strings.Repeat("x", n*20), n*20)
		if _, number, _ := f.get(1); number != int64(n*20) {
			t.Errorf("%d instead of %d, which was committed", number, n*20)
		}
	}
	stop()
	running.Wait()
}

func TestFileCutShortIsAnErrorAndNoCrash(t *testing.T) {
	f := newFile(t)
	for n := range byte(100) {
		f.exec("INSERT INTO rows VALUES (?, ?, 1)", blob(n), strings.Repeat("x", 3000))
	}
	f.exec("PRAGMA wal_checkpoint(TRUNCATE)")
	f.get(99)

	require.NoError(t, os.Truncate(f.path, 4096))

	failed := false
	for n := range byte(100) {
		_, err := f.Row(query, key(n), func(r lookup.Row) error { _ = r.Text(0); return nil })
		failed = failed || err != nil
	}
	require.True(t, failed)
}

func TestErrorsOfRow(t *testing.T) {
	f := newFile(t)
	_, err := f.Row("SELECT text FROM nowhere WHERE key = ?", key(1), nil)
	require.ErrorContains(t, err, "no such table: nowhere")
	_, err = f.Row("DELETE FROM rows WHERE key = ?", key(1), nil)
	require.ErrorContains(t, err, "readonly")
	require.Panics(t, func() {
		f.exec("INSERT INTO rows VALUES (?, 'a', 1)", blob(1))
		_, _ = f.Row(query, key(1), func(lookup.Row) error { panic("not a fault of memory") })
	})
	_, _, found := f.get(1)
	require.True(t, found, "it goes on")

	missing := lookup.New(filepath.Join(t.TempDir(), "missing.db"), time.Second, func() error { return nil })
	_, err = missing.Row(query, key(1), nil)
	require.ErrorContains(t, err, "unable to open database file")

	require.NoError(t, f.Close())
	_, err = f.Row(query, key(1), nil)
	require.EqualError(t, err, "the database is closed")
}
