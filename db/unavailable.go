package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	sqlitedriver "modernc.org/sqlite"
	"zombiezen.com/go/sqlite"
)

// Unavailable reports whether an error is due to the state of the database rather than to the request: it is
// locked, full, read-only, damaged or unreachable. The same request may succeed later.
func Unavailable(err error) bool {
	var lost lostError
	var away awayError
	return errors.As(err, &lost) || errors.As(err, &away) || errors.Is(err, ErrBusy) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, context.DeadlineExceeded) || sqliteUnavailable(err) || postgresUnavailable(err)
}

func sqliteUnavailable(err error) bool {
	code := sqlite.ErrCode(err).ToPrimary() // of ReadRow
	var failure *sqlitedriver.Error         // of everything else
	if errors.As(err, &failure) {
		code = sqlite.ResultCode(failure.Code() & 0xff) // the primary result code: https://sqlite.org/rescode.html
	}
	switch code {
	case sqlite.ResultBusy, sqlite.ResultLocked, sqlite.ResultProtocol, sqlite.ResultInterrupt, sqlite.ResultNoMem,
		sqlite.ResultIOErr, sqlite.ResultFull, sqlite.ResultReadOnly, sqlite.ResultCantOpen, sqlite.ResultPerm,
		sqlite.ResultCorrupt, sqlite.ResultNotADB:
		return true
	}
	return false
}

// postgresUnavailable reports whether PostgreSQL is unreachable or says that it can't serve requests now.
func postgresUnavailable(err error) bool {
	var unreached *pgconn.ConnectError // whatever the reason: these settings have worked before
	var network net.Error
	if errors.As(err, &unreached) || errors.As(err, &network) {
		return true
	}
	// Errors of a connection or transaction that has been lost.
	for _, gone := range []error{io.EOF, io.ErrUnexpectedEOF, pgconn.ErrConnClosed, sql.ErrConnDone, sql.ErrTxDone, pgx.ErrTxClosed} {
		if errors.Is(err, gone) {
			return true
		}
	}
	var failure *pgconn.PgError
	return errors.As(err, &failure) && codeUnavailable(failure.Code)
}

// codeUnavailable reports whether PostgreSQL says by this SQLSTATE that it can't serve requests now.
func codeUnavailable(code string) bool {
	switch code { // https://www.postgresql.org/docs/current/errcodes-appendix.html
	case codeReadOnly, // a standby, or becoming one
		"25P03", "25P04", // idle or transaction timeout
		"55P03",          // locked
		"XX001", "XX002": // corrupted
		return true
	}
	switch code[:min(2, len(code))] {
	case "08", // connection
		"40", // serialization failures, despite retries
		"53", // out of disk space, memory or connections
		"57", // operator intervention, restart, or statement_timeout
		"58": // operating system
		return true
	}
	return false
}
