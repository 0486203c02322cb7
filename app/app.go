// Package app is the web application: every request comes in here.
package app

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/gin-gonic/gin"

	"latchkey/app/assets"
	"latchkey/app/audit"
	"latchkey/app/authn"
	"latchkey/app/config"
	"latchkey/app/health"
	"latchkey/app/keys"
	"latchkey/app/live"
	"latchkey/app/metrics"
	"latchkey/app/outbox"
	"latchkey/app/route"
	"latchkey/app/tracing"
	"latchkey/app/web"
	"latchkey/db"
	"latchkey/models"
)

// App is the application. It implements http.Handler.
type App struct {
	site    *web.Site
	store   *models.Store
	authn   *authn.Service
	outbox  *outbox.Outbox
	live    *live.Handler
	health  *health.Handler
	metrics *metrics.Metrics // nil without METRICS_LISTEN
	engine  *gin.Engine
	upkeep  *upkeep
}

// Options are the dependencies of an App. The zero value is ready to use.
type Options struct {
	Log    *slog.Logger     // slog.Default if nil
	Now    func() time.Time // the clock; time.Now if nil
	Traces *tracing.Tracer  // nil to disable tracing
	Keep   Keep
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Traces != nil {
		o.Log = tracing.Logger(o.Log)
	}
	return o
}

// New builds the application on a database. The caller must also call Run.
func New(ctx context.Context, settings *config.Settings, database *db.DB, options Options) (*App, error) {
	options = options.withDefaults()
	store := models.New(database, options.Now)
	ring, err := keys.Load(ctx, store, settings.SecretKeys, options.Now)
	if err != nil {
		return nil, err
	}
	if settings.Registration == config.RegistrationOpen {
		if err := store.Identities.DistrustUnknown(ctx); err != nil {
			return nil, err
		}
	}
	files, err := assets.Load(settings)
	if err != nil {
		return nil, err
	}
	site, err := web.New(settings, store, ring, files.Page(), options.Log, options.Now, options.Traces)
	if err != nil {
		return nil, err
	}
	a := &App{
		site: site, store: store, upkeep: newUpkeep(site, store, options.Keep),
		authn: authn.New(settings, store, site.Writes, options.Log, options.Now),
		outbox: outbox.New(options.Log, options.Now,
			outbox.NewLogout(store.Deliveries, outbox.NewNotifier(settings, ring, options.Now), options.Traces, options.Log)),
		live: live.New(site, store), health: health.New(site, store),
	}
	a.authn.Draw(ring.Draw)
	if err := a.observe(database); err != nil {
		return nil, err
	}
	a.store.OnEnd(func(ctx context.Context, ended models.Ended) {
		for _, session := range ended {
			a.metrics.SessionsEnded(string(session.EndReason), 1)
			site.Audit.Write(ctx, audit.Ended(ctx, session))
		}
		a.live.Wake()
		a.outbox.Wake()
	})
	a.store.OnSweep(a.upkeep.Wake)
	a.engine, err = a.routes(ring, files)
	return a, err
}

// ServeHTTP answers every request.
func (a *App) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if a.health.Draining() {
		w.Header().Set("Connection", "close")
	}
	a.engine.ServeHTTP(w, r)
}

// Drain prepares for shutdown: from now on every response asks the client to close the connection, and the
// readiness check fails, so that load balancers stop sending requests.
func (a *App) Drain() { a.health.Drain() }

// LimitStreams lowers the limit of open event streams to most.
func (a *App) LimitStreams(most int) { a.live.Limit(most) }

// Alive returns an error if requests are no longer answered. It doesn't need the database.
func (a *App) Alive(ctx context.Context) error {
	return isAlive(ctx, a.engine, a.site.Path(route.Alive))
}

// Ready returns an error if the database doesn't respond.
func (a *App) Ready(ctx context.Context) error { return a.health.Ready(ctx) }

// SetupURL returns the URL for creating the first account, or "" if there is an account. origin is used if
// BASE_URL is not set.
func (a *App) SetupURL(ctx context.Context, origin string) (string, error) {
	token, err := a.authn.SetupToken(ctx)
	if err != nil || token == "" {
		return "", err
	}
	if a.site.BaseOrigin != "" {
		origin = a.site.BaseOrigin
	}
	return origin + a.site.Path(route.Registration) + "?" + url.Values{"setup": {token}}.Encode(), nil
}
