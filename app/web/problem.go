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
	Code    int
	ID      string // "" if a client has nothing to act on
	Reason  string // what went wrong and what to do next, for developers and the administrator: JSON only
	Visitor string // the same for a visitor: pages only; "" for the default of the code

	RetryAfter time.Duration
	Flow       *ReplacedFlow  // in place of an expired one; nil for none
	Details    map[string]any // for clients; nil for none
	Refresh    bool           // a browser can recover by signing in again
	Title      string         // of the page; "" for the default of the code
	// OtherOrigin is set if the same page works at BASE_URL.
	OtherOrigin bool
	Cause       error // for the log, and for debug in development
}

// ReplacedFlow says which flow to go on with when one has expired.
type ReplacedFlow struct {
	UseFlowID string        `json:"use_flow_id"`
	ExpiredAt time.Time     `json:"expired_at"`
	Since     time.Duration `json:"since"` // ago, in nanoseconds
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
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType:
		return "This link or form doesn’t work"
	case http.StatusUnauthorized:
		return "You aren’t signed in"
	case http.StatusGone:
		return "This page has expired"
	case http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong:
		return "That is too long"
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

// Words returns what went wrong and what to do next, in words for a visitor. A Reason is never shown on a
// page: it may name settings and parameters.
func (p *Problem) Words() string {
	if p.Visitor != "" {
		return p.Visitor
	}
	switch p.Code {
	case http.StatusUnauthorized:
		return "You aren’t signed in, or your session has ended. Sign in again."
	case http.StatusForbidden:
		return "You can’t do this. If you think you should be able to, send your administrator the request id."
	case http.StatusNotFound:
		return "There is nothing at this address. Check it for typos."
	case http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong:
		return "That is too long. Shorten it and try again."
	}
	if p.Code >= http.StatusInternalServerError {
		return "Something went wrong on our side. Try again in a moment; if that doesn’t help, send your administrator the request id."
	}
	return "Something is missing or wrong in what your browser sent. Try again."
}

// Because returns a copy of the problem with another reason, and the same words for visitors.
func (p Problem) Because(format string, args ...any) *Problem {
	p.Reason = fmt.Sprintf(format, args...)
	return &p
}

// Telling returns a copy of the problem with one text for visitors and developers.
func (p Problem) Telling(format string, args ...any) *Problem {
	p.Reason = fmt.Sprintf(format, args...)
	p.Visitor = p.Reason
	return &p
}

// FlowDisabled is the id of problems with a flow that isn't available at all.
const FlowDisabled = "self_service_flow_disabled"

// Problems that several packages share.
var (
	ErrNoSession = Problem{Code: http.StatusUnauthorized, ID: "session_inactive"}.Telling("You aren't signed in, or your session has ended. Sign in again.")
	// ErrSeveralPeople is an ErrNoSession.
	ErrSeveralPeople = &Problem{Code: http.StatusUnauthorized, ID: "session_inactive", Cause: ErrNoSession, Title: "Signed in twice",
		Visitor: "This browser is signed in to several accounts at once, so none of them is used. Sign in again, or sign out of all of them.",
		Reason:  "This browser has cookies with active sessions of several people. Another host on the domain may have set one of them, so none is used. Sign in again, or sign out to end them all."}
	ErrAlreadySignedIn = &Problem{Code: http.StatusBadRequest, ID: "session_already_available", Visitor: "Somebody is already signed in here. Sign out first.",
		Reason: "Somebody is already signed in. Sign out first, or use refresh=true to sign in again."}
	ErrRefresh = &Problem{Code: http.StatusForbidden, ID: "session_refresh_required", Refresh: true,
		Visitor: "You signed in too long ago for this. Sign in again, then repeat what you did.",
		Reason:  "You signed in too long ago for this. Sign in again, with a login flow created with refresh=true, and repeat the request."}
	ErrCrossSite = &Problem{Code: http.StatusForbidden, ID: "security_csrf_violation", Title: "That came from another site",
		Visitor: "Another site had your browser send this form, so nothing was done. Open the page on this site and try again.",
		Reason:  "This request came from another site, so it was refused. Open the page on this site and try again; a front-end on another origin must be listed in CORS_ALLOWED_ORIGINS."}
	ErrOtherBrowser = &Problem{Code: http.StatusForbidden, ID: "security_identity_mismatch", Title: "That page is out of date",
		Visitor: "This page was opened in another browser. Open it again here.",
		Reason:  "This flow was started in another browser. Start a new one here."}
	ErrReturnTo = &Problem{Code: http.StatusBadRequest, ID: "self_service_flow_return_to_forbidden", Title: "This link doesn’t work",
		Visitor: "The link you followed leads to a page that isn’t allowed here. Go back to the app you came from, or tell your administrator."}
	ErrTooMany    = &Problem{Code: http.StatusTooManyRequests, ID: "too_many_attempts"}
	ErrNotFound   = Problem{Code: http.StatusNotFound}.Telling("There is nothing at this address. Check it for typos.")
	ErrBadRequest = &Problem{Code: http.StatusBadRequest}
	ErrStopping   = &Problem{Code: http.StatusServiceUnavailable, RetryAfter: time.Second,
		Visitor: "This site is being restarted. Try again in a second.", Reason: "The server is stopping. Try again in a second."}

	ErrBusy = &Problem{Code: http.StatusServiceUnavailable, RetryAfter: password.RetryAfter,
		Visitor: "This site is busy. Try again in a few seconds.", Reason: "The server is busy. Try again in a few seconds."}
	// ErrUnavailable is for a database that can't be used.
	ErrUnavailable = &Problem{Code: http.StatusServiceUnavailable, RetryAfter: unavailableRetryAfter,
		Visitor: "This site can’t be used right now. Try again in a few seconds; if that doesn’t help, send your administrator the request id.",
		Reason:  "The database can't be used right now. Try again in a few seconds; if that doesn't help, send your administrator the request id."}
	errCanceled = &Problem{Code: http.StatusServiceUnavailable, Reason: "The request was canceled before it was answered.",
		Visitor: "Your browser stopped waiting for the answer. Try again."}
	errSlowBody = Problem{Code: http.StatusRequestTimeout}.Telling("The rest of the request didn't arrive in time. Check your connection and try again.")
	errTooLong  = &Problem{Code: http.StatusServiceUnavailable, RetryAfter: unavailableRetryAfter,
		Visitor: "This took too long, so it was stopped. Try again in a few seconds; if that doesn’t help, send your administrator the request id.",
		Reason:  "The request took too long, so it was stopped. Try again in a few seconds; if that doesn't help, send your administrator the request id."}
)

// errTimedOut is the cause of a request's context that its route's timeout has canceled.
var errTimedOut = errors.New("the request took too long")

// errorGeneric is the body of every JSON error.
type errorGeneric struct {
	Error errorBody `json:"error"`
	*ReplacedFlow
	RedirectBrowserTo string `json:"redirect_browser_to,omitempty"`
}

type errorBody struct {
	Code    int    `json:"code"`
	Status  string `json:"status"`
	Request string `json:"request"`
	ID      string `json:"id,omitempty"`
	Message string `json:"message"`
	Reason  string `json:"reason,omitempty"`
	Debug   string `json:"debug,omitempty"`

	Details map[string]any `json:"details,omitempty"`
}

// Fail answers with the error, as JSON or as a page, and stops the request: the one way to fail.
// An error that isn't a Problem is our fault: it is logged, and its text isn't sent.
func (s *Site) Fail(c *gin.Context, err error) {
	p := s.Explain(c, err)
	s.Respond(c, p, func() {
		if to := s.errorPage(c, p); to != "" {
			SeeOther(c, to)
			return
		}
		s.Page(c, p.Code, views.Error(views.ErrorPage{
			Page: s.page, Title: p.title(), Text: p.Words(), Code: p.Code, Request: RequestID(c), Way: s.wayOn(c, p),
		}))
	})
}

// wayOn returns the link to continue with after an error.
func (s *Site) wayOn(c *gin.Context, p *Problem) views.Link {
	signIn := views.Link{Text: "Sign in", URL: s.Path(route.Login)}
	form := s.FormPage(c.Request.URL.Path)
	switch again := s.retryURI(c, p); {
	case again != "":
		return views.Link{Text: "Try again", URL: again}
	case p.OtherOrigin:
		return views.Link{Text: "Open " + s.BaseOrigin, URL: s.atBase(c.Request)}
	case p.Code == http.StatusMisdirectedRequest:
		return views.Link{} // there is no page of this site to go on to
	case p.Refresh:
		signIn.URL += "?refresh=true"
		return signIn
	case p.Code == http.StatusUnauthorized, p.ID == FlowDisabled:
		return signIn
	case form != nil:
		return views.Link{Text: "Back", URL: s.Path(form)}
	case p.Code < http.StatusInternalServerError && !s.isSignedIn(c): // after those the database may not answer
		return signIn
	}
	return views.Link{Text: "Go to your account", URL: s.Path(route.Account)}
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
	body := errorGeneric{ReplacedFlow: p.Flow, Error: errorBody{
		Code: p.Code, Status: http.StatusText(p.Code), Request: RequestID(c),
		ID: p.ID, Message: http.StatusText(p.Code), Reason: p.Reason, Details: p.Details,
	}}
	if p.Refresh {
		body.RedirectBrowserTo = s.Origin(c) + s.Path(route.LoginBrowser) + "?refresh=true"
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
		p = ErrTooMany.Telling("%s", throttled.Error())
		p.RetryAfter = throttled.Wait
		return p
	case errors.Is(err, password.ErrBusy), errors.Is(err, db.ErrBusy):
		return ErrBusy
	case errors.Is(err, context.Canceled):
		return errCanceled
	case errors.Is(err, context.DeadlineExceeded) && context.Cause(c.Request.Context()) == errTimedOut:
		// The database's own limits are shorter: it may have had no time left.
		s.Log.LogAttrs(c.Request.Context(), slog.LevelWarn, "request timed out", slog.String("request", RequestID(c)), slog.Any("error", err))
		late := *errTooLong
		late.Cause = err
		return &late
	case db.Unavailable(err):
		s.ReportDatabase(c.Request.Context(), err, RequestID(c))
		unavailable := *ErrUnavailable
		unavailable.Cause = err
		return &unavailable
	case errors.As(err, &tooLarge):
		return &Problem{Code: http.StatusRequestEntityTooLarge, Visitor: "What you entered is too long. Shorten it and try again.",
			Reason: fmt.Sprintf("The request is too large: the limit is %d bytes.", tooLarge.Limit)}
	}
	s.Log.LogAttrs(c.Request.Context(), slog.LevelError, "request failed",
		slog.String("request", RequestID(c)), slog.Any("error", err))
	return &Problem{Code: http.StatusInternalServerError, Cause: err,
		Reason: "Something went wrong on our side. Try again in a moment; if that doesn't help, send your administrator the request id."}
}
