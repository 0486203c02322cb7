// Package account is a person's own pages.
package account

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/gin-gonic/gin"
	"github.com/gofrs/uuid/v5"

	"latchkey/app/activity"
	"latchkey/app/authn"
	"latchkey/app/confirm"
	"latchkey/app/password"
	"latchkey/app/route"
	"latchkey/app/sessions"
	"latchkey/app/web"
	"latchkey/models"
	"latchkey/views"
)

// Handler answers for a person's own pages.
type Handler struct {
	*web.Site
	store    *models.Store
	authn    *authn.Service
	confirm  *confirm.Handler
	sessions *sessions.Handler
}

// New returns a Handler.
func New(site *web.Site, store *models.Store, service *authn.Service, confirm *confirm.Handler, sessions *sessions.Handler) *Handler {
	return &Handler{Site: site, store: store, authn: service, confirm: confirm, sessions: sessions}
}

const (
	// shortActivity is how many entries of recent activity the account page shows.
	shortActivity = 10
	// maxActivity is how many the page of recent activity shows.
	maxActivity = 250
)

// Page answers GET /auth/account.
func (h *Handler) Page(c *gin.Context) {
	session, ok := h.signedIn(c)
	if !ok {
		return
	}
	var p views.AccountPage
	if from := c.GetHeader("Sec-Fetch-Site"); from == "same-origin" || from == "" { // no link of another site
		p.Done = doneMessages[c.Query("done")]
	}
	p.ChangePassword = c.Query("change") == "password"
	h.show(c, http.StatusOK, session, p)
}

// PasswordChange answers GET /.well-known/change-password, where password managers send people to change one:
// https://w3c.github.io/webappsec-change-password-url/.
func (h *Handler) PasswordChange(c *gin.Context) {
	web.SeeOther(c, h.Path(route.Account)+"?change=password#password")
}

// doneMessages are what the page can say of a form that succeeded, by ?done=.
var doneMessages = map[string]string{
	"name":     "Your name has been changed.",
	"username": "Your username has been changed.",
	"password": "Your password has been changed.",
	"all":      "Your password has been changed and all other sessions have ended.",
	"session":  "That session has ended.",
	"sessions": "All other sessions have ended.",
}

func (h *Handler) done(c *gin.Context, what string) {
	web.SeeOther(c, h.Path(route.Account)+"?done="+what)
}

// signedIn returns the session of whoever asks, or answers.
func (h *Handler) signedIn(c *gin.Context) (*models.Session, bool) {
	session, err := h.SignedIn(c)
	if err != nil {
		h.confirm.TurnAway(c, err)
		return nil, false
	}
	return session, true
}

// form returns who posts a form of the account page, and what it says, or answers.
func (h *Handler) form(c *gin.Context) (*models.Session, web.Fields, bool) {
	session, ok := h.signedIn(c)
	if !ok {
		return nil, nil, false
	}
	in, err := web.ReadFields(c)
	return session, in, h.confirm.CheckForm(c, session, in, err)
}

// show fills in the page around what a form left there.
func (h *Handler) show(c *gin.Context, status int, session *models.Session, p views.AccountPage) {
	others, err := h.store.Sessions.Active(c.Request.Context(), session.IdentityID, session.ID, models.Position{}, sessions.MaxPageSize)
	if err != nil {
		h.Fail(c, err)
		return
	}
	if p.Activity, p.MoreActivity, err = h.activity(c.Request.Context(), session.IdentityID, shortActivity); err != nil {
		h.Fail(c, err)
		return
	}
	p.Page = h.PersonalPage(session)
	p.Person, p.Email = web.Person(session), session.Identity.Email
	if p.NameProblem == "" {
		p.Name = session.Identity.Name
	}
	if p.UsernameProblem == "" {
		p.Username = session.Identity.Username
	}
	p.LogoutURL, p.Next = h.LogoutURL(c, session, ""), h.AfterLogout("")
	p.SignedInAt, p.ExpiresAt, p.LatestExpiresAt = session.AuthenticatedAt, session.ExpiresAt, session.LatestExpiresAt
	p.PasswordRules = h.authn.PasswordRules()
	p.This = h.describe(session)
	for i := range others.Sessions {
		p.Others = append(p.Others, h.describe(&others.Sessions[i]))
	}
	p.More = others.Total - len(others.Sessions)
	h.Site.Page(c, status, views.Account(p))
}

// describe says in words where a session is.
func (h *Handler) describe(s *models.Session) views.Session {
	now := h.Now()
	if now.Before(s.LastSeenAt) { // the clock was set back
		now = s.LastSeenAt
	}
	lastSeen := humanize.RelTime(s.LastSeenAt, now, "ago", "from now")
	if lastSeen == "now" {
		lastSeen = "just now"
	}
	return views.Session{ID: s.ID.String(), Device: activity.Device(s.UserAgent), Address: s.IPAddress, LastSeen: lastSeen}
}

// ActivityPage answers GET /auth/account/activity.
func (h *Handler) ActivityPage(c *gin.Context) {
	session, ok := h.signedIn(c)
	if !ok {
		return
	}
	entries, more, err := h.activity(c.Request.Context(), session.IdentityID, maxActivity)
	if err != nil {
		h.Fail(c, err)
		return
	}
	h.Site.Page(c, http.StatusOK, views.Activity(views.ActivityPage{
		Page: h.PersonalPage(session), Person: web.Person(session), Entries: entries, More: more, Since: h.Now().Add(-h.SessionRetention),
	}))
}

// activity returns the newest of what has happened to a person's account, and whether there is more.
func (h *Handler) activity(ctx context.Context, person uuid.UUID, limit int) (entries []views.ActivityEntry, more bool, err error) {
	found, err := h.store.Activities.Of(ctx, person, h.Now().Add(-h.SessionRetention), limit+1)
	if err != nil {
		return nil, false, err
	}
	for _, v := range found[:min(limit, len(found))] {
		where := activity.Where(v)
		if v.IPAddress != "" {
			where += ", " + v.IPAddress
		}
		entries = append(entries, views.ActivityEntry{At: v.At, What: activity.Describe(v), Where: where, Failed: v.Kind == models.SignInFailed})
	}
	return entries, len(found) > limit, nil
}

// ChangeName answers POST /auth/account/name.
func (h *Handler) ChangeName(c *gin.Context) {
	session, in, ok := h.form(c)
	if !ok {
		return
	}
	if _, given := in["name"]; !given {
		h.Fail(c, web.ErrBadRequest.Because("The field name is missing. Send it empty to remove the name."))
		return
	}
	name := models.NormalizeName(in["name"])
	if err := models.CheckName(name); err != nil {
		h.show(c, http.StatusBadRequest, session, views.AccountPage{Name: name, NameProblem: err.Error()})
		return
	}
	err := h.store.Identities.Rename(c.Request.Context(), session.IdentityID, name)
	if errors.Is(err, models.ErrNotFound) {
		err = web.ErrNoSession // the account was deleted meanwhile
	}
	if err != nil {
		h.Fail(c, err)
		return
	}
	h.done(c, "name")
}

// ChangeUsername answers POST /auth/account/username.
func (h *Handler) ChangeUsername(c *gin.Context) {
	session, in, ok := h.form(c)
	if !ok {
		return
	}
	if _, given := in["username"]; !given {
		h.Fail(c, web.ErrBadRequest.Because("The field username is missing. Send it empty to remove the username."))
		return
	}
	username := strings.TrimSpace(in["username"])
	refuse := func(problem string) {
		h.show(c, http.StatusBadRequest, session, views.AccountPage{Username: username, UsernameProblem: problem})
	}
	if username != "" {
		if err := models.CheckOwnUsername(username); err != nil {
			refuse(err.Error())
			return
		}
	}
	err := h.store.Identities.SetUsername(c.Request.Context(), session.IdentityID, username)
	switch {
	case errors.Is(err, models.ErrUsernameTaken):
		refuse("This username, or one that looks the same, is taken. Choose another one.")
	case errors.Is(err, models.ErrNotFound):
		h.Fail(c, web.ErrNoSession) // the account was deleted meanwhile
	case err != nil:
		h.Fail(c, err)
	default:
		h.done(c, "username")
	}
}

// ChangePassword answers POST /auth/account/password. It asks for the old password, so that an
// unattended browser is not enough (ASVS 5.0 7.5.1), and counts a wrong one like one at sign-in.
// The right one confirms the session.
func (h *Handler) ChangePassword(c *gin.Context) {
	session, in, ok := h.form(c)
	if !ok {
		return
	}
	identity, endOthers := session.Identity, in["end_others"] != ""
	refuse := func(status int, p views.AccountPage) {
		p.KeepSessions = !endOthers
		h.show(c, status, session, p)
	}
	if in["password"] == "" {
		refuse(http.StatusBadRequest, views.AccountPage{OldPasswordProblem: "Enter your current password."})
		return
	}
	if err := h.authn.CheckPassword(in["new_password"], identity.Email, identity.Username, identity.Name); err != nil {
		refuse(http.StatusBadRequest, views.AccountPage{NewPasswordProblem: err.Error()})
		return
	}
	started, err := h.authn.ChangePassword(c.Request.Context(), h.Client(c), session, in["password"], in["new_password"], endOthers)
	if err == nil {
		err = h.Hold(c, started)
	}
	var throttled *authn.ThrottledError
	switch {
	case errors.Is(err, models.ErrNotFound):
		h.confirm.TurnAway(c, web.ErrNoSession)
	case errors.Is(err, authn.ErrCredentials):
		refuse(http.StatusBadRequest, views.AccountPage{OldPasswordProblem: "That isn’t your current password."})
	case errors.Is(err, password.ErrBusy), errors.As(err, &throttled):
		p := h.Explain(c, err)
		web.SetRetryAfter(c, p)
		refuse(p.Code, views.AccountPage{OldPasswordProblem: p.Words()})
	case err != nil:
		h.Fail(c, err)
	case endOthers:
		h.done(c, "all")
	default:
		h.done(c, "password")
	}
}

// EndSession answers POST /auth/account/sessions/end/{id}.
func (h *Handler) EndSession(c *gin.Context) {
	session, _, ok := h.confirm.Form(c, "End the session")
	if !ok {
		return
	}
	if err := h.sessions.EndOther(c, session); err != nil {
		h.Fail(c, err)
		return
	}
	h.done(c, "session")
}

// EndOthers answers POST /auth/account/sessions/end.
func (h *Handler) EndOthers(c *gin.Context) {
	session, _, ok := h.confirm.Form(c, "End all other sessions")
	if !ok {
		return
	}
	if _, err := h.store.Sessions.EndOthers(c.Request.Context(), session.IdentityID, session.ID); err != nil {
		h.Fail(c, err)
		return
	}
	h.done(c, "sessions")
}
