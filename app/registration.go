package app

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"net/http"
	"net/mail"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"latchkey/app/password"
	"latchkey/models"
	"latchkey/views"
)

const registrationOpen = "open"

const (
	maxEmailBytes = 254 // RFC 5321 §4.5.3.1.3, less the angle brackets
	maxNameRunes  = 200
)

// createRegistrationAPI answers GET /auth/self-service/registration/api.
func (a *App) createRegistrationAPI(c *gin.Context) { a.createFlow(c, registration, true) }

// createRegistrationBrowser answers GET /auth/self-service/registration/browser.
func (a *App) createRegistrationBrowser(c *gin.Context) { a.createFlow(c, registration, false) }

// getRegistration answers GET /auth/self-service/registration/flows?id=ID.
func (a *App) getRegistration(c *gin.Context) { a.getFlow(c, registration) }

// mayRegister returns nil if accounts can be made: by anybody, or with the setup token the first
// one and no other (onlyFirst).
func (a *App) mayRegister(ctx context.Context, setupToken string) (onlyFirst bool, err error) {
	if a.Registration == registrationOpen {
		return false, nil
	}
	if setupToken == "" {
		return false, errRegistrationShut
	}
	unclaimed, err := a.unclaimed(ctx)
	if err != nil {
		return false, err
	}
	if !unclaimed {
		return false, errSetupOver
	}
	current, err := a.setupToken(ctx)
	if err != nil {
		return false, err
	}
	if subtle.ConstantTimeCompare([]byte(setupToken), []byte(current)) != 1 {
		return false, errSetupOver
	}
	return true, nil
}

var errSetupOver = errRegistrationShut.because("This setup link does not work: it makes the first account and no other. " +
	"Sign in with that account, or look for the link where Latchkey was started.")

// hiddenPage makes of closed registration, for a person, a page that is not there.
func hiddenPage(c *gin.Context, err error) error {
	var p *problem
	if !errors.As(err, &p) || p.id != errRegistrationShut.id || !prefersHTML(c.Request) {
		return err
	}
	hidden := *p
	hidden.code = http.StatusNotFound
	return &hidden
}

// registrationURL returns the way to the registration page, "" where it is closed.
func (a *App) registrationURL(returnTo string) string {
	if a.Registration != registrationOpen {
		return ""
	}
	return withReturnTo(pathRegistration, returnTo)
}

func withReturnTo(path, returnTo string) string {
	if returnTo == "" {
		return path
	}
	return path + "?" + url.Values{"return_to": {returnTo}}.Encode()
}

// registrationPage answers GET /auth/registration, like loginPage.
func (a *App) registrationPage(c *gin.Context) {
	f, err := a.pageFlow(c, registration)
	if err != nil {
		a.fail(c, err)
		return
	}
	switch _, err := a.signedIn(c); {
	case err == nil:
		seeOther(c, a.afterLogin(f))
		return
	case !errors.Is(err, errNoSession):
		a.fail(c, err)
		return
	}
	if _, err := a.mayRegister(c.Request.Context(), f.Setup); err != nil {
		a.fail(c, hiddenPage(c, err))
		return
	}
	a.showRegistration(c, http.StatusOK, newForm(f))
}

func (a *App) showRegistration(c *gin.Context, status int, f *form) {
	a.page(c, status, views.Registration(views.RegistrationPage{
		Page: a.pageData(), Action: f.action(), CSRFToken: f.CSRF, Setup: f.Setup != "",
		Email: f.values["traits.email"], Name: f.values["traits.name"],
		PasswordRules: a.passwordRules(),
		Problem:       cmp.Or(f.problem(""), f.problem("method")), EmailProblem: f.problem("traits.email"),
		NameProblem: f.problem("traits.name"), PasswordProblem: f.problem("password"),
		LoginURL: withReturnTo(pathLogin, f.ReturnTo),
	}))
}

// submitRegistration answers POST /auth/self-service/registration?flow=ID.
func (a *App) submitRegistration(c *gin.Context) {
	ctx := c.Request.Context()
	f, in, unusable := a.submitted(c, registration)
	onlyFirst, err := a.mayRegister(ctx, f.Setup)
	if err != nil {
		a.fail(c, err)
		return
	}
	if unusable != nil {
		a.refuse(c, f, unusable)
		return
	}
	email, name := strings.TrimSpace(in["traits.email"]), strings.TrimSpace(in["traits.name"])
	f.values["traits.email"], f.values["traits.name"] = email, name
	if reason := CheckEmail(email); reason != nil {
		f.complain("traits.email", idInvalid, reason.Error())
	}
	if reason := CheckName(name); reason != nil {
		f.complain("traits.name", idInvalid, reason.Error())
	}
	if in["password"] == "" {
		f.complain("password", idMissing, "Choose a password.")
	} else if err := a.rules.Check(in["password"], email, name); err != nil {
		f.complain("password", idPassword, err.Error())
	}
	if len(f.problems) > 0 {
		a.refuse(c, f, nil)
		return
	}

	if err := a.tryRegistration(c); err != nil {
		a.refuse(c, f, err)
		return
	}
	hash, err := a.hasher.Hash(ctx, in["password"])
	if err != nil {
		a.refuse(c, f, err)
		return
	}
	identity, err := a.store.Identities.Create(ctx, email, name, hash, onlyFirst)
	switch {
	case errors.Is(err, models.ErrTaken):
		f.complain("traits.email", idTaken, "There is an account for this address already. Sign in instead.")
		a.refuse(c, f, nil)
		return
	case errors.Is(err, models.ErrNotFirst):
		a.fail(c, errSetupOver)
		return
	case err != nil:
		a.fail(c, err)
		return
	}
	a.metrics.Registered()
	session, err := a.startSession(c, f.flow, identity, hash, false)
	if err != nil {
		a.fail(c, err)
		return
	}
	a.answerSignedIn(c, f.flow, session)
}

// sentence is an error whose text is for the person who caused it.
type sentence string

func (s sentence) Error() string { return string(s) }

// CheckEmail returns nil, or what is wrong with an address in a sentence for its owner.
func CheckEmail(address string) error {
	if address == "" {
		return sentence("Enter your email address.")
	}
	if len(address) > maxEmailBytes {
		return sentence("This is too long for an email address.")
	}
	parsed, err := mail.ParseAddress(address)
	if err != nil || parsed.Address != address || strings.ContainsFunc(address, unprintable) || strings.Contains(address, `"`) {
		return sentence("This is not an email address. It should look like ada@example.com.")
	}
	return nil
}

// CheckName returns nil, or what is wrong with a name in a sentence for its owner.
func CheckName(name string) error {
	if utf8.RuneCountInString(name) > maxNameRunes {
		return sentence("This name is too long: 200 characters are the most.")
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r != ' ' && unprintable(r) }) {
		return sentence("This name has characters that can't be shown. Leave them out.")
	}
	return nil
}

func unprintable(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }

// CheckPassword returns nil, or what is wrong with a new password in a sentence for its owner.
func (c *Config) CheckPassword(pass string, personal ...string) error {
	return password.Rules{MinLength: c.PasswordMinLength, SiteName: c.SiteName}.Check(pass, personal...)
}
