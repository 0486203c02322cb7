// Package health reports the server's health to load balancers and to 'latchkey check'.
package health

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"

	"latchkey/app/clientaddr"
	"latchkey/app/keys"
	"latchkey/app/web"
	"latchkey/models"
)

// Handler reports the server's health.
type Handler struct {
	*web.Site
	store    *models.Store
	draining atomic.Bool
}

// New returns a Handler.
func New(site *web.Site, store *models.Store) *Handler { return &Handler{Site: site, store: store} }

// Drain makes the server report that it isn't ready from now on: it is about to stop.
func (h *Handler) Drain() { h.draining.Store(true) }

// Draining reports whether Drain was called.
func (h *Handler) Draining() bool { return h.draining.Load() }

// Alive answers GET /auth/health/alive: the process runs.
func (h *Handler) Alive(c *gin.Context) { c.JSON(http.StatusOK, gin.H{"status": "ok"}) }

// ReadyHandler answers GET /auth/health/ready: the database responds, and the server isn't about to stop.
func (h *Handler) ReadyHandler(c *gin.Context) {
	if h.draining.Load() {
		h.Fail(c, web.ErrStopping)
		return
	}
	// Without the request's cancellation: a client that disconnects must not be logged as a database failure.
	if err := h.Ready(context.WithoutCancel(c.Request.Context())); err != nil {
		h.ReportDatabase(c.Request.Context(), err, web.RequestID(c))
		h.Fail(c, &web.Problem{Code: http.StatusServiceUnavailable, Cause: err, Reason: "The database doesn't respond."})
		return
	}
	c.JSON(http.StatusOK, gin.H{"status": "ok"})
}

// Ready returns an error while the database doesn't respond.
func (h *Handler) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return h.store.Ping(ctx)
}

const readyTimeout = 2 * time.Second

// Seen is how a request looks to the server, after any proxies.
type Seen struct {
	Peer           string    `json:"peer"`            // address of the connection
	Trusted        bool      `json:"trusted"`         // the peer is in TRUSTED_PROXIES
	Client         string    `json:"client"`          // client address that the server assumes
	ClientHeader   string    `json:"client_header"`   // where a proxy gives that: CLIENT_IP_HEADER
	ForwardedFor   string    `json:"forwarded_for"`   // its value
	ClientProblem  string    `json:"client_problem"`  // why the server can't use that; "" if it can
	Host           string    `json:"host"`            // header
	ForwardedProto string    `json:"forwarded_proto"` // header
	BaseURL        string    `json:"base_url"`        // of the server
	CookieDomain   string    `json:"cookie_domain"`   // of the server
	OtherOrigin    bool      `json:"other_origin"`    // pages are not served, since this isn't BASE_URL
	Time           time.Time `json:"time"`            // by the server's clock
}

const (
	// SeenHeader is the request header that authorizes 'latchkey check'.
	SeenHeader = "X-Latchkey-Check"

	seenPurpose = "check"
	// seenFor is how far apart the clocks may be, and how long somebody who has seen the header can use
	// it.
	seenFor = 5 * time.Minute
)

// SeenToken returns a value for SeenHeader, sealed with a key of the database: only somebody who can
// read the database may use the endpoint.
func SeenToken(ring *keys.Ring, now time.Time) string {
	return ring.Seal(seenPurpose, strconv.AppendInt(nil, now.Unix(), 10))
}

// Request answers GET /auth/health/request, for 'latchkey check'.
func (h *Handler) Request(c *gin.Context) {
	if !h.maySee(c.GetHeader(SeenHeader)) {
		h.Fail(c, &web.Problem{Code: http.StatusForbidden, Reason: "Only 'latchkey check' can use this: it has the key."})
		return
	}
	seen := Seen{
		Peer: clientaddr.Peer(c.Request.RemoteAddr).String(), Trusted: h.FromTrustedProxy(c.Request),
		ClientHeader: h.Clients.Header, ForwardedFor: strings.Join(c.Request.Header.Values(h.Clients.Header), ", "),
		Host: c.Request.Host, ForwardedProto: c.GetHeader("X-Forwarded-Proto"), BaseURL: h.BaseOrigin,
		CookieDomain: h.CookieDomain, OtherOrigin: h.OtherOrigin(c.Request) != nil, Time: h.Now().UTC(),
	}
	var err error
	if seen.Client, err = h.Clients.Client(c.Request.RemoteAddr, c.Request.Header); err != nil {
		seen.ClientProblem = err.Error()
	}
	c.JSON(http.StatusOK, seen)
}

func (h *Handler) maySee(token string) bool {
	at, err := h.Open(seenPurpose, token)
	if err != nil {
		return false
	}
	seconds, err := strconv.ParseInt(string(at), 10, 64)
	return err == nil && h.Now().Sub(time.Unix(seconds, 0)).Abs() <= seenFor
}
