package app

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"gorm.io/gorm"

	"latchkey/app/backchannel"
	"latchkey/app/metrics"
	"latchkey/app/password"
	"latchkey/models"
)

// observe wires what metrics and traces are told. Without them, nothing is.
func (a *App) observe(database *gorm.DB) error {
	if a.MetricsListen != "" {
		pool, err := database.DB()
		if err != nil {
			return err
		}
		a.metrics = a.newMetrics(pool)
	}
	if a.Traces != nil {
		if err := database.Use(a.Traces.Statements()); err != nil {
			return err
		}
		a.store.OnWrite(func(ctx context.Context, w models.Write) {
			begun := w.Asked.Add(w.Waited)
			a.Traces.Past(ctx, "wait to write", w.Asked, begun, w.Waited == 0)
			a.Traces.Past(ctx, "transaction", begun, w.Ended, w.Err != nil)
		})
	}
	if a.metrics != nil || a.Traces != nil {
		a.hasher.OnHash(func(ctx context.Context, h password.Hashing) {
			a.metrics.Hashed(h)
			if h.Began.IsZero() {
				a.Traces.Past(ctx, "wait to hash", h.Asked, h.Ended, true)
				return
			}
			a.Traces.Past(ctx, "wait to hash", h.Asked, h.Began, false)
			a.Traces.Past(ctx, "hash password", h.Began, h.Ended, false)
		})
	}
	return nil
}

func (a *App) newMetrics(pool *sql.DB) *metrics.Metrics {
	var reasons []string
	for _, reason := range models.Reasons() {
		reasons = append(reasons, string(reason))
	}
	return metrics.New(metrics.Sources{
		Pool: pool, Hashing: a.hasher.Load, Streams: a.streams.howMany, Backlog: a.store.Deliveries.Backlog,
		Connections: func() (inUse, idle, limit int) {
			now := a.store.Connections()
			return now.InUse, now.Idle, now.Limit
		},
		Reasons:  reasons,
		Outcomes: []string{string(backchannel.Delivered), string(backchannel.Refused), string(backchannel.Failed)},
	})
}

// Metrics answers Prometheus; nil if METRICS_LISTEN is unset. It belongs on a listener of its own.
func (a *App) Metrics() http.Handler {
	if a.metrics == nil {
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", a.metrics.Handler(a.Log))
	return mux
}

// measured counts the request.
func (a *App) measured(c *gin.Context) {
	start := time.Now()
	c.Next()
	a.metrics.Request(c.Request.Method, c.FullPath(), c.Writer.Status(), time.Since(start))
}

// traced gives the request a span. Only a proxy may say which trace it belongs to: else anybody
// could have theirs recorded, or mixed into those of others.
func (a *App) traced(c *gin.Context) {
	parent := ""
	if a.fromTrustedProxy(c.Request) {
		parent = c.GetHeader("Traceparent")
	}
	scheme, _, _ := strings.Cut(a.origin(c), "://")
	ctx, end := a.Traces.Request(c.Request, scheme, parent)
	c.Request = c.Request.WithContext(ctx)
	defer func() { end(c.FullPath(), c.Writer.Status()) }()
	c.Next()
}

// signInResult says for the metrics what came of a sign-in.
func signInResult(err error) metrics.Result {
	var p *problem
	switch {
	case err == nil:
		return metrics.OK
	case errors.Is(err, errCredentials):
		return metrics.WrongCredentials
	case errors.Is(err, errDisabled):
		return metrics.Disabled
	case errors.Is(err, password.ErrBusy), errors.Is(err, models.ErrBusy):
		return metrics.Busy
	case errors.Is(err, context.Canceled):
		return metrics.Canceled
	case errors.As(err, &p) && p.id == errTooMany.id:
		return metrics.Throttled
	}
	return metrics.Error
}
