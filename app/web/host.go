package web

import (
	"cmp"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"latchkey/app/config"
	"latchkey/app/route"
)

// RequireKnownHost refuses unknown host names. While BASE_URL is unset, clients must not control the URLs that are
// built from the host. Once it is set, this prevents DNS rebinding, and tells people at other addresses which one to
// open: browsers wouldn't keep BASE_URL's cookies there.
func (s *Site) RequireKnownHost(c *gin.Context) {
	r := s.route(c)
	if r != nil && r.AnyHost { // the error page needs it
		return
	}
	if s.BaseOrigin == "" {
		if !config.LocalHost(c.Request.Host) {
			s.Fail(c, Problem{Code: http.StatusMisdirectedRequest}.Telling(
				"Latchkey isn't configured to be reached as %q. If you are the administrator, start it with "+
					"BASE_URL set to its address, such as https://example.com.", c.Request.Host))
		}
		return
	}
	if r != nil && r.ProxyHost {
		return
	}
	problem := s.OtherOrigin(c.Request)
	if problem == nil {
		return
	}
	host := s.hostAsSent(c.Request)
	isLocal := s.isBaseHost(host) || config.LocalHost(host) || isInternalName(host)
	if !isLocal || (r == nil || !r.JSON) && PrefersHTML(c.Request) { // apps may ask at a local name
		s.Fail(c, problem)
	}
}

// OtherOrigin returns the problem with serving pages at the address that a request was sent to. It returns nil if there
// is none, or while BASE_URL is unset.
func (s *Site) OtherOrigin(r *http.Request) *Problem {
	if s.BaseOrigin == "" {
		return nil
	}
	host := s.hostAsSent(r)
	isLocal := config.LocalHost(host) || isInternalName(host)
	switch {
	case s.isBaseHost(host):
		if !s.isPlainHTTP(r) {
			return nil
		}
		return s.errOtherOrigin("This page was opened over http, but BASE_URL is %s. If the browser used https, have the proxy send X-Forwarded-Proto: https.", s.BaseOrigin)
	case isLocal && isForwarded(r): // whichever the browser's host is
		return nil
	}
	return s.errOtherOrigin("Latchkey is at %s, not at %q. If the request was sent to the former, have the proxy pass on the Host header.", s.BaseOrigin, host)
}

// errOtherOrigin is the problem of a request that should have gone to BASE_URL.
func (s *Site) errOtherOrigin(reason string, args ...any) *Problem {
	p := Problem{Code: http.StatusMisdirectedRequest, Title: "This site has another address", OtherOrigin: true}.Telling(reason, args...)
	p.Visitor = "You can sign in at " + s.BaseOrigin + " only. If that is the address you opened, tell your administrator."
	return p
}

// Misplaced returns a problem if a form without its page's cookie may have been submitted over http, although the site
// has https: browsers then send no Sec-Fetch headers and keep no secure cookies. Otherwise it returns nil.
func (s *Site) Misplaced(r *http.Request) *Problem {
	if !s.HTTPS || r.Header.Get("Sec-Fetch-Site") != "" || !PrefersHTML(r) {
		return nil
	}
	return s.errOtherOrigin("This form came without its cookie, apparently over http: open it at BASE_URL, %s. Have the proxy redirect http to https.", s.BaseOrigin)
}

// atBase returns the URL at BASE_URL of the requested page, or the account page's if the request isn't a GET.
func (s *Site) atBase(r *http.Request) string {
	if path := r.URL.EscapedPath(); r.Method == http.MethodGet && strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "//") {
		return s.BaseOrigin + (&url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}).RequestURI()
	}
	return s.BaseOrigin + s.Path(route.Account)
}

// hostAsSent returns the host that a request was sent to, as far as a proxy tells.
func (s *Site) hostAsSent(r *http.Request) string {
	if s.isBaseHost(r.Host) || !s.FromTrustedProxy(r) {
		return r.Host
	}
	return cmp.Or(lastOf(r.Header.Get("X-Forwarded-Host")), r.Host)
}

// lastOf returns the last entry of a list in a header: what the proxy has said that is next to us.
func lastOf(list string) string { return strings.TrimSpace(list[strings.LastIndex(list, ",")+1:]) }

// isBaseHost reports whether a host, with or without a port, is that of BASE_URL. Many proxies leave the port out, or
// send the one that they listen on themselves.
func (s *Site) isBaseHost(host string) bool {
	if host == s.baseHost {
		return true // without any work: most requests
	}
	name, port := splitHost(host)
	ownName, ownPort := splitHost(s.baseHost)
	if !strings.EqualFold(name, ownName) {
		return false
	}
	standard := func(port string) bool { return port == "" || port == "80" || port == "443" }
	return port == "" || port == ownPort || standard(port) && standard(ownPort)
}

func splitHost(host string) (name, port string) {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		return host, ""
	}
	if strings.Contains(name, ":") {
		name = "[" + name + "]"
	}
	return name, port
}

// internalSuffixes are domains that nobody can register: RFC 6762, RFC 8375, and ICANN's resolution of 29 July 2024.
var internalSuffixes = []string{".local", ".home.arpa", ".internal"}

// isInternalName reports whether a host name only resolves within a network, such as a container's: apps may call
// whoami there.
func isInternalName(host string) bool {
	name, _ := splitHost(host)
	name = strings.ToLower(name)
	for _, r := range name {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.' {
			return false
		}
	}
	return name != "" && name[0] != '.' && (!strings.Contains(name, ".") ||
		slices.ContainsFunc(internalSuffixes, func(suffix string) bool { return strings.HasSuffix(name, suffix) }))
}

// isForwarded reports whether a request shows signs of a proxy that replaces Host, so that the browser's is unknown.
func isForwarded(r *http.Request) bool {
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Real-Ip", "Forwarded", "Via"} {
		if r.Header.Get(name) != "" {
			return r.Header.Get("X-Forwarded-Host") == ""
		}
	}
	return false
}

// isPlainHTTP reports whether a browser used http on a site that has https. Browsers send Sec-Fetch headers only over
// https: with these, a proxy that says http is behind another one that terminates TLS.
func (s *Site) isPlainHTTP(r *http.Request) bool {
	return s.HTTPS && r.TLS == nil && r.Header.Get("Sec-Fetch-Site") == "" &&
		strings.EqualFold(lastOf(r.Header.Get("X-Forwarded-Proto")), "http") && s.FromTrustedProxy(r)
}
