package app

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

	"latchkey/app/password"
	"latchkey/models"
	"latchkey/views"
)

// problem is an error that a client or a person is told about: errorGeneric of the contract.
type problem struct {
	code   int
	id     string // "" where there is nothing to act on
	reason string // what went wrong and what to do next; fit for a person

	retryAfter time.Duration
	useFlowID  string // a fresh flow in place of an expired one
	signInAt   string // the path of the page at which a browser can put it right
	cause      error  // for the log, and for debug in development
}

func (p *problem) Error() string {
	if p.cause != nil {
		return fmt.Sprintf("%s: %v", p.reason, p.cause)
	}
	return p.reason
}

// title is the heading of the problem's page, in words for a person.
func (p *problem) title() string {
	switch p.code {
	case http.StatusBadRequest:
		return "This can’t be done"
	case http.StatusForbidden:
		return "This is not allowed"
	case http.StatusNotFound:
		if p.id == errRegistrationShut.id {
			return "No new accounts here"
		}
		return "Page not found"
	case http.StatusMisdirectedRequest:
		return "Unknown site"
	case http.StatusTooManyRequests:
		return "Too many attempts"
	case http.StatusInternalServerError:
		return "Something went wrong"
	case http.StatusServiceUnavailable:
		return "Not now"
	}
	return http.StatusText(p.code)
}

func (p *problem) Unwrap() error { return p.cause }

// because returns a copy of the problem with another reason.
func (p problem) because(format string, args ...any) *problem {
	p.reason = fmt.Sprintf(format, args...)
	return &p
}

var (
	errNoSession        = &problem{code: http.StatusUnauthorized, id: "session_inactive", reason: "Nobody is signed in here, or the session has ended. Sign in again."}
	errAlreadySignedIn  = &problem{code: http.StatusBadRequest, id: "session_already_available", reason: "Somebody is signed in here already. Sign out first, or ask with refresh=true to confirm who it is."}
	errCrossSite        = &problem{code: http.StatusForbidden, id: "security_csrf_violation", reason: "This request came from another site, so it was not carried out. Open the page on this site and try again; a front-end on another origin must be listed in CORS_ALLOWED_ORIGINS."}
	errOtherBrowser     = &problem{code: http.StatusForbidden, id: "security_identity_mismatch", reason: "This flow was started in another browser. Start a new one here."}
	errReturnTo         = &problem{code: http.StatusBadRequest, id: "self_service_flow_return_to_forbidden"}
	errFlowExpired      = &problem{code: http.StatusGone, id: "self_service_flow_expired", reason: "The flow has expired. Go on with the one in use_flow_id."}
	errFlowUnknown      = &problem{code: http.StatusNotFound, reason: "There is no such flow. Start a new one."}
	errRegistrationShut = &problem{code: http.StatusForbidden, id: "self_service_flow_disabled", reason: "Registration is closed. Ask whoever runs this site for an account."}
	errTooMany          = &problem{code: http.StatusTooManyRequests, id: "too_many_attempts"}
	errBusy             = &problem{code: http.StatusServiceUnavailable, reason: "Too much is going on at this moment. Try again in a few seconds.", retryAfter: password.RetryAfter}
	errUnavailable      = &problem{code: http.StatusServiceUnavailable, reason: "The database can't be used at this moment. Try again in a few seconds; if it goes on, tell whoever runs this site the request id.", retryAfter: unavailableRetryAfter}
	errGone             = &problem{code: http.StatusServiceUnavailable, reason: "The request was given up before it was answered."}
	errNotFound         = &problem{code: http.StatusNotFound, reason: "There is nothing at this address. Check it for typing errors."}
	errBadRequest       = &problem{code: http.StatusBadRequest}
	errSpeculative      = &problem{code: http.StatusServiceUnavailable, reason: "Signing out ahead of a click is not done. Open the link itself."}
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

// fail answers with the error, as JSON or as a page, and stops the request: the one way to fail.
// Whatever is not a problem is a fault of ours: it is logged, and its text goes nowhere else.
func (a *App) fail(c *gin.Context, err error) {
	p := a.explain(c, err)
	a.respond(c, p, func() {
		a.page(c, p.code, views.Error(views.ErrorPage{
			Page: a.pageData(), Title: p.title(), Reason: p.reason, Request: requestID(c), Again: again(c, p), Nowhere: p.code == http.StatusMisdirectedRequest,
		}))
	})
}

// again returns what was asked for where that may work in a moment, so that a person who followed a link
// to sign out still can.
func again(c *gin.Context, p *problem) string {
	asked := c.Request.URL.RequestURI()
	if p.code != http.StatusServiceUnavailable || c.Request.Method != http.MethodGet || !strings.HasPrefix(asked, "/auth/") {
		return "" // "//host" would lead to another site
	}
	return asked
}

// respond sends the problem as JSON, or calls page where HTML is preferred and there is one.
func (a *App) respond(c *gin.Context, p *problem, page func()) {
	c.Abort()
	setRetryAfter(c, p)
	if page != nil && prefersHTML(c.Request) && !alwaysJSON(c) {
		page()
		return
	}
	body := errorGeneric{UseFlowID: p.useFlowID, Error: errorBody{
		Code: p.code, Status: http.StatusText(p.code), Request: requestID(c),
		ID: p.id, Message: http.StatusText(p.code), Reason: p.reason,
	}}
	if p.signInAt != "" {
		body.RedirectBrowserTo = a.origin(c) + p.signInAt
	}
	if a.Dev && p.cause != nil {
		body.Error.Debug = p.cause.Error()
	}
	c.JSON(p.code, body)
}

// alwaysJSON reports whether this is an endpoint for programs alone, which get no page whatever
// they accept. It goes by the path: an unknown method has no route.
func alwaysJSON(c *gin.Context) bool {
	path := c.Request.URL.Path
	return jsonPaths[path] || strings.HasPrefix(path, pathSessions+"/")
}

var jsonPaths = map[string]bool{
	"/auth/self-service/login/api":          true,
	"/auth/self-service/login/flows":        true,
	"/auth/self-service/registration/api":   true,
	"/auth/self-service/registration/flows": true,
	"/auth/self-service/logout/browser":     true,
	pathLogoutAPI:                           true,
	pathSessions:                            true,
	pathVerify:                              true, // but for one page of its own
	pathSchema:                              true,
	pathJWKS:                                true,
	pathScript:                              true,
	"/auth/openapi.json":                    true,
	"/auth/health/alive":                    true,
	"/auth/health/ready":                    true,
	PathSeen:                                true,
}

func setRetryAfter(c *gin.Context, p *problem) {
	if p.retryAfter > 0 {
		c.Header("Retry-After", strconv.Itoa(int(math.Ceil(p.retryAfter.Seconds()))))
	}
}

// unavailableRetryAfter is long enough for a lock to go, and short for a person.
const unavailableRetryAfter = 5 * time.Second

// explain turns any error into what may be told of it.
func (a *App) explain(c *gin.Context, err error) *problem {
	var p *problem
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, password.ErrBusy), errors.Is(err, models.ErrBusy):
		return errBusy
	case errors.Is(err, context.Canceled):
		return errGone
	case models.Unavailable(err):
		a.trouble.note(c.Request.Context(), err, requestID(c))
		unavailable := *errUnavailable
		unavailable.cause = err
		return &unavailable
	case errors.As(err, &tooLarge):
		return &problem{code: http.StatusRequestEntityTooLarge,
			reason: fmt.Sprintf("The request is too large: %d bytes are the most.", tooLarge.Limit)}
	}
	a.Log.LogAttrs(c.Request.Context(), slog.LevelError, "request failed",
		slog.String("request", requestID(c)), slog.Any("error", err))
	return &problem{code: http.StatusInternalServerError, cause: err,
		reason: "Something went wrong on our side. Try again in a moment; if it goes on, tell whoever runs this site the request id."}
}
