// Package registration is making an account: the page and its flow.
package registration

import (
	"cmp"
	"crypto/subtle"
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"latchkey/app/authn"
	"latchkey/app/config"
	"latchkey/app/flow"
	"latchkey/app/route"
	"latchkey/app/web"
	"latchkey/views"
)

// Handler answers for registration flows. It is their flow.Kind.
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
func (h *Handler) Name() string { return "registration" }

// Routes implements flow.Kind.
func (h *Handler) Routes() flow.Routes {
	return flow.Routes{Page: route.Registration, Browser: route.RegistrationBrowser, API: route.RegistrationAPI, Submit: route.SubmitRegistration, UI: h.RegistrationUI}
}

var (
	errClosed = web.Problem{Code: http.StatusForbidden, ID: web.FlowDisabled, Title: "Registration is closed"}.
			Telling("Registration is closed. Ask your administrator for an account.")
	errSetupOver = errClosed.Telling("This setup link has been used or is wrong; it can only create the first account. " +
		"Sign in, or look for the current link where Latchkey was started.")
)

// Check implements flow.Kind: accounts are made by anybody where registration is open, and with the
// setup token the first one and no other. To a person, closed registration is a page that is not there.
func (h *Handler) Check(c *gin.Context, f *flow.Flow) error {
	if h.Registration == config.RegistrationOpen {
		return nil
	}
	refused := errClosed
	if f.Setup != "" {
		token, err := h.authn.SetupToken(c.Request.Context())
		if err != nil {
			return err
		}
		if token != "" && subtle.ConstantTimeCompare([]byte(f.Setup), []byte(token)) == 1 {
			return nil
		}
		refused = errSetupOver
	}
	if !f.API && c.Request.Method != http.MethodPost && web.PrefersHTML(c.Request) {
		hidden := *refused
		hidden.Code = http.StatusNotFound
		return &hidden
	}
	return refused
}

// Nodes implements flow.Kind.
func (h *Handler) Nodes(f *flow.Flow) []flow.Node {
	return []flow.Node{
		f.Input("password", flow.Attributes{Name: "traits.email", Type: "email", Required: true, Autocomplete: "email"}, flow.Title("traits.email", "Email address")),
		f.Input("password", flow.Attributes{Name: "traits.username", Type: "text", Autocomplete: "username"}, flow.Title("traits.username", "Username")),
		f.Input("password", flow.Attributes{Name: "traits.name", Type: "text", Autocomplete: "name"}, flow.Title("traits.name", "Name")),
	}
}

// Methods implements flow.Kind.
func (h *Handler) Methods() []flow.Method { return []flow.Method{password{h}} }

// Describe implements flow.Kind.
func (h *Handler) Describe(*flow.Flow, *flow.JSON) {}

// Finished implements flow.Kind.
func (h *Handler) Finished(f *flow.Flow) string {
	return cmp.Or(f.ReturnTo, h.LoginReturnURL, h.Path(route.Account))
}

// Page answers GET /registration, with the flow that the query names or a fresh one.
func (h *Handler) Page(c *gin.Context) {
	f, err := h.flows.ForPage(c, h)
	if err != nil {
		h.Fail(c, err)
		return
	}
	switch session, err := h.SignedIn(c); {
	case err == nil:
		h.GoOn(c, session, h.Finished(f))
		return
	case !errors.Is(err, web.ErrNoSession):
		h.Fail(c, err)
		return
	}
	if err := h.Check(c, f); err != nil {
		h.Fail(c, err)
		return
	}
	h.Site.Page(c, http.StatusOK, views.Registration(views.RegistrationPage{
		Page: h.PageData(), Action: h.flows.Action(h, f), CSRFToken: f.CSRF, Setup: f.Setup != "",
		Email: f.Values["traits.email"], Username: f.Values["traits.username"], Name: f.Values["traits.name"],
		PasswordRules: h.authn.PasswordRules(),
		Problem:       cmp.Or(f.Problem(""), f.Problem("method")), EmailProblem: f.Problem("traits.email"),
		UsernameProblem: f.Problem("traits.username"), NameProblem: f.Problem("traits.name"), PasswordProblem: f.Problem("password"),
		LoginURL: h.ReturningTo(route.Login, f.ReturnTo),
	}))
}
