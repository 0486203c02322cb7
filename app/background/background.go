// Package background runs work outside of requests.
package background

import (
	"context"
	"log/slog"
	"sync"
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

// Uses is a separate queue for one kind of write that is needed only once per key: while a key's write waits or runs,
// and shortly afterwards, further ones are dropped.
type Uses[Key comparable] struct {
	*Queue

	mu              sync.Mutex
	pending         map[Key]struct{}
	recent, earlier map[Key]struct{} // keys written since the last turn, and in the period before
	turned          time.Time
}

// recentFor is longer than a request can take from reading a row to enqueueing a write about it. A key is
// remembered for up to twice as long.
const recentFor = 10 * time.Second

// NewUses returns an empty queue. Run does the writes.
func NewUses[Key comparable](log *slog.Logger) *Uses[Key] {
	return &Uses[Key]{Queue: NewQueue(log), pending: map[Key]struct{}{}, recent: map[Key]struct{}{}}
}

// Enqueue adds a write unless one with the same key is pending or recent, or the queue is full. now is the caller's
// time.
func (u *Uses[Key]) Enqueue(key Key, now time.Time, write func(context.Context) error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.turn(now)
	if u.known(key) {
		return
	}
	queued := u.Queue.Enqueue(func(ctx context.Context) error {
		defer u.done(key)
		return write(ctx)
	})
	if queued {
		u.pending[key] = struct{}{}
	}
}

func (u *Uses[Key]) known(key Key) bool {
	for _, keys := range []map[Key]struct{}{u.pending, u.recent, u.earlier} {
		if _, ok := keys[key]; ok {
			return true
		}
	}
	return false
}

func (u *Uses[Key]) done(key Key) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.pending, key)
	u.recent[key] = struct{}{}
}

// turn forgets keys that are no longer recent. If the clock has been set, forward or back, it forgets all.
func (u *Uses[Key]) turn(now time.Time) {
	switch age := now.Sub(u.turned).Abs(); {
	case age >= 2*recentFor:
		u.earlier, u.recent, u.turned = nil, map[Key]struct{}{}, now
	case age >= recentFor:
		u.earlier, u.recent, u.turned = u.recent, map[Key]struct{}{}, now
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
