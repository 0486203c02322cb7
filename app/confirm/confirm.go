// Package confirm is asking somebody who is signed in to prove once more who they are, before a form of
// theirs is carried out.
package confirm

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/gofrs/uuid/v5"

	"latchkey/app/authn"
	"latchkey/app/config"
	"latchkey/app/route"
	"latchkey/app/web"
	"latchkey/models"
	"latchkey/views"
)

// Handler asks people to confirm who they are.
type Handler struct {
	*web.Site
	authn    *authn.Service
	sessions models.Sessions
}

// New returns a Handler.
func New(site *web.Site, service *authn.Service, store *models.Store) *Handler {
	return &Handler{Site: site, authn: service, sessions: store.Sessions}
}

// Form returns who posts a form that needs a recent sign-in, and what it says. Without one it answers with
// a page that asks for the password and carries the form along; action is the button's text. With the
// password the form is as good as if the sign-in was recent.
func (h *Handler) Form(c *gin.Context, action string) (*models.Session, web.Fields, bool) {
	session, err := h.SignedIn(c)
	in, unreadable := web.ReadFields(c)
	if errors.Is(err, web.ErrNoSession) {
		session, err = h.justReplaced(c, in)
	}
	if err != nil {
		h.TurnAway(c, err)
		return nil, nil, false
	}
	if !h.CheckForm(c, session, in, unreadable) {
		return nil, nil, false
	}
	if session.Token != "" && h.Recent(session) {
		return session, in, true
	}
	confirmed, err := h.confirm(c, session, in)
	if err != nil {
		h.ask(c, session, in, action, err)
		return nil, nil, false
	}
	return confirmed, in, true
}

// TurnAway answers somebody who can't have a page of their own. Somebody who is signed out is sent to sign
// in, and nothing is left to do.
func (h *Handler) TurnAway(c *gin.Context, err error) {
	if errors.Is(err, web.ErrNoSession) && web.PrefersHTML(c.Request) {
		web.SeeOther(c, h.ReturningTo(route.Login, cmp.Or(h.wayBack(c), h.Path(route.Account))))
		return
	}
	h.Fail(c, err)
}

// wayBack returns the page that somebody wanted who is signed out, "" if there was a form to carry out.
func (h *Handler) wayBack(c *gin.Context) string {
	if c.Request.Method != http.MethodGet {
		return ""
	}
	return h.StillAllowed(c, c.Request.URL.RequestURI())
}

// CheckForm reports whether a form could be read and was made for this session. The form carries the
// session that it was made for: it is not for another person who has signed in since in this browser.
func (h *Handler) CheckForm(c *gin.Context, session *models.Session, in web.Fields, err error) bool {
	if err == nil && in["session"] != "" && in["session"] != session.ID.String() {
		err = web.ErrOtherBrowser.Telling(
			"%s has signed in on this browser since the page was loaded. Nothing was changed. Reload the account page.", web.Person(session))
	}
	if err != nil {
		h.Fail(c, err)
	}
	return err == nil
}

// confirm returns the session with a new token, which the browser gets, if the form holds its person's
// password.
func (h *Handler) confirm(c *gin.Context, session *models.Session, in web.Fields) (*models.Session, error) {
	if _, asked := in["password"]; !asked {
		return nil, web.ErrRefresh
	}
	if in["password"] == "" {
		return nil, web.ErrBadRequest.Telling("Enter your password.")
	}
	confirmed, err := h.authn.Confirm(c.Request.Context(), h.Client(c), session, in["password"])
	switch {
	case errors.Is(err, models.ErrNotFound):
		return nil, web.ErrNoSession
	case errors.Is(err, authn.ErrCredentials):
		return nil, web.ErrBadRequest.Telling("That isn’t your password.")
	case err != nil:
		return nil, err
	}
	return confirmed, h.SetSession(c, confirmed)
}

// ask answers a form that needs a recent sign-in, which err stands in the way of.
func (h *Handler) ask(c *gin.Context, session *models.Session, in web.Fields, action string, err error) {
	if errors.Is(err, web.ErrNoSession) {
		h.TurnAway(c, err)
		return
	}
	p := h.Explain(c, err)
	if p.Code == http.StatusInternalServerError {
		h.Fail(c, p)
		return
	}
	page := views.ConfirmPage{Page: h.PersonalPage(session), Action: action, URL: c.Request.URL.EscapedPath(),
		Email: session.Identity.Email, ReturnTo: in["return_to"], Proof: h.proof(c, session.ID)}
	if p != web.ErrRefresh {
		page.Problem = p.Words()
	}
	h.Respond(c, p, func() { h.Page(c, p.Code, views.Confirm(page)) })
}

// resendWindow is how long after a session's token was replaced a form may still come with the old one.
const resendWindow = time.Minute

// justReplaced returns the session of a form that was sent twice, once with each click of a double
// click: the first has confirmed the session, but the browser never saw the answer with its new
// token. The form must prove that the token in the cookie was the session's; what the session is
// then good for is for the password to say, so it is returned without a token.
func (h *Handler) justReplaced(c *gin.Context, in web.Fields) (*models.Session, error) {
	raw, err := h.Open("confirm", in["proof"])
	if err != nil || len(raw) < uuid.Size || !bytes.Equal(raw[uuid.Size:], h.tokenHash(c)) {
		return nil, web.ErrNoSession
	}
	session, err := h.sessions.ByID(c.Request.Context(), uuid.UUID(raw[:uuid.Size]))
	switch now := h.Now(); {
	case errors.Is(err, models.ErrNotFound), err == nil && (!session.Active(now) || !web.Within(now, session.ConfirmedAt, resendWindow)):
		return nil, web.ErrNoSession
	case err != nil:
		return nil, err
	}
	return &session, nil
}

// proof returns what justReplaced asks for.
func (h *Handler) proof(c *gin.Context, session uuid.UUID) string {
	return h.Seal("confirm", append(session.Bytes(), h.tokenHash(c)...))
}

// tokenHash returns a hash of what the browser presents as its token.
func (h *Handler) tokenHash(c *gin.Context) []byte {
	token := h.Cookie(c, config.SessionCookie)
	if token == "" {
		return nil
	}
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}
