// Package models is what Latchkey stores and the rules that hold without HTTP: one file a table.
package models

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

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
	onEnd       *func(Ended)
	onWrite     *func(context.Context, Write)
	connections func() Connections
}

// New returns the store on a database that package db has opened. now is the clock: whatever its
// zone and precision, times are stored in UTC and to the microsecond, which every database keeps.
func New(db *gorm.DB, now func() time.Time) *Store {
	clock := func() time.Time { return now().UTC().Truncate(time.Microsecond) }
	t := table{db: db, now: clock, file: new(file), onEnd: new(func(Ended)), onWrite: new(func(context.Context, Write))}
	if dialect, ok := db.Dialector.(interface{ InPlace() error }); ok {
		t.file.inPlace = dialect.InPlace
	}
	switch dialect := db.Dialector.(type) {
	case interface{ Lookup() *lookup.Pool }:
		t.lookup, t.turn = dialect.Lookup(), make(chan struct{}, 1)
	case interface{ Pool() *pgxpool.Pool }:
		t.postgres = dialect.Pool()
	}
	return &Store{Identities: Identities{t}, Activities: Activities{t}, Sessions: Sessions{t}, Ends: Ends{t}, Apps: Apps{t}, Deliveries: Deliveries{t},
		SigningKeys: SigningKeys{t}, Attempts: Attempts{t}, Secrets: Secrets{t}, onEnd: t.onEnd, onWrite: t.onWrite, connections: t.connections}
}

// OnEnd has do called whenever this process has ended sessions, after the commit. Set it before the
// store is used.
func (s *Store) OnEnd(do func(Ended)) { *s.onEnd = do }

// Write is how a transaction that writes went.
type Write struct {
	Asked, Ended time.Time
	Waited       time.Duration // for its turn
	Err          error
}

// OnWrite has do called after every transaction that writes. Set it before the store is used.
func (s *Store) OnWrite(do func(context.Context, Write)) { *s.onWrite = do }

// Connections are those to the database.
type Connections struct{ InUse, Idle, Limit int }

// Connections returns how many there are right now.
func (s *Store) Connections() Connections { return s.connections() }

func (t table) connections() Connections {
	if t.postgres != nil {
		stat := t.postgres.Stat()
		return Connections{InUse: int(stat.AcquiredConns()), Idle: int(stat.IdleConns()), Limit: int(stat.MaxConns())}
	}
	pool, err := t.db.DB()
	if err != nil {
		return Connections{}
	}
	stats := pool.Stats()
	return Connections{InUse: stats.InUse, Idle: stats.Idle, Limit: stats.MaxOpenConnections}
}

// table is what the methods of every table work with.
type table struct {
	db  *gorm.DB
	now func() time.Time
	// One of these reads what can't wait for GORM, as the database is.
	lookup   *lookup.Pool
	postgres *pgxpool.Pool
	// turn is held by who writes, nil where writers may run side by side. SQLite has one writer at
	// a time; left to themselves the others poll for its lock, and some never get it.
	turn chan struct{}
	file *file
	// onEnd points to what is called when sessions have ended; to nil if nothing is.
	onEnd *func(Ended)
	// onWrite is the same for transactions.
	onWrite *func(context.Context, Write)
}

// patience is how long a write waits for its turn: as long as SQLite then waits for other processes.
const patience = 5 * time.Second

// writeWithin is how long a write may take in all, also where nobody waits for it. What has not been
// committed by then is not; where the commit itself is not answered, nobody knows, and it has failed.
const writeWithin = 15 * time.Second

// write runs do in a transaction when its turn has come. It may run it more than once: the last one
// counts.
func (t table) write(ctx context.Context, do func(tx *gorm.DB) error) error {
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	if *t.onWrite == nil {
		return t.transact(ctx, do)
	}
	w := Write{Asked: time.Now()}
	w.Err = t.transact(ctx, func(tx *gorm.DB) error {
		w.Waited = time.Since(w.Asked)
		return do(tx)
	})
	w.Ended = time.Now()
	(*t.onWrite)(ctx, w)
	return w.Err
}

func (t table) transact(ctx context.Context, do func(tx *gorm.DB) error) error {
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
	if err := t.file.check(); err != nil {
		return err
	}
	var options []*sql.TxOptions
	if t.postgres != nil {
		// Whatever the server's default is: who has waited for another transaction must see what it did.
		options = append(options, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	}
	err := t.db.WithContext(ctx).Transaction(do, options...)
	for try := 0; inTheWay(err) && try < maxRetries; try++ {
		select {
		case <-time.After(rand.N(retryPause << try)): // #nosec G404 -- a pause before another try, no secret
		case <-ctx.Done():
			return ctx.Err()
		}
		err = t.db.WithContext(ctx).Transaction(do, options...)
	}
	if err != nil {
		return err
	}
	return t.file.check() // what was written to a file that has gone must not be promised to anybody
}

const (
	maxRetries = 6
	retryPause = 5 * time.Millisecond
)

// inTheWay reports whether a transaction failed only because others ran side by side: a deadlock or,
// on databases that keep transactions apart more strictly than we need, a serialization failure.
func inTheWay(err error) bool {
	var failure *pgconn.PgError
	return errors.As(err, &failure) && (failure.Code == "40001" || failure.Code == "40P01")
}

// update is write for what returns how many rows it changed.
func (t table) update(ctx context.Context, do func(tx *gorm.DB) (int, error)) (n int, err error) {
	err = t.write(ctx, func(tx *gorm.DB) error {
		n, err = do(tx)
		return err
	})
	return n, err
}

// ending is write for a transaction that ends sessions and returns how many.
func (t table) ending(ctx context.Context, do func(tx *gorm.DB) (Ended, error)) (ended Ended, err error) {
	err = t.write(ctx, func(tx *gorm.DB) error {
		ended, err = do(tx)
		return err
	})
	if err != nil || len(ended) == 0 {
		return ended, err
	}
	t.notify(ctx)
	if *t.onEnd != nil {
		(*t.onEnd)(ended)
	}
	return ended, nil
}

// alone keeps others who ask for the same from going on before the transaction is over, where writers
// run side by side. It needs nothing of the database but rows that can be locked.
func (t table) alone(ctx context.Context, tx *gorm.DB, what string) error {
	if t.postgres == nil {
		return nil
	}
	return gorm.G[Secret](tx, clause.OnConflict{Columns: []clause.Column{{Name: "name"}}, DoUpdates: clause.AssignmentColumns([]string{"value"})}).
		Create(ctx, &Secret{Name: "lock:" + what, Value: []byte{0}, CreatedAt: t.now()})
}

// Ping reads a table, so that a server whose database is gone does not call itself ready.
func (s *Store) Ping(ctx context.Context) error {
	if _, err := s.Identities.Exist(ctx); err != nil {
		return err
	}
	return s.Identities.file.check()
}
