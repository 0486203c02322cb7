package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
)

// Look opens the database that dsn names to read it as it is, which may be in need of repair: it
// creates, migrates and changes nothing. Close it with Close.
func Look(ctx context.Context, dsn string) (*gorm.DB, error) {
	var dialect gorm.Dialector
	var conns *sql.DB
	if path, ok := SQLitePath(dsn); ok {
		var err error
		if conns, err = lookAtSQLite(path, "query_only(1)"); err != nil {
			return nil, err
		}
		dialect = sqlite.New(sqlite.Config{Conn: conns})
	} else {
		config, err := postgresConfig(dsn)
		if err != nil {
			return nil, err
		}
		conn := config.ConnConfig.Copy()
		if slices.ContainsFunc(conn.Fallbacks, func(f *pgconn.FallbackConfig) bool { return f.Host != conn.Host || f.Port != conn.Port }) {
			primaryOnly(conn) // one of several; with one alone, who looks is to see what it is
		}
		conn.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe // there may be a pooler
		conns = stdlib.OpenDB(*conn)
		dialect = postgres.New(postgres.Config{Conn: conns})
	}
	err := conns.PingContext(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the database: %w", err), conns.Close())
	}
	db, err := gorm.Open(dialect, options())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the database: %w", err), conns.Close())
	}
	return db, nil
}

// lookAtSQLite opens a file without turning it into anything that it is not.
func lookAtSQLite(path string, pragmas ...string) (*sql.DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, opening(path, err)
	}
	conns, err := sql.Open("sqlite", sqliteDSN(path, pragmas...))
	if err != nil {
		return nil, opening(path, err)
	}
	conns.SetMaxOpenConns(1)
	return conns, nil
}

// PoolSize is how many connections an instance opens for its requests at most.
func PoolSize(dsn string) (int, error) {
	if _, ok := SQLitePath(dsn); ok {
		return maxConns, nil
	}
	config, err := postgresConfig(dsn)
	if err != nil {
		return 0, err
	}
	return int(config.MaxConns), nil
}

// Schema is how the migrations that a database has had compare with those that the program knows.
type Schema struct {
	Latest  string   // of those that it has had, "" if none
	Missing []string // the next start applies them
	Unknown []string // a newer program has applied them
}

// SchemaOf reads which migrations a database has had.
func SchemaOf(ctx context.Context, db *gorm.DB) (Schema, error) {
	var applied []string
	if db.WithContext(ctx).Migrator().HasTable("migrations") {
		if err := db.WithContext(ctx).Table("migrations").Order("id").Pluck("id", &applied).Error; err != nil {
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

// Verify reads all of a SQLite database and reports what is damaged in it.
func Verify(ctx context.Context, db *gorm.DB) error {
	var found []string
	if err := db.WithContext(ctx).Raw("PRAGMA integrity_check(10)").Scan(&found).Error; err != nil {
		return fmt.Errorf("check the integrity: %w", err)
	}
	if len(found) != 1 || found[0] != "ok" {
		return fmt.Errorf("it is damaged: %q", found)
	}
	var orphans int64
	if err := db.WithContext(ctx).Raw("SELECT count(*) FROM pragma_foreign_key_check").Scan(&orphans).Error; err != nil {
		return fmt.Errorf("check the foreign keys: %w", err)
	}
	if orphans > 0 {
		return fmt.Errorf("it is damaged: %d rows refer to others that are not there", orphans)
	}
	return nil
}
