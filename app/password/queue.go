package password

import (
	"context"
	"sync"
	"time"
)

// queue runs a limited number of hashes at a time, within a limit of memory. Others wait, for RetryAfter at most.
type queue struct {
	slots  int   // hashes at a time
	places int   // for those that wait
	budget int64 // KiB of memory for all that run. One runs whatever it needs.

	mu      sync.Mutex
	running int
	used    int64 // KiB
	waiting turns
	took    time.Duration // moving average of a hash's duration
}

// enter waits until a hash that needs this much memory may run. The caller must call leave after hashing.
func (q *queue) enter(ctx context.Context, kib int64) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w, err := q.start(ctx, kib)
	if err != nil {
		return nil, err
	}
	if w != nil {
		if err := q.wait(ctx, w); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	return func() { q.leave(kib, time.Since(began)) }, nil
}

// start starts a hash, or returns it as a waiter.
func (q *queue) start(ctx context.Context, kib int64) (*waiter, error) {
	path := path(ctx)
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.waiting.size == 0 && q.fits(kib):
		q.run(kib)
		return nil, nil
	case q.busy(path):
		return nil, ErrBusy
	case q.waiting.size == q.places:
		evicted := q.waiting.victim(path)
		q.waiting.remove(evicted)
		evicted.done <- ErrBusy
	}
	w := &waiter{path: path, kib: kib, done: make(chan error, 1)}
	q.waiting.push(w)
	return w, nil
}

// wait waits for a waiter's turn.
func (q *queue) wait(ctx context.Context, w *waiter) (err error) {
	timeout := time.NewTimer(RetryAfter)
	defer timeout.Stop()
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		err = ctx.Err()
	case <-timeout.C:
		err = ErrBusy
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.waiting.remove(w) && <-w.done == nil { // its turn came at the same moment
		q.stop(w.kib)
	} else {
		q.startNext() // it may have been too large for those behind it
	}
	return err
}

func (q *queue) leave(kib int64, took time.Duration) {
	const weight = 8
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.took != 0 {
		took = q.took + (took-q.took)/weight
	}
	q.took = took
	q.stop(kib)
}

func (q *queue) run(kib int64) {
	q.running++
	q.used += kib
}

func (q *queue) stop(kib int64) {
	q.running--
	q.used -= kib
	q.startNext()
}

func (q *queue) startNext() {
	for q.waiting.size > 0 {
		next := q.waiting.next()
		if !q.fits(next.kib) {
			return
		}
		q.waiting.pop()
		q.run(next.kib)
		next.done <- nil
	}
}

func (q *queue) fits(kib int64) bool {
	return q.running == 0 || q.running < q.slots && q.used+kib <= q.budget
}

// refuses reports whether a hash would be refused now.
func (q *queue) refuses(ctx context.Context) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return (q.running == q.slots || q.waiting.size > 0) && q.busy(path(ctx))
}

// busy reports whether a hash that has to wait would wait too long or finds no place. If the queue is full, groups with
// fewer waiters still get a place.
func (q *queue) busy(path []string) bool {
	if time.Duration(q.waiting.ahead(path)+1)*q.took/time.Duration(q.slots) > RetryAfter {
		return true
	}
	return q.waiting.size == q.places && q.waiting.victim(path) == nil
}

func (q *queue) load() Load {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Load{Running: q.running, MaxRunning: q.slots, Waiting: q.waiting.size, MaxWaiting: q.places}
}
