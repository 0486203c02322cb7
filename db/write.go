package db

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"
)

const (
	// lockTimeout is how long a write waits for other writes of this process. SQLite then waits as long
	// for other processes.
	lockTimeout = 5 * time.Second
	// writeTimeout is how long a write may take in all. If it has not been committed by then it is rolled
	// back. If the response to COMMIT is lost the outcome is unknown, and it is reported as failed.
	writeTimeout = 15 * time.Second
	// maxRetries and retryPause apply to transactions that fail because of concurrent ones.
	maxRetries = 6
	retryPause = 5 * time.Millisecond
)

// ErrBusy means that nothing was written, because of too many other writes.
var ErrBusy = errors.New("the database is busy")

// Tx is a transaction of Write, or the one that Copy reads from. It is valid until the function that receives it returns.
type Tx struct {
	*gorm.DB
	engine engine
}

// Lock locks a name until the transaction ends. On SQLite, which has one writer at a time, it does nothing.
func (tx *Tx) Lock(ctx context.Context, name string) error {
	return tx.engine.lockNamed(tx.WithContext(ctx), name)
}

// Write runs do in a transaction, and commits it if do returns nil. It runs do again after a serialization
// failure or deadlock; the last run counts. On PostgreSQL the isolation level is READ COMMITTED.
//
// It returns the error of do unchanged; ErrBusy after waiting 5 seconds for other writes; ctx.Err() if ctx
// is done; and an error for which Unavailable is true if the database can't be written to, has not committed
// within 15 seconds, or its file was removed or replaced meanwhile.
func (d *DB) Write(ctx context.Context, do func(tx *Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if d.onWrite == nil {
		return d.write(ctx, do)
	}
	w := Write{Start: time.Now()}
	w.Err = d.write(ctx, func(tx *Tx) error {
		w.Waited = time.Since(w.Start)
		return do(tx)
	})
	w.End = time.Now()
	d.onWrite(ctx, w)
	return w.Err
}

func (d *DB) write(ctx context.Context, do func(tx *Tx) error) error {
	unlock, err := d.engine.lockWrites(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := d.engine.checkFile(); err != nil {
		return err
	}
	err = d.transaction(ctx, do, d.engine.txOptions())
	for try := 0; isSerializationFailure(err) && try < maxRetries; try++ {
		select {
		case <-time.After(rand.N(retryPause << try)): // #nosec G404 -- a pause before another try, no secret
		case <-ctx.Done():
			return ctx.Err()
		}
		err = d.transaction(ctx, do, d.engine.txOptions())
	}
	if err != nil {
		return err
	}
	return d.engine.checkFile() // a write to a file that has been removed is lost
}

func (d *DB) transaction(ctx context.Context, do func(tx *Tx) error, options *sql.TxOptions) error {
	err := d.Query(ctx).Transaction(func(tx *gorm.DB) error { return do(&Tx{tx, d.engine}) }, options)
	if errors.Is(err, sql.ErrTxDone) && ctx.Err() != nil {
		return ctx.Err() // database/sql has rolled it back for that
	}
	return err
}

// isSerializationFailure reports whether a transaction failed only because of concurrent ones: a deadlock
// or, on databases with a stricter isolation than READ COMMITTED, a serialization failure.
func isSerializationFailure(err error) bool {
	var failure *pgconn.PgError
	return errors.As(err, &failure) && (failure.Code == "40001" || failure.Code == "40P01")
}

// Write describes a finished call of DB.Write.
type Write struct {
	Start, End time.Time
	Waited     time.Duration // from Start until the last run of the transaction began; 0 if none did
	Err        error
}

// OnWrite sets a function to call after every Write. Set it before the database is used.
func (d *DB) OnWrite(do func(context.Context, Write)) { d.onWrite = do }
