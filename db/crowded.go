package db

import (
	"context"
	"database/sql/driver"
	"errors"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// codeTooManyConnections is the SQLSTATE too_many_connections: of the server, the database or the role.
	codeTooManyConnections = "53300"
	// growAfter is how long a pool that the server has refused a connection makes do with those it has.
	growAfter = 10 * time.Second
	// freePause is the time between two looks for a free connection.
	freePause = 500 * time.Microsecond
)

// crowd lets a pool that can't grow, since its server takes no more connections, wait for one of those it has:
// pgxpool would fail. It is safe for concurrent use.
type crowd struct {
	pool    *pgxpool.Pool
	refusal atomic.Pointer[refusal] // the latest; nil for none
	turn    chan struct{}           // holds an element while somebody looks for a free connection
	report  func(err error)         // may be nil
}

// refusal is the server's refusal of a connection. As an error it stands for connections that are therefore not
// tried either.
type refusal struct {
	at  time.Time
	err error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

func isCrowded(err error) bool {
	var failure *pgconn.PgError
	return errors.As(err, &failure) && failure.Code == codeTooManyConnections
}

// open returns how many connections the pool has.
func (c *crowd) open() int {
	stat := c.pool.Stat()
	return int(stat.AcquiredConns() + stat.IdleConns())
}

// recent returns the refusal of less than growAfter ago, or nil.
func (c *crowd) recent() *refusal {
	if last := c.refusal.Load(); last != nil && time.Since(last.at) < growAfter {
		return last
	}
	return nil
}

// beforeConnect is a hook of pgxpool: it spares the server another connection that it would refuse.
func (c *crowd) beforeConnect(context.Context, *pgx.ConnConfig) error {
	if last := c.recent(); last != nil && c.open() > 0 {
		return last
	}
	return nil
}

// try calls use, which needs a connection of the pool, until it gets one or ctx is done. It returns the refusal at
// once if there is no connection to wait for.
func (c *crowd) try(ctx context.Context, use func() error) error {
	err := use()
	if !isCrowded(err) {
		return err
	}
	select { // one after the other, in the order of their coming
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return err
	}
	defer func() { <-c.turn }()
	for {
		c.refused(err)
		if c.open() == 0 {
			return err
		}
		if err = use(); !isCrowded(err) {
			return err
		}
		select {
		case <-time.After(freePause):
		case <-ctx.Done():
			return err
		}
	}
}

// refused remembers what the server has said.
func (c *crowd) refused(err error) {
	var known *refusal
	if errors.As(err, &known) {
		return
	}
	c.refusal.Store(&refusal{time.Now(), err})
	if c.report != nil {
		c.report(err)
	}
}

// patientConnector makes database/sql wait for a free connection.
type patientConnector struct {
	driver.Connector
	crowd *crowd
}

func (p patientConnector) Connect(ctx context.Context) (conn driver.Conn, err error) {
	err = p.crowd.try(ctx, func() error {
		conn, err = p.Connector.Connect(ctx)
		return err
	})
	return conn, err
}

// OnCrowded sets a function to call when PostgreSQL refuses a connection, so that fewer have to do. Set it before
// the database is used.
func (d *DB) OnCrowded(do func(err error)) {
	if e, ok := d.engine.(*postgresEngine); ok {
		e.crowd.report = do
	}
}
