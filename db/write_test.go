package db_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/db"
	"latchkey/test/kit"
)

func TestWriteIsAllOrNothing(t *testing.T) {
	r := newRows(t)
	failed := errors.New("no good")
	insert := func(n byte, err error) error {
		return r.Write(t.Context(), func(tx *db.Tx) error {
			return errors.Join(tx.Exec("INSERT INTO rows (text, number, key) VALUES ('a', 1, ?)", key(n)).Error, err)
		})
	}
	require.ErrorIs(t, insert(1, failed), failed)
	require.NoError(t, insert(2, nil))
	_, _, found := r.get(1)
	require.False(t, found)
	_, _, found = r.get(2)
	require.True(t, found)

	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, r.Write(canceled, func(*db.Tx) error { return nil }), context.Canceled)
}

func TestOnWriteHearsOfEachWrite(t *testing.T) {
	r := newRows(t)
	var heard []db.Write
	r.OnWrite(func(_ context.Context, w db.Write) { heard = append(heard, w) })
	failed := errors.New("no good")

	require.NoError(t, r.Write(t.Context(), func(*db.Tx) error { return nil }))
	require.Error(t, r.Write(t.Context(), func(*db.Tx) error { return failed }))

	require.Len(t, heard, 2)
	require.NoError(t, heard[0].Err)
	require.ErrorIs(t, heard[1].Err, failed)
	for _, w := range heard {
		require.False(t, w.Start.Add(w.Waited).After(w.End))
		require.Positive(t, w.Waited)
	}
}

// Without the lock, both would find the table as it was before the other.
func TestTransactionsThatLockTheSameNameTakeTurns(t *testing.T) {
	r := newRows(t)
	r.exec("INSERT INTO rows VALUES ($1, 'a', 0)", key(1))
	const writers = 8
	done := make(chan error, writers)
	for range writers {
		go func() {
			done <- r.Write(t.Context(), func(tx *db.Tx) error {
				if err := tx.Lock(t.Context(), "rows"); err != nil {
					return err
				}
				var number int64
				if err := tx.Raw("SELECT number FROM rows").Scan(&number).Error; err != nil {
					return err
				}
				return tx.Exec("UPDATE rows SET number = ?", number+1).Error
			})
		}()
	}
	for range writers {
		require.NoError(t, <-done)
	}
	_, number, _ := r.get(1)
	require.EqualValues(t, writers, number)
}

func TestReaderRefusesWrites(t *testing.T) {
	url := kit.DatabaseURL(t, filepath.Join(t.TempDir(), "latchkey.db"))
	database, err := db.Open(t.Context(), url)
	require.NoError(t, err)
	require.NoError(t, database.Close())

	reader, err := db.OpenReadOnly(t.Context(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, reader.Close()) }()

	schema, err := db.SchemaOf(t.Context(), reader)
	require.NoError(t, err)
	require.Empty(t, schema.Missing)
	err = reader.Query(t.Context()).Exec("DELETE FROM secrets").Error
	require.Error(t, err)
	require.True(t, db.Unavailable(err), "%v", err)
}

// A pooler gives the connection to others, who are to write.
func TestReaderBehindAPoolerLeavesTheServersConnectionAsItWas(t *testing.T) {
	server := kit.StartPostgres(t)
	url, _ := server.Bouncer(t, "postgres")
	database, err := db.Open(t.Context(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, database.Close()) }()

	for range 10 { // more than the pooler has
		reader, err := db.OpenReadOnly(t.Context(), url)
		require.NoError(t, err)
		var tables int64
		require.NoError(t, reader.Query(t.Context()).Table("secrets").Count(&tables).Error)
		require.NoError(t, reader.Close())
	}
	for range 10 {
		require.NoError(t, database.Write(t.Context(), func(tx *db.Tx) error {
			return tx.Exec("INSERT INTO locks VALUES ('x', ?) ON CONFLICT DO NOTHING", time.Now()).Error
		}))
	}
}

// A connection that had to write as it is opened would wait for its own caller.
func TestReadBesideAWriteOpensAConnection(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "latchkey.db"))
	require.NoError(t, d.Write(t.Context(), func(*db.Tx) error {
		for range 4 { // more than are open
			rows, err := d.Query(t.Context()).Raw("SELECT 1").Rows()
			require.NoError(t, err)
			defer rows.Close()
		}
		return nil
	}))
}
