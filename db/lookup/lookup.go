// Package lookup reads single rows of a SQLite file by a key, in the least time: what every request of
// every app waits for. It asks the library below database/sql and its driver, which for each row lock
// three times, name the columns anew, and pass every value through an interface.
//
// What it returns is what is committed, by whatever process, at the moment of the call: no read goes
// on, and no row is remembered, from one call to the next.
package lookup

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// pragmas of a connection. The system's cache has the file; this one has the upper pages of its trees.
const pragmas = "PRAGMA cache_size = -1024; PRAGMA query_only = 1"

// keySize is the length of every key: a SHA-256.
const keySize = 32

// Error is what SQLite says went wrong.
type Error struct {
	text string
	code int
}

func (e *Error) Error() string { return e.text }

// Code returns SQLite's result code: https://sqlite.org/rescode.html.
func (e *Error) Code() int { return e.code }

// Pool is some connections to a file, for reads alone. It is safe for concurrent use.
type Pool struct {
	path  string
	busy  time.Duration
	same  func() error
	turns chan struct{} // held by who reads: as many as there are connections

	mu     sync.Mutex
	closed bool
	idle   []*conn // the last one used is the next: it has the pages
}

// New returns a Pool for the file. It opens connections when they are needed, and keeps those for
// which same, asked afterwards, has no error; each read waits for that long for a process that has
// locked the file.
func New(path string, busy time.Duration, same func() error) *Pool {
	return &Pool{path: path, busy: busy, same: same, turns: make(chan struct{}, min(max(runtime.GOMAXPROCS(0), 2), 8))}
}

// Row has scan read the row that the query finds by the key, its one parameter. It returns false if
// there is none.
func (p *Pool) Row(query string, key [keySize]byte, scan func(Row) error) (found bool, err error) {
	p.turns <- struct{}{}
	defer func() { <-p.turns }()
	c, err := p.take()
	if err != nil {
		return false, err
	}
	healthy := false
	defer func() { // also if scan panics
		if healthy {
			p.give(c)
		} else {
			c.close()
		}
	}()
	found, err = c.row(query, key, scan)
	healthy = err == nil
	return found, err
}

// Close closes the connections, when those that read have done so.
func (p *Pool) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.idle {
		c.close()
	}
	p.idle = nil
	return nil
}

func (p *Pool) take() (*conn, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, errors.New("the database is closed")
	}
	if last := len(p.idle) - 1; last >= 0 {
		c := p.idle[last]
		p.idle = p.idle[:last]
		p.mu.Unlock()
		return c, nil
	}
	p.mu.Unlock()
	c, err := open(p.path, p.busy)
	if err != nil {
		return nil, errors.Join(err, p.same()) // which may be why
	}
	if err := p.same(); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (p *Pool) give(c *conn) {
	p.mu.Lock()
	if !p.closed {
		p.idle = append(p.idle, c)
		c = nil
	}
	p.mu.Unlock()
	if c != nil {
		c.close()
	}
}

// conn is a connection with one prepared statement. What it points to is memory that the library
// has allocated, outside of Go's.
type conn struct {
	tls   *libc.TLS
	db    uintptr
	query string
	stmt  uintptr
	key   uintptr // bound to the statement
}

func open(path string, busy time.Duration) (_ *conn, err error) {
	c := &conn{tls: libc.NewTLS()}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.key = libc.Xmalloc(c.tls, keySize); c.key == 0 {
		return nil, errors.New("no memory for a connection to the database")
	}
	name, err := libc.CString(path)
	if err != nil {
		return nil, err
	}
	defer libc.Xfree(c.tls, name)
	// Without locks of its own, since one goroutine at a time has it.
	c.db, err = c.made(func(p uintptr) int32 {
		return lib.Xsqlite3_open_v2(c.tls, name, p, lib.SQLITE_OPEN_READWRITE|lib.SQLITE_OPEN_NOMUTEX, 0)
	})
	if err != nil {
		return nil, err
	}
	lib.Xsqlite3_busy_timeout(c.tls, c.db, int32(busy/time.Millisecond)) // #nosec G115 -- of a constant
	settings, err := libc.CString(pragmas)
	if err != nil {
		return nil, err
	}
	defer libc.Xfree(c.tls, settings)
	if rc := lib.Xsqlite3_exec(c.tls, c.db, settings, 0, 0, 0); rc != lib.SQLITE_OK {
		return nil, c.failure(rc)
	}
	return c, nil
}

// made returns what the library stores where it is told to.
func (c *conn) made(by func(at uintptr) int32) (uintptr, error) {
	at := libc.Xcalloc(c.tls, 1, keySize)
	if at == 0 {
		return 0, errors.New("no memory for a connection to the database")
	}
	defer libc.Xfree(c.tls, at)
	rc := by(at)
	p := *(*uintptr)(unsafe.Pointer(unsafe.SliceData(libc.GoBytes(at, keySize)))) // #nosec G103 -- as the library returns pointers
	if rc != lib.SQLITE_OK {
		if c.db == 0 {
			c.db = p // a failed open leaves a connection that knows why, and must be closed
		}
		return 0, c.failure(rc)
	}
	return p, nil
}

func (c *conn) prepare(query string) error {
	lib.Xsqlite3_finalize(c.tls, c.stmt)
	c.stmt, c.query = 0, ""
	text, err := libc.CString(query)
	if err != nil {
		return err
	}
	defer libc.Xfree(c.tls, text)
	c.stmt, err = c.made(func(p uintptr) int32 { return lib.Xsqlite3_prepare_v2(c.tls, c.db, text, -1, p, 0) })
	if err != nil {
		return err
	}
	if rc := lib.Xsqlite3_bind_blob(c.tls, c.stmt, 1, c.key, keySize, 0); rc != lib.SQLITE_OK { // 0: stays where it is
		return c.failure(rc)
	}
	c.query = query
	return nil
}

func (c *conn) row(query string, key [keySize]byte, scan func(Row) error) (found bool, err error) {
	if c.query != query {
		if err := c.prepare(query); err != nil {
			return false, err
		}
	}
	copy(libc.GoBytes(c.key, keySize), key[:])
	switch rc := lib.Xsqlite3_step(c.tls, c.stmt); rc {
	case lib.SQLITE_ROW:
		found, err = true, scan(Row{c.tls, c.stmt})
	case lib.SQLITE_DONE:
	default:
		err = c.failure(rc)
	}
	lib.Xsqlite3_reset(c.tls, c.stmt) // ends the read; its result is that of the step
	return found, err
}

func (c *conn) failure(rc int32) error {
	text := lib.Xsqlite3_errstr(c.tls, rc)
	if c.db != 0 {
		text = lib.Xsqlite3_errmsg(c.tls, c.db)
	}
	return &Error{fmt.Sprintf("%s (%d)", libc.GoString(text), rc), int(rc)}
}

func (c *conn) close() {
	lib.Xsqlite3_finalize(c.tls, c.stmt)
	lib.Xsqlite3_close(c.tls, c.db)
	libc.Xfree(c.tls, c.key)
	c.tls.Close()
}

// Row is a row that has been found. It is good until scan returns.
type Row struct {
	tls  *libc.TLS
	stmt uintptr
}

// Int returns the integer in a column, which are counted from 0; 0 for NULL.
func (r Row) Int(column int32) int64 { return lib.Xsqlite3_column_int64(r.tls, r.stmt, column) }

// Null reports whether a column is NULL.
func (r Row) Null(column int32) bool {
	return lib.Xsqlite3_column_type(r.tls, r.stmt, column) == lib.SQLITE_NULL
}

// Text returns the text in a column; "" for NULL.
func (r Row) Text(column int32) string { return string(r.Raw(column)) }

// Raw is Text that is good until scan returns.
func (r Row) Raw(column int32) []byte {
	text := lib.Xsqlite3_column_text(r.tls, r.stmt, column)
	if text == 0 {
		return nil
	}
	return libc.GoBytes(text, int(lib.Xsqlite3_column_bytes(r.tls, r.stmt, column)))
}
