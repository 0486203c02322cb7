package login

import (
	"cmp"
	"errors"
	"strings"

	"github.com/gin-gonic/gin"

	"latchkey/app/authn"
	"latchkey/app/flow"
	"latchkey/app/sessions"
	"latchkey/app/web"
)

// password is signing in with an address or username and a password.
type password struct{ *Handler }

// Name implements flow.Method.
func (password) Name() string { return "password" }

// Nodes implements flow.Method.
func (password) Nodes(f *flow.Flow) []flow.Node {
	button := flow.Label(1010022, "Sign in with password")
	if f.Refresh {
		button = flow.Label(1010001, "Sign in")
	}
	return []flow.Node{
		f.Input("password", flow.Attributes{Name: "password", Type: "password", Required: true, Autocomplete: "current-password"}, flow.Label(1070001, "Password")),
		f.Input("password", flow.Attributes{Name: "method", Type: "submit", Value: new("password")}, button),
	}
}

// Submit implements flow.Method.
func (p password) Submit(c *gin.Context, f *flow.Flow, in web.Fields) {
	identifier := cmp.Or(in["identifier"], in["password_identifier"], f.Person)
	switch {
	case strings.TrimSpace(identifier) == "":
		f.Complain("identifier", flow.Missing("identifier", "Enter your email address or username."))
	case len(identifier) > authn.MaxEmailBytes:
		f.Complain("identifier", flow.Invalid("This is too long for an email address."))
	}
	if in["password"] == "" {
		f.Complain("password", flow.Missing("password", "Enter your password."))
	}
	if len(f.Messages) > 0 {
		p.flows.Refuse(c, p.Handler, f, nil)
		return
	}
	options, err := p.SignInOptions(c, f.API, in["remember"] != "", f.Refresh)
	if err != nil {
		p.flows.Refuse(c, p.Handler, f, err)
		return
	}
	started, err := p.authn.SignIn(c.Request.Context(), p.Client(c), identifier, in["password"], options)
	switch {
	case errors.Is(err, authn.ErrCredentials):
		f.Complain("", flow.WrongCredentials("The email address, username or password isn’t right. Check them and try again."))
		p.flows.Refuse(c, p.Handler, f, nil)
	case errors.Is(err, authn.ErrDisabled):
		f.Complain("", flow.Invalid("This account is disabled. Ask your administrator."))
		p.flows.Refuse(c, p.Handler, f, nil)
	case err != nil:
		p.flows.Refuse(c, p.Handler, f, err)
	default:
		p.AnswerSignedIn(c, f.API, started, gin.H{"session": sessions.JSON(p.Site, c, started.Session)}, p.Finished(f))
	}
}
