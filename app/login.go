package app

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/gofrs/uuid/v5"

	"latchkey/app/returnto"
	"latchkey/models"
	"latchkey/views"
)

// createLoginAPI answers GET /auth/self-service/login/api: a flow for a client that keeps its
// token itself.
func (a *App) createLoginAPI(c *gin.Context) { a.createFlow(c, login, true) }

// createLoginBrowser answers GET /auth/self-service/login/browser: the flow as JSON, or a
// redirect to the page that shows it.
func (a *App) createLoginBrowser(c *gin.Context) { a.createFlow(c, login, false) }

// getLogin answers GET /auth/self-service/login/flows?id=ID.
func (a *App) getLogin(c *gin.Context) { a.getFlow(c, login) }

// loginPage answers GET /auth/login. With ?flow=ID it shows that flow; where that is no longer
// possible, and without one, a fresh one: a person has no use for a flow's troubles.
func (a *App) loginPage(c *gin.Context) {
	f, err := a.pageFlow(c, login)
	if err != nil {
		a.fail(c, err)
		return
	}
	held, err := a.held(c)
	if err != nil {
		a.fail(c, err)
		return
	}
	form := newForm(f)
	if held != nil && held.Active(a.Now()) {
		if !f.Refresh {
			seeOther(c, a.afterLogin(f))
			return
		}
		form.values["identifier"] = held.Identity.Email
	}
	why := a.whySignIn(f, held)
	unclaimed, err := a.unclaimed(c.Request.Context())
	if err != nil {
		a.fail(c, err)
		return
	}
	if unclaimed {
		why = "There is no account yet. To make the first, open the link that Latchkey printed when it was started."
	}
	a.showLogin(c, http.StatusOK, form, why)
}

// whySignIn says what brought a person to the sign-in page.
func (a *App) whySignIn(f *flow, held *models.Session) string {
	switch host := returnto.Host(f.ReturnTo); {
	case f.Refresh && held != nil && held.Active(a.Now()):
		return "Confirm that it is you to go on."
	case held != nil && held.EndReason == models.EndedByLogout:
		return "You are signed out."
	case held != nil:
		return "Your session has ended. Sign in to go on."
	case host != "":
		return "Sign in to continue to " + host + "."
	case f.ReturnTo != "":
		return "Sign in to go on."
	}
	return ""
}

func (a *App) showLogin(c *gin.Context, status int, f *form, why string) {
	a.page(c, status, views.Login(views.LoginPage{
		Page: a.pageData(), Why: why, Action: f.action(), CSRFToken: f.CSRF,
		Identifier: f.values["identifier"], Remember: f.values["remember"] != "",
		Problem: cmp.Or(f.problem(""), f.problem("method")), IdentifierProblem: f.problem("identifier"), PasswordProblem: f.problem("password"),
		RegistrationURL: a.registrationURL(f.ReturnTo), Refresh: f.Refresh,
	}))
}

// submitLogin answers POST /auth/self-service/login?flow=ID.
func (a *App) submitLogin(c *gin.Context) {
	f, in, err := a.submitted(c, login)
	if err != nil {
		a.refuse(c, f, err)
		return
	}
	switch {
	case strings.TrimSpace(in["identifier"]) == "":
		f.complain("identifier", idMissing, "Enter your email address.")
	case len(in["identifier"]) > maxEmailBytes:
		f.complain("identifier", idInvalid, "This is too long for an email address.")
	}
	if in["password"] == "" {
		f.complain("password", idMissing, "Enter your password.")
	}
	if len(f.problems) > 0 {
		a.refuse(c, f, nil)
		return
	}
	session, err := a.signIn(c, f.flow, in["identifier"], in["password"], in["remember"] != "")
	a.metrics.SignIn(signInResult(err))
	switch {
	case errors.Is(err, errCredentials):
		f.complain("", idCredentials, "The email address or the password is not right. Check both and try again.")
		a.refuse(c, f, nil)
	case errors.Is(err, errDisabled):
		f.complain("", idInvalid, "This account is disabled. Ask whoever runs this site.")
		a.refuse(c, f, nil)
	case err != nil:
		a.refuse(c, f, err)
	default:
		a.answerSignedIn(c, f.flow, session)
	}
}

var (
	errCredentials = errors.New("wrong credentials")
	errDisabled    = errors.New("identity disabled")
)

// signIn verifies a password and starts a session. An unknown address takes the same time, and
// fails the same way, as a wrong password.
func (a *App) signIn(c *gin.Context, f *flow, email, pass string, remember bool) (*models.Session, error) {
	ctx := c.Request.Context()
	identity, hash, err := a.credentials(ctx, email)
	if err != nil {
		return nil, err
	}
	stale, err := a.tryPassword(c, email, pass, hash)
	if err == nil && !identity.Active {
		err = errDisabled
	}
	if err != nil {
		return nil, a.noteFailure(c, identity.ID, err)
	}
	if stale {
		hash = a.rehash(ctx, identity.ID, pass, hash)
	}
	session, err := a.startSession(c, f, identity, hash, remember)
	if !errors.Is(err, models.ErrChanged) {
		return session, err
	}
	// Another sign-in has just rehashed the password, or it is no longer the same.
	identity, hash, err = a.credentials(ctx, email)
	if err != nil {
		return nil, err
	}
	if ok, _, err := a.verify(ctx, pass, hash); err != nil || !ok {
		return nil, a.noteFailure(c, identity.ID, cmp.Or(err, errCredentials))
	}
	session, err = a.startSession(c, f, identity, hash, remember)
	if errors.Is(err, models.ErrChanged) {
		return nil, errCredentials
	}
	return session, err
}

// verify compares a password with a hash, which is empty where there is no account.
func (a *App) verify(ctx context.Context, pass, hash string) (ok, stale bool, err error) {
	if hash == "" {
		return false, false, a.hasher.VerifyNobody(ctx, pass)
	}
	return a.hasher.Verify(ctx, pass, hash)
}

// credentials returns an account and its hash; an empty hash if there is no such account.
func (a *App) credentials(ctx context.Context, email string) (models.Identity, string, error) {
	// An unknown address costs the same two reads as a known one.
	identity, err := a.store.Identities.ByEmail(ctx, email)
	if err != nil && !errors.Is(err, models.ErrNotFound) {
		return models.Identity{}, "", err
	}
	hash, err := a.store.Identities.PasswordHash(ctx, identity.ID)
	if errors.Is(err, models.ErrNotFound) {
		err = nil
	}
	return identity, hash, err
}

// rehash brings a hash up to today's parameters. Where that fails the old one stays: it is no
// reason to keep the person out.
func (a *App) rehash(ctx context.Context, id uuid.UUID, pass, old string) string {
	stronger, err := a.hasher.Hash(ctx, pass)
	if err == nil {
		err = a.store.Identities.RehashPassword(ctx, id, old, stronger)
	}
	switch {
	case err == nil:
		return stronger
	case !errors.Is(err, models.ErrChanged):
		a.Log.WarnContext(ctx, "password not rehashed", slog.Any("error", err))
	}
	return old
}

// startSession starts the session that a flow was for. The one that the browser held before ends.
func (a *App) startSession(c *gin.Context, f *flow, identity models.Identity, hash string, remember bool) (*models.Session, error) {
	in := models.SignIn{
		Identity: identity, PasswordHash: hash,
		IPAddress: c.ClientIP(), UserAgent: clip(c.Request.UserAgent(), maxUserAgent),
		Lifetime: a.SessionLifetime, Idle: a.SessionIdle,
	}
	if remember || f.API {
		in.Lifetime, in.Idle, in.Remember = a.RememberLifetime, a.RememberIdle, remember
	}
	if !f.API {
		held, err := a.held(c)
		if err != nil {
			return nil, err
		}
		if held != nil {
			in.Replaces = held.ID
		}
	}
	session, err := a.store.Sessions.Start(c.Request.Context(), in)
	if err == nil {
		a.metrics.SessionStarted()
	}
	if err != nil || f.API {
		return &session, err
	}
	if err := a.setSession(c, &session); err != nil {
		return nil, err
	}
	a.dropReceipt(c)
	return &session, a.rememberDevice(c, identity.Email, hash)
}

const maxUserAgent = 512

// answerSignedIn ends a flow well.
func (a *App) answerSignedIn(c *gin.Context, f *flow, session *models.Session) {
	wire := a.sessionJSON(c, session)
	answer := gin.H{"session": wire}
	if f.Kind == registration {
		answer["identity"] = wire.Identity
	}
	switch {
	case f.API:
		answer["session_token"] = session.Token
		c.JSON(http.StatusOK, answer)
	case prefersHTML(c.Request):
		seeOther(c, a.afterLogin(f))
	default:
		c.JSON(http.StatusOK, answer)
	}
}

// afterLogin returns where a flow leads to.
func (a *App) afterLogin(f *flow) string { return cmp.Or(f.ReturnTo, a.LoginReturnURL, pathAccount) }
