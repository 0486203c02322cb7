// Package flow is the way through a form that has several steps or several methods, for pages, apps
// and API clients alike: it starts flows, shows them, and passes submissions to a method.
package flow

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/gofrs/uuid/v5"

	"latchkey/app/config"
	"latchkey/app/route"
	"latchkey/app/web"
	"latchkey/models"
)

// Flow is one attempt to get through a form. It is not stored anywhere: its id is the flow itself,
// sealed, with the input and its errors. So opening pages writes nothing, nobody can fill a table with
// flows or evict others' flows, and a page that was left open for a day still has everything that its
// form needs.
type Flow struct {
	Kind     string    `json:"k"`
	API      bool      `json:"a,omitempty"` // for a client that keeps its token itself
	Refresh  bool      `json:"r,omitempty"` // for somebody who is signed in, to confirm who they are
	IssuedAt time.Time `json:"t"`
	Nonce    uuid.UUID `json:"n"`           // makes every id unique
	CSRF     string    `json:"c,omitempty"` // of the browser that started it
	ReturnTo string    `json:"u,omitempty"`
	Query    string    `json:"q,omitempty"` // it was started with, without return_to
	AAL      string    `json:"l,omitempty"` // requested
	Setup    string    `json:"s,omitempty"` // the setup token that came with the link

	Values   map[string]string `json:"v,omitempty"` // by node; never a secret
	Messages map[string][]Text `json:"m,omitempty"` // by node; "" for the whole form

	// Person is the address of the person who has to confirm who they are, "" without Refresh: see setPerson.
	Person string `json:"-"`

	id string
}

// Kind is what flows are for.
type Kind interface {
	Name() string // a part of its URLs
	Routes() Routes
	// Check returns an error if the flow isn't available. It is then neither shown nor submitted.
	Check(c *gin.Context, f *Flow) error
	// Nodes returns the fields that all methods share, csrf_token aside.
	Nodes(f *Flow) []Node
	Methods() []Method
	// Describe adds the JSON members that only this kind has.
	Describe(f *Flow, wire *JSON)
	// Finished returns where to redirect a browser that is already signed in and doesn't need the flow.
	Finished(f *Flow) string
}

// Routes are the endpoints of a kind.
type Routes struct {
	Page, Browser, API, Submit *route.Route
	UI                         *config.UI // instead of Page, unless nil
}

// Method is one way through the flows of a kind.
type Method interface {
	Name() string // the value of the field "method"
	Nodes(f *Flow) []Node
	// Submit answers a flow that was submitted with this method.
	Submit(c *gin.Context, f *Flow, in web.Fields)
}

const (
	// lifetime is how long a JSON client may take. A person at a page may take longer.
	lifetime = time.Hour
	// maxSetupToken is more bytes than the token has: a longer value is wrong even when cut off.
	maxSetupToken = 64
	// maxQuery limits the bytes kept of a query, for the same reason as maxValue.
	maxQuery = 512
	// maxValue limits the bytes kept of a field, so that the id fits into a URL.
	maxValue = 1024
)

var (
	errAAL       = web.ErrBadRequest.Because("aal must be aal1 or aal2.")
	errExpired   = &web.Problem{Code: http.StatusGone, ID: "self_service_flow_expired", Reason: "The flow has expired. Continue with the one in use_flow_id."}
	errStaleForm = &web.Problem{Code: http.StatusForbidden, ID: web.ErrCrossSite.ID, Visitor: "The page was out of date. Submit the form again.",
		Reason: "The form's csrf_token doesn't match its flow. Reload the page."}
	errUnknown = &web.Problem{Code: http.StatusNotFound, Reason: "This flow doesn't exist. Start a new one."}
)

// Flows are the flows of a site.
type Flows struct{ *web.Site }

// Create answers GET …/api and …/browser: it starts a flow, and responds with it or with a redirect to
// the page that shows it.
func (s *Flows) Create(kind Kind, api bool) gin.HandlerFunc {
	return func(c *gin.Context) {
		f, err := s.start(c, kind, api)
		if err == nil {
			err = kind.Check(c, f)
		}
		if err != nil {
			s.Fail(c, err)
			return
		}
		if !f.Refresh && (!api || web.SendsToken(c.Request)) {
			switch session, err := s.SignedIn(c); {
			case err == nil && !api && web.PrefersHTML(c.Request):
				s.GoOn(c, session, kind.Finished(f))
				return
			case err == nil:
				s.Fail(c, web.ErrAlreadySignedIn)
				return
			case !errors.Is(err, web.ErrNoSession):
				s.Fail(c, err)
				return
			}
		}
		if !api && web.PrefersHTML(c.Request) {
			web.SeeOther(c, s.pageURL(kind, f))
			return
		}
		c.PureJSON(http.StatusOK, s.json(c, kind, f))
	}
}

// Get answers GET …/flows?id=ID with the flow and its errors.
func (s *Flows) Get(kind Kind) gin.HandlerFunc {
	return func(c *gin.Context) {
		id, err := s.flowID(c, "id")
		if err != nil {
			s.Fail(c, err)
			return
		}
		f, err := s.open(c, kind, id)
		if err == nil && f.expired(s.Now()) {
			err = s.replace(c, kind, f)
		}
		if err != nil {
			s.Fail(c, err)
			return
		}
		c.PureJSON(http.StatusOK, s.json(c, kind, f))
	}
}

// Page answers GET of a kind's page: with the page, or if the operator has one of their own, with a
// redirect that leads there.
func (s *Flows) Page(kind Kind, page gin.HandlerFunc) gin.HandlerFunc {
	routes := kind.Routes()
	if routes.UI == nil {
		return page
	}
	return func(c *gin.Context) {
		if id := c.Query("flow"); id != "" {
			web.SeeOther(c, routes.UI.With("flow", id))
			return
		}
		web.SeeOther(c, s.WithQuery(c, routes.Browser))
	}
}

// ForPage returns the flow for a page to show: that of ?flow=ID, or a new one if there is none or it can't
// be used any more. An invalid flow is no reason to show a person an error.
func (s *Flows) ForPage(c *gin.Context, kind Kind) (*Flow, error) {
	query, err := s.Query(c)
	if err != nil {
		return nil, err
	}
	id := query.Get("flow")
	if id == "" {
		return s.start(c, kind, false)
	}
	f, err := s.open(c, kind, id)
	switch {
	case errors.Is(err, errUnknown), err == nil && f.API:
		f = &Flow{Kind: kind.Name()}
	case err == nil && !f.expired(s.Now()):
		return f, nil
	case errors.Is(err, web.ErrOtherBrowser):
		// Somebody else may have typed the values. The message about cookies stays.
		f = &Flow{Kind: f.Kind, ReturnTo: f.ReturnTo, Messages: map[string][]Text{"": f.Messages[""]}}
	case err != nil:
		return nil, err
	}
	return f, s.issue(c, f)
}

// Submit answers POST …?flow=ID: it opens the flow and passes it to the requested method.
func (s *Flows) Submit(kind Kind) gin.HandlerFunc {
	return func(c *gin.Context) {
		f, in, err := s.submitted(c, kind)
		if refused := kind.Check(c, f); refused != nil {
			s.Fail(c, refused)
			return
		}
		if err != nil {
			s.Refuse(c, kind, f, err)
			return
		}
		method := choose(kind.Methods(), in["method"], web.IsJSON(c.Request))
		if method == nil {
			f.Complain("", noMethod(kind))
			s.Refuse(c, kind, f, nil)
			return
		}
		method.Submit(c, f, in)
	}
}

// choose returns the method with a name, or nil. A form may come without a name: password managers don't press the
// button.
func choose(methods []Method, name string, asJSON bool) Method {
	if name == "" && !asJSON && len(methods) == 1 {
		return methods[0]
	}
	for _, method := range methods {
		if method.Name() == name {
			return method
		}
	}
	return nil
}

// submitted returns the flow that a request submits, and its fields. With an error it still returns
// a flow, for the page that shows the error with the input.
func (s *Flows) submitted(c *gin.Context, kind Kind) (*Flow, web.Fields, error) {
	in, unreadable := web.ReadFields(c)
	f := &Flow{Kind: kind.Name()}
	f.keep(kind, in)
	id, err := s.flowID(c, "flow")
	if err != nil {
		return f, nil, err
	}
	opened, err := s.open(c, kind, id)
	if opened != nil {
		f = opened
		f.Messages = nil
		f.keep(kind, in)
	}
	if err != nil {
		return f, nil, err
	}
	if unreadable != nil {
		return f, nil, unreadable
	}
	// A person may leave a page open for as long as they like; a program can start again.
	if f.expired(s.Now()) && (f.API || !web.PrefersHTML(c.Request)) {
		return f, nil, s.replace(c, kind, f)
	}
	if sent := in["csrf_token"]; !f.API && sent != "" && sent != f.CSRF {
		return f, nil, errStaleForm
	}
	return f, in, nil
}

// keep takes what was typed into the fields that may be shown again.
func (f *Flow) keep(kind Kind, in web.Fields) {
	f.Values = map[string]string{}
	nodes := kind.Nodes(f)
	for _, method := range kind.Methods() {
		nodes = append(nodes, method.Nodes(f)...)
	}
	for _, node := range nodes {
		switch name := node.Attributes.Name; node.Attributes.Type {
		case "password", "submit", "hidden", "button":
		default:
			if in[name] != "" {
				f.Values[name] = web.Clip(in[name], maxValue)
			}
		}
	}
	if in["remember"] != "" {
		f.Values["remember"] = "true"
	}
}

func (s *Flows) pageURL(kind Kind, f *Flow) string {
	if ui := kind.Routes().UI; ui != nil {
		return ui.With("flow", f.id)
	}
	return s.Path(kind.Routes().Page) + "?flow=" + f.id
}

// Action returns the path to which a flow is submitted.
func (s *Flows) Action(kind Kind, f *Flow) string {
	return s.Path(kind.Routes().Submit) + "?" + url.Values{"flow": {f.id}}.Encode()
}

func (f *Flow) expired(now time.Time) bool { return !web.Within(now, f.IssuedAt, lifetime) }

func (f *Flow) typ() string {
	if f.API {
		return "api"
	}
	return "browser"
}

// start starts a flow from the request's query. A browser's flow is bound to it by a cookie.
func (s *Flows) start(c *gin.Context, kind Kind, api bool) (*Flow, error) {
	query, err := s.Query(c)
	if err != nil {
		return nil, err
	}
	returnTo, err := s.ReturnTo(c)
	if err != nil {
		return nil, err
	}
	f := &Flow{Kind: kind.Name(), API: api, ReturnTo: returnTo, AAL: query.Get("aal"), Setup: web.Clip(query.Get("setup"), maxSetupToken)}
	if f.AAL != "" && f.AAL != string(models.AAL1) && f.AAL != string(models.AAL2) {
		return nil, errAAL
	}
	f.Refresh = query.Get("refresh") == "true"
	if err := s.setPerson(c, f); err != nil {
		return nil, err
	}
	query.Del("return_to")
	if f.Query = query.Encode(); len(f.Query) > maxQuery {
		f.Query = ""
	}
	return f, s.issue(c, f)
}

// setPerson finds out who is to confirm who they are. Without a session the flow is a sign-in like any other. Who it is
// isn't part of the id, or whoever uses the browser next would learn from an old URL who was signed in.
func (s *Flows) setPerson(c *gin.Context, f *Flow) error {
	if !f.Refresh {
		return nil
	}
	session, err := s.OfFlow(c, f.API)
	if f.Refresh = session != nil && session.Active(s.Now()); f.Refresh {
		f.Person = session.Identity.Email
	}
	return err
}

// flowID returns the flow id from the query.
func (s *Flows) flowID(c *gin.Context, key string) (string, error) {
	query, err := s.Query(c)
	if err != nil {
		return "", err
	}
	ids := query[key]
	if len(ids) != 1 || ids[0] == "" {
		return "", web.ErrBadRequest.Because("The query must contain %s, a flow's id, exactly once.", key)
	}
	return ids[0], nil
}
