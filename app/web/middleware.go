package web

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/gin-contrib/cors"
	"github.com/gin-gonic/gin"
	"github.com/gofrs/uuid/v5"

	"latchkey/app/audit"
	"latchkey/app/route"
)

const (
	maxURLBytes    = 16 << 10
	maxHeaderBytes = 32 << 10 // of all header fields together
	maxBodyBytes   = 64 << 10

	// MaxHeaderBytes is for http.Server: what fits in the limits above, and as much again as the separators of many
	// short fields, so that what is a little too long gets an error page. Beyond it net/http cuts the connection off.
	MaxHeaderBytes = maxURLBytes + maxHeaderBytes + 16<<10
)

// RequestID returns the id that WithRequestLog has given the request.
func RequestID(c *gin.Context) string { return c.Writer.Header().Get("X-Request-Id") }

// WithRequestLog gives the request an id, sets the common response headers, and logs the request.
func (s *Site) WithRequestLog(c *gin.Context) {
	start := time.Now()
	id := s.newRequestID(c)
	s.setHeaders(c.Writer.Header(), id)

	c.Next()

	status := c.Writer.Status()
	level := slog.LevelInfo
	if r := s.route(c); r != nil && r.Quiet && (status < http.StatusInternalServerError || status == http.StatusServiceUnavailable) {
		level = slog.LevelDebug
	}
	if !s.Log.Enabled(c.Request.Context(), level) {
		return
	}
	// Never log the query: it may contain a token.
	s.Log.LogAttrs(c.Request.Context(), level, "request",
		slog.String("method", c.Request.Method), slog.String("path", Clip(c.Request.URL.Path, maxLoggedPath)),
		slog.Int("status", status), slog.Float64("took_ms", float64(time.Since(start).Microseconds())/1000),
		slog.String("client", s.ClientIP(c.Request)), slog.String("request", id))
}

// maxLoggedPath keeps a client from filling the log with one request.
const maxLoggedPath = 256

func (s *Site) newRequestID(c *gin.Context) string {
	if sent := c.GetHeader("X-Request-Id"); sent != "" && s.FromTrustedProxy(c.Request) {
		if id, err := uuid.FromString(sent); err == nil {
			return id.String()
		}
	}
	return uuid.Must(uuid.NewV4()).String()
}

// setHeaders sets what every answer has. The names are written as net/http writes them, and the values
// are in one piece of memory.
func (s *Site) setHeaders(h http.Header, requestID string) {
	values := []string{requestID, "no-store", "nosniff", "no-referrer", "default-src 'none'; frame-ancestors 'none'", "same-origin", "max-age=63072000"}
	h["X-Request-Id"] = values[0:1:1]
	h["Cache-Control"] = values[1:2:2]
	h["X-Content-Type-Options"] = values[2:3:3]
	h["Referrer-Policy"] = values[3:4:4]
	h["Content-Security-Policy"] = values[4:5:5]      // pages override it
	h["Cross-Origin-Resource-Policy"] = values[5:6:6] // scripts and styles override it; fetches by CORS don't look at it
	if s.HTTPS {
		h["Strict-Transport-Security"] = values[6:7:7]
	}
}

// SetPageHeaders sets the headers that only pages need.
func (s *Site) SetPageHeaders(h http.Header) {
	h.Set("Content-Security-Policy", s.contentSecurityPolicy())
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	if s.HTTPS { // elsewhere browsers log a warning
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
	}
	h.Add("Vary", "Accept, Cookie")
}

// contentSecurityPolicy allows what the pages need. Browsers apply form-action to the redirect
// after a form too, so it lists every origin that a sign-in may lead to.
func (s *Site) contentSecurityPolicy() string {
	targets := append([]string{"'self'"}, s.Returns.Sources()...)
	for _, source := range s.UIOrigins() {
		if !slices.Contains(targets, source) {
			targets = append(targets, source)
		}
	}
	for _, target := range []string{s.LoginReturnURL, s.LogoutReturnURL} {
		if u, err := url.Parse(target); err == nil && u.Host != "" {
			if source := u.Scheme + "://" + u.Host; !slices.Contains(targets, source) {
				targets = append(targets, source)
			}
		}
	}
	return "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; " +
		"base-uri 'none'; frame-ancestors 'none'; form-action " + strings.Join(targets, " ")
}

// RecoverPanics turns a panic into a 500 and a log line with its stack.
func (s *Site) RecoverPanics(c *gin.Context) {
	defer func() {
		cause := recover()
		if cause == nil {
			return
		}
		if cause == http.ErrAbortHandler {
			panic(cause)
		}
		s.Log.ErrorContext(c.Request.Context(), "panic", slog.Any("cause", cause), slog.String("stack", string(debug.Stack())),
			slog.String("request", RequestID(c)))
		if c.Writer.Written() {
			panic(http.ErrAbortHandler) // a partial response must not look complete
		}
		s.Fail(c, fmt.Errorf("panic: %v", cause))
	}()
	c.Next()
}

// Origin returns the scheme and host as the browser sees them, with which every absolute URL begins.
func (s *Site) Origin(c *gin.Context) string {
	if s.BaseOrigin != "" {
		return s.BaseOrigin
	}
	scheme := "http"
	if c.Request.TLS != nil || c.GetHeader("X-Forwarded-Proto") == "https" && s.FromTrustedProxy(c.Request) {
		scheme = "https"
	}
	return scheme + "://" + c.Request.Host
}

// LimitSize refuses an overlong URL or header, and bounds the body.
func (s *Site) LimitSize(c *gin.Context) {
	if len(c.Request.RequestURI) > maxURLBytes {
		s.Fail(c, &Problem{Code: http.StatusRequestURITooLong, Visitor: "This address is too long. Go back and try another way.",
			Reason: fmt.Sprintf("The address is too long: the limit is %d bytes.", maxURLBytes)})
		return
	}
	if headerBytes(c.Request) > maxHeaderBytes {
		s.Fail(c, &Problem{Code: http.StatusRequestHeaderFieldsTooLarge, Title: "Too many cookies",
			Visitor: "Your browser sends more cookies than fit. Delete this site’s cookies and try again.",
			Reason:  fmt.Sprintf("The request headers are too long: the limit is %d bytes. Deleting this site's cookies may help.", maxHeaderBytes)})
		return
	}
	if hasBody(c.Request) {
		c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, maxBodyBytes)
	}
}

func hasBody(r *http.Request) bool { return r.Body != nil && r.Body != http.NoBody }

func headerBytes(r *http.Request) int {
	n := len(r.Host)
	for name, values := range r.Header {
		for _, value := range values {
			n += len(name) + len(value)
		}
	}
	return n
}

// WithTimeout cancels a request's context after its route's timeout, which starts when the body has arrived.
func (s *Site) WithTimeout(c *gin.Context) {
	limit := route.DefaultTimeout
	if r := s.route(c); r != nil && r.Timeout != 0 {
		limit = r.Timeout
	}
	if limit == route.NoTimeout {
		return
	}
	if hasBody(c.Request) && c.Request.Method != http.MethodGet && c.Request.Method != http.MethodHead {
		if err := s.receiveBody(c); err != nil {
			s.Fail(c, err)
			return
		}
	}
	ctx, cancel := context.WithTimeoutCause(c.Request.Context(), limit, errTimedOut)
	defer cancel()
	c.Request = c.Request.WithContext(ctx)
	c.Next()
}

// WithOrigin has security events say where a request comes from. Requests that only read a row cause none.
func (s *Site) WithOrigin(c *gin.Context) {
	if r := s.route(c); r == nil || r.Timeout == route.NoTimeout {
		return
	}
	origin := audit.Origin{Client: s.ClientIP(c.Request), Request: RequestID(c)}
	c.Request = c.Request.WithContext(audit.WithOrigin(c.Request.Context(), origin))
}

// RefuseCrossSite refuses posts that another site makes a browser send. The operator's own UI may submit
// flows, and nothing else.
func (s *Site) RefuseCrossSite(c *gin.Context) {
	protection := s.crossOrigin
	if r := s.route(c); r != nil && r.Flow {
		protection = s.crossOriginFlows
	}
	if err := protection.Check(c.Request); err != nil {
		if p := s.Misplaced(c.Request); p != nil && c.GetHeader("Origin") == "null" { // by http; also of a page without a referrer
			s.Fail(c, p)
			return
		}
		s.Fail(c, ErrCrossSite)
	}
}

// corsHeaders are the request headers that Kratos allows by default, and what clients add to their requests.
var corsHeaders = []string{"Accept", "Accept-Language", "Authorization", "Cache-Control", "Content-Language", "Content-Type",
	"Max-Age", "X-CSRF-Token", passiveHeader, "X-Session-Token", "X-XSRF-Token"}

// WithCORS lets the front-ends of CORS_ALLOWED_ORIGINS call the JSON endpoints with the person's
// cookies. For other origins nothing changes: the browser withholds the response. It comes before
// the routes, since none of them answers a preflight request.
func (s *Site) WithCORS() gin.HandlerFunc {
	if len(s.CORSAllowedOrigins) == 0 {
		return func(*gin.Context) {}
	}
	allow := cors.New(cors.Config{
		AllowOrigins:     s.CORSAllowedOrigins,
		AllowCredentials: true,
		AllowMethods:     []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"},
		AllowHeaders:     corsHeaders,
		ExposeHeaders:    []string{"Link", "Retry-After", "X-Request-Id", "X-Total-Count", "X-Kratos-Authenticated-Identity-Id"},
		MaxAge:           time.Hour,
	})
	return func(c *gin.Context) {
		if !s.CrossOrigin(c.Request.URL.Path) {
			return
		}
		c.Writer.Header().Add("Vary", "Origin")
		if slices.Contains(s.CORSAllowedOrigins, c.GetHeader("Origin")) {
			allow(c)
		}
	}
}

// WithTrace gives the request a span. Only a proxy may say which trace it belongs to: else anybody
// could have theirs recorded, or mixed into those of others.
func (s *Site) WithTrace(c *gin.Context) {
	parent := ""
	if s.FromTrustedProxy(c.Request) {
		parent = c.GetHeader("Traceparent")
	}
	scheme, _, _ := strings.Cut(s.Origin(c), "://")
	ctx, end := s.Traces.Request(c.Request, scheme, parent)
	c.Request = c.Request.WithContext(ctx)
	defer func() { end(c.FullPath(), c.Writer.Status()) }()
	c.Next()
}

// Redirect redirects every request to a route.
func (s *Site) Redirect(to *route.Route) gin.HandlerFunc {
	return func(c *gin.Context) { SeeOther(c, s.Path(to)) }
}

// NotFound answers for a path without a route.
func (s *Site) NotFound(c *gin.Context) { s.Fail(c, ErrNotFound) }

// MethodNotAllowed answers for a path without a route for the method.
func (s *Site) MethodNotAllowed(c *gin.Context) {
	if page := s.FormPage(c.Request.URL.Path); page != nil && c.Request.Method == http.MethodGet && PrefersHTML(c.Request) {
		SeeOther(c, s.WithQuery(c, page)) // that of the flow
		return
	}
	s.Fail(c, &Problem{Code: http.StatusMethodNotAllowed, Visitor: "This address can’t be opened like that. Go back and try again.",
		Reason: c.Request.Method + " isn't allowed here. Allowed: " + c.Writer.Header().Get("Allow") + "."})
}
