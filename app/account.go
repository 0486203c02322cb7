package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/gin-gonic/gin"

	"latchkey/app/password"
	"latchkey/models"
	"latchkey/views"
)

// accountPage answers GET /auth/account.
func (a *App) accountPage(c *gin.Context) {
	session, ok := a.atAccount(c)
	if !ok {
		return
	}
	var p views.AccountPage
	if from := c.GetHeader("Sec-Fetch-Site"); from == "same-origin" || from == "" { // no link of another site
		p.Done = doneMessages[c.Query("done")]
	}
	a.showAccount(c, http.StatusOK, session, p)
}

// doneMessages are what the page can say of a form that succeeded, by ?done=.
var doneMessages = map[string]string{
	"name":     "Your name is changed.",
	"password": "Your password is changed.",
	"all":      "Your password is changed, and all other sessions are ended.",
	"session":  "That session is ended.",
	"sessions": "All other sessions are ended.",
}

// atAccount returns the session of who is at the account page. Who is signed out is sent to sign
// in, and nothing is left to do.
func (a *App) atAccount(c *gin.Context) (*models.Session, bool) {
	session, err := a.signedIn(c)
	if err != nil {
		a.turnAway(c, err)
		return nil, false
	}
	return session, true
}

// turnAway answers who can't be at the account page.
func (a *App) turnAway(c *gin.Context, err error) {
	if errors.Is(err, errNoSession) && prefersHTML(c.Request) {
		seeOther(c, withReturnTo(pathLogin, pathAccount))
		return
	}
	a.fail(c, err)
}

// showAccount fills in the page around what a form left there.
func (a *App) showAccount(c *gin.Context, status int, session *models.Session, p views.AccountPage) {
	others, err := a.store.Sessions.Active(c.Request.Context(), session.IdentityID, session.ID, models.Position{}, maxPageSize)
	if err != nil {
		a.fail(c, err)
		return
	}
	if p.Activity, p.MoreActivity, err = a.activity(c.Request.Context(), session.IdentityID, shortActivity); err != nil {
		a.fail(c, err)
		return
	}
	p.Page = a.personalPage(session)
	p.Person, p.Email = person(session), session.Identity.Email
	if p.NameProblem == "" {
		p.Name = session.Identity.Name
	}
	p.LogoutURL, p.Next = a.logoutURL(c, session, ""), a.afterLogout("")
	p.SignedInAt, p.ExpiresAt, p.LatestExpiresAt = session.AuthenticatedAt, session.ExpiresAt, session.LatestExpiresAt
	p.PasswordRules = a.passwordRules()
	p.This = a.describe(session)
	for i := range others.Sessions {
		p.Others = append(p.Others, a.describe(&others.Sessions[i]))
	}
	p.More = others.Total - len(others.Sessions)
	a.page(c, status, views.Account(p))
}

// person returns how a page calls somebody.
func person(s *models.Session) string {
	if s.Identity.Name != "" {
		return s.Identity.Name
	}
	return s.Identity.Email
}

// describe says in words where a session is.
func (a *App) describe(s *models.Session) views.Session {
	now := a.Now()
	if now.Before(s.LastSeenAt) { // the clock was set back
		now = s.LastSeenAt
	}
	lastSeen := humanize.RelTime(s.LastSeenAt, now, "ago", "from now")
	if lastSeen == "now" {
		lastSeen = "just now"
	}
	return views.Session{ID: s.ID.String(), Device: DeviceInWords(s.UserAgent), Address: s.IPAddress,
		LastSeen: lastSeen}
}

// changeName answers POST /auth/account/name.
func (a *App) changeName(c *gin.Context) {
	session, in, ok := a.accountForm(c)
	if !ok {
		return
	}
	if _, given := in["name"]; !given {
		a.fail(c, errBadRequest.because("The field name is missing. Send it empty to have no name."))
		return
	}
	name := strings.TrimSpace(in["name"])
	if err := CheckName(name); err != nil {
		a.showAccount(c, http.StatusBadRequest, session, views.AccountPage{Name: name, NameProblem: err.Error()})
		return
	}
	err := a.store.Identities.Rename(c.Request.Context(), session.IdentityID, name)
	if errors.Is(err, models.ErrNotFound) {
		err = errNoSession // the account was deleted meanwhile
	}
	if err != nil {
		a.fail(c, err)
		return
	}
	accountDone(c, "name")
}

// changePassword answers POST /auth/account/password. It asks for the old password, so that an
// unattended browser is not enough (ASVS 5.0 7.5.1), and counts a wrong one like one at sign-in.
// The right one confirms the session.
func (a *App) changePassword(c *gin.Context) {
	session, in, ok := a.accountForm(c)
	if !ok {
		return
	}
	ctx, identity := c.Request.Context(), session.Identity
	refuse := func(status int, p views.AccountPage) {
		p.KeepSessions = in["end_others"] == ""
		a.showAccount(c, status, session, p)
	}
	if in["password"] == "" {
		refuse(http.StatusBadRequest, views.AccountPage{OldPasswordProblem: "Enter your current password."})
		return
	}
	if err := a.rules.Check(in["new_password"], identity.Email, identity.Name); err != nil {
		refuse(http.StatusBadRequest, views.AccountPage{NewPasswordProblem: err.Error()})
		return
	}
	old, err := a.verifyAgain(c, identity, in["password"])
	var hash string
	if err == nil {
		hash, err = a.hasher.Hash(ctx, in["new_password"])
	}
	if err == nil {
		// From here on all of it happens, or a browser that has gone would hold a token that is no more.
		ctx = context.WithoutCancel(ctx)
		c.Request = c.Request.WithContext(ctx)
		session, err = a.confirmAs(c, session, old)
	}
	if err == nil {
		_, err = a.store.Identities.SetPassword(ctx, identity.ID, models.PasswordChange{
			Hash: hash, Old: old, EndSessions: in["end_others"] != "", Keep: session.ID})
	}
	if err == nil {
		err = a.rememberDevice(c, identity.Email, hash)
	}
	var p *problem
	switch {
	case errors.Is(err, errNoSession):
		a.turnAway(c, err)
	case errors.Is(err, errCredentials), errors.Is(err, models.ErrChanged):
		refuse(http.StatusBadRequest, views.AccountPage{OldPasswordProblem: "This is not your current password."})
	case errors.Is(err, password.ErrBusy), errors.As(err, &p):
		p = a.explain(c, err)
		setRetryAfter(c, p)
		refuse(p.code, views.AccountPage{OldPasswordProblem: p.reason})
	case err != nil:
		a.fail(c, err)
	case in["end_others"] != "":
		accountDone(c, "all")
	default:
		accountDone(c, "password")
	}
}

// verifyAgain returns the hash that the password of somebody who is signed in matches.
func (a *App) verifyAgain(c *gin.Context, identity *models.Identity, pass string) (string, error) {
	hash, err := a.store.Identities.PasswordHash(c.Request.Context(), identity.ID)
	if err == nil {
		_, err = a.tryPassword(c, identity.Email, pass, hash)
	}
	return hash, a.noteFailure(c, identity.ID, err)
}

// endSessionForm answers POST /auth/account/sessions/end/{id}.
func (a *App) endSessionForm(c *gin.Context) {
	session, _, ok := a.confirmedForm(c, "end that session")
	if !ok {
		return
	}
	if err := a.endOther(c, session); err != nil {
		a.fail(c, err)
		return
	}
	accountDone(c, "session")
}

// endOtherSessionsForm answers POST /auth/account/sessions/end.
func (a *App) endOtherSessionsForm(c *gin.Context) {
	session, _, ok := a.confirmedForm(c, "end all other sessions")
	if !ok {
		return
	}
	if _, err := a.store.Sessions.EndOthers(c.Request.Context(), session.IdentityID, session.ID); err != nil {
		a.fail(c, err)
		return
	}
	accountDone(c, "sessions")
}

// accountForm returns who posts a form of the account page, and what it says.
func (a *App) accountForm(c *gin.Context) (*models.Session, fields, bool) {
	session, ok := a.atAccount(c)
	if !ok {
		return nil, nil, false
	}
	in, err := readFields(c)
	return session, in, a.meant(c, session, in, err)
}

// meant reports whether a form could be read and was meant for this session. The form carries the
// session it was made for: another person who has signed in since in this browser is not meant.
func (a *App) meant(c *gin.Context, session *models.Session, in fields, err error) bool {
	if err == nil && in["session"] != "" && in["session"] != session.ID.String() {
		err = &problem{code: http.StatusForbidden, id: errOtherBrowser.id, reason: fmt.Sprintf(
			"Somebody has signed in anew in this browser since the page was loaded; now it is %s. Nothing was changed. Load the account page again.", person(session))}
	}
	if err != nil {
		a.fail(c, err)
	}
	return err == nil
}

func accountDone(c *gin.Context, what string) {
	seeOther(c, pathAccount+"?done="+what)
}

// passwordRules says what is asked of a password, before it is chosen.
func (a *App) passwordRules() string {
	return fmt.Sprintf("At least %d characters; a few words make a good one. No common password, and nothing with your name or address or %q in it.",
		max(a.PasswordMinLength, password.LeastLength), a.SiteName)
}
