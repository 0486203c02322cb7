package models

import (
	"context"
	"database/sql/driver"
	"errors"

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
	return errors.Is(err, ErrBusy) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, context.DeadlineExceeded)
}
