// Package models is what Latchkey stores and the rules that hold without HTTP: one file a table.
package models

import (
	"context"
	"errors"
	"time"

	"gorm.io/gorm"

	"latchkey/db/lookup"
)

// Errors that callers tell apart.
var (
	ErrNotFound = errors.New("not found")
	ErrTaken    = errors.New("that address has an account already")
	ErrNotFirst = errors.New("there is an account already")
	// ErrChanged means that the account was disabled, deleted or given another password after
	// the caller looked at it.
	ErrChanged = errors.New("the account has changed meanwhile")
	// ErrBusy means that nothing was written because too much else is being written.
	ErrBusy = errors.New("the database is busy")
)

// Store is everything that is stored.
type Store struct {
	Identities  Identities
	Activities  Activities
	Sessions    Sessions
	Ends        Ends
	Apps        Apps
	Deliveries  Deliveries
	SigningKeys SigningKeys
	Attempts    Attempts
	Secrets     Secrets
	onEnd       *func()
}

// New returns the store on a database that package db has opened. now is the clock: whatever its
// zone and precision, times are stored in UTC and to the microsecond, which every database keeps.
func New(db *gorm.DB, now func() time.Time) *Store {
	clock := func() time.Time { return now().UTC().Truncate(time.Microsecond) }
	t := table{db: db, now: clock, onEnd: new(func())}
	if db.Name() == "sqlite" {
		t.turn = make(chan struct{}, 1)
	}
	rows, _ := db.Plugins[lookup.Name].(*lookup.Pool)
	return &Store{Identities: Identities{t}, Activities: Activities{t}, Sessions: Sessions{t, rows}, Ends: Ends{t}, Apps: Apps{t}, Deliveries: Deliveries{t},
		SigningKeys: SigningKeys{t}, Attempts: Attempts{t}, Secrets: Secrets{t}, onEnd: t.onEnd}
}

// OnEnd has do called whenever this process has ended sessions, after the commit. Set it before the
// store is used.
func (s *Store) OnEnd(do func()) { *s.onEnd = do }

// table is what the methods of every table work with.
type table struct {
	db  *gorm.DB
	now func() time.Time
	// turn is held by who writes, nil where writers may run side by side. SQLite has one writer at
	// a time; left to themselves the others poll for its lock, and some never get it.
	turn chan struct{}
	// onEnd points to what is called when sessions have ended; to nil if nothing is.
	onEnd *func()
}

// patience is how long a write waits for its turn: as long as SQLite then waits for other processes.
const patience = 5 * time.Second

// write runs do in a transaction when its turn has come.
func (t table) write(ctx context.Context, do func(tx *gorm.DB) error) error {
	if t.turn != nil {
		waiting, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		select {
		case t.turn <- struct{}{}:
			defer func() { <-t.turn }()
		case <-waiting.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return ErrBusy
		}
	}
	return t.db.WithContext(ctx).Transaction(do)
}

// update is write for what returns how many rows it changed.
func (t table) update(ctx context.Context, do func(tx *gorm.DB) (int, error)) (n int, err error) {
	err = t.write(ctx, func(tx *gorm.DB) error {
		n, err = do(tx)
		return err
	})
	return n, err
}

// ending is update for a transaction that ends sessions and returns how many.
func (t table) ending(ctx context.Context, do func(tx *gorm.DB) (int, error)) (int, error) {
	n, err := t.update(ctx, do)
	if err == nil && n > 0 && *t.onEnd != nil {
		(*t.onEnd)()
	}
	return n, err
}

// Ping reads a table, so that a server whose database is gone does not call itself ready.
func (s *Store) Ping(ctx context.Context) error {
	_, err := s.Identities.Exist(ctx)
	return err
}
