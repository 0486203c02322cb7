package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
)

// OpenReadOnly opens the database that url names without creating, migrating or changing anything, even if
// it is damaged. Writes fail, except through a pooler such as PgBouncer, whose connections are shared with
// other clients. Close it with Close.
func OpenReadOnly(ctx context.Context, url string) (*Reader, error) {
	var dialect gorm.Dialector
	var conns *sql.DB
	failed := func(err error) error { return errors.Join(fmt.Errorf("open the database: %w", err), conns.Close()) }
	if path, ok := SQLitePath(url); ok {
		var err error
		if conns, err = openSQLiteFile(path, "query_only(1)"); err != nil {
			return nil, err
		}
		dialect = sqlite.New(sqlite.Config{Conn: conns})
	} else {
		config, err := postgresConfig(url)
		if err != nil {
			return nil, err
		}
		conn := config.ConnConfig.Copy()
		if severalServers(conn) {
			primaryOnly(conn) // a single server may be a standby
		}
		conn.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe // there may be a pooler
		conns = stdlib.OpenDB(*conn, stdlib.OptionAfterConnect(refuseWrites))
		dialect = postgres.New(postgres.Config{Conn: conns})
		failed = func(err error) error {
			return errors.Join(openError(nameOf(conn), explained(conn, err)), conns.Close())
		}
	}
	if err := conns.PingContext(ctx); err != nil {
		return nil, failed(err)
	}
	opened, err := gorm.Open(dialect, options())
	if err != nil {
		return nil, failed(err)
	}
	return &Reader{gorm: opened, pool: conns, close: conns.Close}, nil
}

// refuseWrites makes a connection read-only, unless it belongs to a pooler, which shares it.
func refuseWrites(ctx context.Context, conn *pgx.Conn) error {
	pooled, err := isPooled(ctx, conn)
	if err != nil || pooled {
		return err
	}
	_, err = conn.Exec(ctx, "SET default_transaction_read_only = on")
	return err
}

// openSQLiteFile opens an existing file without changing its journal mode.
func openSQLiteFile(path string, pragmas ...string) (*sql.DB, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, openError(path, err)
	}
	conns, err := sql.Open("sqlite", sqliteDSN(path, pragmas...))
	if err != nil {
		return nil, openError(path, err)
	}
	conns.SetMaxOpenConns(1)
	return conns, nil
}

// PoolSize returns the maximum number of connections that an instance opens for requests. It returns an error
// if url is invalid.
func PoolSize(url string) (int, error) {
	if _, ok := SQLitePath(url); ok {
		return maxConns, nil
	}
	config, err := postgresConfig(url)
	if err != nil {
		return 0, err
	}
	return int(config.MaxConns), nil
}

// Schema compares the migrations applied to a database with those that this program knows.
type Schema struct {
	Latest  string   // the latest one applied; "" for none
	Missing []string // the server applies them when it starts
	Unknown []string // applied by a newer version
}

// SchemaOf reads which migrations have been applied to a database.
func SchemaOf(ctx context.Context, r *Reader) (Schema, error) {
	var applied []string
	if r.Query(ctx).Migrator().HasTable("migrations") {
		if err := r.Query(ctx).Table("migrations").Order("id").Pluck("id", &applied).Error; err != nil {
			return Schema{}, fmt.Errorf("read the migrations: %w", err)
		}
	}
	var s Schema
	known := make([]string, len(migrations))
	for i := range migrations {
		known[i] = migrations[i].ID
		if !slices.Contains(applied, known[i]) {
			s.Missing = append(s.Missing, known[i])
		}
	}
	for _, id := range applied {
		if !slices.Contains(known, id) {
			s.Unknown = append(s.Unknown, id)
		}
		s.Latest = id
	}
	return s, nil
}

// Verify reads a whole SQLite database and returns an error if it is damaged.
func Verify(ctx context.Context, r *Reader) error {
	var found []string
	if err := r.Query(ctx).Raw("PRAGMA integrity_check(10)").Scan(&found).Error; err != nil {
		return fmt.Errorf("check the integrity: %w", err)
	}
	if len(found) != 1 || found[0] != "ok" {
		return fmt.Errorf("the database is damaged: %q", found)
	}
	var orphans int64
	if err := r.Query(ctx).Raw("SELECT count(*) FROM pragma_foreign_key_check").Scan(&orphans).Error; err != nil {
		return fmt.Errorf("check the foreign keys: %w", err)
	}
	if orphans > 0 {
		return fmt.Errorf("the database is damaged: %d rows refer to missing rows", orphans)
	}
	return nil
}
