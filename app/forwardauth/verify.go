// Package forwardauth tells reverse proxies whether to let a request through to an app.
package forwardauth

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
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
type Handler struct {
	*web.Site
	own string // Latchkey's host; "" while BASE_URL is unset
}

// New returns a Handler.
func New(site *web.Site) *Handler {
	_, authority, _ := strings.Cut(site.BaseOrigin, "://")
	return &Handler{site, access.HostName(authority)}
}

// Verify answers /auth/verify, which a reverse proxy calls before it lets a request through to an app: with
// 200 and who is signed in, or with a response that the proxy may pass on to the browser.
func (h *Handler) Verify(c *gin.Context) { h.verify(c, false) }

// VerifyPath is Verify for a proxy that appends the path of the request.
func (h *Handler) VerifyPath(c *gin.Context) { h.verify(c, true) }

func (h *Handler) verify(c *gin.Context, path bool) {
	session, err := h.SignedInOrPassive(c)
	if err == nil && h.Access.None() {
		h.setIdentityHeaders(c.Writer.Header(), session)
		c.Status(http.StatusOK)
		return
	}
	if err != nil && !errors.Is(err, web.ErrNoSession) {
		h.Fail(c, err)
		return
	}
	request := h.asked(c.Request, path)
	rule, problem := h.rule(request)
	switch {
	case problem == nil && rule.AdmitsAnybody(request.method, request.uri, c.Request.Header):
		if session != nil && !rule.Admits(session.Identity.Groups) {
			session = nil
		}
	case session == nil && (problem == nil || request.host == ""):
		h.askToSignIn(c, request, err)
		return
	case problem != nil:
		h.Fail(c, problem)
		return
	case !rule.Admits(session.Identity.Groups):
		h.refuse(c, session, request)
		return
	}
	h.setIdentityHeaders(c.Writer.Header(), session)
	c.Status(http.StatusOK)
}

// rule returns the rule of ACCESS for a request, or why there is none.
func (h *Handler) rule(request asked) (*access.Rule, error) {
	refuse := func(reason string) (*access.Rule, error) {
		return nil, &web.Problem{Code: http.StatusForbidden, Reason: reason}
	}
	switch {
	case h.Access.None():
		return new(access.Rule), nil
	case request.host == "":
		return refuse(cmp.Or(request.problem, "ACCESS is set, but the app's host is unknown: have the proxy send X-Forwarded-Host, and add its address to TRUSTED_PROXIES."))
	}
	host := access.HostName(request.host)
	rule, own := h.Access.For(host)
	if host == h.own && (!own || h.Below(request.uri)) {
		return refuse(fmt.Sprintf("The proxy asks about %s, which is Latchkey's own host: have it send the app's host as X-Forwarded-Host, and ask Latchkey directly instead of at BASE_URL. "+
			"If the app is on this host too, ACCESS needs an entry for it, such as %[1]s=SIGNED-IN, and the paths below %[2]s must go to Latchkey without the check.", host, h.Path(route.HomeSlash)))
	}
	return rule, nil
}

var (
	identityHeaders = []string{"X-Kratos-Authenticated-Identity-Id", "Remote-User", "Remote-Email", "Remote-Name", "Remote-Groups"}
	noValue         = []string{""}
)

// setIdentityHeaders tells the app who is signed in; session is nil if nobody is. All headers are always set, even if
// empty: instead of a missing one, a proxy might pass on the client's.
func (h *Handler) setIdentityHeaders(header http.Header, session *models.Session) {
	if session == nil {
		for _, name := range identityHeaders {
			header[name] = noValue
		}
		return
	}
	identity, id := session.Identity, session.Identity.ID.String()
	email := identity.TrustedEmail(h.Registration == config.RegistrationOpen)
	values := []string{id, headerText(h.remoteUser(identity, email, id)), headerText(email), headerText(identity.Name), strings.Join(identity.Groups, ",")}
	header["X-Kratos-Authenticated-Identity-Id"] = values[0:1:1]
	header["Remote-User"] = values[1:2:2]
	header["Remote-Email"] = values[2:3:3]
	header["Remote-Name"] = values[3:4:4]
	header["Remote-Groups"] = values[4:5:5]
}

// remoteUser returns the name by which apps know a person. Nobody can choose somebody else's: usernames and trusted
// addresses are unique, and usernames contain no @ and can't look like an id.
func (h *Handler) remoteUser(identity *models.Identity, email, id string) string {
	switch h.RemoteUser {
	case config.RemoteUsername:
		return cmp.Or(identity.Username, email, id)
	case config.RemoteEmail:
		return cmp.Or(email, id)
	}
	return id
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

// askToSignIn redirects a browser that navigates to a page to the sign-in page, with a return_to. All other
// clients get a 401, since scripts can't use a page. err is why nobody is signed in.
func (h *Handler) askToSignIn(c *gin.Context, request asked, err error) {
	why := web.ErrNoSession
	if errors.Is(err, web.ErrSeveralPeople) {
		why = web.ErrSeveralPeople
	}
	switch {
	case request.problem != "":
		h.Fail(c, why.Because("%s %s", why.Reason, request.problem))
	case !request.page(c.Request):
		h.Fail(c, why)
	case !h.cookieReaches(request):
		h.Fail(c, &web.Problem{Code: http.StatusForbidden, Reason: fmt.Sprintf(
			"Signing in wouldn't help: the session cookie doesn't reach %s://%s. If you are the administrator, serve the app over https like BASE_URL and set COOKIE_DOMAIN to a domain that contains both hosts.", request.proto, request.host)})
	case why == web.ErrSeveralPeople:
		// Our own host may see one session only, and redirect back: this has it ask for the password.
		to := url.Values{"refresh": {"true"}, "return_to": {h.wayBack(c, request)}}
		web.SeeOther(c, h.Origin(c)+h.Path(route.Login)+"?"+to.Encode())
	default:
		web.SeeOther(c, h.Origin(c)+h.ReturningTo(route.Login, h.wayBack(c, request)))
	}
}

// wayBack returns where to go after signing in: the requested URL, the app's root if
// that can't be requested again or isn't allowed as a return_to, or "" if neither is allowed.
func (h *Handler) wayBack(c *gin.Context, request asked) string {
	root := request.proto + "://" + request.host
	if request.method == http.MethodGet || request.method == http.MethodHead {
		if target := h.StillAllowed(c, root+request.uri); target != "" {
			return target
		}
	}
	return h.StillAllowed(c, root+"/")
}

// refuse responds to a request that ACCESS doesn't allow.
func (h *Handler) refuse(c *gin.Context, session *models.Session, request asked) {
	host := access.HostName(request.host)
	if !request.page(c.Request) {
		h.Fail(c, &web.Problem{Code: http.StatusForbidden, Reason: fmt.Sprintf("%s isn't in any group with access to %s.", session.Identity.Email, host)})
		return
	}
	c.Abort()
	h.PageElsewhere(c, http.StatusForbidden, views.Forbidden(views.ForbiddenPage{
		Page: h.PageDataElsewhere(c), Person: web.Person(session), Email: session.Identity.Email, Host: host,
		LogoutURL: h.LogoutURL(c, session, h.wayBack(c, request)), AccountURL: h.Origin(c) + h.Path(route.Account),
	}))
}
