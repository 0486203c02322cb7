// Package db opens Latchkey's database and brings its schema up to date.
package db

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// Open opens the database that dsn names, "sqlite:PATH" or "postgres://…", and migrates it to the
// newest schema. A SQLite file that does not exist is created, readable by its owner alone. Close it
// with Close.
func Open(ctx context.Context, dsn string) (*gorm.DB, error) { return open(ctx, dsn, true) }

// OpenExisting is Open for who has no use for a new, empty SQLite file.
func OpenExisting(ctx context.Context, dsn string) (*gorm.DB, error) { return open(ctx, dsn, false) }

func open(ctx context.Context, dsn string, create bool) (*gorm.DB, error) {
	if path, ok := SQLitePath(dsn); ok {
		return openSQLite(ctx, path, create)
	}
	return openPostgres(ctx, dsn)
}

// SQLitePath returns the file that dsn names, and false where it names no SQLite database.
func SQLitePath(dsn string) (string, bool) {
	path, ok := strings.CutPrefix(dsn, "sqlite:")
	return path, ok && path != ""
}

// options are those of GORM on both databases.
func options() *gorm.Config {
	return &gorm.Config{
		// Errors reach the log through whoever handles them; statements hold what no log may.
		Logger: logger.Discard,
		// A single statement is atomic without a transaction around it.
		SkipDefaultTransaction: true,
		// Columns are named, so that one that a newer version adds changes nothing for this one.
		QueryFields: true,
	}
}

// Close closes all connections.
func Close(db *gorm.DB) error {
	pool, err := db.DB()
	if err != nil {
		return err
	}
	switch dialect := db.Dialector.(type) {
	case *SQLite:
		err = dialect.lookup.Close()
	case *Postgres:
		defer dialect.pool.Close()
	}
	return errors.Join(err, pool.Close())
}

func opening(what string, err error) error { return fmt.Errorf("open the database %s: %w", what, err) }
