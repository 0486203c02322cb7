package db

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/gofrs/uuid/v5"
	"gorm.io/gorm"
	"zombiezen.com/go/sqlite"
)

// rowReader reads single rows of a SQLite file (hot path), on connections of its own. It is safe for
// concurrent use.
type rowReader struct {
	file  *file
	slots chan struct{} // one element for each read in progress

	mu     sync.Mutex
	closed bool
	idle   []*readConn // a stack, since the last one used has a warm cache
}

// newRowReader returns a reader of the file, which opens connections on demand.
func newRowReader(f *file) *rowReader {
	return &rowReader{file: f, slots: make(chan struct{}, min(max(runtime.GOMAXPROCS(0), 2), 8))}
}

// read is DB.ReadRow.
func (r *rowReader) read(ctx context.Context, query string, key []byte, dest []any) error {
	if err := r.file.lastCheck(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case r.slots <- struct{}{}:
	default: // a select with two cases costs more
		select {
		case r.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer func() { <-r.slots }()
	c, err := r.take(ctx)
	if err != nil {
		return err
	}
	healthy := false
	defer func() { // even on panic
		if healthy {
			r.give(c)
		} else {
			_ = c.conn.Close() // its error has been returned
		}
	}()
	found, err := c.row(ctx, query, key, dest)
	healthy = err == nil
	if err == nil && !found {
		err = gorm.ErrRecordNotFound
	}
	return err
}

// Close closes the idle connections. Those in use are closed when their reads finish.
func (r *rowReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	var errs []error
	for _, c := range r.idle {
		errs = append(errs, c.conn.Close())
	}
	r.idle = nil
	return errors.Join(errs...)
}

func (r *rowReader) take(ctx context.Context) (*readConn, error) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, errors.New("the database is closed")
	}
	if last := len(r.idle) - 1; last >= 0 {
		c := r.idle[last]
		r.idle = r.idle[:last]
		r.mu.Unlock()
		return c, nil
	}
	r.mu.Unlock()
	c, err := openReadConn(ctx, r.file.path)
	if err != nil {
		return nil, errors.Join(err, r.file.checkSame()) // possibly the cause
	}
	if err := r.file.checkSame(); err != nil {
		return nil, errors.Join(err, c.conn.Close())
	}
	return c, nil
}

func (r *rowReader) give(c *readConn) {
	r.mu.Lock()
	if !r.closed {
		r.idle = append(r.idle, c)
		c = nil
	}
	r.mu.Unlock()
	if c != nil {
		_ = c.conn.Close() // nothing was written on it
	}
}

// readConn is a connection. It is not safe for concurrent use.
type readConn struct {
	conn *sqlite.Conn
	// stmts are the prepared statements by their text. The connection has such a cache too, but it clears
	// the parameters of a reused statement, which makes SQLite plan it again: five times the work.
	stmts map[string]*sqlite.Stmt
}

func openReadConn(ctx context.Context, path string) (*readConn, error) {
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite) // not OpenReadOnly, which can't recover a log
	if err != nil {
		return nil, err
	}
	c := &readConn{conn: conn, stmts: map[string]*sqlite.Stmt{}}
	err = c.waiting(ctx, func() error {
		// In KiB: enough for the upper pages of the B-trees. The rest is in the system's cache.
		return errors.Join(c.exec("PRAGMA cache_size = -1024"), c.exec("PRAGMA query_only = 1"))
	})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

func (c *readConn) exec(statement string) error {
	stmt, _, err := c.conn.PrepareTransient(statement)
	if err != nil {
		return err
	}
	_, err = stmt.Step()
	return errors.Join(err, stmt.Finalize())
}

// row reads a row, and reports whether there is one. It first tries without SetInterrupt, which takes a
// goroutine and a third of the time of the read itself: a read that needn't wait takes microseconds.
func (c *readConn) row(ctx context.Context, query string, key []byte, dest []any) (found bool, err error) {
	stmt := c.stmts[query]
	if stmt == nil {
		if stmt, err = c.prepare(ctx, query); err != nil {
			return false, err
		}
	}
	stmt.BindBytes(1, key)
	found, err = step(stmt, dest)
	if err != nil && sqlite.ErrCode(err).ToPrimary() == sqlite.ResultBusy {
		return c.rowWaiting(ctx, stmt, dest)
	}
	return found, err
}

func (c *readConn) rowWaiting(ctx context.Context, stmt *sqlite.Stmt, dest []any) (found bool, err error) {
	err = c.waiting(ctx, func() (err error) {
		found, err = step(stmt, dest)
		return err
	})
	return found, err
}

func (c *readConn) prepare(ctx context.Context, query string) (stmt *sqlite.Stmt, err error) {
	err = c.waiting(ctx, func() error {
		stmt, err = c.conn.Prepare(query)
		return err
	})
	if err == nil {
		c.stmts[query] = stmt
	}
	return stmt, err
}

// waiting runs do while the connection waits for locks of other processes, until ctx is done and for at most
// busyTimeout. Outside of it the connection doesn't wait.
func (c *readConn) waiting(ctx context.Context, do func() error) error {
	limited, cancel := context.WithTimeout(ctx, busyTimeout)
	defer cancel()
	c.conn.SetBlockOnBusy()
	c.conn.SetInterrupt(limited.Done())
	defer func() {
		c.conn.SetInterrupt(nil)
		c.conn.SetBusyTimeout(0)
	}()
	err := do()
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// step reads a row into dest and ends the read transaction.
func step(stmt *sqlite.Stmt, dest []any) (found bool, err error) {
	found, err = stmt.Step()
	if found {
		err = scan(stmt, dest)
	}
	if reset := stmt.Reset(); err == nil {
		err = reset
	}
	return found, err
}

// scan reads columns as SQLite stores them.
func scan(stmt *sqlite.Stmt, dest []any) error {
	for i := range dest {
		switch to := dest[i].(type) {
		case *string:
			*to = stmt.ColumnText(i)
		case *int64:
			*to = stmt.ColumnInt64(i)
		case *bool:
			*to = stmt.ColumnBool(i)
		case *time.Time:
			*to = columnTime(stmt, i)
		case **time.Time:
			*to = nil
			if !stmt.ColumnIsNull(i) {
				at := columnTime(stmt, i)
				*to = &at
			}
		case *uuid.UUID:
			var text [36]byte
			n := stmt.ColumnBytes(i, text[:])
			if err := to.UnmarshalText(text[:n]); err != nil {
				return fmt.Errorf("read column %d: %w", i, err)
			}
		default:
			return fmt.Errorf("read column %d: %T can't be read", i, to)
		}
	}
	return nil
}

func columnTime(stmt *sqlite.Stmt, column int) time.Time {
	return time.UnixMicro(stmt.ColumnInt64(column)).UTC()
}
