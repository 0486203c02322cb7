package app

import (
	"cmp"
	"crypto/hmac"
	"errors"
	"hash"
	"net/http"
	"net/url"
	"strings"

	"github.com/gin-gonic/gin"

	"latchkey/models"
	"latchkey/views"
)

// logoutFlow is the answer to who asks for a logout URL.
type logoutFlow struct {
	LogoutToken string `json:"logout_token"` // for AJAX; of no use without the session's cookie
	LogoutURL   string `json:"logout_url"`   // for a link; absolute
}

// createLogoutURL answers GET /auth/self-service/logout/browser: a URL, valid for this session
// alone, that signs its person out when opened. It writes nothing.
func (a *App) createLogoutURL(c *gin.Context) {
	session, err := a.signedIn(c)
	if errors.Is(err, errNoSession) && carriesToken(c.Request) {
		err = errNoSession.because("A session token has no logout URL. To end its session, send it to DELETE %s.", pathLogoutAPI)
	}
	if err != nil {
		a.fail(c, err)
		return
	}
	returnTo, err := a.returnTo(c)
	if err != nil {
		a.fail(c, err)
		return
	}

	token := a.logoutToken(session)
	c.PureJSON(http.StatusOK, logoutFlow{LogoutToken: token, LogoutURL: a.logoutURLWith(c, token, returnTo)})
}

func carriesToken(r *http.Request) bool {
	return r.Header.Get("X-Session-Token") != "" || r.Header.Get("Authorization") != ""
}

// logoutToken returns the proof that a logout was meant for this session. It is derived from the
// session's id, which outlasts a change of its token, so that it is nowhere stored, is the same each
// time, and ends with the session.
func (a *App) logoutToken(session *models.Session) string {
	mac := a.logoutMACs.Get().(hash.Hash)
	defer a.logoutMACs.Put(mac)
	mac.Reset()
	mac.Write(session.ID.Bytes())
	return encode64(mac.Sum(nil))
}

// logoutURL returns the absolute URL that signs the session out when its browser opens it.
func (a *App) logoutURL(c *gin.Context, session *models.Session, returnTo string) string {
	return a.logoutURLWith(c, a.logoutToken(session), returnTo)
}

func (a *App) logoutURLWith(c *gin.Context, token, returnTo string) string {
	u := a.origin(c) + "/auth/self-service/logout?token=" + token // of URL-safe characters
	if returnTo != "" {
		u += "&return_to=" + url.QueryEscape(returnTo)
	}
	return u
}

// logout answers GET /auth/self-service/logout?token=T: it ends the session that the browser's
// cookie and the token both belong to.
func (a *App) logout(c *gin.Context) {
	if speculative(c.Request) {
		a.fail(c, errSpeculative)
		return
	}
	returnTo, err := a.returnTo(c)
	if err != nil {
		a.fail(c, err)
		return
	}
	query, err := a.query(c)
	if err != nil {
		a.fail(c, err)
		return
	}
	session, err := a.signedIn(c)
	if err != nil && !errors.Is(err, errNoSession) {
		a.fail(c, err)
		return
	}
	tokens := query["token"]
	switch {
	case len(tokens) != 1 || tokens[0] == "":
		a.offerLogout(c, session, errBadRequest.because("The logout URL needs its token once. Get a fresh one from /auth/self-service/logout/browser."))
		return
	case session == nil:
		a.alreadySignedOut(c, returnTo)
		return
	case !hmac.Equal([]byte(a.logoutToken(session)), []byte(tokens[0])):
		a.offerLogout(c, session, &problem{code: http.StatusForbidden,
			reason: "This logout URL belongs to another session. Get a fresh one from /auth/self-service/logout/browser."})
		return
	}

	if err := a.endForLogout(c, session); err != nil {
		a.fail(c, err)
		return
	}
	if err := a.leave(c, a.newReceipt(session), returnTo); err != nil {
		a.fail(c, err)
		return
	}
	if !prefersHTML(c.Request) {
		c.Status(http.StatusNoContent)
		return
	}
	seeOther(c, a.afterLogout(returnTo))
}

// leave makes the browser forget a session that has just been signed out. It leaves a receipt for
// our own page, if the browser comes there: our pages sign out by AJAX and then go there.
func (a *App) leave(c *gin.Context, r receipt, returnTo string) error {
	if returnTo == "" && a.afterLogout("") == pathSignedOut {
		if err := a.giveReceipt(c, r); err != nil {
			return err
		}
	}
	return a.forgetSession(c)
}

// logoutEverywhere answers POST /auth/account/sign-out-everywhere: it ends this session and all
// others of its person.
func (a *App) logoutEverywhere(c *gin.Context) {
	session, in, ok := a.confirmedForm(c, "sign out everywhere")
	if !ok {
		return
	}
	returnTo := in["return_to"]
	if returnTo != "" {
		var err error
		if returnTo, err = a.checkReturnTo(c, returnTo); err != nil {
			a.fail(c, err)
			return
		}
	}
	others, err := a.store.Sessions.EndEverywhere(c.Request.Context(), session.IdentityID, session.ID)
	if err == nil {
		r := a.newReceipt(session)
		r.Everywhere, r.Ended = true, others
		err = a.leave(c, r, returnTo)
	}
	if err != nil {
		a.fail(c, err)
		return
	}
	seeOther(c, a.afterLogout(returnTo))
}

// endForLogout ends the session. One that has gone meanwhile, with its account, is signed out.
func (a *App) endForLogout(c *gin.Context, session *models.Session) error {
	err := a.store.Sessions.End(c.Request.Context(), session.ID, models.EndedByLogout)
	if errors.Is(err, models.ErrNotFound) {
		return nil
	}
	return err
}

// speculative reports whether a browser asks only because it guesses that somebody will.
func speculative(r *http.Request) bool {
	for _, name := range []string{"Sec-Purpose", "Purpose", "X-Moz"} {
		for _, value := range r.Header.Values(name) {
			value = strings.ToLower(value)
			if strings.Contains(value, "prefetch") || strings.Contains(value, "prerender") || strings.Contains(value, "preview") {
				return true
			}
		}
	}
	return false
}

// alreadySignedOut answers a logout whose session is over: what the link was for has happened.
func (a *App) alreadySignedOut(c *gin.Context, returnTo string) {
	if !prefersHTML(c.Request) {
		a.fail(c, errNoSession)
		return
	}
	if err := a.forgetSession(c); err != nil {
		a.fail(c, err)
		return
	}
	seeOther(c, a.afterLogout(returnTo))
}

// offerLogout answers a logout URL that is not good, on a page with one that is.
func (a *App) offerLogout(c *gin.Context, session *models.Session, p *problem) {
	if session == nil {
		a.fail(c, p)
		return
	}
	a.respond(c, p, func() {
		a.page(c, p.code, views.Logout(views.LogoutPage{
			Page: a.personalPage(session), Problem: "That link is not for the session in this browser. To sign out here, use the button.",
			Person: person(session), LogoutURL: a.logoutURL(c, session, ""), Next: a.afterLogout(""),
		}))
	})
}

// forgetSession makes the browser forget what it has of the session.
func (a *App) forgetSession(c *gin.Context) error {
	if a.clearSiteData != "" {
		c.Header("Clear-Site-Data", a.clearSiteData)
	}
	// The sign-in forms' cookie goes too. Not only is it of no more use: Chromium puts a page back
	// on the screen, no-store or not, unless HttpOnly cookies have changed, and after the redirect
	// of a sign-in it overlooks one change.
	if a.csrfToken(c) != "" {
		http.SetCookie(c.Writer, a.cookies.cookie(a.cookies.flowName, "", -1))
	}
	return clearSession(c)
}

func (a *App) afterLogout(returnTo string) string {
	return cmp.Or(returnTo, a.LogoutReturnURL, pathSignedOut)
}

// logoutAPI answers DELETE /auth/self-service/logout/api: an API client ends its own session.
func (a *App) logoutAPI(c *gin.Context) {
	if !isJSON(c.Request) {
		a.fail(c, errBadRequest.because(`Send the body as application/json: {"session_token": "…"}.`))
		return
	}
	in, err := readFields(c)
	if err != nil {
		a.fail(c, err)
		return
	}
	session, err := a.store.Sessions.ByToken(c.Request.Context(), in["session_token"])
	if errors.Is(err, models.ErrNotFound) {
		err = &problem{code: http.StatusForbidden, reason: "session_token is missing, or not the token of a session."}
	}
	if err == nil {
		err = a.endForLogout(c, &session)
	}
	if err != nil {
		a.fail(c, err)
		return
	}
	c.Status(http.StatusNoContent)
}

// logoutPage answers GET /auth/logout: it asks, for apps that can only link to a fixed address.
func (a *App) logoutPage(c *gin.Context) {
	returnTo, err := a.returnTo(c)
	if err != nil {
		a.fail(c, err)
		return
	}
	session, err := a.signedIn(c)
	switch {
	case errors.Is(err, errNoSession):
		a.showSignedOut(c, http.StatusOK, "")
	case err != nil:
		a.fail(c, err)
	default:
		a.page(c, http.StatusOK, views.Logout(views.LogoutPage{
			Page: a.personalPage(session), Person: person(session), LogoutURL: a.logoutURL(c, session, returnTo), Next: a.afterLogout(returnTo),
			ReturnTo: returnTo,
		}))
	}
}
