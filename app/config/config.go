// Package config has every setting on one page, and parses them once, into an immutable value.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"latchkey/app/access"
	"latchkey/app/clientaddr"
	"latchkey/app/password"
	"latchkey/app/returnto"
	"latchkey/app/route"
)

// Config has every setting as an operator gives it: each is a flag, an environment variable and a line of
// the help. Parse turns it into Settings.
type Config struct {
	Listen          string `env:"LISTEN" placeholder:"ADDRESS" help:"Address to listen on, as HOST:PORT. Default: localhost:8080, or every interface when PORT is set." group:"Server"`
	Port            uint16 `env:"PORT" placeholder:"PORT" help:"Port to listen on, on every interface. LISTEN overrides it." group:"Server"`
	DatabaseURL     string `env:"DATABASE_URL" placeholder:"URL" help:"Database, as sqlite:PATH or postgres://USER:PASSWORD@HOST/NAME. Default: sqlite:latchkey.db." group:"Server"`
	DatabaseURLFile string `name:"database-url-file" env:"DATABASE_URL_FILE" placeholder:"FILE" help:"File that contains DATABASE_URL." group:"Server"`
	BaseURL         string `env:"BASE_URL" placeholder:"URL" help:"Scheme and host at which browsers reach Latchkey, such as https://example.com. Unset, only localhost and IP addresses are served." group:"Server"`
	BasePath        string `env:"BASE_PATH" default:"/auth" placeholder:"PATH" help:"Path below which everything is served; / is the root of the host. Default: ${default}." group:"Server"`

	SecretKey     string `env:"SECRET_KEY" placeholder:"KEY" help:"Key that seals the keys in the database, so that a copy of the database can't be used to forge anything. Create one with: openssl rand -base64 32. With several, separated by commas, the first seals and all of them open. Unset, the keys in the database are not sealed." group:"Server"`
	SecretKeyFile string `env:"SECRET_KEY_FILE" placeholder:"FILE" help:"File that contains SECRET_KEY, one key per line." group:"Server"`

	TrustedProxies []string `env:"TRUSTED_PROXIES" placeholder:"CIDR" help:"Addresses of reverse proxies whose X-Forwarded headers and X-Request-Id are trusted, separated by commas." group:"Server"`
	ClientIPHeader string   `env:"CLIENT_IP_HEADER" default:"X-Forwarded-For" placeholder:"HEADER" help:"Header in which those proxies send the client's address: X-Forwarded-For, Forwarded or X-Real-IP. The other two are ignored. Default: ${default}." group:"Server"`
	MetricsListen  string   `env:"METRICS_LISTEN" placeholder:"ADDRESS" help:"Address on which Prometheus reads /metrics, as HOST:PORT. Keep it on loopback, such as localhost:9464: anyone who can reach it can read them. Unset, metrics are off." group:"Server"`
	LogLevel       string   `env:"LOG_LEVEL" default:"info" enum:"debug,info,warn,error" help:"debug, info, warn or error. Default: ${default}." group:"Server"`
	Dev            bool     `env:"DEV" help:"Development mode: error responses contain the internal cause. Never use it on a server that others can reach." group:"Server"`

	CookieDomain       string   `env:"COOKIE_DOMAIN" placeholder:"DOMAIN" help:"Domain whose hosts all get the cookies, such as example.com. Unset, only the host of BASE_URL does, which is safer." group:"Apps"`
	AllowedReturnURLs  []string `name:"allowed-return-urls" env:"ALLOWED_RETURN_URLS" placeholder:"URL" help:"Where return_to may lead besides this host, separated by commas: https://app.example.com, https://*.example.com, https://example.com/app." group:"Apps"`
	LoginReturnURL     string   `env:"LOGIN_RETURN_URL" placeholder:"URL" help:"Where a browser goes after signing in without return_to. Default: the account page." group:"Apps"`
	LogoutReturnURL    string   `env:"LOGOUT_RETURN_URL" placeholder:"URL" help:"Where a browser goes after signing out without return_to. Default: the signed-out page." group:"Apps"`
	LoginUIURL         string   `name:"login-ui-url" env:"LOGIN_UI_URL" placeholder:"URL" help:"Your own sign-in page, which gets a flow as ?flow=ID. Default: Latchkey's." group:"Apps"`
	RegistrationUIURL  string   `name:"registration-ui-url" env:"REGISTRATION_UI_URL" placeholder:"URL" help:"Your own registration page, which gets a flow as ?flow=ID. Default: Latchkey's." group:"Apps"`
	ErrorUIURL         string   `name:"error-ui-url" env:"ERROR_UI_URL" placeholder:"URL" help:"Your own page for errors during sign-in, registration and sign-out, which gets an error as ?id=ID. Default: Latchkey's." group:"Apps"`
	CORSAllowedOrigins []string `env:"CORS_ALLOWED_ORIGINS" placeholder:"ORIGIN" help:"Origins of front-ends that may call the JSON endpoints with the person's cookies, separated by commas." group:"Apps"`
	Access             string   `env:"ACCESS" placeholder:"HOST=GROUP" help:"Who may use the apps whose proxy has Latchkey verify requests, as HOST=GROUP entries separated by spaces: wiki.example.com=staff,editors *.lab.example.com=lab. SIGNED-IN means everybody who is signed in. HOST/PATH=PUBLIC and HOST=GROUP,PREFLIGHT let paths and CORS preflights through without a session: see docs/behind-a-proxy.md. Hosts without an entry are open to everybody who is signed in." group:"Apps"`

	RemoteUser string `env:"REMOTE_USER" default:"username" enum:"username,email,id" help:"What apps behind a proxy get as Remote-User: username (or the email address of people without one), email, or id, which never changes. If the address was given by the person at registration, apps get the id instead. Default: ${default}." group:"Apps"`

	AppsPublicOnly bool `env:"APPS_PUBLIC_ONLY" help:"Notify apps only at public addresses, not loopback, private or link-local ones." group:"Apps"`

	Registration      string `env:"REGISTRATION" default:"closed" enum:"closed,open" help:"closed: accounts are created with the setup link and 'latchkey user add'. open: anybody can create one. Default: ${default}." group:"People"`
	PasswordMinLength int    `env:"PASSWORD_MIN_LENGTH" default:"8" placeholder:"N" help:"Minimum length of a new password, in characters. Default: ${default}." group:"People"`
	PasswordMemory    uint32 `env:"PASSWORD_MEMORY" default:"19456" placeholder:"KIB" help:"Memory of one Argon2id hash, in KiB. Default: ${default}." group:"People"`
	PasswordPasses    uint32 `env:"PASSWORD_PASSES" default:"2" placeholder:"N" help:"Passes of Argon2id. Default: ${default}." group:"People"`
	PasswordLanes     uint8  `env:"PASSWORD_LANES" default:"1" placeholder:"N" help:"Lanes of Argon2id. Default: ${default}." group:"People"`

	SessionLifetime  time.Duration `env:"SESSION_LIFETIME" default:"12h" help:"Maximum lifetime of a session. Default: ${default}." group:"Sessions"`
	SessionIdle      time.Duration `env:"SESSION_IDLE" default:"12h" help:"Idle timeout of a session. Default: ${default}." group:"Sessions"`
	RememberLifetime time.Duration `env:"REMEMBER_LIFETIME" default:"720h" help:"Maximum lifetime of a session with 'keep me signed in', or of an API client. Default: ${default}." group:"Sessions"`
	RememberIdle     time.Duration `env:"REMEMBER_IDLE" default:"168h" help:"Idle timeout of a session with 'keep me signed in', or of an API client. Default: ${default}." group:"Sessions"`
	MaxSessions      int           `env:"MAX_SESSIONS" default:"200" placeholder:"N" help:"How many active sessions a person may have; one more ends the oldest. Default: ${default}." group:"Sessions"`
	ConfirmAfter     time.Duration `env:"CONFIRM_AFTER" default:"15m" help:"How recent a sign-in must be to end other sessions; after that, the password is required first. Default: ${default}." group:"Sessions"`
	SessionRetention time.Duration `env:"SESSION_RETENTION" default:"2160h" help:"How long a session is kept after it has ended, and how far back recent activity goes. Default: ${default}." group:"Sessions"`
	ClearSiteData    string        `env:"CLEAR_SITE_DATA" default:"off" placeholder:"VALUE" help:"Clear-Site-Data header after a sign-out, such as '\"storage\"'. With \"cache\", a sign-out can take seconds. Default: ${default}." group:"Sessions"`

	SiteName   string `env:"SITE_NAME" default:"Latchkey" placeholder:"NAME" help:"Name on the pages. Default: ${default}." group:"Look"`
	SiteLogo   string `env:"SITE_LOGO" placeholder:"FILE" help:"Picture above the name: an SVG, PNG, JPEG or WebP file of at most 256 KiB." group:"Look"`
	SiteAccent string `env:"SITE_ACCENT" placeholder:"COLOUR" help:"Colour of buttons and links, as #rrggbb. It is darkened or lightened where it would be hard to read." group:"Look"`
	SiteLinks  string `env:"SITE_LINKS" placeholder:"LABEL=URL" help:"Links at the foot of the pages, as LABEL=URL entries separated by spaces: Privacy=https://example.com/privacy Terms of use=/terms." group:"Look"`

	OperatorContact string `env:"OPERATOR_CONTACT" placeholder:"CONTACT" help:"How people can reach you, for example if they forget their password: an email address, a URL or a short text. An email address or an https URL is also published in /.well-known/security.txt." group:"Look"`
}

// defaultDatabaseURL is where the database is unless a setting says otherwise.
const defaultDatabaseURL = "sqlite:latchkey.db"

// RegistrationOpen is the value of REGISTRATION that lets anybody create an account.
const RegistrationOpen = "open"

// The values of REMOTE_USER, besides "id".
const (
	RemoteUsername = "username"
	RemoteEmail    = "email"
)

// Address is where the server listens.
func (c *Config) Address() string {
	switch {
	case c.Listen != "":
		return c.Listen
	case c.Port != 0:
		return fmt.Sprintf(":%d", c.Port)
	}
	return "localhost:8080"
}

// PasswordParams are the costs of a password hash.
func (c *Config) PasswordParams() password.Params {
	return password.Params{MemoryKiB: c.PasswordMemory, Passes: c.PasswordPasses, Lanes: c.PasswordLanes}
}

// Settings is a Config that has been checked, in the types that the program uses. It is
// immutable.
type Settings struct {
	Config
	BasePath   route.Base // prefix of all paths; "" for the root
	BaseOrigin string     // of BASE_URL; "" while it is unset
	Issuer     string     // of logout tokens: BaseOrigin, or where this machine reaches the server
	HTTPS      bool       // browsers reach the server by https
	// The pages of the operator's own UI; nil for Latchkey's.
	LoginUI, RegistrationUI, ErrorUI *UI

	Returns       returnto.Rules
	Access        access.Rules
	Clients       clientaddr.Resolver // of TRUSTED_PROXIES and CLIENT_IP_HEADER
	ClearSiteData string              // the header's value; "" for none
	Logo          []byte
	Contact       Link     // of OPERATOR_CONTACT; its URL is "" for a text
	Links         []Link   // of SITE_LINKS
	DatabaseURL   string   // of DATABASE_URL or DATABASE_URL_FILE
	SecretKeys    []string // of SECRET_KEY or SECRET_KEY_FILE; the first one seals
}

// basePath allows characters that need no escaping in URLs, pages and scripts (RFC 3986 §2.3).
var basePath = regexp.MustCompile(`^(/[A-Za-z0-9._~-]+)+$`)

// clearSiteData is a list of quoted types, or "*": W3C Clear Site Data §3.1.
var clearSiteData = regexp.MustCompile(`^"(\*|[a-zA-Z]+)"(, *"(\*|[a-zA-Z]+)")*$`)

// trimmed returns the entries without surrounding space, and without empty ones.
func trimmed(list []string) (entries []string) {
	for _, entry := range list {
		if entry = strings.TrimSpace(entry); entry != "" {
			entries = append(entries, entry)
		}
	}
	return entries
}

// Parse returns the settings, or an error that names the first invalid one.
func (c Config) Parse() (*Settings, error) {
	c.TrustedProxies, c.AllowedReturnURLs, c.CORSAllowedOrigins = trimmed(c.TrustedProxies), trimmed(c.AllowedReturnURLs), trimmed(c.CORSAllowedOrigins)
	s := &Settings{Config: c} // with the names of files; their contents are only in s
	if err := c.readFiles(); err != nil {
		return nil, err
	}
	s.DatabaseURL = cmp.Or(c.DatabaseURL, defaultDatabaseURL)
	if err := checkAddress(c.Address()); err != nil {
		return nil, fmt.Errorf("LISTEN is %q: give it as HOST:PORT, such as localhost:8080", c.Listen)
	}
	if c.MetricsListen != "" && checkAddress(c.MetricsListen) != nil {
		return nil, fmt.Errorf("METRICS_LISTEN is %q: give it as HOST:PORT, such as localhost:9464", c.MetricsListen)
	}
	var err error
	if s.BasePath, err = parseBasePath(c.BasePath); err != nil {
		return nil, fmt.Errorf("BASE_PATH is %q: %w", c.BasePath, err)
	}
	if c.BaseURL != "" {
		u, err := parseOrigin(strings.TrimSuffix(c.BaseURL, "/"))
		if err != nil {
			return nil, fmt.Errorf("BASE_URL is %q: %w; a path goes into BASE_PATH", c.BaseURL, err)
		}
		s.BaseOrigin, s.HTTPS = u.String(), u.Scheme == "https"
		if !Covers(c.CookieDomain, u.Hostname()) {
			return nil, fmt.Errorf("COOKIE_DOMAIN is %q: it must be the host of BASE_URL or a parent domain that isn't a public suffix, without a leading dot", c.CookieDomain)
		}
	} else if c.CookieDomain != "" {
		return nil, errors.New("COOKIE_DOMAIN is set without BASE_URL: set both")
	}
	s.Issuer = cmp.Or(s.BaseOrigin, "http://"+Reachable(c.Address()))
	for _, proxy := range c.TrustedProxies {
		prefix, err := parsePrefix(proxy)
		if err != nil {
			return nil, fmt.Errorf("TRUSTED_PROXIES has %q: give addresses or CIDR ranges, such as 127.0.0.1 or 10.0.0.0/8", proxy)
		}
		s.Clients.Trusted = append(s.Clients.Trusted, prefix)
	}
	known := slices.IndexFunc(clientaddr.Headers, func(name string) bool { return strings.EqualFold(name, c.ClientIPHeader) })
	if known < 0 {
		return nil, fmt.Errorf("CLIENT_IP_HEADER is %q: it must be %s", c.ClientIPHeader, inList(clientaddr.Headers))
	}
	s.Clients.Header = clientaddr.Headers[known]
	for _, origin := range c.CORSAllowedOrigins {
		if _, err := parseOrigin(origin); err != nil {
			return nil, fmt.Errorf("CORS_ALLOWED_ORIGINS has %q: %w", origin, err)
		}
	}
	if s.SecretKeys, err = c.parseSecretKeys(); err != nil {
		return nil, err
	}
	if s.Returns, err = returnto.Parse(c.AllowedReturnURLs); err != nil {
		return nil, err
	}
	if s.Access, err = access.Parse(c.Access); err != nil {
		return nil, err
	}
	for _, target := range []struct{ name, url string }{
		{"LOGIN_RETURN_URL", c.LoginReturnURL}, {"LOGOUT_RETURN_URL", c.LogoutReturnURL},
	} {
		if _, err := checkTarget(target.url); err != nil {
			return nil, fmt.Errorf("%s is %q: %w", target.name, target.url, err)
		}
	}

	if err := s.parseUIs(); err != nil {
		return nil, err
	}

	for _, limit := range []struct {
		name string
		d    time.Duration
	}{
		{"SESSION_LIFETIME", c.SessionLifetime}, {"SESSION_IDLE", c.SessionIdle},
		{"REMEMBER_LIFETIME", c.RememberLifetime}, {"REMEMBER_IDLE", c.RememberIdle},
		{"CONFIRM_AFTER", c.ConfirmAfter},
	} {
		if limit.d < time.Minute {
			return nil, fmt.Errorf("%s is %s: it must be at least a minute, such as 30m or 12h", limit.name, limit.d)
		}
	}
	if c.MaxSessions < 1 {
		return nil, fmt.Errorf("MAX_SESSIONS is %d: it must be at least 1", c.MaxSessions)
	}
	if c.SessionRetention < 0 {
		return nil, fmt.Errorf("SESSION_RETENTION is %s: it can't be negative", c.SessionRetention)
	}
	if c.PasswordMinLength < password.LeastLength || c.PasswordMinLength > 64 {
		return nil, fmt.Errorf("PASSWORD_MIN_LENGTH is %d: it must be between 8 and 64", c.PasswordMinLength)
	}
	if c.PasswordMemory == 0 || c.PasswordPasses == 0 || c.PasswordLanes == 0 {
		return nil, errors.New("PASSWORD_MEMORY, PASSWORD_PASSES and PASSWORD_LANES must be at least 1; leave them out for the defaults")
	}
	if err := c.PasswordParams().Validate(); err != nil {
		return nil, fmt.Errorf("PASSWORD_MEMORY, PASSWORD_PASSES, PASSWORD_LANES: %w", err)
	}

	if err := s.parseLook(); err != nil {
		return nil, err
	}
	switch {
	case c.ClearSiteData == "off":
	case !clearSiteData.MatchString(c.ClearSiteData):
		return nil, fmt.Errorf(`CLEAR_SITE_DATA is %q: give types in quotes, such as "cache", "storage", or off`, c.ClearSiteData)
	default:
		s.ClearSiteData = c.ClearSiteData
	}
	return s, nil
}

// parseBasePath turns BASE_PATH into what each path begins with. The root has to be written as "/": an empty
// variable counts as an unset one, so that "" would mean the root in one place and the default in another.
func parseBasePath(raw string) (route.Base, error) {
	if raw == "/" {
		return "", nil
	}
	if !basePath.MatchString(raw) || slices.ContainsFunc(strings.Split(raw, "/"), func(s string) bool { return s == "." || s == ".." }) {
		return "", errors.New("give a path such as /auth, of letters, digits and - . _ ~ without a slash at the end, or / for the root")
	}
	return route.Base(raw), nil
}

// inList writes names as in a sentence: "a, b or c".
func inList(names []string) string {
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}
