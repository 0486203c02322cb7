package app

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// Advice is about settings of which each is right, and which together may not do what is wanted.
type Advice struct {
	Text    string
	Warning bool // it may be meant so
}

// Advise says what browsers will make of the settings, which must be valid. Nothing said is good.
func (c *Config) Advise() (advice []Advice) {
	s, err := c.check()
	if err != nil {
		return []Advice{{Text: err.Error()}}
	}
	wrong := func(format string, args ...any) { advice = append(advice, Advice{Text: fmt.Sprintf(format, args...)}) }
	warn := func(format string, args ...any) {
		advice = append(advice, Advice{Text: fmt.Sprintf(format, args...), Warning: true})
	}
	if s.Dev && s.baseOrigin != "" {
		wrong("DEV is on: error answers tell strangers what went wrong inside – leave it out")
	}
	if s.baseOrigin == "" {
		if len(s.CORSAllowedOrigins)+len(s.AllowedReturnURLs) > 0 || !s.access.none() {
			warn("apps are set, and BASE_URL is not: none of them is judged – set BASE_URL")
		}
		return advice
	}
	base, _ := url.Parse(s.baseOrigin) // it has been parsed before
	if !s.https && !LocalHost(base.Host) {
		wrong("BASE_URL is %s: passwords and cookies travel for all to read – put a proxy with a certificate in front, and set it to https", s.baseOrigin)
	}
	reaches := func(host string) bool {
		return host == base.Hostname() || s.CookieDomain != "" && s.covers(s.CookieDomain, host)
	}
	share := func(host string) string {
		if both := above(host, base.Hostname()); both != "" {
			return "set COOKIE_DOMAIN=" + both
		}
		return "they are different sites, and no setting changes that: put both under one domain"
	}
	for _, origin := range s.CORSAllowedOrigins {
		app, _ := url.Parse(origin)
		switch {
		case app.Scheme != base.Scheme:
			wrong("CORS_ALLOWED_ORIGINS has %s, and BASE_URL is %s: browsers take http and https for different sites and send no cookie – serve both by https", origin, s.baseOrigin)
		case app.Hostname() != base.Hostname() && above(app.Hostname(), base.Hostname()) == "":
			wrong("CORS_ALLOWED_ORIGINS has %s, a different site than %s: browsers send no cookie from there – put both under one domain", origin, s.baseOrigin)
		}
	}
	hosts := make([]string, 0, len(s.access.hosts)+len(s.access.domains))
	for host := range s.access.hosts {
		hosts = append(hosts, host)
	}
	for domain := range s.access.domains {
		if domain != "" { // of "*"
			hosts = append(hosts, domain)
		}
	}
	slices.Sort(hosts)
	for _, host := range hosts {
		if !reaches(host) {
			wrong("ACCESS has %s, where browsers do not send the cookie: nobody gets in – %s", host, share(host))
		}
	}
	for _, entry := range s.AllowedReturnURLs {
		app, err := url.Parse(entry)
		if err != nil {
			continue
		}
		host := strings.TrimPrefix(app.Hostname(), "*.")
		switch {
		case s.https && app.Scheme == "http" && reaches(host):
			warn("ALLOWED_RETURN_URLS has %s: the cookie is Secure, and browsers do not send it by http – serve that app by https", entry)
		case !reaches(host) && !slices.Contains(s.CORSAllowedOrigins, app.Scheme+"://"+app.Host):
			warn("ALLOWED_RETURN_URLS has %s, where browsers do not send the cookie: fine if people only come back there – else %s", entry, share(host))
		}
	}
	return advice
}

// above returns the registrable domain of two hosts, "" if they have none in common.
func above(one, other string) string {
	domain, err := publicsuffix.EffectiveTLDPlusOne(one)
	if err != nil {
		return ""
	}
	if its, err := publicsuffix.EffectiveTLDPlusOne(other); err != nil || its != domain {
		return ""
	}
	return domain
}

// CookieInWords says to whom browsers send the session.
func (c *Config) CookieInWords() string {
	s, err := c.check()
	if err != nil {
		return err.Error()
	}
	name, to := newCookies(s).sessionName, "the host it came from alone"
	switch {
	case s.CookieDomain != "":
		to = s.CookieDomain + " and every host below it"
	case s.baseOrigin != "":
		to = strings.TrimPrefix(strings.TrimPrefix(s.baseOrigin, "https://"), "http://") + " alone"
	}
	if s.https {
		return fmt.Sprintf("%s, Secure, sent to %s", name, to)
	}
	return fmt.Sprintf("%s, sent to %s", name, to)
}
