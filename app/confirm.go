package app

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/gofrs/uuid/v5"

	"latchkey/models"
	"latchkey/views"
)

var errRefresh = &problem{code: http.StatusForbidden, id: "session_refresh_required", signInAt: pathLogin + "?refresh=true", reason: "The last sign-in of this session is too long ago for that. " +
	"Sign in again, with a login flow that is opened with refresh=true, and repeat the request."}

// recent reports whether the session's person has proved lately enough who they are to decide over
// sessions (ASVS 5.0 7.5.2).
func (a *App) recent(session *models.Session) bool {
	return a.Now().Sub(session.ConfirmedAt).Abs() <= a.ConfirmAfter // see lately
}

// signedInLately is signedIn for a program that is about to do what needs a recent sign-in.
func (a *App) signedInLately(c *gin.Context) (*models.Session, error) {
	session, err := a.signedIn(c)
	if err == nil && !a.recent(session) {
		err = errRefresh
	}
	return session, err
}

// confirmedForm is accountForm for what needs a recent sign-in. Without one it answers with a page
// that asks for the password and carries the form along; what says the form's purpose, after "to".
// With the password the form is as good as if the sign-in was recent.
func (a *App) confirmedForm(c *gin.Context, what string) (*models.Session, fields, bool) {
	session, err := a.signedIn(c)
	in, unreadable := readFields(c)
	if errors.Is(err, errNoSession) {
		session, err = a.justReplaced(c, in)
	}
	if err != nil {
		a.turnAway(c, err)
		return nil, nil, false
	}
	if !a.meant(c, session, in, unreadable) {
		return nil, nil, false
	}
	if session.Token != "" && a.recent(session) {
		return session, in, true
	}
	session, err = a.confirm(c, session, in)
	if err != nil {
		a.askToConfirm(c, session, in, what, err)
		return nil, nil, false
	}
	return session, in, true
}

// confirm returns the session with a new token, which the browser gets, if the form holds its
// person's password. With an error it returns the session as it was.
func (a *App) confirm(c *gin.Context, session *models.Session, in fields) (*models.Session, error) {
	if _, asked := in["password"]; !asked {
		return session, errRefresh
	}
	if in["password"] == "" {
		return session, errBadRequest.because("Enter your password.")
	}
	hash, err := a.verifyAgain(c, session.Identity, in["password"])
	if errors.Is(err, errCredentials) {
		err = errBadRequest.because("This is not your password.")
	}
	if err != nil {
		return session, err
	}
	return a.confirmAs(c, session, hash)
}

// confirmAs confirms a session whose person's password fits the hash.
func (a *App) confirmAs(c *gin.Context, session *models.Session, hash string) (*models.Session, error) {
	confirmed, err := a.store.Sessions.Confirm(c.Request.Context(), *session, hash)
	switch {
	case errors.Is(err, models.ErrNotFound):
		return session, errNoSession
	case errors.Is(err, models.ErrChanged):
		return session, errBadRequest.because("This is not your password.")
	case err != nil:
		return session, err
	}
	return &confirmed, a.setSession(c, &confirmed)
}

// askToConfirm answers a form that needs a recent sign-in, which err stands in the way of.
func (a *App) askToConfirm(c *gin.Context, session *models.Session, in fields, what string, err error) {
	if errors.Is(err, errNoSession) {
		a.turnAway(c, err)
		return
	}
	p := a.explain(c, err)
	if p.code == http.StatusInternalServerError {
		a.fail(c, p)
		return
	}
	page := views.ConfirmPage{Page: a.personalPage(session), What: what, Action: c.Request.URL.EscapedPath(),
		Email: session.Identity.Email, ReturnTo: in["return_to"], Proof: a.proofOf(c, session.ID)}
	if p != errRefresh {
		page.Problem = p.reason
	}
	a.respond(c, p, func() { a.page(c, p.code, views.Confirm(page)) })
}

// sentTwice is how long after a session's token was replaced a form may still come with the old one.
const sentTwice = time.Minute

// justReplaced returns the session of a form that was sent twice, once with each click of a double
// click: the first has confirmed the session, but the browser never saw the answer with its new
// token. The form must prove that the token in the cookie was the session's; what the session is
// then good for is for the password to say, so it is returned without a token.
func (a *App) justReplaced(c *gin.Context, in fields) (*models.Session, error) {
	raw, err := a.unseal("confirm", decode64(in["proof"]))
	if err != nil || len(raw) < uuid.Size || !bytes.Equal(raw[uuid.Size:], a.heldHash(c)) {
		return nil, errNoSession
	}
	session, err := a.store.Sessions.ByID(c.Request.Context(), uuid.UUID(raw[:uuid.Size]))
	switch now := a.Now(); {
	case errors.Is(err, models.ErrNotFound), err == nil && (!session.Active(now) || !lately(now, session.ConfirmedAt, sentTwice)):
		return nil, errNoSession
	case err != nil:
		return nil, err
	}
	return &session, nil
}

// proofOf returns what justReplaced asks for.
func (a *App) proofOf(c *gin.Context, id uuid.UUID) string {
	return encode64(a.seal("confirm", append(id.Bytes(), a.heldHash(c)...)))
}

// heldHash returns a hash of what the browser holds as its token.
func (a *App) heldHash(c *gin.Context) []byte {
	cookie, err := c.Request.Cookie(a.cookies.sessionName)
	if err != nil {
		return nil
	}
	sum := sha256.Sum256([]byte(cookie.Value))
	return sum[:]
}
