// Package views is the pages: they show what they are given and know nothing else.
package views

//go:generate go run github.com/a-h/templ/cmd/templ@v0.3.977 generate

import (
	"time"

	"latchkey/app/route"
)

// Page is what every page shows.
type Page struct {
	route.Base // for links
	SiteName   string
	Logo       string // URL; "" for none
	Icon       string // URL
	TouchIcon  string // URL of a PNG
	Contact    Link   // whoever runs the site; empty if they haven't said
	Links      []Link // at the foot
	Styles     []string
	Script     string // URL; "" for none
	// SessionScript leaves the page when the session is over whose page this is: Session is its id,
	// "" for a page that is nobody's.
	SessionScript string
	Session       string
}

// LoginPage is the page to sign in.
type LoginPage struct {
	Page
	Why        string // what brought the person here; may be empty
	SignOutURL string // a page to sign out on, for a browser with sessions of several people; else ""
	Action     string
	CSRFToken  string
	Identifier string
	Remember   bool
	Refresh    bool // somebody is signed in and confirms it

	Problem           string
	IdentifierProblem string
	PasswordProblem   string
	RegistrationURL   string // "" where registration is closed
}

// RegistrationPage is the page to make an account.
type RegistrationPage struct {
	Page
	Action        string
	CSRFToken     string
	Setup         bool // the first account
	Email         string
	Username      string
	Name          string
	PasswordRules string
	LoginURL      string

	Problem         string
	EmailProblem    string
	UsernameProblem string
	NameProblem     string
	PasswordProblem string
}

// AccountPage is a person's own page.
type AccountPage struct {
	Page
	Person          string // how to call them
	Email           string
	Username        string
	Name            string
	LogoutURL       string
	Next            string // where the browser goes after signing out
	SignedInAt      time.Time
	ExpiresAt       time.Time // without further use
	LatestExpiresAt time.Time
	This            Session
	Others          []Session
	More            int // others that are not shown
	Activity        []ActivityEntry
	MoreActivity    bool // there is more of it
	PasswordRules   string

	Done               string // what the last form did
	ChangePassword     bool   // show the form for it
	NameProblem        string
	UsernameProblem    string
	OldPasswordProblem string
	NewPasswordProblem string
	KeepSessions       bool // leave "end all other sessions" unticked
}

// Session is a session in words.
type Session struct {
	ID       string
	Device   string // "Firefox on Linux"
	Address  string
	LastSeen string // "2 minutes ago"
}

// ActivityPage is what has happened to a person's account.
type ActivityPage struct {
	Page
	Person  string
	Since   time.Time
	Entries []ActivityEntry
	More    bool // there is more than is shown
}

// ActivityEntry is something that happened, in words.
type ActivityEntry struct {
	At     time.Time
	What   string // "Signed in"
	Where  string // "Firefox on Linux, 203.0.113.7"
	Failed bool   // what the person may want to look at
}

// ConfirmPage asks for the password before something is done.
type ConfirmPage struct {
	Page
	Action   string // what is to be done, as a button: "Sign out everywhere"
	URL      string // of the form that waits
	Email    string
	ReturnTo string // of the form that waits; "" for none
	Proof    string // of the session, for a form that is sent twice
	Problem  string // with the password
}

// LogoutPage asks whether to sign out.
type LogoutPage struct {
	Page      // of a session, unless the browser isn't signed in with what it can sign out of
	Problem   string
	Person    string // "" for several people
	LogoutURL string
	Next      string
	ReturnTo  string // of Next; "" for none
}

// SignedOutPage is where a browser arrives after signing out.
type SignedOutPage struct {
	Page
	Problem string
	Receipt *Receipt // nil where nothing may be told
}

// Receipt says what a logout has done.
type Receipt struct {
	Person, Email string
	Apps          []Told
	Others        int  // sessions of the person that are still open, and can be ended
	Everywhere    bool // the others were ended too
	Ended         int  // how many
}

// Told is an app that hears of a logout.
type Told struct{ App, How string }

// ForbiddenPage says that the person has no access to an app. A proxy shows it on the app's host, so its URLs are
// absolute.
type ForbiddenPage struct {
	Page
	Person     string
	Email      string
	Host       string // of the app
	LogoutURL  string
	AccountURL string
}

// ErrorPage says what went wrong and what to do next.
type ErrorPage struct {
	Page
	Title   string
	Text    string
	Code    int
	Request string
	Way     Link // what to do next; "" for nothing
}

// Link leads to another page.
type Link struct{ Text, URL string }

// DocsPage is the API's OpenAPI document for reading. A Text may have paragraphs, `code` and
// **strong** words.
type DocsPage struct {
	Page
	Title, Version, Summary, Text string
	DocsScript                    string // URL

	Groups     []DocsGroup
	Everywhere []DocsAnswer // what every endpoint may answer
	Headers    []DocsTerm
	Access     []DocsTerm
	Schemas    []DocsSchema
}

// DocsGroup is endpoints that belong together.
type DocsGroup struct {
	ID, Name, Text string
	Operations     []DocsOperation
}

// DocsOperation is an endpoint.
type DocsOperation struct {
	ID, Method, Path, Summary, Text string

	Access     []string // names of DocsPage.Access, any of which will do; none where anybody may
	Parameters []DocsField
	Body       []DocsContent
	Answers    []DocsAnswer // but those of DocsPage.Everywhere
	Examples   []DocsExample
}

// DocsExample is a request as it is written in a language.
type DocsExample struct{ Name, Code string }

// DocsField is a parameter, or a member of an object.
type DocsField struct {
	Name, In, Text string // In is "query" or "path", and empty for a member
	Type           []DocsWord
	Required       bool
}

// DocsAnswer is what an endpoint answers with a status code.
type DocsAnswer struct {
	Code, Status, Text string
	Contents           []DocsContent
	Headers            []string // names of DocsPage.Headers
}

// DocsContent is a body.
type DocsContent struct {
	MediaType string
	Type      []DocsWord
}

// DocsSchema is a kind of JSON object.
type DocsSchema struct {
	Name, Text string
	Fields     []DocsField
}

// DocsTerm is a name that needs an explanation.
type DocsTerm struct{ Name, Text string }

// DocsWord is a piece of a type: words, the name of a DocsSchema, or a literal value.
type DocsWord struct {
	Text            string
	Schema, Literal bool
}
