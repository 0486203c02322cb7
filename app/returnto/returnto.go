// Package returnto decides where a browser may be sent after a flow.
//
// A return_to is untrusted, and browsers parse URLs more leniently than net/url:
// they drop tabs and newlines, and treat a backslash as a slash, "https:evil" and
// "https:///evil" as "https://evil", and 0x7f.1 as 127.0.0.1 (WHATWG URL Standard
// §4.4, §3.5). So nothing is repaired here. Whatever isn't written in the one plain
// way that all parsers agree on is refused, with a sentence that says why.
package returnto

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// MaxLength is the maximum length of a return_to in bytes.
const MaxLength = 2048

// Rules are the places outside its own origin that Latchkey may send a browser to.
// The zero value allows none. Rules are safe for concurrent use.
type Rules struct {
	entries []target // a wildcard's host is kept as "*.example.com"
}

// Refused is the error for a return_to that isn't allowed. Its Reason is a sentence
// for the author of the link: what is wrong and what to do.
type Refused struct {
	Reason string
}

func (r *Refused) Error() string { return r.Reason }

// Parse reads the entries of ALLOWED_RETURN_URLS: http or https URLs, with or without
// a path, and with "*." before the host for all of its subdomains. Blank entries
// are skipped. The error names the entry, what is wrong with it and what to do.
func Parse(entries []string) (Rules, error) {
	var r Rules
	for _, entry := range entries {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		t, err := parseEntry(entry)
		if err != nil {
			return Rules{}, fmt.Errorf("%q in ALLOWED_RETURN_URLS %w", entry, err)
		}
		r.entries = append(r.entries, t)
	}
	return r, nil
}

// Check returns the URL to send the browser to for raw, a return_to. It is a path if
// raw is one, else an absolute URL in lower case up to its path and without a default
// port. Checking it again returns it unchanged.
//
// The origin is Latchkey's own as the browser sees it: "https://login.example.com:8443".
// If raw isn't allowed, it returns a *Refused; any other error means that origin is
// invalid.
func (r Rules) Check(origin, raw string) (string, error) {
	own, err := parse(origin)
	if err != nil {
		return "", fmt.Errorf("origin %q %w", origin, err)
	}
	if own.host == "" {
		return "", fmt.Errorf("origin %q has no host", origin)
	}
	t, err := parse(raw)
	if err != nil {
		return "", &Refused{Reason: "return_to " + err.Error() + "."}
	}
	if t.host == "" || t.origin() == own.origin() || slices.ContainsFunc(r.entries, t.under) {
		return t.String(), nil
	}
	return "", &Refused{Reason: fmt.Sprintf("return_to leads to %s, and no entry of ALLOWED_RETURN_URLS covers it: "+
		"use a path on this site, or have an entry added.", t.origin())}
}

// CheckOrigin returns nil if Check accepts origin: scheme, host and an optional port, in any case. Its error continues a sentence that begins with the origin's name.
func CheckOrigin(origin string) error {
	t, err := parse(origin)
	switch {
	case err != nil:
		return err
	case t.host == "":
		return notURL
	case t.path+t.tail != "":
		return problem("has something after its host: remove it")
	}
	return nil
}

// Sources returns the entries as sources for a content security policy's form-action,
// which browsers apply to the redirect after a form, too. Paths are left out, since
// browsers ignore them after a redirect. There is no source for an IPv6 address in
// CSP: browsers skip it.
func (r Rules) Sources() []string {
	var sources []string
	for _, entry := range r.entries {
		if source := entry.origin(); !slices.Contains(sources, source) {
			sources = append(sources, source)
		}
	}
	return sources
}

// Host returns the host to show a person for a return_to that Check allowed, with the
// port unless it is the scheme's default: "app.example.com:8443". It is "" for a path.
func Host(raw string) string {
	t, err := parse(raw)
	if err != nil {
		return ""
	}
	return t.authority()
}

// parseEntry reads one entry of the rules. Its error is a problem, as parse's.
func parseEntry(entry string) (target, error) {
	if strings.HasPrefix(entry, "/") {
		return target{}, problem("has no scheme and host: paths on this site are always allowed, so leave it out")
	}
	scheme, rest, _ := strings.Cut(entry, "://")
	base, wildcard := strings.CutPrefix(rest, "*.")
	if wildcard {
		entry = scheme + "://" + base
	}
	t, err := parse(entry)
	if err != nil {
		return target{}, err
	}
	if t.tail != "" {
		return target{}, problem("has a query or a fragment: end it before the " + t.tail[:1])
	}
	if wildcard {
		if isAddress(t.host) {
			return target{}, problem("has a wildcard before an IP address, which has no subdomains: remove the wildcard")
		}
		// An unlisted last label counts as a suffix too, but may belong to the operator,
		// such as "lan"; home.arpa is listed, but is for private use (RFC 8375).
		suffix, icann := publicsuffix.PublicSuffix(t.host)
		listed := (icann || strings.Contains(suffix, ".")) && suffix != "home.arpa"
		if listed && suffix == t.host {
			return target{}, problem("allows strangers, since anybody can get a name under " + t.host + ": name your own domain")
		}
		t.host = "*." + t.host
	}
	t.path = strings.TrimSuffix(t.path, "/")
	return t, nil
}

// under reports whether t is allowed by entry.
func (t target) under(entry target) bool {
	if t.scheme != entry.scheme || t.port != entry.port {
		return false
	}
	if suffix, ok := strings.CutPrefix(entry.host, "*"); ok {
		if !strings.HasSuffix(t.host, suffix) {
			return false
		}
	} else if t.host != entry.host {
		return false
	}
	return strings.HasPrefix(t.path+"/", entry.path+"/")
}
