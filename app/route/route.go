// Package route is the table of all endpoints and their properties. Handlers, templates and scripts take
// their paths from it.
package route

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Route is an endpoint.
type Route struct {
	Method string // a GET answers HEAD too, unless it acts
	Path   string // below the base path unless Root, as a pattern of gin's: ":id" and "*name" are parameters

	Root  bool // at the root of the host, where browsers and programs look for it, whatever the base
	JSON  bool // never answered with an HTML page
	CORS  bool // open to the origins of CORS_ALLOWED_ORIGINS
	Quiet bool // too frequent to log above debug level
	Acts  bool // a GET that changes something, and so does not answer HEAD

	// Timeout bounds the whole request; 0 is DefaultTimeout, and NoTimeout leaves it to the handler.
	Timeout time.Duration

	// Form is the page whose form is submitted here. This path stays in the address bar after the form is
	// submitted, so a GET of it leads to the page.
	Form *Route

	// Flow is where the form of a flow is submitted, from the operator's own UI too.
	Flow bool

	// Bearer accepts a session token in X-Session-Token or Authorization besides the cookie.
	Bearer bool
	// Public needs no session: none is looked up.
	Public bool
	// AnyMethod answers every one of Methods like GET, whichever site it comes from. It's for what changes
	// nothing and decides about requests of any method.
	AnyMethod bool
	// AnyHost accepts any Host header.
	AnyHost bool
	// ProxyHost does so once BASE_URL is set: proxies and load balancers use names of their own.
	ProxyHost bool
}

const (
	// DefaultTimeout is the usual limit, mainly for a database that doesn't respond.
	DefaultTimeout = 15 * time.Second
	// NoTimeout is for streams, and for requests that only read a row, which package db limits itself: a
	// context with a timeout would cost more than the rest of such a request.
	NoTimeout time.Duration = -1
)

// Methods are those of HTTP and WebDAV, which proxies may forward.
var Methods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions, http.MethodTrace,
	"PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "REPORT", "SEARCH", "MKCALENDAR", "ACL", "BIND", "REBIND", "UNBIND",
}

// All is every route, in the order of the table.
var All []*Route

func add(r Route) *Route {
	All = append(All, &r)
	return &r
}

// Pages. They work without JavaScript.
var (
	Home         = add(Route{Method: http.MethodGet, Path: ""})
	HomeSlash    = add(Route{Method: http.MethodGet, Path: "/"})
	Login        = add(Route{Method: http.MethodGet, Path: "/login"})
	Registration = add(Route{Method: http.MethodGet, Path: "/registration"})
	Logout       = add(Route{Method: http.MethodGet, Path: "/logout"})
	SignedOut    = add(Route{Method: http.MethodGet, Path: "/signed-out"})
	Account      = add(Route{Method: http.MethodGet, Path: "/account"})
	Activity     = add(Route{Method: http.MethodGet, Path: "/account/activity"})

	EndFromReceipt    = add(Route{Method: http.MethodPost, Path: "/signed-out/everywhere", Form: SignedOut})
	ChangeName        = add(Route{Method: http.MethodPost, Path: "/account/name", Form: Account})
	ChangeUsername    = add(Route{Method: http.MethodPost, Path: "/account/username", Form: Account})
	ChangePassword    = add(Route{Method: http.MethodPost, Path: "/account/password", Form: Account})
	EndOthersForm     = add(Route{Method: http.MethodPost, Path: "/account/sessions/end", Form: Account})
	EndSessionForm    = add(Route{Method: http.MethodPost, Path: "/account/sessions/end/:id", Form: Account})
	SignOutEverywhere = add(Route{Method: http.MethodPost, Path: "/account/sign-out-everywhere", Form: Account})
)

// What pages and developers read.
var (
	Docs          = add(Route{Method: http.MethodGet, Path: "/docs", Public: true})
	OpenAPI       = add(Route{Method: http.MethodGet, Path: "/openapi.json", JSON: true, CORS: true, Public: true})
	Schemas       = add(Route{Method: http.MethodGet, Path: "/schemas", JSON: true, CORS: true, Public: true})
	Schema        = add(Route{Method: http.MethodGet, Path: "/schemas/default", JSON: true, CORS: true, Public: true})
	SchemaByID    = add(Route{Method: http.MethodGet, Path: "/schemas/:id", JSON: true, CORS: true, Public: true})
	Version       = add(Route{Method: http.MethodGet, Path: "/version", JSON: true, CORS: true, Public: true})
	SessionScript = add(Route{Method: http.MethodGet, Path: "/session.js", JSON: true, Quiet: true, Timeout: NoTimeout, Public: true})
	Static        = add(Route{Method: http.MethodGet, Path: "/static/*name", Quiet: true, Timeout: NoTimeout, Public: true, AnyHost: true})
)

// What browsers and programs look for at the root of a host.
var (
	Robots         = add(Route{Method: http.MethodGet, Path: "/robots.txt", Root: true, Quiet: true, Public: true})
	Favicon        = add(Route{Method: http.MethodGet, Path: "/favicon.ico", Root: true, Quiet: true, Public: true})
	TouchIcon      = add(Route{Method: http.MethodGet, Path: "/apple-touch-icon.png", Root: true, Quiet: true, Public: true})
	PasswordChange = add(Route{Method: http.MethodGet, Path: "/.well-known/change-password", Root: true, Public: true})
	SecurityText   = add(Route{Method: http.MethodGet, Path: "/.well-known/security.txt", Root: true, Public: true})
)

// SelfService begins the paths of all that flows consist of.
const SelfService = "/self-service/"

// The flows, for pages, apps and API clients alike.
var (
	LoginAPI            = add(Route{Method: http.MethodGet, Path: "/self-service/login/api", JSON: true, CORS: true, Bearer: true})
	LoginBrowser        = add(Route{Method: http.MethodGet, Path: "/self-service/login/browser", CORS: true})
	LoginFlow           = add(Route{Method: http.MethodGet, Path: "/self-service/login/flows", JSON: true, CORS: true, Bearer: true})
	SubmitLogin         = add(Route{Method: http.MethodPost, Path: "/self-service/login", CORS: true, Flow: true, Form: Login, Bearer: true})
	RegistrationAPI     = add(Route{Method: http.MethodGet, Path: "/self-service/registration/api", JSON: true, CORS: true, Bearer: true})
	RegistrationBrowser = add(Route{Method: http.MethodGet, Path: "/self-service/registration/browser", CORS: true})
	RegistrationFlow    = add(Route{Method: http.MethodGet, Path: "/self-service/registration/flows", JSON: true, CORS: true})
	SubmitRegistration  = add(Route{Method: http.MethodPost, Path: "/self-service/registration", CORS: true, Flow: true, Form: Registration})

	FlowError = add(Route{Method: http.MethodGet, Path: "/self-service/errors", JSON: true, CORS: true, Public: true})

	CreateLogoutURL = add(Route{Method: http.MethodGet, Path: "/self-service/logout/browser", JSON: true, CORS: true, Quiet: true, Timeout: NoTimeout})
	DoLogout        = add(Route{Method: http.MethodGet, Path: "/self-service/logout", CORS: true, Acts: true})
	LogoutAPI       = add(Route{Method: http.MethodDelete, Path: "/self-service/logout/api", JSON: true, CORS: true})
)

// Kratos flows that don't exist here. Clients get a response that they understand.
var (
	Absent          = absent("settings", "recovery", "verification")
	SettingsBrowser = Absent[0]
)

func absent(kinds ...string) (all []*Route) {
	for _, kind := range kinds {
		path := "/self-service/" + kind
		all = append(all,
			add(Route{Method: http.MethodGet, Path: path + "/browser", CORS: true, Public: true}),
			add(Route{Method: http.MethodGet, Path: path + "/api", JSON: true, CORS: true, Public: true}),
			add(Route{Method: http.MethodGet, Path: path + "/flows", JSON: true, CORS: true, Public: true}),
			add(Route{Method: http.MethodPost, Path: path, CORS: true, Public: true}))
	}
	return all
}

// Who is signed in, for apps and API clients.
var (
	Whoami           = add(Route{Method: http.MethodGet, Path: "/sessions/whoami", JSON: true, CORS: true, Quiet: true, Timeout: NoTimeout, Bearer: true, AnyMethod: true})
	Events           = add(Route{Method: http.MethodGet, Path: "/sessions/events", JSON: true, CORS: true, Quiet: true, Timeout: NoTimeout, Bearer: true})
	ListSessions     = add(Route{Method: http.MethodGet, Path: "/sessions", JSON: true, CORS: true, Bearer: true})
	EndOtherSessions = add(Route{Method: http.MethodDelete, Path: "/sessions", JSON: true, CORS: true, Bearer: true})
	EndSession       = add(Route{Method: http.MethodDelete, Path: "/sessions/:id", JSON: true, CORS: true, Bearer: true})
)

// Other endpoints for apps and proxies. Verify ignores the Authorization header, which is meant for the app.
var (
	JWKS   = add(Route{Method: http.MethodGet, Path: "/.well-known/jwks.json", JSON: true, Public: true})
	Verify = add(Route{Method: http.MethodGet, Path: "/verify", JSON: true, Quiet: true, Timeout: NoTimeout, AnyMethod: true, ProxyHost: true})
	// VerifyPath is Verify for proxies that append the path of the request which they ask about.
	VerifyPath = add(Route{Method: http.MethodGet, Path: "/verify/*path", JSON: true, Quiet: true, Timeout: NoTimeout, AnyMethod: true, ProxyHost: true})
)

// Health.
var (
	Alive         = add(Route{Method: http.MethodGet, Path: "/health/alive", JSON: true, CORS: true, Quiet: true, Timeout: NoTimeout, Public: true, ProxyHost: true})
	Ready         = add(Route{Method: http.MethodGet, Path: "/health/ready", JSON: true, CORS: true, Quiet: true, Timeout: NoTimeout, Public: true, ProxyHost: true})
	HealthRequest = add(Route{Method: http.MethodGet, Path: "/health/request", JSON: true, CORS: true, Public: true, ProxyHost: true})
)

// Base is the path prefix of all routes, such as "/auth"; "" for the root.
type Base string

// Path returns the path of a route. params are the values of its parameters, in order.
func (b Base) Path(r *Route, params ...string) string {
	if r.Root {
		b = ""
	}
	path := string(b) + r.Path
	if len(params) == 0 {
		return path
	}
	parts := strings.Split(path, "/")
	for i, part := range parts {
		if strings.HasPrefix(part, ":") || strings.HasPrefix(part, "*") {
			parts[i], params = url.PathEscape(params[0]), params[1:]
		}
	}
	return strings.Join(parts, "/")
}

// Routes returns the routes that there are at this base: at the root, Home is HomeSlash.
func (b Base) Routes() []*Route {
	if b != "" {
		return All
	}
	return slices.DeleteFunc(slices.Clone(All), func(r *Route) bool { return r == Home })
}

// ReturningTo returns the path of a page with a return_to, "" for none.
func (b Base) ReturningTo(r *Route, returnTo string) string {
	if returnTo == "" {
		return b.Path(r)
	}
	return b.Path(r) + "?" + url.Values{"return_to": {returnTo}}.Encode()
}

// Below reports whether a path, with or without a query, is one of Latchkey's: at the root, where others
// may be beside them, only those of the table are.
func (b Base) Below(path string) bool {
	path, _, _ = strings.Cut(path, "?")
	if b == "" {
		return b.Has(path)
	}
	_, below := b.relative(path)
	return below
}

// relative returns path without the base, and false if it is not below the base.
func (b Base) relative(path string) (string, bool) {
	path, ok := strings.CutPrefix(path, string(b))
	return path, ok && (path == "" || path[0] == '/')
}

// Has reports whether a path is in the table.
func (b Base) Has(path string) bool {
	below, ok := b.relative(path)
	return slices.ContainsFunc(All, func(r *Route) bool { return r.Root && r.matches(path) || !r.Root && ok && r.matches(below) })
}

// JSONOnly reports whether a path is never answered with an HTML page. It goes by the path, since a request
// with an unknown method has no route.
func (b Base) JSONOnly(path string) bool {
	path, ok := b.relative(path)
	if !ok {
		return false
	}
	for _, r := range All {
		if r.JSON && r.matches(path) {
			return true
		}
	}
	return strings.HasPrefix(path, ListSessions.Path+"/")
}

// CrossOrigin reports whether a path is open to the origins of CORS_ALLOWED_ORIGINS. An unknown path
// beside one that is open is too, so that a front-end can read what is wrong with its request.
func (b Base) CrossOrigin(path string) bool {
	path, ok := b.relative(path)
	if !ok {
		return false
	}
	segment := firstSegment(path)
	for _, r := range All {
		if r.CORS && (r.matches(path) || strings.Count(r.Path, "/") > 1 && firstSegment(r.Path) == segment) {
			return true
		}
	}
	return false
}

func firstSegment(path string) string {
	segment, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return segment
}

// FormPage returns the page whose form is submitted to a path, or nil.
func (b Base) FormPage(path string) *Route {
	path, ok := b.relative(path)
	if !ok {
		return nil
	}
	for _, r := range All {
		if r.Form != nil && r.matches(path) {
			return r.Form
		}
	}
	return nil
}

// matches reports whether a path, relative to the base, matches the route.
func (r *Route) matches(path string) bool {
	pattern, given := strings.Split(r.Path, "/"), strings.Split(path, "/")
	for i, part := range pattern {
		switch {
		case strings.HasPrefix(part, "*"):
			return len(given) > i
		case i >= len(given):
			return false
		case strings.HasPrefix(part, ":"):
			if given[i] == "" {
				return false
			}
		case part != given[i]:
			return false
		}
	}
	return len(given) == len(pattern)
}
