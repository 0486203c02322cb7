package config

import (
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// SessionCookie is the name of the session's cookie, without its prefix.
const SessionCookie = "latchkey_session"

// The prefixes by which browsers protect a cookie from other hosts: RFC 6265bis §4.1.3.
const (
	hostPrefix   = "__Host-"
	securePrefix = "__Secure-"
)

// CookieName returns the name of a cookie, with the prefix that protects it best.
func (s *Settings) CookieName(name string) string {
	switch {
	case s.HTTPS && s.CookieDomain == "":
		return hostPrefix + name
	case s.HTTPS:
		return securePrefix + name
	}
	return name
}

// OwnCookieName is CookieName for a browser in which another installation already uses that name. Two installations with
// the same COOKIE_DOMAIN, or on two ports of one host, would overwrite each other's cookies.
func (s *Settings) OwnCookieName(name string) string {
	_, host, _ := strings.Cut(s.Issuer, "://")
	return s.CookieName(name) + "_" + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '_'
	}, strings.ToLower(host))
}

// IsCookie reports whether a cookie of the request has the given name under any settings, and whether browsers
// protect it as well as these settings require: another host may have set one with less protection.
func (s *Settings) IsCookie(cookie, name string) (is, trusted bool) {
	rest, host := strings.CutPrefix(cookie, hostPrefix)
	secure := host
	if !host {
		rest, secure = strings.CutPrefix(cookie, securePrefix)
	}
	suffix, is := strings.CutPrefix(rest, name)
	if !is || suffix != "" && suffix[0] != '_' {
		return false, false
	}
	switch {
	case s.HTTPS && s.CookieDomain == "":
		return true, host
	case s.HTTPS:
		return true, secure
	}
	return true, !secure
}

// NewCookie creates every cookie, so that the attributes for setting, deleting and checking one never differ.
func (s *Settings) NewCookie(name, value string, maxAge int) *http.Cookie {
	// #nosec G124 -- Secure wherever BASE_URL is https; elsewhere browsers would refuse it
	return &http.Cookie{Name: name, Value: value, Path: "/", Domain: s.CookieDomain, MaxAge: maxAge,
		Secure: s.HTTPS, HttpOnly: true, SameSite: http.SameSiteLaxMode}
}

// Covers reports whether a cookie of that domain (or none) reaches the host (RFC 6265 §5.1.3) and
// browsers accept it: not for a public suffix (§5.3).
func Covers(domain, host string) bool {
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

// CookieReaches reports whether browsers send the cookies to a host.
func (s *Settings) CookieReaches(host string) bool {
	base, err := url.Parse(s.BaseOrigin)
	return err == nil && host == base.Hostname() || s.CookieDomain != "" && Covers(s.CookieDomain, host)
}

// CookieHosts returns the hosts in the settings to which browsers send the cookies, that of BASE_URL first.
func (s *Settings) CookieHosts() []string {
	hosts := []string{}
	for _, origin := range slices.Concat([]string{s.BaseOrigin}, s.CORSAllowedOrigins, s.UIOrigins(), s.AllowedReturnURLs) {
		if app, err := url.Parse(origin); err == nil && (app.Scheme == "https" || !s.HTTPS) {
			hosts = append(hosts, strings.TrimPrefix(app.Hostname(), "*."))
		}
	}
	var reached []string
	for _, host := range append(hosts, s.Access.Hosts()...) {
		if s.CookieReaches(host) && !slices.Contains(reached, host) {
			reached = append(reached, host)
		}
	}
	return reached
}
