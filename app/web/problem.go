package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"latchkey/app/authn"
	"latchkey/app/password"
	"latchkey/app/route"
	"latchkey/db"
	"latchkey/views"
)

// Problem is an error to report to a client or a person: errorGeneric in the API.
type Problem struct {
	Code   int
	ID     string // "" if a client has nothing to act on
	Reason string // what went wrong and what to do next; fit for a person

	RetryAfter time.Duration
	UseFlowID  string // a fresh flow in place of an expired one
	Refresh    bool   // a browser can recover by signing in again
	Title      string // of the page; "" for the default of the code
	Cause      error  // for the log, and for debug in development
}

func (p *Problem) Error() string {
	if p.Cause != nil {
		return fmt.Sprintf("%s: %v", p.Reason, p.Cause)
	}
	return p.Reason
}

// title is the heading of the problem's page, in words for a person.
func (p *Problem) title() string {
	if p.Title != "" {
		return p.Title
	}
	switch p.Code {
	case http.StatusBadRequest:
		return "This link or form doesn’t work"
	case http.StatusForbidden:
		return "You don’t have access"
	case http.StatusNotFound:
		return "Page not found"
	case http.StatusMisdirectedRequest:
		return "Unknown site"
	case http.StatusTooManyRequests:
		return "Too many attempts"
	case http.StatusInternalServerError:
		return "Something went wrong"
	case http.StatusServiceUnavailable:
		return "Temporarily unavailable"
	}
	return http.StatusText(p.Code)
}

func (p *Problem) Unwrap() error { return p.Cause }

// Because returns a copy of the problem with another reason.
func (p Problem) Because(format string, args ...any) *Problem {
	p.Reason = fmt.Sprintf(format, args...)
	return &p
}

// Problems that several packages share.
var (
	ErrNoSession       = &Problem{Code: http.StatusUnauthorized, ID: "session_inactive", Reason: "You aren't signed in, or your session has ended. Sign in again."}
	ErrAlreadySignedIn = &Problem{Code: http.StatusBadRequest, ID: "session_already_available", Reason: "Somebody is already signed in. Sign out first, or use refresh=true to sign in again."}
	ErrRefresh         = &Problem{Code: http.StatusForbidden, ID: "session_refresh_required", Refresh: true, Reason: "You signed in too long ago for this. " +
		"Sign in again, with a login flow created with refresh=true, and repeat the request."}
	ErrCrossSite    = &Problem{Code: http.StatusForbidden, ID: "security_csrf_violation", Reason: "This request came from another site, so it was refused. Open the page on this site and try again; a front-end on another origin must be listed in CORS_ALLOWED_ORIGINS."}
	ErrOtherBrowser = &Problem{Code: http.StatusForbidden, ID: "security_identity_mismatch", Reason: "This flow was started in another browser. Start a new one here."}
	ErrReturnTo     = &Problem{Code: http.StatusBadRequest, ID: "self_service_flow_return_to_forbidden"}
	ErrTooMany      = &Problem{Code: http.StatusTooManyRequests, ID: "too_many_attempts"}
	ErrNotFound     = &Problem{Code: http.StatusNotFound, Reason: "There is nothing at this address. Check it for typos."}
	ErrBadRequest   = &Problem{Code: http.StatusBadRequest}
	ErrStopping     = &Problem{Code: http.StatusServiceUnavailable, RetryAfter: time.Second, Reason: "The server is stopping. Try again in a second."}

	errBusy        = &Problem{Code: http.StatusServiceUnavailable, Reason: "The server is busy. Try again in a few seconds.", RetryAfter: password.RetryAfter}
	errUnavailable = &Problem{Code: http.StatusServiceUnavailable, Reason: "The database can't be used right now. Try again in a few seconds; if that doesn't help, send your administrator the request id.", RetryAfter: unavailableRetryAfter}
	errCanceled    = &Problem{Code: http.StatusServiceUnavailable, Reason: "The request was canceled before it was answered."}
)

// errorGeneric is the body of every JSON error.
type errorGeneric struct {
	Error             errorBody `json:"error"`
	UseFlowID         string    `json:"use_flow_id,omitempty"`
	RedirectBrowserTo string    `json:"redirect_browser_to,omitempty"`
}

type errorBody struct {
	Code    int    `json:"code"`
	Status  string `json:"status"`
	Request string `json:"request"`
	ID      string `json:"id,omitempty"`
	Message string `json:"message"`
	Reason  string `json:"reason,omitempty"`
	Debug   string `json:"debug,omitempty"`
}

// Fail answers with the error, as JSON or as a page, and stops the request: the one way to fail.
// An error that isn't a Problem is our fault: it is logged, and its text isn't sent.
func (s *Site) Fail(c *gin.Context, err error) {
	p := s.Explain(c, err)
	s.Respond(c, p, func() {
		s.Page(c, p.Code, views.Error(views.ErrorPage{
			Page: s.page, Title: p.title(), Reason: p.Reason, Request: RequestID(c), Again: s.retryURI(c, p), Nowhere: p.Code == http.StatusMisdirectedRequest,
		}))
	})
}

// retryURI returns the request's URI if a retry may succeed, so that a person who followed a sign-out link
// can still sign out. Otherwise it returns "".
func (s *Site) retryURI(c *gin.Context, p *Problem) string {
	uri := c.Request.URL.RequestURI()
	if p.Code != http.StatusServiceUnavailable || c.Request.Method != http.MethodGet || !strings.HasPrefix(uri, s.Path(route.HomeSlash)) || strings.HasPrefix(uri, "//") {
		return "" // "//host" would lead to another site
	}
	return uri
}

// Respond sends the problem as JSON, or calls page if it isn't nil and the client prefers HTML.
func (s *Site) Respond(c *gin.Context, p *Problem, page func()) {
	c.Abort()
	SetRetryAfter(c, p)
	if page != nil && PrefersHTML(c.Request) && !s.JSONOnly(c.Request.URL.Path) {
		page()
		return
	}
	body := errorGeneric{UseFlowID: p.UseFlowID, Error: errorBody{
		Code: p.Code, Status: http.StatusText(p.Code), Request: RequestID(c),
		ID: p.ID, Message: http.StatusText(p.Code), Reason: p.Reason,
	}}
	if p.Refresh {
		body.RedirectBrowserTo = s.Origin(c) + s.Path(route.Login) + "?refresh=true"
	}
	if s.Dev && p.Cause != nil {
		body.Error.Debug = p.Cause.Error()
	}
	c.JSON(p.Code, body)
}

// SetRetryAfter sets the Retry-After header if the problem has one.
func SetRetryAfter(c *gin.Context, p *Problem) {
	if p.RetryAfter > 0 {
		c.Header("Retry-After", strconv.Itoa(int(math.Ceil(p.RetryAfter.Seconds()))))
	}
}

// unavailableRetryAfter is long enough for a lock to be released, and short enough for a person.
const unavailableRetryAfter = 5 * time.Second

// Explain turns any error into a Problem that is safe to show.
func (s *Site) Explain(c *gin.Context, err error) *Problem {
	var p *Problem
	var throttled *authn.ThrottledError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &throttled):
		p = ErrTooMany.Because("%s", throttled.Error())
		p.RetryAfter = throttled.Wait
		return p
	case errors.Is(err, password.ErrBusy), errors.Is(err, db.ErrBusy):
		return errBusy
	case errors.Is(err, context.Canceled):
		return errCanceled
	case db.Unavailable(err):
		s.ReportDatabase(c.Request.Context(), err, RequestID(c))
		unavailable := *errUnavailable
		unavailable.Cause = err
		return &unavailable
	case errors.As(err, &tooLarge):
		return &Problem{Code: http.StatusRequestEntityTooLarge,
			Reason: fmt.Sprintf("The request is too large: the limit is %d bytes.", tooLarge.Limit)}
	}
	s.Log.LogAttrs(c.Request.Context(), slog.LevelError, "request failed",
		slog.String("request", RequestID(c)), slog.Any("error", err))
	return &Problem{Code: http.StatusInternalServerError, Cause: err,
		Reason: "Something went wrong on our side. Try again in a moment; if that doesn't help, send your administrator the request id."}
}
