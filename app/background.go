package app

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	pruneEvery = 10 * time.Minute
	pruneBatch = 500
	// pruneBreath lets requests write between two batches.
	pruneBreath = 100 * time.Millisecond
	// keepEnds is longer than any stream can be behind.
	keepEnds = time.Hour
	// keepDeliveries is how far the delivery log goes back.
	keepDeliveries = 30 * 24 * time.Hour
	// lastNotes is how long a stop waits for a database that does not answer.
	lastNotes = 5 * time.Second
)

// Run does what is not done within a request: it writes down what answers did not wait for, tells
// event streams of ends, ends what has expired, and removes what has been kept long enough. It
// returns when ctx is done, after writing what was noted until then and closing the streams.
func (a *App) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { every(ctx, a.Keep.Every, a.prune) })
	running.Go(func() { a.expire(ctx) })
	running.Go(func() { a.watch(ctx) })
	running.Go(func() { a.mend(ctx) })
	running.Go(func() { a.deliver(ctx) })
	running.Go(func() { a.streams.run(ctx) })
	lasting := context.WithoutCancel(ctx) // what has been noted is written, whatever stops
	for {
		select {
		case note := <-a.notes:
			a.write(lasting, note)
		case <-ctx.Done():
			a.writeRest(lasting)
			return
		}
	}
}

// every does something now and then, until ctx is done.
func every(ctx context.Context, period time.Duration, do func(context.Context)) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for ctx.Err() == nil {
		do(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// note is something to be written that no answer waits for.
type note func(ctx context.Context) error

// later has a note written, later and elsewhere. It returns false where too many are waiting.
func (a *App) later(n note) bool {
	select {
	case a.notes <- n:
		return true
	default:
		return false
	}
}

func (a *App) write(ctx context.Context, n note) {
	if err := n(ctx); err != nil {
		a.Log.Error("not noted", slog.Any("error", err))
	}
}

// writeRest writes what is still waiting.
func (a *App) writeRest(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lastNotes)
	defer cancel()
	for ctx.Err() == nil {
		select {
		case note := <-a.notes:
			a.write(ctx, note)
		default:
			return
		}
	}
}

// expireEvery is how long after a session has run out its apps may hear of it, at most.
const expireEvery = 2 * time.Second

// expire ends the sessions whose time has run out, until ctx is done.
func (a *App) expire(ctx context.Context) {
	trouble := outage{log: a.Log, what: "ending expired sessions"}
	every(ctx, expireEvery, func(ctx context.Context) {
		trouble.note(ctx, inBatches(ctx, func() (int, error) { return a.store.Sessions.Expire(ctx, pruneBatch) }))
	})
}

// watchEvery is how long a database that has gone may go on being asked.
const watchEvery = time.Second

// watch has the log say when the database is out of reach, and when it is back, until ctx is done. With
// a SQLite file that has gone it is also what stops the reads (models.Store.Ping).
func (a *App) watch(ctx context.Context) {
	trouble := outage{log: a.Log, what: "reaching the database"}
	every(ctx, watchEvery, func(ctx context.Context) { trouble.note(ctx, a.Ready(ctx)) })
}

// mendEvery is how long a clock that has been set back may hold up deliveries.
const mendEvery = time.Minute

// mend has what is to be delivered be due in time though the clock was set back, until ctx is done.
func (a *App) mend(ctx context.Context) {
	trouble := outage{log: a.Log, what: "looking for deliveries ahead of the clock"}
	every(ctx, mendEvery, func(ctx context.Context) {
		n, err := a.store.Deliveries.Mend(ctx, longestPause, deliveryLease)
		trouble.note(ctx, err)
		if n > 0 {
			a.Log.Warn("the clock was set back: deliveries were due too late and are due now", slog.Int("deliveries", n))
			a.outbox.rouse()
		}
	})
}

func (a *App) prune(ctx context.Context) {
	now := a.Now()
	for what, batch := range map[string]func() (int, error){
		"sessions": func() (int, error) { return a.store.Sessions.Prune(ctx, now.Add(-a.SessionRetention), pruneBatch) },
		"failures": func() (int, error) {
			return a.store.Activities.PruneFailures(ctx, now.Add(-a.SessionRetention), pruneBatch)
		},
		"ends":       func() (int, error) { return a.store.Ends.Prune(ctx, now.Add(-a.Keep.Ends), pruneBatch) },
		"deliveries": func() (int, error) { return a.store.Deliveries.Prune(ctx, now.Add(-a.Keep.Deliveries), pruneBatch) },
		"attempts":   func() (int, error) { return a.store.Attempts.Prune(ctx, pruneBatch) },
	} {
		if err := inBatches(ctx, batch); err != nil && ctx.Err() == nil {
			a.Log.Error("clean-up failed", slog.String("of", what), slog.Any("error", err))
		}
	}
}

// inBatches repeats a batch until there is nothing left for it.
func inBatches(ctx context.Context, batch func() (int, error)) error {
	for ctx.Err() == nil {
		n, err := batch()
		if err != nil || n < pruneBatch {
			return err
		}
		select {
		case <-time.After(pruneBreath):
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}
