package db

import (
	"cmp"
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gofrs/uuid/v5"
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
	// The smallest hosted servers allow about twenty.
	poolSize = 10
	// codeReadOnly is the SQLSTATE read_only_sql_transaction.
	codeReadOnly = "25006"
)

// postgresEngine is the engine of a PostgreSQL server.
type postgresEngine struct {
	pool   *pgxpool.Pool
	crowd  *crowd
	pooled bool // there is a pooler such as PgBouncer in between
}

// postgresConfig parses a URL and adds defaults.
func postgresConfig(dsn string) (*pgxpool.Config, error) {
	config, err := parsePostgresURL(dsn)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(dsn, "pool_max_conns=") {
		config.MaxConns = poolSize
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = answerTimeout
	}
	return config, nil
}

// primaryOnly restricts connections to the primary: a standby may still have sessions that have ended.
func primaryOnly(config *pgx.ConnConfig) {
	if config.ValidateConnect == nil { // the URL has no target_session_attrs
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	}
}

// openPostgres opens a database. Unless it is nil, limit wraps the function that makes the connections.
func openPostgres(ctx context.Context, dsn string, limit func(pgconn.DialFunc) pgconn.DialFunc) (*DB, error) {
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
	name := nameOf(config.ConnConfig)

	pooled, err := migratePostgres(ctx, config.ConnConfig.Copy())
	if err != nil {
		return nil, openError(name, explained(config.ConnConfig, err))
	}
	if pooled {
		config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	if limit != nil {
		config.ConnConfig.DialFunc = limit(config.ConnConfig.DialFunc)
	}
	crowd := &crowd{turn: make(chan struct{}, 1)}
	config.BeforeConnect = crowd.beforeConnect
	var current atomic.Pointer[pgxpool.Pool]
	handleError := config.ConnConfig.OnPgError
	config.ConnConfig.OnPgError = func(conn *pgconn.PgConn, failure *pgconn.PgError) bool {
		if pool := current.Load(); pool != nil && failure.Code == codeReadOnly {
			// A failover may have turned the server into a standby, or a pooler may have switched to one.
			pool.Reset()
			return false
		}
		return handleError(conn, failure)
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, openError(name, err)
	}
	current.Store(pool)
	crowd.pool = pool
	conns := sql.OpenDB(patientConnector{stdlib.GetPoolConnector(pool), crowd})
	conns.SetMaxIdleConns(0) // the pool keeps them
	closeAll := func() error {
		defer pool.Close()
		return conns.Close()
	}
	opened, err := gorm.Open(postgres.New(postgres.Config{Conn: conns}), options())
	if err != nil {
		return nil, openError(name, errors.Join(err, closeAll()))
	}
	return &DB{Reader: Reader{gorm: opened, pool: conns, close: closeAll}, engine: &postgresEngine{pool, crowd, pooled}}, nil
}

// nameOf returns the name of a database for errors.
func nameOf(config *pgx.ConnConfig) string {
	return fmt.Sprintf("%s on %s", cmp.Or(config.Database, config.User), config.Host)
}

// severalServers reports whether a URL names more than one server.
func severalServers(config *pgx.ConnConfig) bool {
	return slices.ContainsFunc(config.Fallbacks, func(f *pgconn.FallbackConfig) bool { return f.Host != config.Host || f.Port != config.Port })
}

// explain describes in a sentence why a database can't be opened and, if only one server is configured, what
// to do about it.
func explain(config *pgx.ConnConfig, err error) string {
	var refusal *pgconn.PgError
	if errors.As(err, &refusal) && refusal.Code == "42704" {
		// Its name may be a part of a password, after an & in password=.
		return "the server does not know an option of the URL: correct what follows the ?, and write %26 for an & in a value"
	}
	if severalServers(config) {
		return oneSentence(err) // what each of them said
	}
	if refusal != nil {
		switch refusal.Code {
		case "28P01":
			return fmt.Sprintf("the server rejected the password of %s: correct it in the URL, and percent-encode special characters (%%40 for @)", config.User)
		case "28000":
			return fmt.Sprintf("the server does not let %s in (%s): allow it in pg_hba.conf, or correct the name", config.User, refusal.Message)
		case "3D000":
			return fmt.Sprintf("the server has no such database: make it with CREATE DATABASE %s OWNER %s, or correct the name", config.Database, config.User)
		case "42501":
			return fmt.Sprintf("%s: let %s own the database, with ALTER DATABASE %s OWNER TO %[2]s", refusal.Message, config.User, config.Database)
		case codeTooManyConnections:
			return "the server accepts no more connections: raise max_connections there, or lower pool_max_conns in the URL of each instance"
		}
	}
	var certificate *tls.CertificateVerificationError
	var unknown *net.DNSError
	var slow net.Error
	switch {
	case errors.Is(err, pgconn.ErrStandbyConnection):
		return "the server is a standby, which takes no writes: name the primary, or all of them, separated by commas"
	case errors.As(err, &certificate):
		return fmt.Sprintf("the server's certificate is not trusted (%v): name its authority's file in sslrootcert, and the server as the certificate does", certificate.Err)
	case refusal == nil && strings.Contains(err.Error(), "server refused TLS connection"): // pgx has no value for it
		return "the server has no TLS: turn it on there (ssl = on); to do without, by sslmode=disable, is for loopback alone"
	case errors.As(err, &unknown) && unknown.IsNotFound:
		return "there is no such host: correct its name"
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("nothing listens on port %d there: start PostgreSQL, see that its listen_addresses has that address, or correct host and port", config.Port)
	case errors.As(err, &slow) && slow.Timeout():
		return fmt.Sprintf("no answer on port %d there within %s: see whether the server runs and a firewall is in between, or correct host and port", config.Port, config.ConnectTimeout)
	}
	return oneSentence(err)
}

// oneSentence returns the text of an error on one line. pgx reports each host, and each try with and without
// TLS, on a line of its own.
func oneSentence(err error) string {
	head, tries, _ := strings.Cut(err.Error(), ":\n\t")
	lines := slices.Compact(strings.Split(tries, "\n\t"))
	return strings.TrimSuffix(head+": "+strings.Join(lines, "; "), ": ")
}

// migratePostgres migrates the schema, on its own connection without a deadline, since altering a large table
// may take long. It reports whether there is a pooler such as PgBouncer in between.
func migratePostgres(ctx context.Context, config *pgx.ConnConfig) (pooled bool, err error) {
	// A pooler may send each statement to another connection, which lacks the prepared statements.
	config.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return false, err
	}
	pooled, err = isPooled(ctx, conn)
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return false, err
	}

	conns := stdlib.OpenDB(*config)
	conns.SetMaxOpenConns(1)
	opened, err := gorm.Open(postgres.New(postgres.Config{Conn: conns}), options())
	if err == nil {
		err = migrateLocked(opened.WithContext(ctx))
	}
	for try := 1; try < migrationTries && isMigrationConflict(err); try++ {
		err = migrateLocked(opened.WithContext(ctx))
	}
	return pooled, errors.Join(err, conns.Close())
}

// isPooled reports whether there is a pooler between us and the server.
func isPooled(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var pid uint32
	err := conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid)
	return pid != conn.PgConn().PID(), err // the startup message and the reply came from different backends
}

const migrationTries = 5

func migrateLocked(db *gorm.DB) error {
	return db.Transaction(func(tx *gorm.DB) error {
		if err := tx.Exec("SELECT pg_advisory_xact_lock(?)", migrationLock).Error; err != nil {
			return err
		}
		return migrate(tx)
	}, &sql.TxOptions{Isolation: sql.LevelReadCommitted}) // to see what was committed while waiting for the lock
}

// isMigrationConflict reports whether a migration failed only because of concurrent transactions: those that
// use the tables, or other migrations, on a database where advisory locks have no effect.
func isMigrationConflict(err error) bool {
	var failure *pgconn.PgError
	return errors.As(err, &failure) && slices.Contains([]string{
		"40001", "40P01", // serialization failure, deadlock
		"23505", "42P07", // unique violation, duplicate table
	}, failure.Code)
}

// migrationLock is the key of the advisory lock: "latchkey" in ASCII.
const migrationLock = 0x6c617463686b6579

// withDeadline returns a dial function for connections whose server must respond within answerTimeout.
func withDeadline(dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return deadlineConn{conn}, nil
	}
}

type deadlineConn struct{ net.Conn }

func (c deadlineConn) Write(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// lockWrites does nothing: PostgreSQL has concurrent writers.
func (e *postgresEngine) lockWrites(context.Context) (unlock func(), err error) {
	return func() {}, nil
}

// txOptions overrides the server's default: after waiting for a lock, a transaction must see what was
// committed.
func (e *postgresEngine) txOptions() *sql.TxOptions {
	return &sql.TxOptions{Isolation: sql.LevelReadCommitted}
}

func (e *postgresEngine) checkFile() error { return nil }

// lockNamed locks a row, since not every database that speaks PostgreSQL's protocol has advisory locks.
func (e *postgresEngine) lockNamed(tx *gorm.DB, name string) error {
	return tx.Exec("INSERT INTO locks (name, locked_at) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET locked_at = excluded.locked_at",
		name, time.Now().UTC()).Error
}

func (e *postgresEngine) connections() Connections {
	stat := e.pool.Stat()
	now := Connections{InUse: int(stat.AcquiredConns()), Idle: int(stat.IdleConns()), Limit: int(stat.MaxConns())}
	if e.crowd.recent() != nil {
		now.Limit = now.InUse + now.Idle
	}
	return now
}

// readRow bypasses database/sql.
func (e *postgresEngine) readRow(ctx context.Context, query string, key []byte, dest []any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	for i := range dest {
		if id, ok := dest[i].(*uuid.UUID); ok {
			dest[i] = (*[16]byte)(id) // which pgx scans in binary; a uuid.UUID would be parsed from text
		}
	}
	err := e.pool.QueryRow(ctx, query, key).Scan(dest...)
	if err != nil && isCrowded(err) {
		err = e.readRowWaiting(ctx, query, key, dest)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return gorm.ErrRecordNotFound
	}
	return err
}

func (e *postgresEngine) readRowWaiting(ctx context.Context, query string, key []byte, dest []any) error {
	return e.crowd.try(ctx, func() error { return e.pool.QueryRow(ctx, query, key).Scan(dest...) })
}
