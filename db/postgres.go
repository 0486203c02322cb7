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
	before, _, _ := strings.Cut(dsn, "?")
	if user, host, ok := strings.Cut(before, "@"); ok && (strings.Contains(host, "@") || strings.Count(user, "/") > 2) {
		// A part of the password would be taken for a host or database, and be in what we say of them.
		return nil, errors.New("the user name or password has an @ or a / as it is: write %40 for @ and %2F for /")
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
	name := nameOf(config.ConnConfig)

	pooled, err := migratePostgres(ctx, config.ConnConfig.Copy())
	if err != nil {
		return nil, opening(name, errors.New(inWords(config.ConnConfig, err)))
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

// CheckURL returns an error if dsn can be the address of no database.
func CheckURL(dsn string) error {
	if _, ok := SQLitePath(dsn); ok {
		return nil
	}
	_, err := postgresConfig(dsn)
	return err
}

// nameOf is what errors call a database.
func nameOf(config *pgx.ConnConfig) string {
	return fmt.Sprintf("%s on %s", cmp.Or(config.Database, config.User), config.Host)
}

// severalServers reports whether a URL names more than one.
func severalServers(config *pgx.ConnConfig) bool {
	return slices.ContainsFunc(config.Fallbacks, func(f *pgconn.FallbackConfig) bool { return f.Host != config.Host || f.Port != config.Port })
}

// inWords says in a sentence why a database can't be opened, and where one server is to blame, what to do.
func inWords(config *pgx.ConnConfig, err error) string {
	if severalServers(config) {
		return oneSentence(err) // what each of them said
	}
	var refusal *pgconn.PgError
	if errors.As(err, &refusal) {
		switch refusal.Code {
		case "28P01":
			return fmt.Sprintf("the server does not take the password of %s: correct it in the URL, with %%40 for @ and so on for each character that means something there", config.User)
		case "28000":
			return fmt.Sprintf("the server does not let %s in (%s): allow it in pg_hba.conf, or correct the name", config.User, refusal.Message)
		case "3D000":
			return fmt.Sprintf("the server has no such database: make it with CREATE DATABASE %s OWNER %s, or correct the name", config.Database, config.User)
		case "42501":
			return fmt.Sprintf("%s: let %s own the database, with ALTER DATABASE %s OWNER TO %[2]s", refusal.Message, config.User, config.Database)
		case "53300":
			return "the server takes no more connections: raise max_connections there, or lower pool_max_conns in the URL of each instance"
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
