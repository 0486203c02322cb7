// Package db opens Latchkey's database and migrates its schema. It hides the differences between SQLite and
// PostgreSQL: transactions, locks, notifications, fast reads, and which errors mean that the database is
// unavailable.
package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// Reader is a read-only database. It is safe for concurrent use.
type Reader struct {
	gorm  *gorm.DB
	pool  *sql.DB
	close func() error
}

// Query returns the database for reads outside a transaction: gorm.G[T](r.Query(ctx)).
func (r *Reader) Query(ctx context.Context) *gorm.DB { return r.gorm.WithContext(ctx) }

// Close closes all connections.
func (r *Reader) Close() error { return r.close() }

// DB is a database that can be written to. It is safe for concurrent use.
type DB struct {
	Reader
	engine  engine
	onWrite func(context.Context, Write)
}

// engine is what SQLite and PostgreSQL do differently.
type engine interface {
	// lockWrites waits until the caller may begin a write transaction. It may return ErrBusy.
	lockWrites(ctx context.Context) (unlock func(), err error)
	// txOptions returns the options of a transaction of Write.
	txOptions() *sql.TxOptions
	// checkFile returns an error if writes would be lost, since the file was removed or replaced.
	checkFile() error
	lockNamed(tx *gorm.DB, name string) error
	notify(ctx context.Context, channel string)
	listen(ctx context.Context, channel string, heard func()) error
	connections() Connections
	readRow(ctx context.Context, query string, key []byte, dest []any) error
}

// Open opens the database that url names, "sqlite:PATH" or "postgres://…", and migrates it to the newest
// schema. A SQLite file that does not exist is created, readable by its owner alone. It is for servers: a
// statement that PostgreSQL has not answered within 5 seconds fails. Close it with Close.
func Open(ctx context.Context, url string) (*DB, error) {
	if path, ok := SQLitePath(url); ok {
		return openSQLite(ctx, path, true)
	}
	return openPostgres(ctx, url, withDeadline)
}

// OpenExisting is like Open but fails if the SQLite file doesn't exist. It is for commands: only ctx limits
// how long a statement takes, since nobody waits for a page meanwhile.
func OpenExisting(ctx context.Context, url string) (*DB, error) {
	if path, ok := SQLitePath(url); ok {
		return openSQLite(ctx, path, false)
	}
	return openPostgres(ctx, url, nil)
}

// options returns GORM's configuration, for both databases.
func options() *gorm.Config {
	return &gorm.Config{
		// Callers log the errors. Statements contain data that must not be logged.
		Logger: logger.Discard,
		// A single statement is atomic without a transaction around it.
		SkipDefaultTransaction: true,
		// Name the columns, so that those that a newer version adds have no effect.
		QueryFields: true,
	}
}

func openError(what string, err error) error {
	return fmt.Errorf("open the database %s: %w", what, err)
}

// answerTimeout is how long a database may take to respond before it counts as unavailable.
const answerTimeout = 5 * time.Second

// ReadRow reads the one row that a query finds by its one parameter, $1 (hot path: it costs a fraction of a
// read with GORM). It scans each column into one of dest: *string, *int64, *bool, *time.Time (returned in
// UTC), **time.Time (nil for NULL), or *uuid.UUID; only a **time.Time may be NULL. The query should be a
// constant that finds its row by an index, since it stays prepared.
//
// It reads what is committed at the time of the call: nothing is cached, and no read transaction stays open.
// It returns gorm.ErrRecordNotFound if there is no row, ctx.Err() if ctx is done, and an error for which
// Unavailable is true if the database can't be read within 5 seconds.
func (d *DB) ReadRow(ctx context.Context, query string, key []byte, dest ...any) error {
	if e, ok := d.engine.(*sqliteEngine); ok {
		return e.readRow(ctx, query, key, dest) // a direct call, so that dest doesn't escape to the heap
	}
	return d.engine.readRow(ctx, query, slices.Clone(key), slices.Clone(dest))
}

// Notify notifies the listeners on a channel, in all processes. Call it after the commit. It may fail
// silently, so listeners have to poll as well. On SQLite it does nothing.
func (d *DB) Notify(ctx context.Context, channel string) { d.engine.notify(ctx, channel) }

// Listen calls heard for each Notify on the channel, and once at the start, when notifications are known to
// arrive. It returns an error when the connection is lost or ctx is done, and ErrNoNotices if notifications
// don't arrive. On SQLite it returns nil immediately, and the caller has to poll.
func (d *DB) Listen(ctx context.Context, channel string, heard func()) error {
	return d.engine.listen(ctx, channel, heard)
}

// ErrNoNotices means that notifications don't arrive: there is a pooler in between, or the server is another
// database that speaks PostgreSQL's protocol.
var ErrNoNotices = errors.New("the database doesn't deliver notifications")

// Ping returns an error if the database doesn't respond, or if the SQLite file was removed or replaced.
func (d *DB) Ping(ctx context.Context) error {
	if err := d.pool.PingContext(ctx); err != nil {
		return err
	}
	return d.engine.checkFile()
}

// Connections counts the connections to the database, on SQLite without those of ReadRow.
type Connections struct{ InUse, Idle, Limit int }

// Connections returns the current counts.
func (d *DB) Connections() Connections { return d.engine.connections() }

// Pool returns the connection pool, for metrics.
func (d *DB) Pool() *sql.DB { return d.pool }

// Use adds a plugin to GORM, such as one that traces statements. Set it before the database is used.
func (d *DB) Use(plugin gorm.Plugin) error { return d.gorm.Use(plugin) }
