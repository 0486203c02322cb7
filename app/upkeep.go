package app

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"latchkey/app/background"
	"latchkey/app/outage"
	"latchkey/app/web"
	"latchkey/models"
)

// Keep is how long is kept what no setting says it of. Tests shorten it; zero fields are the defaults.
type Keep struct {
	Every      time.Duration // between two clean-ups: 10 minutes
	Ends       time.Duration // an hour, which is longer than any stream can be behind
	Deliveries time.Duration // 30 days
}

func (k Keep) orDefault() Keep {
	return Keep{cmp.Or(k.Every, 10*time.Minute), cmp.Or(k.Ends, time.Hour), cmp.Or(k.Deliveries, 30*24*time.Hour)}
}

// upkeep ends the sessions that are due, and removes what has been kept long enough.
type upkeep struct {
	site  *web.Site
	store *models.Store
	keep  Keep
	wake  chan struct{} // holds an element when this process has left sessions to sweep
}

func newUpkeep(site *web.Site, store *models.Store, keep Keep) *upkeep {
	return &upkeep{site: site, store: store, keep: keep.orDefault(), wake: make(chan struct{}, 1)}
}

// Wake has sessions swept now. It never waits.
func (u *upkeep) Wake() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// expire ends the sessions whose time has run out, until ctx is done.
func (u *upkeep) expire(ctx context.Context) {
	failing := outage.New(u.site.Log, "ending expired sessions")
	background.Every(ctx, expireEvery, func(ctx context.Context) {
		failing.Report(ctx, background.InBatches(ctx, func() (int, error) { return u.store.Sessions.Expire(ctx, background.BatchSize) }))
	})
}

// sweep marks the sessions that this process or another has ended in bulk, and has streams and apps
// notified, until ctx is done.
func (u *upkeep) sweep(ctx context.Context) {
	failing := outage.New(u.site.Log, "ending sessions")
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		n, err := u.store.Sessions.Sweep(ctx, models.SweepBatch)
		failing.Report(ctx, err)
		next := tick.C
		if n > 0 {
			next = time.After(models.SweepPause)
		}
		select {
		case <-next:
		case <-u.wake:
		case <-ctx.Done():
		}
	}
}

// relay logs the security events that commands leave, until ctx is done.
func (u *upkeep) relay(ctx context.Context) {
	failing := outage.New(u.site.Log, "logging the security events of commands")
	background.Every(ctx, relayEvery, func(ctx context.Context) {
		failing.Report(ctx, u.site.Audit.Relay(ctx, u.store.SecurityEvents))
	})
}

// prune removes what has been kept long enough.
func (u *upkeep) prune(ctx context.Context) {
	now, retention := u.site.Now(), u.site.SessionRetention
	for what, batch := range map[string]func() (int, error){
		"sessions": func() (int, error) { return u.store.Sessions.Prune(ctx, now.Add(-retention), background.BatchSize) },
		"failures": func() (int, error) {
			return u.store.Activities.PruneFailures(ctx, now.Add(-retention), background.BatchSize)
		},
		"ends": func() (int, error) { return u.store.Ends.Prune(ctx, now.Add(-u.keep.Ends), background.BatchSize) },
		"deliveries": func() (int, error) {
			return u.store.Deliveries.Prune(ctx, now.Add(-u.keep.Deliveries), background.BatchSize)
		},
		"security events": func() (int, error) {
			return u.site.Audit.Prune(ctx, u.store.SecurityEvents, now.Add(-retention), background.BatchSize)
		},
		"attempts":          func() (int, error) { return u.store.Attempts.Prune(ctx, background.BatchSize) },
		"single-use values": func() (int, error) { return u.store.SingleUse.Prune(ctx, background.BatchSize) },
	} {
		if err := background.InBatches(ctx, batch); err != nil && ctx.Err() == nil {
			u.site.Log.Error("clean-up failed", slog.String("of", what), slog.Any("error", err))
		}
	}
	u.shrink(ctx)
}

const (
	// shrinkPages is how much of a SQLite file is freed at once: a megabyte, which takes some milliseconds.
	shrinkPages = 256
	// shrinkPause lets others write.
	shrinkPause = 50 * time.Millisecond
)

// shrink returns what prune has freed to the file system.
func (u *upkeep) shrink(ctx context.Context) {
	for {
		n, err := u.store.Shrink(ctx, shrinkPages)
		if err != nil && ctx.Err() == nil {
			u.site.Log.Error("clean-up failed", slog.String("of", "free space"), slog.Any("error", err))
		}
		if err != nil || n == 0 {
			return
		}
		select {
		case <-time.After(shrinkPause):
		case <-ctx.Done():
			return
		}
	}
}
