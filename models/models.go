// Package models stores Latchkey's data and enforces the rules that don't depend on HTTP. Each table has its
// own file.
package models

import (
	"context"
	"errors"
	"time"

	"latchkey/db"
)

// Errors that callers distinguish.
var (
	ErrNotFound = errors.New("not found")
	ErrTaken    = errors.New("that address has an account already")
	// ErrUsernameTaken is ErrTaken for a username.
	ErrUsernameTaken = errors.New("that username belongs to another account")
	ErrNotFirst      = errors.New("there is an account already")
	// ErrChanged means that the account was disabled or deleted, or its credential changed or removed,
	// after the caller looked at it.
	ErrChanged = errors.New("the account has changed meanwhile")
)

// Store gives access to all tables.
type Store struct {
	Identities  Identities
	Credentials Credentials
	Activities  Activities
	Sessions    Sessions
	Ends        Ends
	Apps        Apps
	Deliveries  Deliveries
	SigningKeys SigningKeys
	Attempts    Attempts
	Secrets     Secrets
	SingleUse   SingleUse
	// SecurityEvents holds what commands leave for a server to log.
	SecurityEvents SecurityEvents
	onEnd          *func(context.Context, Ended)
	onSweep        *func()
}

// New returns the store on a database. now is the clock. Times are stored in UTC and truncated to
// microseconds, which every database supports.
func New(d *db.DB, now func() time.Time) *Store {
	clock := func() time.Time { return now().UTC().Truncate(time.Microsecond) }
	t := table{db: d, now: clock, onEnd: new(func(context.Context, Ended)), onSweep: new(func())}
	return &Store{Identities: Identities{t}, Credentials: Credentials{t}, Activities: Activities{t}, Sessions: Sessions{t}, Ends: Ends{t}, Apps: Apps{t}, Deliveries: Deliveries{t},
		SigningKeys: SigningKeys{t}, Attempts: Attempts{t}, Secrets: Secrets{t}, SingleUse: SingleUse{t}, SecurityEvents: SecurityEvents{t}, onEnd: t.onEnd, onSweep: t.onSweep}
}

// OnEnd sets a function to call after each commit in which this process marked sessions as ended. Set it
// before the store is used.
func (s *Store) OnEnd(do func(context.Context, Ended)) { *s.onEnd = do }

// OnSweep sets a function to call when this process has ended more sessions than it has marked. Sweep should
// then be called until it returns 0. Set it before the store is used.
func (s *Store) OnSweep(do func()) { *s.onSweep = do }

// table is what all tables share.
type table struct {
	db  *db.DB
	now func() time.Time
	// onEnd points to the function set by Store.OnEnd, or to nil.
	onEnd *func(context.Context, Ended)
	// onSweep is the same for Store.OnSweep.
	onSweep *func()
}

// update is like db.Write, for a function that returns how many rows it changed.
func (t table) update(ctx context.Context, do func(tx *db.Tx) (int, error)) (n int, err error) {
	err = t.db.Write(ctx, func(tx *db.Tx) error {
		n, err = do(tx)
		return err
	})
	return n, err
}

// ending is like db.Write, for a transaction that marks sessions as ended and returns how many. It then
// notifies other instances, and calls onEnd.
func (t table) ending(ctx context.Context, do func(tx *db.Tx) (Ended, error)) (ended Ended, err error) {
	err = t.db.Write(ctx, func(tx *db.Tx) error {
		ended, err = do(tx)
		return err
	})
	if err != nil || len(ended) == 0 {
		return ended, err
	}
	t.db.Notify(ctx, endsChannel)
	if *t.onEnd != nil {
		(*t.onEnd)(ctx, ended)
	}
	return ended, nil
}

// Shrink returns free space of a SQLite file to the file system, in one short write: see db.DB.Shrink.
func (s *Store) Shrink(ctx context.Context, pages int) (freed int, err error) {
	return s.Identities.db.Shrink(ctx, pages)
}

// Ping returns an error if the database can't be read.
func (s *Store) Ping(ctx context.Context) error {
	if _, err := s.Identities.Exist(ctx); err != nil {
		return err
	}
	return s.Identities.db.Ping(ctx)
}
