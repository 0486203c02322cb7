package registration

import (
	"errors"
	"strings"

	"github.com/gin-gonic/gin"

	"latchkey/app/authn"
	"latchkey/app/flow"
	"latchkey/app/sessions"
	"latchkey/app/web"
	"latchkey/models"
)

// password is making an account that signs in with a password.
type password struct{ *Handler }

// Name implements flow.Method.
func (password) Name() string { return "password" }

// Nodes implements flow.Method.
func (password) Nodes(f *flow.Flow) []flow.Node {
	return []flow.Node{
		f.Input("password", flow.Attributes{Name: "password", Type: "password", Required: true, Autocomplete: "new-password"}, flow.Label(1070001, "Password")),
		f.Input("password", flow.Attributes{Name: "method", Type: "submit", Value: new("password")}, flow.Label(1040001, "Create account")),
	}
}

// Submit implements flow.Method.
func (p password) Submit(c *gin.Context, f *flow.Flow, in web.Fields) {
	account := authn.NewAccount{Email: strings.TrimSpace(in["traits.email"]), Username: strings.TrimSpace(in["traits.username"]),
		Name: strings.TrimSpace(in["traits.name"]), Password: in["password"],
		ByOperator: f.Setup != ""} // only an operator has the setup link
	if refused := (authn.Refused)(nil); errors.As(p.authn.Check(account), &refused) {
		p.complain(f, refused, account)
		p.flows.Refuse(c, p.Handler, f, nil)
		return
	}
	options, err := p.SignInOptions(c, f.API, false, false)
	if err != nil {
		p.flows.Refuse(c, p.Handler, f, err)
		return
	}
	started, err := p.authn.Register(c.Request.Context(), p.Client(c), account, f.Setup, options)
	switch {
	case errors.Is(err, models.ErrTaken):
		f.Complain("traits.email", flow.Taken("This address, or one that looks the same, already has an account. Sign in instead, or use another address."))
		p.flows.Refuse(c, p.Handler, f, nil)
	case errors.Is(err, models.ErrUsernameTaken):
		f.Complain("traits.username", flow.Taken("This username, or one that looks the same, is taken. Choose another one."))
		p.flows.Refuse(c, p.Handler, f, nil)
	case errors.Is(err, models.ErrNotFirst):
		p.Fail(c, errSetupOver)
	case err != nil:
		p.flows.Refuse(c, p.Handler, f, err)
	default:
		session := sessions.JSON(p.Site, c, started.Session)
		body := gin.H{"session": session, "identity": session.Identity}
		if f.API {
			body["continue_with"] = web.SetToken(started.Session.Token)
		}
		p.AnswerSignedIn(c, f.API, started, body, p.Finished(f))
	}
}

// complain says in the form what is wrong with a new account.
func (p password) complain(f *flow.Flow, refused authn.Refused, account authn.NewAccount) {
	switch err := refused["email"]; {
	case err != nil && account.Email == "":
		f.Complain("traits.email", flow.Missing("traits.email", err.Error()))
	case err != nil:
		f.Complain("traits.email", flow.InvalidEmail(account.Email, err.Error()))
	}
	for _, field := range []string{"username", "name"} {
		if err := refused[field]; err != nil {
			f.Complain("traits."+field, flow.Invalid(err.Error()))
		}
	}
	switch err := refused["password"]; {
	case err != nil && account.Password == "":
		f.Complain("password", flow.Missing("password", err.Error()))
	case err != nil:
		f.Complain("password", flow.RefusedPassword(err.Error()))
	}
}
