// Package background runs work outside of requests.
package background

import (
	"context"
	"log/slog"
	"time"
)

// Queue is a bounded queue of writes to the database that no response waits for.
type Queue struct {
	log     *slog.Logger
	pending chan func(context.Context) error
}

const (
	queueLength = 256
	// flushTimeout is how long the remaining writes may take at shutdown.
	flushTimeout = 5 * time.Second
)

// NewQueue returns an empty queue. Run does the writes.
func NewQueue(log *slog.Logger) *Queue {
	return &Queue{log: log, pending: make(chan func(context.Context) error, queueLength)}
}

// Enqueue adds a write. It returns false, and does nothing, if the queue is full.
func (q *Queue) Enqueue(write func(context.Context) error) bool {
	select {
	case q.pending <- write:
		return true
	default:
		return false
	}
}

// Run does the writes, one at a time, until ctx is done, and then those that are left, for up to 5 seconds.
func (q *Queue) Run(ctx context.Context) {
	detached := context.WithoutCancel(ctx) // shutdown doesn't cancel enqueued writes
	for {
		select {
		case write := <-q.pending:
			q.do(detached, write)
		case <-ctx.Done():
			q.flush(detached)
			return
		}
	}
}

func (q *Queue) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	for ctx.Err() == nil {
		select {
		case write := <-q.pending:
			q.do(ctx, write)
		default:
			return
		}
	}
}

func (q *Queue) do(ctx context.Context, write func(context.Context) error) {
	if err := write(ctx); err != nil {
		q.log.Error("background write failed", slog.Any("error", err))
	}
}

// Every calls do immediately and then once per period, until ctx is done.
func Every(ctx context.Context, period time.Duration, do func(context.Context)) {
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

const (
	// BatchSize is the maximum number of rows in a batch.
	BatchSize = 500
	// batchPause is the time between two batches, in which requests can write.
	batchPause = 100 * time.Millisecond
)

// InBatches calls batch, which processes up to BatchSize rows and returns how many it processed, until fewer
// are left or it fails. It returns the error of batch, or ctx.Err() if ctx is done first.
func InBatches(ctx context.Context, batch func() (int, error)) error {
	for ctx.Err() == nil {
		n, err := batch()
		if err != nil || n < BatchSize {
			return err
		}
		select {
		case <-time.After(batchPause):
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}
