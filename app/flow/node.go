package flow

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"latchkey/app/web"
)

// JSON is a flow as the client libraries know it.
type JSON struct {
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
	UI           ui        `json:"ui"`
}

type ui struct {
	Action   string `json:"action"`
	Method   string `json:"method"`
	Messages []Text `json:"messages,omitempty"`
	Nodes    []Node `json:"nodes"`
}

// Node is a field or button of a form.
type Node struct {
	Type       string     `json:"type"`
	Group      string     `json:"group"`
	Attributes Attributes `json:"attributes"`
	Messages   []Text     `json:"messages"`
	Meta       meta       `json:"meta"`
}

// Attributes are those of an input element.
type Attributes struct {
	Name         string  `json:"name"`
	Type         string  `json:"type"`
	Value        *string `json:"value,omitempty"`
	Required     bool    `json:"required,omitempty"`
	Disabled     bool    `json:"disabled"`
	Autocomplete string  `json:"autocomplete,omitempty"`
	NodeType     string  `json:"node_type"`
}

type meta struct {
	Label *Text `json:"label,omitempty"`
}

// Text is a label or message. Clients can translate it by its id and context.
type Text struct {
	ID      int            `json:"id"`
	Text    string         `json:"text"`
	Type    string         `json:"type"` // info or error
	Context map[string]any `json:"context,omitempty"`
}

// The messages' ids are those of Kratos, which clients know.
const (
	idTitle       = 1070002
	idInvalid     = 4000001
	idMissing     = 4000002
	idPassword    = 4000005
	idCredentials = 4000006
	idTaken       = 4000007
	idEmail       = 4000040
)

// The ids of messages that depend on the kind of the flow, by its name.
var (
	idNoMethod = map[string]int{"login": 4010002, "registration": 4010003}
	idExpired  = map[string]int{"login": 4010001, "registration": 4040001}
)

// Label is the text beside a node.
func Label(id int, text string) *Text { return &Text{ID: id, Text: text, Type: "info"} }

// Title is the text beside a field, which clients show as it is.
func Title(field, text string) *Text {
	return &Text{ID: idTitle, Text: text, Type: "info", Context: map[string]any{"title": text, "name": field}}
}

// Invalid is a message about an invalid value.
func Invalid(text string) Text {
	return Text{ID: idInvalid, Text: text, Type: "error", Context: map[string]any{"reason": text}}
}

// RefusedPassword is a message that says why a new password is refused, as a sentence. Clients show the
// reason after a "because".
func RefusedPassword(text string) Text {
	first, size := utf8.DecodeRuneInString(text)
	reason := string(unicode.ToLower(first)) + strings.TrimSuffix(text[size:], ".")
	return Text{ID: idPassword, Text: text, Type: "error", Context: map[string]any{"reason": reason}}
}

// Missing is a message of a node that was left empty.
func Missing(node, text string) Text {
	property := node[strings.LastIndexByte(node, '.')+1:] // "email" of "traits.email"
	return Text{ID: idMissing, Text: text, Type: "error", Context: map[string]any{"property": property}}
}

// InvalidEmail is a message about a malformed address. It contains only as much of the address as fits in a flow's id.
func InvalidEmail(value, text string) Text {
	value = web.Clip(value, maxValue)
	return Text{ID: idEmail, Text: text, Type: "error", Context: map[string]any{"value": value, "reason": text}}
}

// noMethod is the message for a form that was submitted with an unknown method.
func noMethod(kind Kind) Text {
	return Text{ID: idNoMethod[kind.Name()], Text: "That isn’t possible here. Use this form’s button.", Type: "error"}
}

// expired is the message of a flow that replaces an expired one.
func expired(kind Kind, at time.Time) Text {
	return Text{ID: idExpired[kind.Name()], Text: "This took too long. Try again.", Type: "error",
		Context: map[string]any{"expired_at": at, "expired_at_unix": at.Unix()}}
}

// WrongCredentials is the one message for an unknown account and a wrong password.
func WrongCredentials(text string) Text { return Text{ID: idCredentials, Text: text, Type: "error"} }

// Taken is a message of an address or username that belongs to another account.
func Taken(text string) Text { return Text{ID: idTaken, Text: text, Type: "error"} }

// Complain says what is wrong with a node, or with "" the whole form.
func (f *Flow) Complain(node string, message Text) {
	if f.Messages == nil {
		f.Messages = map[string][]Text{}
	}
	f.Messages[node] = append(f.Messages[node], message)
}

// Problem returns what is wrong with a node, or with "" the whole form, for a page.
func (f *Flow) Problem(node string) string {
	if messages := f.Messages[node]; len(messages) > 0 {
		return messages[0].Text
	}
	return ""
}

// Input returns a field with what was typed into it and what is wrong with it.
func (f *Flow) Input(group string, attributes Attributes, label *Text) Node {
	if typed, ok := f.Values[attributes.Name]; ok {
		attributes.Value = &typed
	}
	attributes.NodeType = "input"
	return Node{Type: "input", Group: group, Attributes: attributes, Messages: append([]Text{}, f.Messages[attributes.Name]...), Meta: meta{label}}
}

// json renders a flow for a client.
func (s *Flows) json(c *gin.Context, kind Kind, f *Flow) JSON {
	origin := s.Origin(c)
	csrf := Attributes{Name: "csrf_token", Type: "hidden", Required: true}
	if !f.API {
		csrf.Value = &f.CSRF
	}
	nodes := append([]Node{f.Input("default", csrf, nil)}, kind.Nodes(f)...)
	for _, method := range kind.Methods() {
		nodes = append(nodes, method.Nodes(f)...)
	}
	wire := JSON{
		ID: f.id, Type: f.typ(), IssuedAt: f.IssuedAt, ExpiresAt: f.IssuedAt.Add(lifetime),
		ReturnTo: f.ReturnTo, State: "choose_method", CreatedAt: f.IssuedAt, UpdatedAt: f.IssuedAt,
		UI: ui{Action: origin + s.Action(kind, f), Method: http.MethodPost, Messages: slices.Clone(f.Messages[""]), Nodes: nodes},
	}
	wire.RequestURL = origin + s.begin(kind, f)
	kind.Describe(f, &wire)
	return wire
}

// begin returns the path and query that start such a flow.
func (s *Flows) begin(kind Kind, f *Flow) string {
	routes, query := kind.Routes(), f.Query
	begun := routes.Browser
	if f.API {
		begun = routes.API
	}
	if f.ReturnTo != "" {
		query = strings.TrimPrefix(query+"&"+url.Values{"return_to": {f.ReturnTo}}.Encode(), "&")
	}
	if query == "" {
		return s.Path(begun)
	}
	return s.Path(begun) + "?" + query
}
