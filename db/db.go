// Package db opens Latchkey's database and brings its schema up to date.
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
	"strings"
	"time"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	driver "modernc.org/sqlite" // registers itself as "sqlite"
	lib "modernc.org/sqlite/lib"

	"latchkey/db/lookup"
)

// maxConns bounds the open connections to a SQLite file, and with them the memory for its page
// caches (1 MiB each). Readers do not wait for one another; writers always do.
const maxConns = 8

// busyTimeout is how long one process waits for another that writes.
const busyTimeout = 5 * time.Second

// Open opens the database that dsn names ("sqlite:PATH") and migrates it to the newest schema.
// A file that does not exist is created, readable by its owner alone. Close it with Close.
func Open(ctx context.Context, dsn string) (*gorm.DB, error) { return open(ctx, dsn, os.O_CREATE) }

// OpenExisting is Open for who has no use for a new, empty database.
func OpenExisting(ctx context.Context, dsn string) (*gorm.DB, error) { return open(ctx, dsn, 0) }

func open(ctx context.Context, dsn string, create int) (*gorm.DB, error) {
	path, err := sqlitePath(dsn)
	if err != nil {
		return nil, err
	}
	if path, err = filepath.Abs(path); err != nil { // so that ":memory:" is a file as well
		return nil, fmt.Errorf("open the database: %w", err)
	}
	file, err := os.OpenFile(path, create|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrNotExist) && create == 0 {
		return nil, fmt.Errorf("there is no database at %s: set DATABASE_URL to that of the server", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	if err := file.Close(); err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}

	pool, err := sql.Open("sqlite", sqliteDSN(path))
	if err != nil {
		return nil, fmt.Errorf("open the database %s: %w", path, err)
	}
	pool.SetMaxOpenConns(maxConns)
	pool.SetMaxIdleConns(maxConns)
	if err := connect(ctx, pool); err != nil {
		return nil, errors.Join(fmt.Errorf("open the database %s: %w", path, err), pool.Close())
	}
	db, err := gorm.Open(sqlite.New(sqlite.Config{Conn: pool}), &gorm.Config{
		// Errors reach the log through whoever handles them; statements hold what no log may.
		Logger: logger.Discard,
		// A single statement is atomic without a transaction around it.
		SkipDefaultTransaction: true,
		PrepareStmt:            true,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the database %s: %w", path, err), pool.Close())
	}
	if err := migrate(db.WithContext(ctx)); err != nil {
		return nil, errors.Join(fmt.Errorf("bring the database %s up to date: %w", path, err), pool.Close())
	}
	if err := db.Use(lookup.New(path, busyTimeout)); err != nil {
		return nil, errors.Join(fmt.Errorf("open the database %s: %w", path, err), pool.Close())
	}
	return db, nil
}

// connect opens the first connection. It is patient on its own, since turning a new file to WAL
// fails where another process is about to do the same, whatever the busy timeout.
func connect(ctx context.Context, pool *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, busyTimeout)
	defer cancel()
	for {
		err := pool.PingContext(ctx)
		var failure *driver.Error
		if !errors.As(err, &failure) || failure.Code()&0xff != lib.SQLITE_BUSY {
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// Close closes all connections.
func Close(db *gorm.DB) error {
	pool, err := db.DB()
	if err != nil {
		return err
	}
	if rows, ok := db.Plugins[lookup.Name].(*lookup.Pool); ok {
		err = rows.Close()
	}
	return errors.Join(err, pool.Close())
}

func sqlitePath(dsn string) (string, error) {
	path, ok := strings.CutPrefix(dsn, "sqlite:")
	if !ok || path == "" {
		return "", errors.New("the database must be given as sqlite:PATH, for example sqlite:latchkey.db")
	}
	return path, nil
}

func sqliteDSN(path string) string {
	options := url.Values{
		"_pragma": {
			fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()), // first, so that it holds for the others
			"journal_mode(WAL)",
			"synchronous(FULL)", // an answered logout survives a power cut
			"foreign_keys(1)",
			"cache_size(-1024)", // KiB; the system's cache has the rest
		},
		// A transaction that means to write waits for its turn at its start, where the busy
		// timeout helps, and not in its middle, where SQLite can only refuse.
		"_txlock": {"immediate"},
		// Times are stored as microseconds since 1970, which takes a quarter of the room of a text
		// and none of the time to parse it.
		"_time_integer_format": {"unix_micro"},
		"_inttotime":           {"1"},
	}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: options.Encode()}).String()
}
