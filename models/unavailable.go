package models

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	lib "modernc.org/sqlite/lib"
)

// Unavailable reports whether an error means that the database can't be used as it is, rather than
// that what was asked of it is wrong: it is locked, full, read-only, broken or gone. What was asked
// may work later, when somebody or time has put it right.
func Unavailable(err error) bool {
	var known interface{ Unavailable() bool } // errors of package db
	if errors.As(err, &known) && known.Unavailable() {
		return true
	}
	var failure interface{ Code() int } // of SQLite, by its driver or package lookup
	if errors.As(err, &failure) {
		switch failure.Code() & 0xff { // the rest says more of the same: https://sqlite.org/rescode.html
		case lib.SQLITE_BUSY, lib.SQLITE_LOCKED, lib.SQLITE_PROTOCOL, lib.SQLITE_INTERRUPT, lib.SQLITE_NOMEM,
			lib.SQLITE_IOERR, lib.SQLITE_FULL, lib.SQLITE_READONLY, lib.SQLITE_CANTOPEN, lib.SQLITE_PERM,
			lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
			return true
		}
	}
	return errors.Is(err, ErrBusy) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, context.DeadlineExceeded) || postgresAway(err)
}

// postgresAway reports whether PostgreSQL can't be reached, or says itself that it can't do anything now.
func postgresAway(err error) bool {
	var unreached *pgconn.ConnectError // whatever the reason: with these settings it has been reached before
	var network net.Error
	if errors.As(err, &unreached) || errors.As(err, &network) {
		return true
	}
	// What is left of a connection or transaction that has gone.
	for _, gone := range []error{io.EOF, io.ErrUnexpectedEOF, pgconn.ErrConnClosed, sql.ErrConnDone, sql.ErrTxDone, pgx.ErrTxClosed} {
		if errors.Is(err, gone) {
			return true
		}
	}
	var failure *pgconn.PgError
	if !errors.As(err, &failure) {
		return false
	}
	switch failure.Code { // https://www.postgresql.org/docs/current/errcodes-appendix.html
	case "25006", // read-only: a standby, or about to be one
		"25P03", "25P04", // it has ended the connection for having taken too long
		"55P03",          // locked
		"XX001", "XX002": // corrupted
		return true
	}
	switch failure.Code[:min(2, len(failure.Code))] {
	case "08", // connection
		"40", // others were in the way, again and again
		"53", // disk, memory or connections are used up
		"57", // the operator, a restart, or statement_timeout
		"58": // the system below it
		return true
	}
	return false
}
