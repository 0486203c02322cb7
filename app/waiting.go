package app

import (
	"context"
	"net/http"
	"sync/atomic"

	"github.com/gin-gonic/gin"

	"latchkey/app/assets"
	"latchkey/app/config"
	"latchkey/app/health"
	"latchkey/app/route"
	"latchkey/app/web"
	"latchkey/models"
)

// Waiting answers requests while there is no database to build an App on: with 503, except where none is needed.
// It implements http.Handler.
type Waiting struct {
	site     *web.Site
	engine   *gin.Engine
	draining atomic.Bool
}

// NewWaiting returns a Waiting. It has the App's addresses, and so its limits, headers and pages.
func NewWaiting(settings *config.Settings, options Options) (*Waiting, error) {
	options = options.withDefaults()
	files, err := assets.Load(settings)
	if err != nil {
		return nil, err
	}
	without := *settings
	without.ErrorUI = nil // it would ask for the error, which is sealed with a key of the database
	site, err := web.New(&without, &models.Store{}, nil, files.Page(), options.Log, options.Now, options.Traces)
	if err != nil {
		return nil, err
	}
	w := &Waiting{site: site, engine: newEngine(site)}
	unavailable := func(c *gin.Context) { site.Fail(c, web.ErrUnavailable) }
	assets := assets.New(site, files)
	handlers := map[*route.Route]gin.HandlerFunc{
		route.Alive: health.New(site, nil).Alive, route.Static: assets.Static, route.SessionScript: assets.SessionScript,
		route.Robots: assets.Robots, route.Favicon: assets.Favicon, route.TouchIcon: assets.TouchIcon, route.SecurityText: assets.SecurityText,
	}
	for _, r := range site.Routes() {
		handler, found := handlers[r]
		if !found {
			handler = unavailable
		}
		w.engine.Match(methodsOf(r), site.Path(r), handler)
	}
	w.engine.NoRoute(unavailable)
	w.engine.NoMethod(unavailable)
	return w, nil
}

// ServeHTTP answers every request.
func (w *Waiting) ServeHTTP(res http.ResponseWriter, req *http.Request) {
	if w.draining.Load() {
		res.Header().Set("Connection", "close")
	}
	w.engine.ServeHTTP(res, req)
}

// Drain has every response ask the client to close the connection.
func (w *Waiting) Drain() { w.draining.Store(true) }

// Alive returns an error if requests are no longer answered.
func (w *Waiting) Alive(ctx context.Context) error {
	return isAlive(ctx, w.engine, w.site.Path(route.Alive))
}
