package db

import (
	"crypto/tls"
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// awayError says why a server can't be used now, although nothing says that a setting is wrong: Unavailable is true
// for it.
type awayError string

func (e awayError) Error() string { return string(e) }

// explained returns what explain says of a database that can't be opened: as an awayError if the same may succeed
// later.
func explained(config *pgx.ConnConfig, err error) error {
	text := explain(config, err)
	if isAway(err) {
		return awayError(text)
	}
	return errors.New(text)
}

// isAway reports whether servers that can't be connected to are away, and nothing says that a setting is wrong.
func isAway(err error) bool {
	var found faults
	found.add(err)
	return found.away && !found.settings
}

// faults are what the tries to connect have failed for: of each server, with and without TLS.
type faults struct {
	away     bool // the server isn't there, or doesn't take connections or writes now
	settings bool // it is there, and a setting is wrong
}

// add adds an error and all that it wraps. A host without an address counts as away: in many a network, a machine or
// container that doesn't run has none.
func (f *faults) add(err error) {
	switch e := err.(type) {
	case *pgconn.PgError:
		f.away = f.away || codeUnavailable(e.Code)
		f.settings = f.settings || !codeUnavailable(e.Code)
		return
	case *tls.CertificateVerificationError:
		f.settings = true
		return
	case *net.OpError:
		if e.Op == "remote error" || e.Op == "local error" { // of crypto/tls: an alert
			f.settings = true
			return
		}
		f.away = true
	case net.Error: // also of the resolver, and timeouts
		f.away = true
	}
	switch err {
	case io.EOF, io.ErrUnexpectedEOF, pgconn.ErrStandbyConnection, pgconn.ErrReadOnlyConnection:
		f.away = true
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		f.add(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			f.add(inner)
		}
	}
}
