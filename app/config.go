package app

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"

	"latchkey/app/password"
	"latchkey/app/returnto"
	"latchkey/app/tracing"
)

// Config is every setting: each a flag, an environment variable and a line of the help.
type Config struct {
	Listen      string `env:"LISTEN" placeholder:"ADDRESS" help:"Address to listen on, as HOST:PORT. Default: localhost:8080, or every interface when PORT is set." group:"Server"`
	Port        uint16 `env:"PORT" placeholder:"PORT" help:"Port to listen on, on every interface. LISTEN wins over it." group:"Server"`
	DatabaseURL string `env:"DATABASE_URL" default:"sqlite:latchkey.db" placeholder:"URL" help:"Database, as sqlite:PATH or postgres://USER:PASSWORD@HOST/NAME. Default: ${default}." group:"Server"`
	BaseURL     string `env:"BASE_URL" placeholder:"URL" help:"Scheme and host under which browsers reach Latchkey, such as https://example.com. Unset, only localhost and IP addresses are served." group:"Server"`

	TrustedProxies []string `env:"TRUSTED_PROXIES" placeholder:"CIDR" help:"Addresses of reverse proxies whose X-Forwarded headers and X-Request-Id are believed, separated by commas." group:"Server"`
	MetricsListen  string   `env:"METRICS_LISTEN" placeholder:"ADDRESS" help:"Address on which Prometheus reads /metrics, as HOST:PORT. Keep it on loopback, such as localhost:9464: whoever reaches it can read them. Unset, there are none." group:"Server"`
	LogLevel       string   `env:"LOG_LEVEL" default:"info" enum:"debug,info,warn,error" help:"debug, info, warn or error. Default: ${default}." group:"Server"`
	Dev            bool     `env:"DEV" help:"Development mode: error answers carry the internal cause. Never on a server that others reach." group:"Server"`

	CookieDomain       string   `env:"COOKIE_DOMAIN" placeholder:"DOMAIN" help:"Domain whose hosts all get the cookies, such as example.com. Unset, only the host of BASE_URL does, which is safer." group:"Apps"`
	AllowedReturnURLs  []string `name:"allowed-return-urls" env:"ALLOWED_RETURN_URLS" placeholder:"URL" help:"Where return_to may lead besides this host, separated by commas: https://app.example.com, https://*.example.com, https://example.com/app." group:"Apps"`
	LoginReturnURL     string   `env:"LOGIN_RETURN_URL" placeholder:"URL" help:"Where a browser goes after signing in without return_to. Default: the account page." group:"Apps"`
	LogoutReturnURL    string   `env:"LOGOUT_RETURN_URL" placeholder:"URL" help:"Where a browser goes after signing out without return_to. Default: the signed-out page." group:"Apps"`
	CORSAllowedOrigins []string `env:"CORS_ALLOWED_ORIGINS" placeholder:"ORIGIN" help:"Origins of front-ends that may call the JSON endpoints with the person's cookies, separated by commas." group:"Apps"`
	Access             string   `env:"ACCESS" placeholder:"HOST=GROUP" help:"Who may use the apps whose proxy asks /auth/verify, as HOST=GROUP entries separated by spaces: wiki.example.com=staff,editors *.lab.example.com=lab. A host without an entry is for everybody who is signed in." group:"Apps"`

	AppsPublicOnly bool `env:"APPS_PUBLIC_ONLY" help:"Tell apps of a sign-out only at public addresses: 'latchkey app add' then is of no use for loopback, private and link-local ones." group:"Apps"`

	Registration      string `env:"REGISTRATION" default:"closed" enum:"closed,open" help:"closed: accounts are made by the setup link and 'latchkey user add'. open: by anybody. Default: ${default}." group:"People"`
	PasswordMinLength int    `env:"PASSWORD_MIN_LENGTH" default:"8" placeholder:"N" help:"Least length of a new password, in characters. Default: ${default}." group:"People"`
	PasswordMemory    uint32 `env:"PASSWORD_MEMORY" default:"19456" placeholder:"KIB" help:"Memory of one Argon2id hash, in KiB. Default: ${default}." group:"People"`
	PasswordPasses    uint32 `env:"PASSWORD_PASSES" default:"2" placeholder:"N" help:"Passes of Argon2id. Default: ${default}." group:"People"`
	PasswordLanes     uint8  `env:"PASSWORD_LANES" default:"1" placeholder:"N" help:"Lanes of Argon2id. Default: ${default}." group:"People"`

	SessionLifetime  time.Duration `env:"SESSION_LIFETIME" default:"12h" help:"How long a sign-in lasts at most. Default: ${default}." group:"Sessions"`
	SessionIdle      time.Duration `env:"SESSION_IDLE" default:"12h" help:"How long it lasts without use. Default: ${default}." group:"Sessions"`
	RememberLifetime time.Duration `env:"REMEMBER_LIFETIME" default:"720h" help:"How long a sign-in with 'keep me signed in', or of an API client, lasts at most. Default: ${default}." group:"Sessions"`
	RememberIdle     time.Duration `env:"REMEMBER_IDLE" default:"168h" help:"How long it lasts without use. Default: ${default}." group:"Sessions"`
	ConfirmAfter     time.Duration `env:"CONFIRM_AFTER" default:"15m" help:"How old a sign-in may be to end other sessions. After that the person confirms the password first. Default: ${default}." group:"Sessions"`
	SessionRetention time.Duration `env:"SESSION_RETENTION" default:"2160h" help:"How long a session is kept on record after its end, and how far back recent activity goes. Default: ${default}." group:"Sessions"`
	ClearSiteData    string        `env:"CLEAR_SITE_DATA" default:"auto" placeholder:"VALUE" help:"Clear-Site-Data header after a sign-out, such as '\"cache\", \"storage\"'; 'off' for none. Default: \"cache\" when BASE_URL is https." group:"Sessions"`

	SiteName   string `env:"SITE_NAME" default:"Latchkey" placeholder:"NAME" help:"Name on the pages. Default: ${default}." group:"Look"`
	SiteLogo   string `env:"SITE_LOGO" placeholder:"FILE" help:"Picture above the name: an SVG, PNG, JPEG or WebP file of at most 256 KiB." group:"Look"`
	SiteAccent string `env:"SITE_ACCENT" placeholder:"COLOUR" help:"Colour of buttons and links, as #rrggbb. It is darkened or lightened where it would be hard to read." group:"Look"`

	Keep Keep             `kong:"-"`
	Now  func() time.Time `kong:"-"` // the clock; time.Now if nil
	Log  *slog.Logger     `kong:"-"` // slog.Default if nil

	Traces *tracing.Tracer `kong:"-"` // where requests are traced to; nil for nowhere
}

// Keep is how long is kept what nobody sets the time of. Tests shorten it; zero fields are the defaults.
type Keep struct {
	Every      time.Duration // between two clean-ups
	Ends       time.Duration
	Deliveries time.Duration
}

// maxLogoBytes is the size of SITE_LOGO at most.
const maxLogoBytes = 256 << 10

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

// Reachable turns an address that is listened on into one to connect to from this machine.
func Reachable(listening string) string {
	host, port, err := net.SplitHostPort(listening)
	if err != nil {
		return listening
	}
	if host == "" || host == "127.0.0.1" || net.ParseIP(host).IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// PasswordParams are the costs of a password hash.
func (c *Config) PasswordParams() password.Params {
	return password.Params{MemoryKiB: c.PasswordMemory, Passes: c.PasswordPasses, Lanes: c.PasswordLanes}
}

// settings is a Config that has been checked, in the types in which it is used.
type settings struct {
	Config
	baseOrigin     string // of BASE_URL; "" while it is unset
	issuer         string // of logout tokens: baseOrigin, or where this machine reaches the server
	https          bool
	returns        returnto.Rules
	access         access
	trustedProxies []netip.Prefix
	clearSiteData  string
	logo           []byte
}

var hexColour = regexp.MustCompile(`^#[0-9a-fA-F]{6}$`)

// clearSiteData is a list of quoted types, or "*": W3C Clear Site Data §3.1.
var clearSiteData = regexp.MustCompile(`^"(\*|[a-zA-Z]+)"(, *"(\*|[a-zA-Z]+)")*$`)

// trimmed returns the entries without the space around them, and without empty ones.
func trimmed(list []string) (entries []string) {
	for _, entry := range list {
		if entry = strings.TrimSpace(entry); entry != "" {
			entries = append(entries, entry)
		}
	}
	return entries
}

// Validate reports the first setting that is wrong, in a sentence that names it.
func (c *Config) Validate() error {
	_, err := c.check()
	return err
}

func (c *Config) check() (settings, error) {
	for _, list := range []*[]string{&c.TrustedProxies, &c.AllowedReturnURLs, &c.CORSAllowedOrigins} {
		*list = trimmed(*list)
	}
	s := settings{Config: *c}
	s.Keep = Keep{cmp.Or(s.Keep.Every, pruneEvery), cmp.Or(s.Keep.Ends, keepEnds), cmp.Or(s.Keep.Deliveries, keepDeliveries)}
	if s.Now == nil {
		s.Now = time.Now
	}
	if s.Log == nil {
		s.Log = slog.Default()
	}

	if err := checkAddress(c.Address()); err != nil {
		return s, fmt.Errorf("LISTEN is %q: give it as HOST:PORT, such as localhost:8080", c.Listen)
	}
	if c.MetricsListen != "" && checkAddress(c.MetricsListen) != nil {
		return s, fmt.Errorf("METRICS_LISTEN is %q: give it as HOST:PORT, such as localhost:9464", c.MetricsListen)
	}
	if c.BaseURL != "" {
		u, err := parseOrigin(strings.TrimSuffix(c.BaseURL, "/"))
		if err != nil {
			return s, fmt.Errorf("BASE_URL is %q: %w", c.BaseURL, err)
		}
		s.baseOrigin, s.https = u.String(), u.Scheme == "https"
		if !s.covers(c.CookieDomain, u.Hostname()) {
			return s, fmt.Errorf("COOKIE_DOMAIN is %q: it must be the host of BASE_URL or a domain above it that strangers can't have names in, without a dot before it", c.CookieDomain)
		}
	} else if c.CookieDomain != "" {
		return s, errors.New("COOKIE_DOMAIN is set without BASE_URL: set both")
	}
	s.issuer = cmp.Or(s.baseOrigin, "http://"+Reachable(c.Address()))
	for _, proxy := range c.TrustedProxies {
		prefix, err := parsePrefix(proxy)
		if err != nil {
			return s, fmt.Errorf("TRUSTED_PROXIES has %q: give addresses or CIDR ranges, such as 127.0.0.1 or 10.0.0.0/8", proxy)
		}
		s.trustedProxies = append(s.trustedProxies, prefix)
	}
	for _, origin := range c.CORSAllowedOrigins {
		if _, err := parseOrigin(origin); err != nil {
			return s, fmt.Errorf("CORS_ALLOWED_ORIGINS has %q: %w", origin, err)
		}
	}
	var err error
	if s.returns, err = returnto.Parse(c.AllowedReturnURLs); err != nil {
		return s, err
	}
	if s.access, err = parseAccess(c.Access); err != nil {
		return s, err
	}
	for _, target := range []struct{ name, url string }{
		{"LOGIN_RETURN_URL", c.LoginReturnURL}, {"LOGOUT_RETURN_URL", c.LogoutReturnURL},
	} {
		if err := checkTarget(target.url); err != nil {
			return s, fmt.Errorf("%s is %q: %w", target.name, target.url, err)
		}
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
			return s, fmt.Errorf("%s is %s: it must be a minute or more, such as 30m or 12h", limit.name, limit.d)
		}
	}
	if c.SessionRetention < 0 {
		return s, fmt.Errorf("SESSION_RETENTION is %s: it can't be negative", c.SessionRetention)
	}
	if c.PasswordMinLength < password.LeastLength || c.PasswordMinLength > 64 {
		return s, fmt.Errorf("PASSWORD_MIN_LENGTH is %d: it must be between 8 and 64", c.PasswordMinLength)
	}
	if c.PasswordMemory == 0 || c.PasswordPasses == 0 || c.PasswordLanes == 0 {
		return s, errors.New("PASSWORD_MEMORY, PASSWORD_PASSES and PASSWORD_LANES must be at least 1; leave them out for the defaults")
	}
	if err := c.PasswordParams().Validate(); err != nil {
		return s, fmt.Errorf("PASSWORD_MEMORY, PASSWORD_PASSES, PASSWORD_LANES: %w", err)
	}

	if strings.TrimSpace(c.SiteName) == "" {
		return s, errors.New("SITE_NAME is empty: give it a name or leave it out")
	}
	if c.SiteAccent != "" && !hexColour.MatchString(c.SiteAccent) {
		return s, fmt.Errorf("SITE_ACCENT is %q: give it as #rrggbb, such as #0066cc", c.SiteAccent)
	}
	if c.SiteLogo != "" {
		if !strings.HasPrefix(contentTypes[strings.ToLower(filepath.Ext(c.SiteLogo))], "image/") {
			return s, fmt.Errorf("SITE_LOGO is %q: it must be an .svg, .png, .jpg or .webp file", c.SiteLogo)
		}
		if s.logo, err = os.ReadFile(c.SiteLogo); err != nil {
			return s, fmt.Errorf("SITE_LOGO: %w", err)
		}
		if len(s.logo) > maxLogoBytes {
			return s, fmt.Errorf("SITE_LOGO %s has %d KiB: 256 are the most", c.SiteLogo, len(s.logo)>>10)
		}
	}
	switch {
	case c.ClearSiteData == "auto" && s.https:
		s.clearSiteData = `"cache"`
	case c.ClearSiteData == "auto" || c.ClearSiteData == "off":
	case !clearSiteData.MatchString(c.ClearSiteData):
		return s, fmt.Errorf(`CLEAR_SITE_DATA is %q: give types in quotes, such as "cache", "storage", or off`, c.ClearSiteData)
	default:
		s.clearSiteData = c.ClearSiteData
	}
	return s, nil
}

func checkAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	return err
}

// covers reports whether a cookie of that domain (or none) reaches the host (RFC 6265 §5.1.3) and
// browsers take it: not for a public suffix (§5.3).
func (s *settings) covers(domain, host string) bool {
	if domain == "" {
		return true
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return false
	}
	if suffix, _ := publicsuffix.PublicSuffix(domain); suffix == domain {
		return false
	}
	return host == domain || strings.HasSuffix(host, "."+domain)
}

// parseOrigin takes an origin as browsers write it: nothing after the host and port.
func parseOrigin(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || returnto.CheckOrigin(raw) != nil || u.Scheme+"://"+u.Host != raw || u.Host != strings.ToLower(u.Host) {
		return nil, errors.New("give scheme and host in lower case, with a port if need be and nothing after it, such as https://example.com")
	}
	if u.Scheme == "https" && u.Port() == "443" || u.Scheme == "http" && u.Port() == "80" {
		return nil, errors.New("leave out the port, which is the scheme's own: browsers do")
	}
	return u, nil
}

func parsePrefix(raw string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(raw); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	return netip.ParsePrefix(raw)
}

// checkTarget accepts what an operator may choose as a destination: any path here, any URL, as
// long as all browsers read it alike.
func checkTarget(target string) error {
	if target == "" {
		return nil
	}
	origin := "http://localhost"
	if u, err := url.Parse(target); err == nil && u.Host != "" {
		origin = u.Scheme + "://" + u.Host
	}
	if _, err := (returnto.Rules{}).Check(origin, target); err != nil {
		return errors.New("give a path such as /app or a whole URL such as https://app.example.com/, percent-encoded where need be")
	}
	return nil
}
