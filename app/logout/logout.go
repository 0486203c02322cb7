// Package logout is the heart: the logout URL, the logout itself, everywhere, and the receipt after it.
package logout

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/gofrs/uuid/v5"

	"latchkey/app/confirm"
	"latchkey/app/route"
	"latchkey/app/web"
	"latchkey/models"
	"latchkey/views"
)

// Handler signs people out.
type Handler struct {
	*web.Site
	store   *models.Store
	confirm *confirm.Handler
}

// New returns a Handler.
func New(site *web.Site, store *models.Store, confirm *confirm.Handler) *Handler {
	return &Handler{Site: site, store: store, confirm: confirm}
}

var (
	errSpeculative  = web.Problem{Code: http.StatusServiceUnavailable}.Telling("Browsers may not prefetch a sign-out link. Open it to sign out.")
	errForeignToken = &web.Problem{Code: http.StatusForbidden, Title: "This sign-out link doesn’t work",
		Visitor: "That link belongs to a different session."}
	errIncomplete = &web.Problem{Code: http.StatusBadRequest, Title: "This sign-out link doesn’t work",
		Visitor: "That sign-out link is incomplete."}
)

// logoutFlow is the answer to who asks for a logout URL.
type logoutFlow struct {
	LogoutToken string `json:"logout_token"` // for AJAX; of no use without the session's cookie
	LogoutURL   string `json:"logout_url"`   // for a link; absolute
}

// CreateURL answers GET /auth/self-service/logout/browser: a URL, valid for this session
// alone, that signs its person out when opened. It writes nothing.
func (h *Handler) CreateURL(c *gin.Context) {
	session, err := h.SignedIn(c)
	if errors.Is(err, web.ErrNoSession) {
		session, err = h.endable(c, err)
	}
	if errors.Is(err, web.ErrNoSession) && (web.SendsToken(c.Request) || c.GetHeader("Authorization") != "") {
		err = web.ErrNoSession.Because("A session token has no logout URL. To end its session, send it to DELETE %s.", h.Path(route.LogoutAPI))
	}
	if err != nil {
		h.Fail(c, err)
		return
	}
	returnTo, err := h.ReturnTo(c)
	if err != nil {
		h.Fail(c, err)
		return
	}

	c.PureJSON(http.StatusOK, logoutFlow{LogoutToken: h.LogoutToken(session.ID), LogoutURL: h.LogoutURL(c, session, returnTo)})
}

// endable returns a session that the browser isn't signed in with, but may end: its token has been replaced, or the
// browser has sessions of several people. It returns none, which is why the browser isn't signed in, if there is no such
// session.
func (h *Handler) endable(c *gin.Context, none error) (*models.Session, error) {
	found, err := h.ToEnd(c)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, none
	}
	return &found[0], nil
}

// Do answers GET /auth/self-service/logout?token=T: it ends the sessions that the browser presents, if the token
// belongs to one of them.
func (h *Handler) Do(c *gin.Context) {
	if speculative(c.Request) {
		h.Fail(c, errSpeculative)
		return
	}
	returnTo, err := h.ReturnTo(c)
	if err != nil {
		h.Fail(c, err)
		return
	}
	query, err := h.Query(c)
	if err != nil {
		h.Fail(c, err)
		return
	}
	active, err := h.ToEnd(c)
	if err != nil {
		h.Fail(c, err)
		return
	}
	mine, signedIn := h.mine(c, active)
	tokens := query["token"]
	switch {
	case len(tokens) != 1 || tokens[0] == "":
		h.offerLogout(c, active, errIncomplete.Because("The logout URL must have exactly one token. Get a new one from %s.", h.Path(route.CreateLogoutURL)))
		return
	case len(active) == 0:
		h.alreadySignedOut(c, returnTo)
		return
	case !slices.ContainsFunc(mine, func(session models.Session) bool { return h.CheckLogoutToken(session.ID, tokens[0]) }):
		h.offerLogout(c, active, errForeignToken.Because("This logout URL belongs to another session. Get a new one from %s.", h.Path(route.CreateLogoutURL)))
		return
	}

	// A receipt can end a person's other sessions, so there is one only for somebody who is signed in: a replaced token
	// can only end its own session. With several people, the receipt might be somebody else's.
	withReceipt := h.leadsToReceipt(returnTo) && signedIn && len(mine) == len(active)
	others := slices.DeleteFunc(web.IDs(active), func(id uuid.UUID) bool { return id == mine[0].ID })
	receipt, err := h.store.Sessions.SignOut(c.Request.Context(), &mine[0], others, withReceipt)
	if err == nil {
		err = h.leave(c, receipt)
	}
	if err != nil {
		h.Fail(c, err)
		return
	}
	if !web.PrefersHTML(c.Request) {
		c.Status(http.StatusNoContent)
		return
	}
	web.SeeOther(c, h.AfterLogout(returnTo))
}

// leadsToReceipt reports whether a logout may end at our own page, which shows a receipt: our pages sign
// out by AJAX and then go there.
func (h *Handler) leadsToReceipt(returnTo string) bool {
	return returnTo == "" && h.AfterLogout("") == h.Path(route.SignedOut)
}

// leave makes the browser forget the sessions that have just been ended, and keep the receipt; "" for none.
func (h *Handler) leave(c *gin.Context, receipt string) error {
	if receipt != "" {
		h.SetCookie(c, web.ReceiptCookie, receipt, int(models.ReceiptLifetime/time.Second))
	}
	return h.forgetSession(c)
}

// Everywhere answers POST /auth/account/sign-out-everywhere: it ends this session and all
// others of its person.
func (h *Handler) Everywhere(c *gin.Context) {
	session, in, ok := h.confirm.Form(c, "Sign out everywhere")
	if !ok {
		return
	}
	returnTo := in["return_to"]
	if returnTo != "" {
		var err error
		if returnTo, err = h.CheckReturnTo(c, returnTo); err != nil {
			h.Fail(c, err)
			return
		}
	}
	held, err := h.ToEnd(c)
	var receipt string
	if err == nil {
		receipt, err = h.store.Sessions.EndEverywhere(c.Request.Context(), session, web.IDs(held), h.leadsToReceipt(returnTo))
	}
	if err == nil {
		err = h.leave(c, receipt)
	}
	if err != nil {
		h.Fail(c, err)
		return
	}
	web.SeeOther(c, h.AfterLogout(returnTo))
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
func (h *Handler) alreadySignedOut(c *gin.Context, returnTo string) {
	if !web.PrefersHTML(c.Request) {
		h.Fail(c, web.ErrNoSession)
		return
	}
	if err := h.forgetSession(c); err != nil {
		h.Fail(c, err)
		return
	}
	web.SeeOther(c, h.AfterLogout(returnTo))
}

// offerLogout answers a logout URL that is not good, on a page with one that is.
func (h *Handler) offerLogout(c *gin.Context, active []models.Session, p *web.Problem) {
	if len(active) == 0 {
		h.Fail(c, p)
		return
	}
	h.Respond(c, p, func() {
		h.show(c, p.Code, active, "", p.Words()+" Use the button to sign out here.")
	})
}

// show shows the page that asks whether to sign out of sessions.
func (h *Handler) show(c *gin.Context, status int, active []models.Session, returnTo, problem string) {
	page := h.PageData()
	mine, signedIn := h.mine(c, active)
	if signedIn {
		page = h.PersonalPage(&mine[0])
	}
	h.Site.Page(c, status, views.Logout(views.LogoutPage{
		Page: page, Problem: problem, Person: person(mine), LogoutURL: h.LogoutURL(c, &mine[0], returnTo),
		Next: h.AfterLogout(returnTo), ReturnTo: returnTo,
	}))
}

// mine returns the sessions of the person who is signed in, the current one first, or all sessions if nobody is.
// Another host on the domain may have set the cookies of the others, and know their logout URLs.
func (h *Handler) mine(c *gin.Context, active []models.Session) (mine []models.Session, signedIn bool) {
	held, err := h.Active(c)
	if err != nil {
		return active, false
	}
	mine = []models.Session{*held}
	for i := range active {
		if active[i].IdentityID == held.IdentityID && active[i].ID != held.ID {
			mine = append(mine, active[i])
		}
	}
	return mine, true
}

// person returns the name of the person whose sessions these are, or "" if they belong to several people.
func person(of []models.Session) string {
	for i := range of {
		if of[i].IdentityID != of[0].IdentityID {
			return ""
		}
	}
	return web.Person(&of[0])
}

// forgetSession makes the browser forget what it has of the session.
func (h *Handler) forgetSession(c *gin.Context) error {
	if h.ClearSiteData != "" {
		c.Header("Clear-Site-Data", h.ClearSiteData)
	}
	// The sign-in forms' cookie goes too. Not only is it of no more use: Chromium puts a page back
	// on the screen, no-store or not, unless HttpOnly cookies have changed, and after the redirect
	// of a sign-in it overlooks one change.
	h.DeleteCookie(c, web.FlowCookie)
	return h.ClearSession(c)
}

// API answers DELETE /auth/self-service/logout/api: an API client ends its own session.
func (h *Handler) API(c *gin.Context) {
	if !web.IsJSON(c.Request) {
		h.Fail(c, web.ErrBadRequest.Because(`Send the body as application/json: {"session_token": "…"}.`))
		return
	}
	in, err := web.ReadFields(c)
	if err != nil {
		h.Fail(c, err)
		return
	}
	token := in["session_token"]
	found, err := h.store.Sessions.ToEnd(c.Request.Context(), []string{token})
	session, known := found[token]
	if err == nil && !known {
		err = &web.Problem{Code: http.StatusForbidden, Reason: "session_token is missing, or not the token of a session."}
	}
	if err == nil {
		_, err = h.store.Sessions.SignOut(c.Request.Context(), &session, nil, false)
	}
	if err != nil {
		h.Fail(c, err)
		return
	}
	c.Status(http.StatusNoContent)
}

// Page answers GET /auth/logout: it asks, for apps that can only link to a fixed address.
func (h *Handler) Page(c *gin.Context) {
	returnTo, err := h.ReturnTo(c)
	if err != nil {
		h.Fail(c, err)
		return
	}
	if _, err := h.SignedIn(c); err != nil && !errors.Is(err, web.ErrNoSession) {
		h.Fail(c, err)
		return
	}
	switch active, err := h.ToEnd(c); {
	case err != nil:
		h.Fail(c, err)
	case len(active) == 0:
		h.showSignedOut(c, http.StatusOK, "")
	default:
		h.show(c, http.StatusOK, active, returnTo, "")
	}
}
