package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	driver "modernc.org/sqlite" // registers itself as "sqlite"
	lib "modernc.org/sqlite/lib"
)

// maxConns bounds the open connections to a SQLite file, and with them the memory for its page
// caches (1 MiB each). Readers do not wait for one another; writers always do.
const maxConns = 8

// busyTimeout is how long SQLite waits for the locks of other processes.
const busyTimeout = 5 * time.Second

// maxStatements is the size of each connection's cache of prepared statements. There may be any number of
// statements, since the text of one with a list depends on the list's length.
const maxStatements = 200

// sqliteEngine is the engine of a SQLite file.
type sqliteEngine struct {
	file *file
	pool *sql.DB
	rows *rowReader
	// writeLock serializes writes. SQLite has one writer at a time, and waits for its lock by polling, which
	// is unfair: some writers would never get it.
	writeLock chan struct{}
}

func openSQLite(ctx context.Context, path string, create bool) (*DB, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, openError(path, err)
	}
	flags := 0
	if create {
		flags = os.O_CREATE
	}
	found, err := findFile(path, flags)
	if errors.Is(err, fs.ErrNotExist) && !create {
		return nil, fmt.Errorf("there is no database at %s: check the path", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	if err := layOut(ctx, path); err != nil {
		return nil, openError(path, err)
	}
	connections, err := driver.NewConnector(sqliteDSN(path, "journal_mode(WAL)"))
	if err != nil {
		return nil, openError(path, err)
	}
	pool := sql.OpenDB(connector{connections, found})
	pool.SetMaxOpenConns(maxConns)
	pool.SetMaxIdleConns(maxConns)
	if err := connect(ctx, pool); err != nil {
		return nil, errors.Join(openError(path, err), pool.Close())
	}
	config := options()
	config.PrepareStmt, config.PrepareStmtMaxSize = true, maxStatements
	opened, err := gorm.Open(&sqlite.Dialector{Conn: pool}, config)
	if err != nil {
		return nil, errors.Join(openError(path, err), pool.Close())
	}
	if err := migrate(opened.WithContext(ctx)); err != nil {
		return nil, errors.Join(fmt.Errorf("bring the database %s up to date: %w", path, err), pool.Close())
	}
	rows := newRowReader(found)
	return &DB{
		Reader: Reader{gorm: opened, pool: pool, close: func() error { return errors.Join(rows.Close(), pool.Close()) }},
		engine: &sqliteEngine{file: found, pool: pool, rows: rows, writeLock: make(chan struct{}, 1)},
	}, nil
}

// layOut has a new file, which is empty, note what it needs in order to shrink in steps. SQLite does that only
// before the first table. It isn't done by every connection, since it takes the write lock each time.
func layOut(ctx context.Context, path string) error {
	info, err := os.Stat(path)
	if err != nil || info.Size() > 0 {
		return err
	}
	conns, err := openSQLiteFile(path, incrementalVacuum, "journal_mode(WAL)")
	if err != nil {
		return err
	}
	return errors.Join(connect(ctx, conns), conns.Close())
}

// connect opens the first connection. It retries for up to busyTimeout, since SQLite itself doesn't wait
// here: switching a new file to WAL fails while another process does the same.
func connect(ctx context.Context, pool *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, busyTimeout)
	defer cancel()
	for {
		err := pool.PingContext(ctx)
		if !isLocked(err) {
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// isLocked reports whether SQLite waited in vain for a lock of another process.
func isLocked(err error) bool {
	var failure *driver.Error
	return errors.As(err, &failure) && failure.Code()&0xff == lib.SQLITE_BUSY // the primary result code
}

// sqliteDSN returns the DSN of a file, with these pragmas in addition to those of every connection.
func sqliteDSN(path string, pragmas ...string) string {
	options := url.Values{
		"mode": {"rw"}, // don't recreate a removed file
		"_pragma": append([]string{
			fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()), // first, so that it applies to the others
			"synchronous(FULL)", // so that a logout, once answered, survives a power cut
			"foreign_keys(1)",
			"journal_size_limit(16777216)", // bytes; a log that has grown longer is truncated to this
			"cache_size(-1024)",            // KiB; the system's cache has the rest
		}, pragmas...),
		// A write transaction takes the lock at its start, where the busy timeout applies, and not at
		// its first write, where SQLite may fail immediately.
		"_txlock": {"immediate"},
		// Times are stored as microseconds since 1970: a quarter of the size of text, and no parsing.
		"_time_integer_format": {"unix_micro"},
		"_inttotime":           {"1"},
	}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: options.Encode()}).String()
}

func (e *sqliteEngine) lockWrites(ctx context.Context) (unlock func(), err error) {
	waiting, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	select {
	case e.writeLock <- struct{}{}:
		return func() { <-e.writeLock }, nil
	case <-waiting.Done():
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, ErrBusy
	}
}

func (e *sqliteEngine) txOptions() *sql.TxOptions { return nil }

func (e *sqliteEngine) checkFile() error { return e.file.check() }

// lockNamed has nothing to do: there is one writer at a time.
func (e *sqliteEngine) lockNamed(*gorm.DB, string) error { return nil }

func (e *sqliteEngine) notify(context.Context, string) {}

func (e *sqliteEngine) listen(context.Context, string, func()) error { return nil }

func (e *sqliteEngine) connections() Connections {
	stats := e.pool.Stats()
	return Connections{InUse: stats.InUse, Idle: stats.Idle, Limit: stats.MaxOpenConnections}
}

func (e *sqliteEngine) readRow(ctx context.Context, query string, key []byte, dest []any) error {
	return e.rows.read(ctx, query, key, dest)
}
