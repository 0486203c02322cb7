package app

import (
	"net/http"
	"net/url"
	"time"

	"github.com/gin-gonic/gin"
)

// The wire form of a flow, as the client libraries know it.
type flowJSON struct {
	ID           string    `json:"id"`
	Type         string    `json:"type"`
	IssuedAt     time.Time `json:"issued_at"`
	ExpiresAt    time.Time `json:"expires_at"`
	RequestURL   string    `json:"request_url"`
	ReturnTo     string    `json:"return_to,omitempty"`
	Refresh      *bool     `json:"refresh,omitempty"`
	RequestedAAL string    `json:"requested_aal,omitempty"`
	State        string    `json:"state"`
	CreatedAt    time.Time `json:"created_at"`
	UpdatedAt    time.Time `json:"updated_at"`
	UI           uiJSON    `json:"ui"`
}

type uiJSON struct {
	Action   string     `json:"action"`
	Method   string     `json:"method"`
	Messages []uiText   `json:"messages,omitempty"`
	Nodes    []nodeJSON `json:"nodes"`
}

type nodeJSON struct {
	Type       string         `json:"type"`
	Group      string         `json:"group"`
	Attributes attributesJSON `json:"attributes"`
	Messages   []uiText       `json:"messages"`
	Meta       metaJSON       `json:"meta"`
}

type attributesJSON struct {
	Name         string `json:"name"`
	Type         string `json:"type"`
	Value        string `json:"value,omitempty"`
	Required     bool   `json:"required,omitempty"`
	Disabled     bool   `json:"disabled"`
	Autocomplete string `json:"autocomplete,omitempty"`
	NodeType     string `json:"node_type"`
}

type metaJSON struct {
	Label *uiText `json:"label,omitempty"`
}

// uiText is a label or message. Clients translate by its id.
type uiText struct {
	ID   int    `json:"id"`
	Text string `json:"text"`
	Type string `json:"type"` // info or error
}

// The messages' ids are those of Kratos, which clients know.
const (
	idInvalid     = 4000001
	idMissing     = 4000002
	idPassword    = 4000005
	idCredentials = 4000006
	idTaken       = 4000007
)

func label(id int, text string) metaJSON { return metaJSON{Label: &uiText{id, text, "info"}} }

// form is a flow that is being filled in: what was typed, and what is wrong with it.
type form struct {
	*flow
	values   map[string]string   // by node name; never the password
	problems map[string][]uiText // by node name; "" for the whole form
}

func newForm(f *flow) *form {
	return &form{flow: f, values: map[string]string{}, problems: map[string][]uiText{}}
}

func (f *form) complain(node string, id int, text string) {
	f.problems[node] = append(f.problems[node], uiText{id, text, "error"})
}

// problem returns what is wrong with a node, for a page.
func (f *form) problem(node string) string {
	if problems := f.problems[node]; len(problems) > 0 {
		return problems[0].Text
	}
	return ""
}

func (f *form) node(group, name, typ, autocomplete string, required bool, meta metaJSON) nodeJSON {
	messages := f.problems[name]
	if messages == nil {
		messages = []uiText{}
	}
	return nodeJSON{Type: "input", Group: group, Messages: messages, Meta: meta, Attributes: attributesJSON{
		Name: name, Type: typ, Value: f.values[name], Required: required, Autocomplete: autocomplete, NodeType: "input"}}
}

// json renders the form for a client.
func (f *form) json(origin string) flowJSON {
	hidden := f.node("default", "csrf_token", "hidden", "", true, metaJSON{})
	hidden.Attributes.Value = f.CSRF
	wire := flowJSON{
		ID: f.id, Type: f.typ(), IssuedAt: f.IssuedAt, ExpiresAt: f.IssuedAt.Add(flowLifetime),
		ReturnTo: f.ReturnTo, State: "choose_method", CreatedAt: f.IssuedAt, UpdatedAt: f.IssuedAt,
		UI: uiJSON{Action: origin + f.action(), Method: http.MethodPost, Messages: f.problems[""]},
	}
	query := url.Values{}
	if f.ReturnTo != "" {
		query.Set("return_to", f.ReturnTo)
	}
	submit := label(1010022, "Sign in with password")
	switch f.Kind {
	case login:
		wire.Refresh, wire.RequestedAAL = &f.Refresh, "aal1"
		if f.Refresh {
			query.Set("refresh", "true")
		}
		wire.UI.Nodes = []nodeJSON{hidden,
			f.node("default", "identifier", "text", "username", true, label(1070004, "Email address")),
			f.node("password", "password", "password", "current-password", true, label(1070001, "Password")),
		}
	case registration:
		submit = label(1040001, "Create account")
		wire.UI.Nodes = []nodeJSON{hidden,
			f.node("password", "traits.email", "email", "email", true, label(1070002, "Email address")),
			f.node("password", "traits.name", "text", "name", false, label(1070002, "Name")),
			f.node("password", "password", "password", "new-password", true, label(1070001, "Password")),
		}
	}
	button := f.node("password", "method", "submit", "", false, submit)
	button.Attributes.Value = "password"
	wire.UI.Nodes = append(wire.UI.Nodes, button)
	wire.RequestURL = origin + "/auth/self-service/" + string(f.Kind) + "/" + f.typ()
	if len(query) > 0 {
		wire.RequestURL += "?" + query.Encode()
	}
	return wire
}

// action is where the form is sent.
func (f *form) action() string {
	return "/auth/self-service/" + string(f.Kind) + "?" + url.Values{"flow": {f.id}}.Encode()
}

// submitted returns the flow that a request submits and what it says. With an error it still
// returns a form, for the page that shows the error with what was typed.
func (a *App) submitted(c *gin.Context, kind flowKind) (*form, fields, error) {
	form := newForm(&flow{Kind: kind})
	in, unreadable := readFields(c)
	for _, name := range []string{"identifier", "remember", "traits.email", "traits.name"} {
		form.values[name] = in[name]
	}
	id, err := a.flowID(c, "flow")
	if err != nil {
		return form, nil, err
	}
	f, err := a.openFlow(c, kind, id)
	if f != nil {
		form.flow = f
	}
	if err != nil {
		return form, nil, err
	}
	if unreadable != nil {
		return form, nil, unreadable
	}
	// A person may look at a page for as long as they like; a program can start again.
	if f.expired(a.Now()) && (f.API || !prefersHTML(c.Request)) {
		return form, nil, a.renew(c, f)
	}
	if sent := in["csrf_token"]; !f.API && sent != "" && sent != f.CSRF {
		return form, nil, errCrossSite.because("The form's csrf_token is not that of its flow. Load the page again.")
	}
	if in["method"] != "password" {
		form.complain("method", idInvalid, `The only method here is "password".`)
	}
	return form, in, nil
}

// refuse answers a submitted flow that did not succeed: the form again with what is wrong, as JSON
// or as the page. err is for what lies outside of the form; nil if the form's own problems say it.
func (a *App) refuse(c *gin.Context, f *form, err error) {
	asPage := prefersHTML(c.Request) && !f.API
	if err == nil && !asPage {
		c.PureJSON(http.StatusBadRequest, f.json(a.origin(c)))
		return
	}
	status := http.StatusBadRequest
	if err != nil {
		p := a.explain(c, err)
		if !asPage {
			a.respond(c, p, nil)
			return
		}
		if p.code == http.StatusInternalServerError {
			a.fail(c, p)
			return
		}
		if p == errFlowUnknown || p == errOtherBrowser {
			p = p.because("Your browser did not send what it got with this page. Fill it in once more; " +
				"if that does not help, allow cookies for this site.")
		}
		status = p.code
		setRetryAfter(c, p)
		f.complain("", idInvalid, p.reason)
	}
	// The page's form is a fresh flow, to be sure that the next try can work.
	if err := a.issue(c, f.flow); err != nil {
		a.fail(c, err)
		return
	}
	if f.Kind == registration {
		a.showRegistration(c, status, f)
		return
	}
	a.showLogin(c, status, f, a.whySignIn(f.flow, nil))
}
