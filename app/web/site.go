// Package web is the foundation of every handler: errors, negotiation, form and JSON fields, pages, cookies,
// the request's origin, client and session, and the middleware.
package web

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/gofrs/uuid/v5"

	"latchkey/app/audit"
	"latchkey/app/background"
	"latchkey/app/config"
	"latchkey/app/keys"
	"latchkey/app/outage"
	"latchkey/app/route"
	"latchkey/app/tracing"
	"latchkey/models"
	"latchkey/views"
)

// Site is what all handlers share.
type Site struct {
	*config.Settings
	route.Base
	*keys.Ring

	Log    *slog.Logger
	Audit  audit.Log // security events
	Now    func() time.Time
	Traces *tracing.Tracer // nil for none
	// Writes runs the writes that no response waits for.
	Writes *background.Queue
	// Uses records when sessions were used, by their ids. It is apart from Writes, so that neither can crowd out
	// the other.
	Uses *background.Uses[uuid.UUID]

	// BodyTimeout is how long the body of a request may take to arrive. Only then begins the time that the route
	// allows: a slow client must not look like a slow database.
	BodyTimeout time.Duration

	sessions models.Sessions
	baseHost string                  // of BaseOrigin
	page     views.Page              // what every page shows
	routes   map[string]*route.Route // by gin's full path
	database *outage.Log
	clients  *outage.Log // of addresses that proxies don't give

	crossOrigin, crossOriginFlows *http.CrossOriginProtection
}

// New returns a Site. page is what every page shows.
func New(settings *config.Settings, store *models.Store, ring *keys.Ring, page views.Page, log *slog.Logger, now func() time.Time, traces *tracing.Tracer) (*Site, error) {
	s := &Site{Settings: settings, Base: settings.BasePath, Ring: ring, Log: log, Audit: audit.New(log), Now: now, Traces: traces, BodyTimeout: bodyTimeout,
		Writes: background.NewQueue(log), Uses: background.NewUses[uuid.UUID](log), sessions: store.Sessions, page: page, routes: map[string]*route.Route{},
		database: outage.NewError(log, "database unavailable; requests are answered with 503", "database available again"),
		clients:  outage.NewWarning(log, "a proxy doesn't send the client's address; all of its clients are throttled as one", "")}
	for _, r := range slices.Backward(s.Routes()) { // of several methods of a path, the first counts
		s.routes[s.Path(r)] = r
	}
	_, s.baseHost, _ = strings.Cut(settings.BaseOrigin, "://")
	trusted := slices.Clone(settings.CORSAllowedOrigins)
	if settings.BaseOrigin != "" {
		trusted = append(trusted, settings.BaseOrigin)
	}
	var err error
	if s.crossOrigin, err = trusting(trusted); err != nil {
		return nil, err
	}
	s.crossOriginFlows, err = trusting(append(trusted, settings.UIOrigins()...))
	return s, err
}

// trusting returns a protection from posts of all origins but these and the request's own.
func trusting(origins []string) (*http.CrossOriginProtection, error) {
	protection := http.NewCrossOriginProtection()
	for _, origin := range origins {
		if err := protection.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("trust the origin %s: %w", origin, err)
		}
	}
	return protection, nil
}

// route returns the route of a request, nil for an unknown path or method.
func (s *Site) route(c *gin.Context) *route.Route { return s.routes[c.FullPath()] }

// ReportDatabase logs when the database becomes unavailable (err isn't nil) or available again.
func (s *Site) ReportDatabase(ctx context.Context, err error, requestID string) {
	s.database.Report(ctx, err, slog.String("request", requestID))
}

// Within reports whether something happened within the limit. A time that is further ahead than that was
// recorded before the clock was set back, an unknown time ago: it must not extend a right that expires.
func Within(now, then time.Time, limit time.Duration) bool { return now.Sub(then).Abs() < limit }
