package config

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

// Advise says what browsers will make of the settings. Nothing said is good.
func (s *Settings) Advise() (advice []Advice) {
	wrong := func(format string, args ...any) { advice = append(advice, Advice{Text: fmt.Sprintf(format, args...)}) }
	warn := func(format string, args ...any) {
		advice = append(advice, Advice{Text: fmt.Sprintf(format, args...), Warning: true})
	}
	if s.Dev && s.BaseOrigin != "" {
		wrong("DEV is on: error answers tell strangers what went wrong inside – leave it out")
	}
	if s.BaseOrigin == "" {
		if len(s.CORSAllowedOrigins)+len(s.AllowedReturnURLs)+len(s.UIOrigins()) > 0 || !s.Access.None() {
			warn("apps are set, and BASE_URL is not: none of them is judged – set BASE_URL")
		}
		return advice
	}
	base, _ := url.Parse(s.BaseOrigin) // it has been parsed before
	if !s.HTTPS && !LocalHost(base.Host) {
		wrong("BASE_URL is %s: passwords and cookies travel for all to read – put a proxy with a certificate in front, and set it to https", s.BaseOrigin)
	}
	share := func(host string) string {
		if both := above(host, base.Hostname()); both != "" {
			return "set COOKIE_DOMAIN=" + both
		}
		return "they are different sites, and no setting changes that: put both under one domain"
	}
	// sameSite reports whether pages of an origin in a setting send our cookies, and says why not.
	sameSite := func(setting, origin string) bool {
		app, _ := url.Parse(origin)
		switch {
		case app.Scheme != base.Scheme:
			wrong("%s has %s, and BASE_URL is %s: browsers take http and https for different sites and send no cookie – serve both by https", setting, origin, s.BaseOrigin)
		case app.Hostname() != base.Hostname() && above(app.Hostname(), base.Hostname()) == "":
			wrong("%s has %s, a different site than %s: browsers send no cookie from there – put both under one domain", setting, origin, s.BaseOrigin)
		default:
			return true
		}
		return false
	}
	for _, origin := range s.CORSAllowedOrigins {
		sameSite("CORS_ALLOWED_ORIGINS", origin)
	}
	for _, ui := range s.uis() {
		origin := (*ui.page).Origin()
		if origin == "" || !sameSite(ui.setting, origin) || slices.Contains(s.CORSAllowedOrigins, origin) {
			continue
		}
		if app, _ := url.Parse(origin); !s.CookieReaches(app.Hostname()) {
			wrong("%s is on %s, where browsers do not send the cookie that a flow needs – %s, or add the origin to CORS_ALLOWED_ORIGINS if the page's script fetches the flow", ui.setting, origin, share(app.Hostname()))
		}
	}
	for _, host := range s.Access.Hosts() {
		if !s.CookieReaches(host) {
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
		case s.HTTPS && app.Scheme == "http" && s.CookieReaches(host):
			warn("ALLOWED_RETURN_URLS has %s: the cookie is Secure, and browsers do not send it by http – serve that app by https", entry)
		case !s.CookieReaches(host) && !slices.Contains(s.CORSAllowedOrigins, app.Scheme+"://"+app.Host):
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
func (s *Settings) CookieInWords() string {
	name, to := s.CookieName(SessionCookie), "the host it came from alone"
	switch {
	case s.CookieDomain != "":
		to = s.CookieDomain + " and every host below it"
	case s.BaseOrigin != "":
		to = strings.TrimPrefix(strings.TrimPrefix(s.BaseOrigin, "https://"), "http://") + " alone"
	}
	if s.HTTPS {
		return fmt.Sprintf("%s, Secure, sent to %s", name, to)
	}
	return fmt.Sprintf("%s, sent to %s", name, to)
}
