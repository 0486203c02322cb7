package app

import (
	"context"
	"net/http"
	"sync"
	"time"

	"latchkey/app/background"
	"latchkey/app/metrics"
	"latchkey/app/outage"
	"latchkey/app/outbox"
	"latchkey/app/password"
	"latchkey/db"
	"latchkey/models"
)

const (
	// expireEvery is the interval at which expired sessions are marked, and their apps notified.
	expireEvery = 2 * time.Second
	// sweepEvery is the interval of looking for sweeps that other processes have left.
	sweepEvery = 500 * time.Millisecond
	// learnEvery is the interval of counting the costs of stored passwords, which reads all of them.
	learnEvery = time.Hour
	// relayEvery is the interval of looking for security events that commands have left.
	relayEvery = time.Second
	// watchEvery is the interval of checking that the database responds.
	watchEvery = time.Second
)

// Run does the work outside of requests: background writes, notifying event streams and apps of ended
// sessions, ending expired sessions, and removing old rows. It returns when ctx is done, after finishing the
// writes that had been enqueued.
func (a *App) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { background.Every(ctx, a.upkeep.keep.Every, a.upkeep.prune) })
	running.Go(func() { a.upkeep.expire(ctx) })
	running.Go(func() { a.upkeep.sweep(ctx) })
	running.Go(func() { a.upkeep.relay(ctx) })
	running.Go(func() { a.learnCosts(ctx) })
	running.Go(func() { a.watch(ctx) })
	running.Go(func() { a.outbox.Run(ctx) })
	running.Go(func() { a.site.Ring.Run(ctx, a.site.Log) })
	running.Go(func() { a.live.Run(ctx) })
	running.Go(func() { a.site.Uses.Run(ctx) })
	a.site.Writes.Run(ctx)
}

// watch has the log say when the database is out of reach, and when it is back, until ctx is done. With
// a SQLite file that has gone it is also what stops the reads (db.DB.Ping).
func (a *App) watch(ctx context.Context) {
	failing := outage.New(a.site.Log, "reaching the database")
	background.Every(ctx, watchEvery, func(ctx context.Context) { failing.Report(ctx, a.Ready(ctx)) })
}

// learnCosts keeps the duration of sign-ins equal with and without an account, until ctx is done.
func (a *App) learnCosts(ctx context.Context) {
	failing := outage.New(a.site.Log, "counting the costs of passwords")
	background.Every(ctx, learnEvery, func(ctx context.Context) { failing.Report(ctx, a.authn.LearnCosts(ctx)) })
}

// observe wires what metrics and traces are told. Without them, nothing is.
func (a *App) observe(database *db.DB) error {
	hasher, traces := a.authn.Hasher(), a.site.Traces
	crowded := outage.NewWarning(a.site.Log, "PostgreSQL accepts no more connections; requests share the existing ones: "+
		"raise max_connections there, or lower pool_max_conns in DATABASE_URL", "")
	database.OnCrowded(func(err error) { crowded.Report(context.Background(), err) })
	if a.site.MetricsListen != "" {
		a.metrics = a.newMetrics(database)
		a.authn.Observe(a.metrics)
		a.outbox.OnAttempt(func(_ string, outcome outbox.Outcome) { a.metrics.Attempted(string(outcome)) })
	}
	if traces != nil {
		if err := database.Use(traces.Statements()); err != nil {
			return err
		}
		database.OnWrite(func(ctx context.Context, w db.Write) {
			begun := w.Start.Add(w.Waited)
			traces.Past(ctx, "wait to write", w.Start, begun, w.Waited == 0)
			traces.Past(ctx, "transaction", begun, w.End, w.Err != nil)
		})
	}
	if a.metrics != nil || traces != nil {
		hasher.OnHash(func(ctx context.Context, h password.Hashing) {
			a.metrics.Hashed(h)
			if h.Began.IsZero() {
				traces.Past(ctx, "wait to hash", h.Asked, h.Ended, true)
				return
			}
			traces.Past(ctx, "wait to hash", h.Asked, h.Began, false)
			traces.Past(ctx, "hash password", h.Began, h.Ended, false)
		})
	}
	return nil
}

func (a *App) newMetrics(database *db.DB) *metrics.Metrics {
	var reasons []string
	for _, reason := range models.Reasons() {
		reasons = append(reasons, string(reason))
	}
	return metrics.New(metrics.Sources{
		Pool: database.Pool(), Hashing: a.authn.Hasher().Load, Streams: a.live.Streams, Backlog: a.store.Deliveries.Backlog,
		Connections: func() (inUse, idle, limit int) {
			now := database.Connections()
			return now.InUse, now.Idle, now.Limit
		},
		Reasons:  reasons,
		Outcomes: []string{string(outbox.Delivered), string(outbox.Refused), string(outbox.Failed)},
	})
}

// Metrics returns the handler of GET /metrics, or nil if METRICS_LISTEN is unset. It belongs on its own
// listener.
func (a *App) Metrics() http.Handler {
	if a.metrics == nil {
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", a.metrics.Handler(a.site.Log))
	return mux
}
