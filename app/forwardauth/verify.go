// Package forwardauth tells reverse proxies whether to let a request through to an app.
package forwardauth

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"latchkey/app/access"
	"latchkey/app/config"
	"latchkey/app/route"
	"latchkey/app/web"
	"latchkey/models"
	"latchkey/views"
)

// Handler answers reverse proxies.
type Handler struct{ *web.Site }

// New returns a Handler.
func New(site *web.Site) *Handler { return &Handler{site} }

// Verify answers GET /auth/verify, which a reverse proxy calls before it lets a request through to an
// app: with 200 and who is signed in, or with a response that the proxy may pass on to the browser.
func (h *Handler) Verify(c *gin.Context) {
	session, err := h.SignedIn(c)
	if errors.Is(err, web.ErrNoSession) {
		h.askToSignIn(c)
		return
	}
	if err != nil {
		h.Fail(c, err)
		return
	}
	if !h.Access.None() && !h.admit(c, session) {
		return
	}
	setIdentityHeaders(c.Writer.Header(), session)
	c.Status(http.StatusOK)
}

// setIdentityHeaders tells the app who is signed in. All headers are always set, even if empty: in place of
// a missing one, a proxy might pass on what the client sent.
func setIdentityHeaders(h http.Header, session *models.Session) {
	identity := session.Identity
	values := []string{identity.ID.String(), headerText(identity.Email), headerText(identity.Name), strings.Join(identity.Groups, ",")}
	h["X-Kratos-Authenticated-Identity-Id"] = values[0:1:1]
	h["Remote-User"] = values[0:1:1]
	h["Remote-Email"] = values[1:2:2]
	h["Remote-Name"] = values[2:3:3]
	h["Remote-Groups"] = values[3:4:4]
}

// headerText encodes text so that it passes through every proxy, and JavaScript's decodeURIComponent
// decodes it: RFC 9110 §5.5 guarantees nothing beyond printable ASCII, and a space at either end isn't
// part of the value.
func headerText(text string) string {
	plain := func(i int) bool {
		b := text[i]
		return b > ' ' && b < 0x7f && b != '%' || b == ' ' && i > 0 && i < len(text)-1
	}
	special := 0
	for i := range len(text) {
		if !plain(i) {
			special++
		}
	}
	if special == 0 {
		return text
	}
	var out strings.Builder
	out.Grow(len(text) + 2*special)
	for i := range len(text) {
		if plain(i) {
			out.WriteByte(text[i])
			continue
		}
		fmt.Fprintf(&out, "%%%02X", text[i])
	}
	return out.String()
}

// forwarded is the request that a proxy asks about.
type forwarded struct {
	method, proto, host, uri string // from X-Forwarded-Method and so on; "" if unknown
	problem                  string // why something is unknown, as a sentence; "" if it just wasn't sent
}

// complete reports whether everything is known. A proxy that sends it all passes our response on.
func (f forwarded) complete() bool {
	return f.method != "" && f.proto != "" && f.host != "" && f.uri != ""
}

// forwarded reads the headers of a trusted proxy; anybody else's are ignored.
func (h *Handler) forwarded(r *http.Request) forwarded {
	var f forwarded
	if !h.FromTrustedProxy(r) {
		return f
	}
	for _, part := range []struct {
		name  string
		value *string
		valid func(string) bool
	}{
		{"X-Forwarded-Method", &f.method, func(s string) bool { return strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") == "" }},
		{"X-Forwarded-Proto", &f.proto, func(s string) bool { return s == "http" || s == "https" || s == "ws" || s == "wss" }},
		{"X-Forwarded-Host", &f.host, func(s string) bool { return access.HostName(s) != "" }},
		{"X-Forwarded-Uri", &f.uri, func(s string) bool { return strings.HasPrefix(s, "/") }},
	} {
		switch values := r.Header[part.name]; {
		case len(values) == 0 || len(values) == 1 && values[0] == "":
		case len(values) > 1:
			f.problem = fmt.Sprintf("The proxy sends %s more than once: have it overwrite the header.", part.name)
		case !part.valid(values[0]):
			f.problem = fmt.Sprintf("The proxy sends an invalid %s: have it overwrite the header.", part.name)
		default:
			*part.value = values[0]
		}
	}
	return f
}

// askToSignIn redirects a browser that navigates to a page to the sign-in page, with a return_to. All other
// clients get a 401, since scripts can't use a page.
func (h *Handler) askToSignIn(c *gin.Context) {
	request := h.forwarded(c.Request)
	switch {
	case request.problem != "":
		h.Fail(c, web.ErrNoSession.Because("%s %s", web.ErrNoSession.Reason, request.problem))
	case !request.complete() || !wantsPage(c.Request):
		h.Fail(c, web.ErrNoSession)
	case !h.cookieReaches(request):
		h.Fail(c, &web.Problem{Code: http.StatusForbidden, Reason: fmt.Sprintf(
			"Signing in wouldn't help: the session cookie doesn't reach %s://%s. If you are the administrator, serve the app over https like BASE_URL and set COOKIE_DOMAIN to a domain that contains both hosts.", request.proto, request.host)})
	default:
		web.SeeOther(c, h.Origin(c)+h.ReturningTo(route.Login, h.wayBack(c, request)))
	}
}

// wantsPage reports whether a browser is about to show the response.
func wantsPage(r *http.Request) bool {
	mode := r.Header.Get("Sec-Fetch-Mode")
	return web.PrefersHTML(r) && (mode == "" || mode == "navigate") && r.Header.Get("X-Requested-With") == ""
}

// cookieReaches reports whether a browser that signs in sends the cookie to that app. If it doesn't,
// redirects would loop forever.
func (h *Handler) cookieReaches(request forwarded) bool {
	if h.BaseOrigin == "" {
		return true // unknown
	}
	if h.HTTPS && request.proto != "https" {
		return false
	}
	_, own, _ := strings.Cut(h.BaseOrigin, "://")
	if h.CookieDomain == "" {
		return access.HostName(request.host) == access.HostName(own)
	}
	return config.Covers(h.CookieDomain, access.HostName(request.host))
}

// wayBack returns where to go after signing in: the requested URL, the app's root if
// that can't be requested again or isn't allowed as a return_to, or "" if neither is allowed.
func (h *Handler) wayBack(c *gin.Context, request forwarded) string {
	root := request.proto + "://" + request.host
	if request.method == http.MethodGet || request.method == http.MethodHead {
		if target := h.StillAllowed(c, root+request.uri); target != "" {
			return target
		}
	}
	return h.StillAllowed(c, root+"/")
}

// admit reports whether ACCESS lets the person use the app that the proxy asks about. If not, it has
// responded.
func (h *Handler) admit(c *gin.Context, session *models.Session) bool {
	request := h.forwarded(c.Request)
	if request.host == "" {
		reason := request.problem
		if reason == "" {
			reason = "ACCESS is set, but the app's host is unknown: have the proxy send X-Forwarded-Host, and add its address to TRUSTED_PROXIES."
		}
		h.Fail(c, &web.Problem{Code: http.StatusForbidden, Reason: reason})
		return false
	}
	host := access.HostName(request.host)
	if h.Access.Allow(host, session.Identity.Groups) {
		return true
	}
	if !request.complete() || !wantsPage(c.Request) {
		h.Fail(c, &web.Problem{Code: http.StatusForbidden, Reason: fmt.Sprintf("%s isn't in any group with access to %s.", session.Identity.Email, host)})
		return false
	}
	c.Abort()
	h.PageElsewhere(c, http.StatusForbidden, views.Forbidden(views.ForbiddenPage{
		Page: h.PageDataElsewhere(c), Person: web.Person(session), Email: session.Identity.Email, Host: host,
		LogoutURL: h.LogoutURL(c, session, h.wayBack(c, request)), AccountURL: h.Origin(c) + h.Path(route.Account),
	}))
	return false
}
