package app

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"latchkey/models"
	"latchkey/views"
)

// verifyRequest answers GET /auth/verify, which a reverse proxy asks before it lets a request through to an
// app: 200 with who is signed in, else what the proxy may pass on to the browser.
func (a *App) verifyRequest(c *gin.Context) {
	session, err := a.signedIn(c)
	if errors.Is(err, errNoSession) {
		a.askToSignIn(c)
		return
	}
	if err != nil {
		a.fail(c, err)
		return
	}
	if !a.access.none() && !a.admit(c, session) {
		return
	}
	vouch(c.Writer.Header(), session)
	c.Status(http.StatusOK)
}

// vouch tells the app who it is. All four are always set, empty or not: a proxy that copies what is
// there would pass on what a stranger sent in place of a missing one.
func vouch(h http.Header, session *models.Session) {
	who := session.Identity
	values := []string{who.ID.String(), headerText(who.Email), headerText(who.Name), strings.Join(who.Groups, ",")}
	h["X-Kratos-Authenticated-Identity-Id"] = values[0:1:1]
	h["Remote-User"] = values[0:1:1]
	h["Remote-Email"] = values[1:2:2]
	h["Remote-Name"] = values[2:3:3]
	h["Remote-Groups"] = values[3:4:4]
}

// headerText writes a text so that it passes through every proxy, and comes back from JavaScript's
// decodeURIComponent: RFC 9110 §5.5 promises nothing for more than printable ASCII, and a space at
// either end is not part of the value.
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
	method, proto, host, uri string // of X-Forwarded-Method and so on; "" for what is not known
	problem                  string // why something is not known, in a sentence; "" if it was just not sent
}

// whole reports whether everything is known. A proxy that sends it all passes our answer on.
func (f forwarded) whole() bool {
	return f.method != "" && f.proto != "" && f.host != "" && f.uri != ""
}

// forwarded reads what a trusted proxy says; what anybody else says is not looked at.
func (a *App) forwarded(r *http.Request) forwarded {
	var f forwarded
	if !a.fromTrustedProxy(r) {
		return f
	}
	for _, part := range []struct {
		name  string
		value *string
		valid func(string) bool
	}{
		{"X-Forwarded-Method", &f.method, func(s string) bool { return strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") == "" }},
		{"X-Forwarded-Proto", &f.proto, func(s string) bool { return s == "http" || s == "https" || s == "ws" || s == "wss" }},
		{"X-Forwarded-Host", &f.host, func(s string) bool { return hostName(s) != "" }},
		{"X-Forwarded-Uri", &f.uri, func(s string) bool { return strings.HasPrefix(s, "/") }},
	} {
		switch values := r.Header[part.name]; {
		case len(values) == 0 || len(values) == 1 && values[0] == "":
		case len(values) > 1:
			f.problem = fmt.Sprintf("The proxy sends %s more than once: have it overwrite what it receives.", part.name)
		case !part.valid(values[0]):
			f.problem = fmt.Sprintf("The proxy sends an %s that can't be used: have it overwrite what it receives.", part.name)
		default:
			*part.value = values[0]
		}
	}
	return f
}

// askToSignIn sends a browser that wants a page to sign in, with the way back. All others get a 401,
// since what a script would make of a page is not known.
func (a *App) askToSignIn(c *gin.Context) {
	asked := a.forwarded(c.Request)
	switch {
	case asked.problem != "":
		a.fail(c, errNoSession.because("%s %s", errNoSession.reason, asked.problem))
	case !asked.whole() || !wantsPage(c.Request):
		a.fail(c, errNoSession)
	case !a.cookieReaches(asked):
		a.fail(c, &problem{code: http.StatusForbidden, reason: fmt.Sprintf(
			"Signing in would not help: the session's cookie does not reach %s://%s. If you run this site, serve it over https as BASE_URL, and set COOKIE_DOMAIN to a domain that the hosts of Latchkey and of the app are both under.", asked.proto, asked.host)})
	default:
		seeOther(c, a.origin(c)+withReturnTo(pathLogin, a.wayBack(c, asked)))
	}
}

// wantsPage reports whether a browser is about to show what it asks for.
func wantsPage(r *http.Request) bool {
	mode := r.Header.Get("Sec-Fetch-Mode")
	return prefersHTML(r) && (mode == "" || mode == "navigate") && r.Header.Get("X-Requested-With") == ""
}

// cookieReaches reports whether a browser that signs in sends the cookie to that app. Where it does
// not, it would be sent back and forth for ever.
func (a *App) cookieReaches(asked forwarded) bool {
	if a.baseOrigin == "" {
		return true // not known
	}
	if a.https && asked.proto != "https" {
		return false
	}
	_, own, _ := strings.Cut(a.baseOrigin, "://")
	if a.CookieDomain == "" {
		return hostName(asked.host) == hostName(own)
	}
	return a.covers(a.CookieDomain, hostName(asked.host))
}

// wayBack returns where to go after signing in: the very URL that was asked for, the app's root
// where that can't be asked for again or is no good as a return_to, and "" where neither is allowed.
func (a *App) wayBack(c *gin.Context, asked forwarded) string {
	root := asked.proto + "://" + asked.host
	if asked.method == http.MethodGet || asked.method == http.MethodHead {
		if target := a.stillAllowed(c, root+asked.uri); target != "" {
			return target
		}
	}
	return a.stillAllowed(c, root+"/")
}

// admit reports whether ACCESS lets the person use the app that the proxy asks for; if not it has
// answered.
func (a *App) admit(c *gin.Context, session *models.Session) bool {
	asked := a.forwarded(c.Request)
	if asked.host == "" {
		reason := asked.problem
		if reason == "" {
			reason = "Access is by host, and the host is not known: have the proxy send X-Forwarded-Host, and put its address into TRUSTED_PROXIES."
		}
		a.fail(c, &problem{code: http.StatusForbidden, reason: reason})
		return false
	}
	host := hostName(asked.host)
	if a.access.allow(host, session.Identity.Groups) {
		return true
	}
	if !asked.whole() || !wantsPage(c.Request) {
		a.fail(c, &problem{code: http.StatusForbidden, reason: fmt.Sprintf("%s is not in a group that may use %s.", session.Identity.Email, host)})
		return false
	}
	c.Abort()
	a.pageElsewhere(c, http.StatusForbidden, views.Forbidden(views.ForbiddenPage{
		Page: a.pageDataElsewhere(c), Person: person(session), Email: session.Identity.Email, Host: host,
		LogoutURL: a.logoutURL(c, session, a.wayBack(c, asked)), AccountURL: a.origin(c) + pathAccount,
	}))
	return false
}
