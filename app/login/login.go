// Package login is signing in: the page and its flow.
package login

import (
	"cmp"
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"latchkey/app/authn"
	"latchkey/app/config"
	"latchkey/app/flow"
	"latchkey/app/returnto"
	"latchkey/app/route"
	"latchkey/app/web"
	"latchkey/models"
	"latchkey/views"
)

// Handler answers for login flows. It is their flow.Kind.
type Handler struct {
	*web.Site
	flows *flow.Flows
	authn *authn.Service
}

// New returns a Handler.
func New(site *web.Site, flows *flow.Flows, service *authn.Service) *Handler {
	return &Handler{Site: site, flows: flows, authn: service}
}

// Name implements flow.Kind.
func (h *Handler) Name() string { return "login" }

// Routes implements flow.Kind.
func (h *Handler) Routes() flow.Routes {
	return flow.Routes{Page: route.Login, Browser: route.LoginBrowser, API: route.LoginAPI, Submit: route.SubmitLogin, UI: h.LoginUI}
}

var (
	errSignInFirst = web.Problem{Code: http.StatusUnauthorized, ID: "session_aal1_required"}.
			Telling("A second sign-in step was requested, but you aren't signed in. Sign in first.")
	errNoFactor = web.Problem{Code: http.StatusBadRequest}.
			Telling("A second sign-in step was requested, but your account has none. You are already signed in.")
)

// Check implements flow.Kind: anybody may sign in, but nobody has a second factor.
func (h *Handler) Check(c *gin.Context, f *flow.Flow) error {
	if f.AAL != string(models.AAL2) {
		return nil
	}
	_, err := h.Active(c)
	switch {
	case errors.Is(err, web.ErrNoSession):
		return errSignInFirst
	case err != nil:
		return err
	}
	return errNoFactor
}

// Nodes implements flow.Kind.
func (h *Handler) Nodes(f *flow.Flow) []flow.Node {
	if f.Refresh {
		return []flow.Node{f.Input("default", flow.Attributes{Name: "identifier", Type: "hidden", Required: true, Value: &f.Person}, nil)}
	}
	return []flow.Node{f.Input("default", flow.Attributes{Name: "identifier", Type: "text", Value: new(""), Required: true, Autocomplete: "username"},
		flow.Title("identifier", "Email address or username"))}
}

// Methods implements flow.Kind.
func (h *Handler) Methods() []flow.Method { return []flow.Method{password{h}} }

// Describe implements flow.Kind.
func (h *Handler) Describe(f *flow.Flow, wire *flow.JSON) {
	wire.Refresh, wire.RequestedAAL = &f.Refresh, string(models.AAL1)
	if f.Refresh {
		wire.UI.Messages = append([]flow.Text{*flow.Label(1010003, "Please confirm this action by verifying that it is you.")}, wire.UI.Messages...)
	}
}

// Finished implements flow.Kind.
func (h *Handler) Finished(f *flow.Flow) string {
	return cmp.Or(f.ReturnTo, h.LoginReturnURL, h.Path(route.Account))
}

// Page answers GET /login, with the flow that the query names or a fresh one.
func (h *Handler) Page(c *gin.Context) {
	f, err := h.flows.ForPage(c, h)
	if err != nil {
		h.Fail(c, err)
		return
	}
	held, err := h.Held(c)
	if err == nil {
		err = h.Check(c, f)
	}
	if err != nil {
		h.Fail(c, err)
		return
	}
	if held != nil && held.Active(h.Now()) && !f.Refresh {
		h.GoOn(c, held, h.Finished(f))
		return
	}
	why := h.why(f, held)
	unclaimed, err := h.authn.Unclaimed(c.Request.Context())
	if err != nil {
		h.Fail(c, err)
		return
	}
	if unclaimed {
		why = "There is no account yet. To create the first one, open the link that Latchkey prints when it starts."
	}
	signOutURL := ""
	if h.SeveralPeople(c) {
		why, signOutURL = web.ErrSeveralPeople.Words(), h.ReturningTo(route.Logout, f.ReturnTo)
		h.DeletePlanted(c)
	}
	h.Site.Page(c, http.StatusOK, views.Login(views.LoginPage{
		Page: h.PageData(), Why: why, SignOutURL: signOutURL, Action: h.flows.Action(h, f), CSRFToken: f.CSRF,
		Identifier: cmp.Or(f.Values["identifier"], f.Person), Remember: f.Values["remember"] != "",
		Problem: cmp.Or(f.Problem(""), f.Problem("method")), IdentifierProblem: f.Problem("identifier"), PasswordProblem: f.Problem("password"),
		RegistrationURL: h.registrationURL(f.ReturnTo), Refresh: f.Refresh,
	}))
}

// why says what brought a person to the sign-in page.
func (h *Handler) why(f *flow.Flow, held *models.Session) string {
	switch host := returnto.Host(f.ReturnTo); {
	case f.Refresh:
		return "Confirm that it’s you to continue."
	case held != nil && held.EndReason == models.EndedByLogout:
		return "You’ve been signed out."
	case held != nil:
		return "Your session has ended. Sign in to continue."
	case host != "":
		return "Sign in to continue to " + host + "."
	case f.ReturnTo != "":
		return "Sign in to continue."
	}
	return ""
}

// registrationURL returns the way to the registration page, "" where it is closed.
func (h *Handler) registrationURL(returnTo string) string {
	if h.Registration != config.RegistrationOpen {
		return ""
	}
	return h.ReturningTo(route.Registration, returnTo)
}
