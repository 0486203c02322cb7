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

	"latchkey/db/lookup"
)

// maxConns bounds the open connections to a SQLite file, and with them the memory for its page
// caches (1 MiB each). Readers do not wait for one another; writers always do.
const maxConns = 8

// busyTimeout is how long one process waits for another that writes.
const busyTimeout = 5 * time.Second

// SQLite is GORM's dialect for SQLite, with the file that is open.
type SQLite struct {
	sqlite.Dialector
	file   *file
	lookup *lookup.Pool
}

// Lookup is for who needs a row sooner than GORM has it.
func (s *SQLite) Lookup() *lookup.Pool { return s.lookup }

// InPlace returns an error while the file that is open is not the one that is found at its path.
// SQLite does not care: it goes on with the one that it has, and all that it writes is lost with the
// process.
func (s *SQLite) InPlace() error { return s.file.inPlace() }

func openSQLite(ctx context.Context, path string, create bool) (*gorm.DB, error) {
	path, err := filepath.Abs(path) // so that ":memory:" is a file as well
	if err != nil {
		return nil, opening(path, err)
	}
	flags := 0
	if create {
		flags = os.O_CREATE
	}
	found, err := find(path, flags)
	if errors.Is(err, fs.ErrNotExist) && !create {
		return nil, fmt.Errorf("there is no database at %s: check the path", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	connections, err := driver.NewConnector(sqliteDSN(path, "journal_mode(WAL)"))
	if err != nil {
		return nil, opening(path, err)
	}
	pool := sql.OpenDB(connector{connections, found})
	pool.SetMaxOpenConns(maxConns)
	pool.SetMaxIdleConns(maxConns)
	if err := connect(ctx, pool); err != nil {
		return nil, errors.Join(opening(path, err), pool.Close())
	}
	config := options()
	config.PrepareStmt = true
	db, err := gorm.Open(&SQLite{sqlite.Dialector{Conn: pool}, found, lookup.New(path, busyTimeout, found.same)}, config)
	if err != nil {
		return nil, errors.Join(opening(path, err), pool.Close())
	}
	if err := migrate(db.WithContext(ctx)); err != nil {
		return nil, errors.Join(fmt.Errorf("bring the database %s up to date: %w", path, err), pool.Close())
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

// sqliteDSN is what the driver opens a file by, with these pragmas besides those of every connection.
func sqliteDSN(path string, pragmas ...string) string {
	options := url.Values{
		"mode": {"rw"}, // a file that has gone is not to come back empty
		"_pragma": append([]string{
			fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()), // first, so that it holds for the others
			"synchronous(FULL)", // an answered logout survives a power cut
			"foreign_keys(1)",
			"journal_size_limit(16777216)", // bytes; a log that once had to be longer is cut back to that
			"cache_size(-1024)",            // KiB; the system's cache has the rest
		}, pragmas...),
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
