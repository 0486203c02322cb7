package app

import (
	"context"
	"encoding/base64"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
)

// alive answers GET /auth/health/alive: the process runs.
func (a *App) alive(c *gin.Context) { c.JSON(http.StatusOK, gin.H{"status": "ok"}) }

// ready answers GET /auth/health/ready: the database answers too, and the server is not about to stop.
func (a *App) ready(c *gin.Context) {
	if a.draining.Load() {
		a.fail(c, errStopping)
		return
	}
	// Not for as long as its client waits: who asks and goes must not have the log say that the database did.
	if err := a.Ready(context.WithoutCancel(c.Request.Context())); err != nil {
		a.trouble.note(c.Request.Context(), err, requestID(c))
		a.fail(c, &problem{code: http.StatusServiceUnavailable, cause: err, reason: "The database does not answer."})
		return
	}
	c.JSON(http.StatusOK, gin.H{"status": "ok"})
}

// Ready returns an error while the database does not answer.
func (a *App) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return a.store.Ping(ctx)
}

const readyTimeout = 2 * time.Second

// Seen is how a request looks to the server, when proxies have done with it what they do.
type Seen struct {
	Peer           string    `json:"peer"`            // address of whoever connected
	Trusted        bool      `json:"trusted"`         // the peer is in TRUSTED_PROXIES
	Client         string    `json:"client"`          // address that the request counts for
	Host           string    `json:"host"`            // header, and so on
	ForwardedFor   string    `json:"forwarded_for"`   //
	ForwardedProto string    `json:"forwarded_proto"` //
	BaseURL        string    `json:"base_url"`        // of the server
	Time           time.Time `json:"time"`            // by the server's clock
}

const (
	// PathSeen answers a request with how it is seen.
	PathSeen = "/auth/health/request"
	// SeenHeader is the header that allows it to.
	SeenHeader = "X-Latchkey-Check"

	seenPurpose = "check"
	// seenFor is how far the clocks may be apart, and how long somebody who has seen the header can
	// have their own requests described.
	seenFor = 5 * time.Minute
)

// SeenToken returns a value for SeenHeader, by models.SecretSeal of the database: only who can
// read that may ask.
func SeenToken(key []byte, now time.Time) (string, error) {
	sealer, err := newSealer(key)
	if err != nil {
		return "", err
	}
	sealed := sealer.Seal(nil, nil, strconv.AppendInt(nil, now.Unix(), 10), []byte(seenPurpose)) // #nosec G407 -- the sealer draws a nonce itself
	return base64.RawURLEncoding.EncodeToString(sealed), nil
}

// seen answers GET /auth/health/request, for 'latchkey check'.
func (a *App) seen(c *gin.Context) {
	if !a.maySee(c.GetHeader(SeenHeader)) {
		a.fail(c, &problem{code: http.StatusForbidden, reason: "This is for 'latchkey check', which has the key."})
		return
	}
	peer, _, err := net.SplitHostPort(c.Request.RemoteAddr)
	if err != nil {
		peer = c.Request.RemoteAddr
	}
	c.JSON(http.StatusOK, Seen{
		Peer: peer, Trusted: a.fromTrustedProxy(c.Request), Client: c.ClientIP(), Host: c.Request.Host,
		ForwardedFor: c.GetHeader("X-Forwarded-For"), ForwardedProto: c.GetHeader("X-Forwarded-Proto"),
		BaseURL: a.baseOrigin, Time: a.Now().UTC(),
	})
}

func (a *App) maySee(token string) bool {
	sealed, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return false
	}
	at, err := a.unseal(seenPurpose, sealed)
	if err != nil {
		return false
	}
	seconds, err := strconv.ParseInt(string(at), 10, 64)
	return err == nil && a.Now().Sub(time.Unix(seconds, 0)).Abs() <= seenFor
}
