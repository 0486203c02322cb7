package db_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"latchkey/db"
)

func TestUnavailableTellsADatabaseThatCantBeUsedFromAWrongQuestion(t *testing.T) {
	open := func(path, options string) *sql.DB {
		pool, err := sql.Open("sqlite", "file:"+path+options)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, pool.Close()) })
		return pool
	}
	path := filepath.Join(t.TempDir(), "a.db")
	pool := open(path, "")
	_, err := pool.Exec("CREATE TABLE things (name TEXT PRIMARY KEY)")
	require.NoError(t, err)
	holder, err := open(path, "?_txlock=immediate").Begin()
	require.NoError(t, err)
	_, locked := pool.Exec("INSERT INTO things VALUES ('a')")
	require.NoError(t, holder.Rollback())
	_, readOnly := open(path, "?mode=ro").Exec("INSERT INTO things VALUES ('a')")
	_, missing := open(filepath.Join(t.TempDir(), "no", "such.db"), "").Exec("SELECT 1")
	small := open(path, "?_pragma=max_page_count(1)")
	_, full := small.Exec("INSERT INTO things SELECT hex(randomblob(100000))")
	garbage := filepath.Join(t.TempDir(), "garbage")
	require.NoError(t, os.WriteFile(garbage, []byte("this is no database, and never has been one"), 0o600))
	_, none := open(garbage, "").Exec("SELECT * FROM things")
	_, noTable := pool.Exec("SELECT * FROM nothing")
	_, nonsense := pool.Exec("SELCT 1")
	_, err = pool.Exec("INSERT INTO things VALUES ('a')")
	require.NoError(t, err)
	_, twice := pool.Exec("INSERT INTO things VALUES ('a')")

	for _, c := range []struct {
		err  error
		want bool
	}{
		{locked, true}, {readOnly, true}, {missing, true}, {full, true}, {none, true},
		{db.ErrBusy, true}, {context.DeadlineExceeded, true}, {driver.ErrBadConn, true},
		{&pgconn.ConnectError{}, true}, {&net.OpError{Op: "read", Err: syscall.ECONNRESET}, true}, {io.ErrUnexpectedEOF, true},
		{sql.ErrTxDone, true}, {pgconn.ErrConnClosed, true},
		{&pgconn.PgError{Code: "57P01"}, true}, {&pgconn.PgError{Code: "08006"}, true}, {&pgconn.PgError{Code: "25006"}, true},
		{&pgconn.PgError{Code: "53300"}, true}, {&pgconn.PgError{Code: "40P01"}, true},
		{&pgconn.PgError{Code: "23505"}, false}, {&pgconn.PgError{Code: "42P01"}, false}, {&pgconn.PgError{}, false},
		{noTable, false}, {nonsense, false}, {twice, false},
		{gorm.ErrRecordNotFound, false}, {context.Canceled, false}, {errors.New("something else"), false},
	} {
		require.Error(t, c.err)
		require.Equal(t, c.want, db.Unavailable(fmt.Errorf("do a thing: %w", c.err)), "%#v", c.err)
	}
	require.False(t, db.Unavailable(nil))
}
