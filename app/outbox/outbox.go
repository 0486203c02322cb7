// Package outbox sends the messages that are queued in the database, and retries those that fail.
package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"latchkey/app/background"
	"latchkey/app/outage"
	"latchkey/models"
)

// Sender is one kind of message: its queue, and how to send one.
type Sender interface {
	// Name is what the log calls such a message, such as "logout notification".
	Name() string
	// Due returns the recipients that have messages due now.
	Due(ctx context.Context) ([]string, error)
	// Claim leases up to limit due messages of a recipient and counts an attempt for each. No other process
	// can claim them until the lease expires.
	Claim(ctx context.Context, recipient string, limit int, lease time.Duration) ([]Message, error)
	// Settle stores the result of a claimed message.
	Settle(ctx context.Context, job models.Job) error
	// Release returns a claimed message to the queue without counting the attempt.
	Release(ctx context.Context, job models.Job) error
	// Reschedule makes messages due now that lie further ahead than pause or lease allow, and returns how
	// many.
	Reschedule(ctx context.Context, pause, lease time.Duration) (int, error)
}

// Message is a claimed message.
type Message struct {
	Job models.Job
	To  slog.Attr // the recipient for the log, such as app=wiki
	// Send makes one attempt to send it. It returns soon after ctx is done, and always within a minute.
	Send func(ctx context.Context) Result
}

// Outcome is the outcome of an attempt.
type Outcome string

const (
	Delivered Outcome = "delivered" // the recipient accepted it
	Refused   Outcome = "refused"   // the recipient refused it permanently
	Failed    Outcome = "failed"    // anything else: it is retried
)

// Result is the result of an attempt.
type Result struct {
	Outcome Outcome
	Status  int    // protocol status of the response, such as 204 for HTTP; 0 for none
	Note    string // what happened, for the log: one printable line
}

const (
	// maxInFlight is the limit of concurrent attempts per recipient. It is per recipient so that one that hangs
	// doesn't delay the others.
	maxInFlight = 8
	// pollEvery is the interval of looking for due messages, including those of other processes.
	pollEvery = 500 * time.Millisecond
	// lease is longer than an attempt can take, so that no message is attempted twice at the same time.
	lease = time.Minute
	// rescheduleEvery is how long messages may be delayed after the clock was set back.
	rescheduleEvery = time.Minute

	firstPause = 5 * time.Second
	maxPause   = time.Hour
)

// Outbox sends messages of all kinds.
type Outbox struct {
	queues []*queue
}

// New returns an Outbox. The caller must also call Run.
func New(log *slog.Logger, now func() time.Time, senders ...Sender) *Outbox {
	o := &Outbox{}
	for _, sender := range senders {
		o.queues = append(o.queues, &queue{Sender: sender, log: log, now: now, wake: make(chan struct{}, 1), busy: map[string]int{}})
	}
	return o
}

// OnAttempt sets a function to call after each attempt, with the name of the sender. Set it before Run.
func (o *Outbox) OnAttempt(do func(sender string, outcome Outcome)) {
	for _, q := range o.queues {
		q.onAttempt = do
	}
}

// Wake makes Run look for due messages now. It doesn't block.
func (o *Outbox) Wake() {
	for _, q := range o.queues {
		q.wakeUp()
	}
}

// Run sends due messages until ctx is done, and returns when all attempts have ended.
func (o *Outbox) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	for _, q := range o.queues {
		running.Go(func() { q.run(ctx) })
		running.Go(func() { q.reschedule(ctx) })
	}
}

// queue is the messages of one sender.
type queue struct {
	Sender
	log       *slog.Logger
	now       func() time.Time
	wake      chan struct{}
	onAttempt func(sender string, outcome Outcome) // may be nil

	mu   sync.Mutex
	busy map[string]int // attempts in progress, by recipient
}

func (q *queue) wakeUp() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	failing := outage.New(q.log, "sending "+q.Name()+"s")
	for ctx.Err() == nil {
		failing.Report(ctx, q.sendDue(ctx, &running))
		select {
		case <-q.wake:
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// reserve takes all free slots of a recipient and returns their number.
func (q *queue) reserve(recipient string) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	free := maxInFlight - q.busy[recipient]
	q.busy[recipient] = maxInFlight
	return free
}

// free returns n slots of a recipient.
func (q *queue) free(recipient string, n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.busy[recipient] -= n; q.busy[recipient] == 0 {
		delete(q.busy, recipient)
	}
}

// sendDue starts sending the due messages of every recipient. An error with one doesn't affect the others.
func (q *queue) sendDue(ctx context.Context, running *sync.WaitGroup) error {
	recipients, err := q.Due(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, recipient := range recipients {
		if ctx.Err() != nil {
			break
		}
		if err := q.sendTo(ctx, running, recipient); err != nil {
			errs = append(errs, err)
		}
	}
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return fmt.Errorf("%w (and %d others)", errs[0], len(errs)-1)
}

func (q *queue) sendTo(ctx context.Context, running *sync.WaitGroup, recipient string) error {
	room := q.reserve(recipient)
	if room == 0 {
		return nil
	}
	claimed, err := q.Claim(ctx, recipient, room, lease)
	if err != nil {
		claimed = nil
	}
	q.free(recipient, room-len(claimed))
	for _, message := range claimed {
		running.Go(func() {
			q.attempt(ctx, message)
			q.free(recipient, 1)
			q.wakeUp() // there is a free slot
		})
	}
	return err
}

// attempt makes one attempt at a message that has been claimed, and records what came of it.
func (q *queue) attempt(ctx context.Context, message Message) {
	result := message.Send(ctx)
	detached := context.WithoutCancel(ctx)
	var err error
	if ctx.Err() != nil && result.Outcome != Delivered {
		err = q.Release(detached, message.Job) // retried after the restart
	} else {
		if q.onAttempt != nil {
			q.onAttempt(q.Name(), result.Outcome)
		}
		err = q.settle(detached, message, result)
	}
	if err != nil { // retried when its lease expires
		q.log.Error("delivery not settled", slog.String("delivery", message.Job.ID.String()), slog.Any("error", err))
	}
}

func (q *queue) settle(ctx context.Context, message Message, result Result) error {
	job := message.Job
	job.Status, job.Note = result.Status, result.Note
	job.NextAt = q.now().Add(pauseAfter(job.Attempts))
	switch {
	case result.Outcome == Delivered:
		job.State = models.Delivered
	case result.Outcome == Refused:
		job.State = models.Refused
	case job.NextAt.After(job.GiveUpAt):
		job.State = models.GivenUp
	}
	if job.State != models.Delivered {
		q.log.LogAttrs(ctx, slog.LevelWarn, q.Name()+" failed", message.To, slog.String("delivery", job.ID.String()),
			slog.String("state", string(job.State)), slog.Int("attempts", job.Attempts), slog.String("note", job.Note))
	}
	return q.Settle(ctx, job)
}

// pauseAfter returns the time until the next attempt after a number of failed ones.
func pauseAfter(attempts int) time.Duration {
	const doublings = 16 // beyond maxPause; keeps the shift from overflowing
	return min(firstPause<<min(max(attempts-1, 0), doublings), maxPause)
}

// reschedule corrects due times after the clock was set back, until ctx is done.
func (q *queue) reschedule(ctx context.Context) {
	failing := outage.New(q.log, "looking for deliveries ahead of the clock")
	background.Every(ctx, rescheduleEvery, func(ctx context.Context) {
		n, err := q.Reschedule(ctx, maxPause, lease)
		failing.Report(ctx, err)
		if n > 0 {
			q.log.Warn("the clock was set back: overdue deliveries were rescheduled", slog.Int("deliveries", n))
			q.wakeUp()
		}
	})
}
