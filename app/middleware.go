package app

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/gin-contrib/cors"
	"github.com/gin-gonic/gin"
	"github.com/gofrs/uuid/v5"

	"latchkey/app/returnto"
)

const (
	maxURLBytes    = 16 << 10
	maxHeaderBytes = 32 << 10 // of all header fields together
	maxBodyBytes   = 64 << 10
)

// requestID returns the id that begin has given the request.
func requestID(c *gin.Context) string { return c.Writer.Header().Get("X-Request-Id") }

// begin gives the request its id, every answer its headers, and the log its line.
func (a *App) begin(c *gin.Context) {
	start := time.Now()
	id := a.newRequestID(c)
	a.setHeaders(c.Writer.Header(), id)

	c.Next()

	status := c.Writer.Status()
	level := slog.LevelInfo
	if route := c.FullPath(); quietRoutes[route] && (status < http.StatusInternalServerError || status == http.StatusServiceUnavailable) {
		level = slog.LevelDebug
	}
	if !a.Log.Enabled(c.Request.Context(), level) {
		return
	}
	// Never the query: it may hold a token.
	a.Log.LogAttrs(c.Request.Context(), level, "request",
		slog.String("method", c.Request.Method), slog.String("path", clip(c.Request.URL.Path, maxLoggedPath)),
		slog.Int("status", status), slog.Float64("took_ms", float64(time.Since(start).Microseconds())/1000),
		slog.String("client", c.ClientIP()), slog.String("request", id))
}

// maxLoggedPath keeps a stranger from filling the log with one request.
const maxLoggedPath = 256

// quietRoutes are asked for so often that their lines would hide all others.
var quietRoutes = map[string]bool{
	"/auth/sessions/whoami":             true,
	pathVerify:                          true,
	"/auth/sessions/events":             true,
	"/auth/self-service/logout/browser": true,
	"/auth/health/alive":                true,
	"/auth/health/ready":                true,
	pathStatic:                          true,
	pathScript:                          true,
}

func (a *App) newRequestID(c *gin.Context) string {
	if sent := c.GetHeader("X-Request-Id"); sent != "" && a.fromTrustedProxy(c.Request) {
		if id, err := uuid.FromString(sent); err == nil {
			return id.String()
		}
	}
	var id uuid.UUID
	binary.NativeEndian.PutUint64(id[:], rand.Uint64())  // #nosec G404 -- a name, no secret
	binary.NativeEndian.PutUint64(id[8:], rand.Uint64()) // #nosec G404
	id.SetVersion(uuid.V4)
	id.SetVariant(uuid.VariantRFC9562)
	return id.String()
}

func (a *App) setHeaders(h http.Header, requestID string) {
	h["X-Request-Id"] = []string{requestID}
	h["Cache-Control"] = noStore
	h["X-Content-Type-Options"] = noSniff
	h["Referrer-Policy"] = noReferrer
	h["Content-Security-Policy"] = nothingElse // pages need more
	if a.https {
		h["Strict-Transport-Security"] = twoYears
	}
}

// Values of headers. Answers share them: who adds to one gets a copy.
var (
	jsonText    = []string{"application/json; charset=utf-8"}
	noStore     = []string{"no-store"}
	noSniff     = []string{"nosniff"}
	noReferrer  = []string{"no-referrer"}
	nothingElse = []string{"default-src 'none'; frame-ancestors 'none'"}
	twoYears    = []string{"max-age=63072000"}
)

// pageHeaders adds what only a page needs.
func (a *App) pageHeaders(h http.Header) {
	h.Set("Content-Security-Policy", a.contentSecurityPolicy())
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	if a.https { // browsers complain about it elsewhere
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
	}
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Add("Vary", "Accept, Cookie")
}

// contentSecurityPolicy allows what the pages consist of. Browsers hold form-action against the
// redirect after a form too, so it names every place that a sign-in may lead to.
func (a *App) contentSecurityPolicy() string {
	targets := append([]string{"'self'"}, a.returns.Sources()...)
	for _, target := range []string{a.LoginReturnURL, a.LogoutReturnURL} {
		if u, err := url.Parse(target); err == nil && u.Host != "" {
			if source := u.Scheme + "://" + u.Host; !slices.Contains(targets, source) {
				targets = append(targets, source)
			}
		}
	}
	return "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; " +
		"base-uri 'none'; frame-ancestors 'none'; form-action " + strings.Join(targets, " ")
}

// recovered turns a panic into a 500 and a log line with its stack.
func (a *App) recovered(c *gin.Context) {
	defer func() {
		cause := recover()
		if cause == nil {
			return
		}
		if cause == http.ErrAbortHandler {
			panic(cause)
		}
		a.Log.ErrorContext(c.Request.Context(), "panic", slog.Any("cause", cause), slog.String("stack", string(debug.Stack())),
			slog.String("request", requestID(c)))
		if c.Writer.Written() {
			panic(http.ErrAbortHandler) // half an answer must not pass for a whole one
		}
		a.fail(c, fmt.Errorf("panic: %v", cause))
	}()
	c.Next()
}

// origin is scheme and host as the browser sees them, and the beginning of every absolute URL.
func (a *App) origin(c *gin.Context) string {
	if a.baseOrigin != "" {
		return a.baseOrigin
	}
	scheme := "http"
	if c.Request.TLS != nil || c.GetHeader("X-Forwarded-Proto") == "https" && a.fromTrustedProxy(c.Request) {
		scheme = "https"
	}
	return scheme + "://" + c.Request.Host
}

func (a *App) fromTrustedProxy(r *http.Request) bool {
	if len(a.trustedProxies) == 0 {
		return false
	}
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	addr := remote.Addr().Unmap()
	return slices.ContainsFunc(a.trustedProxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// knownHost refuses names that nobody vouched for while BASE_URL is unset: a URL that is built
// from the request must not be steered by whoever sent it.
func (a *App) knownHost(c *gin.Context) {
	if a.baseOrigin != "" || a.local(c.Request.Host) || c.FullPath() == pathStatic { // what the page that says so needs
		return
	}
	a.fail(c, &problem{code: http.StatusMisdirectedRequest, reason: fmt.Sprintf(
		"Latchkey does not know that it may be reached as %q. If you run this site, start it with "+
			"BASE_URL set to its address, such as https://example.com.", c.Request.Host)})
}

// local is LocalHost, which need not look twice at the host that everybody uses.
func (a *App) local(host string) bool {
	if last := a.lastLocal.Load(); last != nil && *last == host {
		return true
	}
	if !LocalHost(host) {
		return false
	}
	kept := host // or every call would have its host moved to the heap
	a.lastLocal.Store(&kept)
	return true
}

// LocalHost reports whether the host is a loopback name or an IP address, with a port or without,
// and nothing that a URL could not hold.
func LocalHost(hostport string) bool {
	if returnto.CheckOrigin("http://"+hostport) != nil {
		return false
	}
	host := (&url.URL{Host: hostport}).Hostname()
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	host = strings.ToLower(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") // RFC 6761 §6.3
}

// withinLimits refuses an overlong URL or header, and bounds the body.
func (a *App) withinLimits(c *gin.Context) {
	if len(c.Request.RequestURI) > maxURLBytes {
		a.fail(c, &problem{code: http.StatusRequestURITooLong,
			reason: fmt.Sprintf("The address is too long: %d bytes are the most.", maxURLBytes)})
		return
	}
	if headerBytes(c.Request) > maxHeaderBytes {
		a.fail(c, &problem{code: http.StatusRequestHeaderFieldsTooLarge,
			reason: fmt.Sprintf("The header is too long: %d bytes are the most. Deleting the cookies of this site may help.", maxHeaderBytes)})
		return
	}
	if c.Request.Body != nil && c.Request.Body != http.NoBody {
		c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, maxBodyBytes)
	}
}

func headerBytes(r *http.Request) int {
	n := len(r.Host)
	for name, values := range r.Header {
		for _, value := range values {
			n += len(name) + len(value)
		}
	}
	return n
}

// answerWithin bounds what a request waits for: above all a database that is silent.
const answerWithin = 15 * time.Second

// inTime has a request given up after answerWithin. What apps ask all the time reads one row, within
// a limit of its own (models.Sessions.ByToken), and need not pay for this one.
func (a *App) inTime(c *gin.Context) {
	if quietRoutes[c.FullPath()] {
		return
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), answerWithin)
	defer cancel()
	c.Request = c.Request.WithContext(ctx)
	c.Next()
}

// sameSite refuses what another site makes a browser post here.
func (a *App) sameSite(c *gin.Context) {
	if err := a.crossing.Check(c.Request); err != nil {
		a.fail(c, errCrossSite)
	}
}

// cors lets the front-ends of CORS_ALLOWED_ORIGINS call the JSON endpoints, which lie under these
// prefixes, with the person's cookies. For other origins nothing changes: the browser keeps the
// answer from them. It comes before the routes, since none of them answers a preflight.
func (a *App) cors(prefixes ...string) gin.HandlerFunc {
	if len(a.CORSAllowedOrigins) == 0 {
		return func(*gin.Context) {}
	}
	allow := cors.New(cors.Config{
		AllowOrigins:     a.CORSAllowedOrigins,
		AllowCredentials: true,
		AllowMethods:     []string{"GET", "HEAD", "POST", "DELETE"},
		AllowHeaders:     []string{"Accept", "Authorization", "Content-Type", "X-Session-Token"},
		ExposeHeaders:    []string{"Link", "Retry-After", "X-Request-Id", "X-Total-Count", "X-Kratos-Authenticated-Identity-Id"},
		MaxAge:           time.Hour,
	})
	return func(c *gin.Context) {
		under := func(prefix string) bool { return strings.HasPrefix(c.Request.URL.Path+"/", prefix+"/") }
		if !slices.ContainsFunc(prefixes, under) {
			return
		}
		c.Writer.Header().Add("Vary", "Origin")
		if slices.Contains(a.CORSAllowedOrigins, c.GetHeader("Origin")) {
			allow(c)
		}
	}
}
