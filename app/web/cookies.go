package web

import (
	"iter"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
	"golang.org/x/net/publicsuffix"

	"latchkey/app/config"
)

// The names of the cookies other than the session's, without their prefix.
const (
	FlowCookie    = "latchkey_flow"    // binds flows to the browser that started them
	DeviceCookie  = "latchkey_device"  // a browser in which somebody has signed in before
	ReceiptCookie = "latchkey_receipt" // what the browser has just signed out of
)

const (
	// maxCookies is how many cookies of one kind are looked at. The browsers' limit for all cookies of a domain
	// isn't much higher.
	maxCookies = 64
	// maxDeletions is how many cookies a response deletes: proxies limit the size of its headers.
	maxDeletions = 20
)

// sentCookie is a cookie of a request.
type sentCookie struct{ name, value string }

// sent returns the cookies of a kind that a browser sent. There may be several of one name with different domains and
// paths, set under other settings, by another installation on this host or domain, or by a neighbouring host. With
// trusted, it leaves out cookies that browsers protect less than the settings require.
func (s *Site) sent(r *http.Request, kind string, trusted bool) iter.Seq[sentCookie] {
	return func(yield func(sentCookie) bool) {
		n := 0
		for _, line := range r.Header["Cookie"] {
			for pair := range strings.SplitSeq(line, ";") {
				name, value, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
				name = strings.Trim(name, " \t")
				is, isTrusted := s.IsCookie(name, kind)
				if !is || trusted && !isTrusted {
					continue
				}
				if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' { // RFC 6265 §4.1.1
					value = value[1 : len(value)-1]
				}
				if n++; n > maxCookies || !yield(sentCookie{name, value}) {
					return
				}
			}
		}
	}
}

// Cookies returns the values of the cookies of a kind that the browser sent.
func (s *Site) Cookies(c *gin.Context, kind string) []string {
	var values []string
	for cookie := range s.sent(c.Request, kind, true) {
		values = append(values, cookie.value)
	}
	return values
}

// Cookie returns the first of Cookies, "" if there is none.
func (s *Site) Cookie(c *gin.Context, kind string) string {
	for cookie := range s.sent(c.Request, kind, true) {
		return cookie.value
	}
	return ""
}

// SetCookie sets a cookie for maxAge seconds, or with 0 until the browser is closed.
func (s *Site) SetCookie(c *gin.Context, kind, value string, maxAge int) {
	http.SetCookie(c.Writer, s.NewCookie(s.CookieName(kind), value, maxAge))
}

// DeleteCookie deletes all cookies of a kind that the browser sent.
func (s *Site) DeleteCookie(c *gin.Context, kind string) {
	for _, cookie := range s.deletions(c, slices.Collect(s.sent(c.Request, kind, false)), "", nil) {
		http.SetCookie(c.Writer, cookie)
	}
}

// DeletePlanted deletes session cookies that the browser sent but Latchkey can't have set: those with a path.
func (s *Site) DeletePlanted(c *gin.Context) {
	sent := slices.Collect(s.sent(c.Request, config.SessionCookie, false))
	for _, cookie := range s.deletions(c, sent, "", nil) {
		if cookie.Path != "/" {
			http.SetCookie(c.Writer, cookie)
		}
	}
}

// deletions returns the cookies that delete the given ones, except for the one with the name keep and the attributes of
// NewCookie. A browser doesn't say which domain and path a cookie has. If it sent one cookie with the name that the
// settings give, it has the attributes of the settings; otherwise every possible combination is deleted. foreign, which
// may be nil, reports whether a value is another installation's: then only a cookie with the attributes of the settings
// is deleted.
func (s *Site) deletions(c *gin.Context, sent []sentCookie, keep string, foreign func(value string) bool) []*http.Cookie {
	var likely, unlikely []*http.Cookie
	domains, paths := s.cookieDomains(c), cookiePaths(c.Request.URL.Path)
	for len(sent) > 0 {
		name, all := sent[0].name, len(sent)
		isForeign := func(cookie sentCookie) bool {
			return cookie.name == name && foreign != nil && foreign(cookie.value)
		}
		hasForeign := slices.ContainsFunc(sent, isForeign)
		onlyForeign := !slices.ContainsFunc(sent, func(cookie sentCookie) bool { return cookie.name == name && !isForeign(cookie) })
		sent = slices.DeleteFunc(slices.Clone(sent), func(cookie sentCookie) bool { return cookie.name == name })
		several, prefixed := all-len(sent) > 1, strings.HasPrefix(name, "__")
		if onlyForeign || prefixed && !s.HTTPS { // browsers wouldn't take it
			continue
		}
		if strings.HasPrefix(name, "__Host-") {
			if name != keep {
				likely = append(likely, s.deletion(name, "/", ""))
			}
			continue
		}
		if name != keep {
			likely = append(likely, s.NewCookie(name, "", -1))
		}
		for _, domain := range domains {
			for _, path := range paths {
				switch {
				case hasForeign, path == "/" && domain == s.CookieDomain:
				case path == "/" && (several || prefixed != s.HTTPS || s.HTTPS && s.CookieDomain == ""):
					likely = append(likely, s.deletion(name, path, domain))
				case several:
					unlikely = append(unlikely, s.deletion(name, path, domain))
				}
			}
		}
	}
	all := append(likely, unlikely...)
	return all[:min(len(all), maxDeletions)]
}

func (s *Site) deletion(name, path, domain string) *http.Cookie {
	cookie := s.NewCookie(name, "", -1) // #nosec G124 -- it has the attributes of the one that it deletes
	cookie.Path, cookie.Domain = path, domain
	return cookie
}

// cookieDomains returns the domains that a cookie of our host can have; "" is the host alone.
func (s *Site) cookieDomains(c *gin.Context) []string {
	domains := []string{""}
	origin, err := url.Parse(s.Origin(c))
	if err != nil {
		return domains
	}
	host := origin.Hostname()
	registrable, err := publicsuffix.EffectiveTLDPlusOne(host)
	if _, isAddress := netip.ParseAddr(host); err != nil || isAddress == nil {
		return domains
	}
	for host != registrable && len(domains) < 8 {
		domains = append(domains, host)
		_, host, _ = strings.Cut(host, ".")
	}
	return append(domains, registrable)
}

// cookiePaths returns the paths with which a browser sends a cookie to a path: RFC 6265 §5.1.4. Ours is the first.
func cookiePaths(path string) []string {
	paths := []string{"/"}
	for i := 1; i < len(path) && len(paths) < 16; i++ {
		if path[i] == '/' {
			paths = append(paths, path[:i], path[:i+1])
		}
	}
	if len(path) > 1 && path[len(path)-1] != '/' {
		paths = append(paths, path)
	}
	return paths
}

// AcceptCookieHeader treats the header X-Session-Cookie as the session cookie, for servers that pass it on without its
// name.
func (s *Site) AcceptCookieHeader(c *gin.Context) {
	value := c.GetHeader("X-Session-Cookie")
	if value == "" {
		return
	}
	first := s.CookieName(config.SessionCookie) + "=" + value
	c.Request.Header["Cookie"] = append([]string{first}, c.Request.Header["Cookie"]...)
}
