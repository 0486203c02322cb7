package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
)

const (
	// poolSize is how many connections one instance opens at most, unless the URL has pool_max_conns.
	// The smallest of servers that are rented take twenty.
	poolSize = 10
	// answerWithin is for how long a server may be silent before it is taken for gone.
	answerWithin = 5 * time.Second
	// readOnly is PostgreSQL's code for a write where none is possible.
	readOnly = "25006"
)

// Postgres is GORM's dialect for PostgreSQL, with the connections it is spoken on.
type Postgres struct {
	postgres.Dialector
	pool *pgxpool.Pool
}

// Pool is for who needs more of PostgreSQL than GORM has.
func (p *Postgres) Pool() *pgxpool.Pool { return p.pool }

// postgresConfig reads a URL, and adds what it leaves open.
func postgresConfig(dsn string) (*pgxpool.Config, error) {
	if !strings.HasPrefix(dsn, "postgres://") && !strings.HasPrefix(dsn, "postgresql://") {
		return nil, errors.New("the database must be given as sqlite:PATH, for example sqlite:latchkey.db, or as postgres://USER:PASSWORD@HOST/DATABASE")
	}
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err) // without the password
	}
	if !strings.Contains(dsn, "pool_max_conns=") {
		config.MaxConns = poolSize
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = answerWithin
	}
	return config, nil
}

// primaryOnly keeps the connections to the primary: a standby may not know yet who has signed out.
func primaryOnly(config *pgx.ConnConfig) {
	if config.ValidateConnect == nil { // the URL has no target_session_attrs
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	}
}

func openPostgres(ctx context.Context, dsn string) (*gorm.DB, error) {
	config, err := postgresConfig(dsn)
	if err != nil {
		return nil, err
	}
	primaryOnly(config.ConnConfig)
	config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		conn.TypeMap().RegisterType(&pgtype.Type{Name: "timestamptz", OID: pgtype.TimestamptzOID,
			Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC}})
		return nil
	}
	name := fmt.Sprintf("%s on %s", config.ConnConfig.Database, config.ConnConfig.Host)

	pooled, err := migratePostgres(ctx, config.ConnConfig.Copy())
	if err != nil {
		return nil, opening(name, errors.New(oneSentence(err)))
	}
	if pooled {
		config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	config.ConnConfig.DialFunc = impatiently(config.ConnConfig.DialFunc)
	var current atomic.Pointer[pgxpool.Pool]
	asBefore := config.ConnConfig.OnPgError
	config.ConnConfig.OnPgError = func(conn *pgconn.PgConn, failure *pgconn.PgError) bool {
		if pool := current.Load(); pool != nil && failure.Code == readOnly {
			// A pooler may have led this connection to a standby since it was made, and the others too.
			pool.Reset()
			return false
		}
		return asBefore(conn, failure)
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, opening(name, err)
	}
	current.Store(pool)
	conns := stdlib.OpenDBFromPool(pool)
	dialect := &Postgres{Dialector: postgres.Dialector{Config: &postgres.Config{Conn: conns}}, pool: pool}
	db, err := gorm.Open(dialect, options())
	if err != nil {
		pool.Close()
		return nil, opening(name, errors.Join(err, conns.Close()))
	}
	return db, nil
}

// oneSentence is what an error says, which for several hosts, or with and without TLS, are several lines.
func oneSentence(err error) string {
	head, tries, _ := strings.Cut(err.Error(), ":\n\t")
	lines := slices.Compact(strings.Split(tries, "\n\t"))
	return strings.TrimSuffix(head+": "+strings.Join(lines, "; "), ": ")
}

// migratePostgres brings the schema up to date, on a connection of its own: who alters a large table
// may be silent for long. It reports whether there is a pooler such as PgBouncer in between.
func migratePostgres(ctx context.Context, config *pgx.ConnConfig) (pooled bool, err error) {
	// A pooler may give every statement to another connection, which does not know what was prepared.
	config.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return false, err
	}
	var pid uint32
	err = conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid)
	pooled = pid != conn.PgConn().PID() // the greeting was not from who answers
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return false, err
	}

	conns := stdlib.OpenDB(*config)
	conns.SetMaxOpenConns(1)
	db, err := gorm.Open(postgres.New(postgres.Config{Conn: conns}), options())
	if err == nil {
		err = migrateAlone(db.WithContext(ctx))
	}
	for try := 1; try < migrationTries && inTheWay(err); try++ {
		err = migrateAlone(db.WithContext(ctx))
	}
	return pooled, errors.Join(err, conns.Close())
}

const migrationTries = 5

func migrateAlone(db *gorm.DB) error {
	return db.Transaction(func(tx *gorm.DB) error {
		if err := tx.Exec("SELECT pg_advisory_xact_lock(?)", migrationLock).Error; err != nil {
			return err
		}
		return migrate(tx)
	}, &sql.TxOptions{Isolation: sql.LevelReadCommitted}) // who has waited sees what was done meanwhile
}

// inTheWay reports whether a migration failed only because of others: those who use the tables that it
// alters, or migrate them too, where the database knows no such lock.
func inTheWay(err error) bool {
	var failure *pgconn.PgError
	return errors.As(err, &failure) && slices.Contains([]string{
		"40001", "40P01", // serialization failure, deadlock
		"23505", "42P07", // it is there already
	}, failure.Code)
}

// migrationLock is a number that nobody else is likely to lock: "latchkey" in ASCII.
const migrationLock = 0x6c617463686b6579

// impatiently makes every connection one whose server must answer within answerWithin.
func impatiently(dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return impatient{conn}, nil
	}
}

type impatient struct{ net.Conn }

func (c impatient) Write(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
