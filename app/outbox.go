package app

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"latchkey/app/backchannel"
	"latchkey/models"
)

// outbox delivers what the ends of sessions have left to be told.
type outbox struct {
	notifier *Notifier
	wake     chan struct{}

	mu   sync.Mutex
	busy map[string]int // deliveries under way, by app
}

const (
	// atOnce is how many deliveries to one app are under way at a time. Each app has its own, so
	// that one which hangs holds up nobody else.
	atOnce = 8
	// outboxEvery finds what other processes have left, and what is due again.
	outboxEvery = 500 * time.Millisecond
	// deliveryLease is longer than an attempt can take: nobody else makes one meanwhile.
	deliveryLease = time.Minute

	firstPause   = 5 * time.Second
	longestPause = time.Hour
)

// rouse has what is due looked for now.
func (o *outbox) rouse() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// reserve returns how many more deliveries an app may have under way, and takes them.
func (o *outbox) reserve(app string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	free := atOnce - o.busy[app]
	o.busy[app] = atOnce
	return free
}

func (o *outbox) free(app string, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.busy[app] -= n; o.busy[app] == 0 {
		delete(o.busy, app)
	}
}

// deliver tells apps what they are to be told, until ctx is done.
func (a *App) deliver(ctx context.Context) {
	var underWay sync.WaitGroup
	defer underWay.Wait()
	tick := time.NewTicker(outboxEvery)
	defer tick.Stop()
	trouble := outage{log: a.Log, what: "telling apps"}
	for ctx.Err() == nil {
		trouble.note(ctx, a.deliverDue(ctx, &underWay))
		select {
		case <-a.outbox.wake:
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func (a *App) deliverDue(ctx context.Context, underWay *sync.WaitGroup) error {
	apps, err := a.store.Deliveries.Due(ctx)
	if err != nil {
		return err
	}
	for _, app := range apps {
		room := a.outbox.reserve(app)
		var claimed []models.Delivery
		if room > 0 {
			claimed, err = a.store.Deliveries.Claim(ctx, app, room, deliveryLease)
		}
		a.outbox.free(app, room-len(claimed))
		if err != nil {
			return err
		}
		for _, d := range claimed {
			underWay.Go(func() {
				a.attempt(ctx, d)
				a.outbox.free(app, 1)
				a.outbox.rouse() // there is room for the next
			})
		}
	}
	return nil
}

// attempt makes one attempt at a delivery that has been claimed, and notes what came of it.
func (a *App) attempt(ctx context.Context, d models.Delivery) {
	noticed, end := a.Traces.Notice(ctx, d.App.LogoutURL)
	result, err := a.outbox.notifier.Tell(noticed, d.App, d.IdentityID, d.SessionID)
	end(result.Status, result.Outcome == backchannel.Delivered)
	lasting := context.WithoutCancel(ctx)
	if ctx.Err() != nil && result.Outcome != backchannel.Delivered {
		err = a.store.Deliveries.Release(lasting, d) // whoever starts next makes the attempt
	} else {
		if err != nil {
			a.Log.Error("no logout token could be made", slog.Any("error", err))
			result = backchannel.Result{Outcome: backchannel.Failed, Note: "no token could be made: see the server's log"}
		}
		a.metrics.Attempted(string(result.Outcome))
		err = a.settle(lasting, d, result)
	}
	if err != nil { // it is attempted again when its lease is over
		a.Log.Error("delivery not settled", slog.String("delivery", d.ID.String()), slog.Any("error", err))
	}
}

func (a *App) settle(ctx context.Context, d models.Delivery, result backchannel.Result) error {
	d.Status, d.Note = result.Status, result.Note
	d.NextAt = a.Now().Add(pauseAfter(d.Attempts))
	switch {
	case result.Outcome == backchannel.Delivered:
		d.State = models.Delivered
	case result.Outcome == backchannel.Refused:
		d.State = models.Refused
	case d.NextAt.After(d.GiveUpAt):
		d.State = models.GivenUp
	}
	if d.State != models.Delivered {
		a.Log.Warn("app not told", slog.String("app", d.AppName), slog.String("delivery", d.ID.String()),
			slog.String("state", string(d.State)), slog.Int("attempts", d.Attempts), slog.String("note", d.Note))
	}
	return a.store.Deliveries.Settle(ctx, d)
}

// pauseAfter is the time before the next attempt, after so many that failed.
func pauseAfter(attempts int) time.Duration {
	const doublings = 16 // past the longest pause
	return min(firstPause<<min(max(attempts-1, 0), doublings), longestPause)
}
