// Package access implements the setting ACCESS: who may use an app, by its host.
package access

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"

	"latchkey/app/returnto"
	"latchkey/models"
)

// Words that take the place of groups. Groups are never in capitals.
const (
	signedIn  = "SIGNED-IN" // everybody who is signed in
	preflight = "PREFLIGHT" // in addition: CORS preflights pass without a session
	public    = "PUBLIC"    // for paths: everybody, signed in or not
)

// Rules say who may use an app. The zero value lets everybody who is signed in use every app.
type Rules struct {
	hosts   map[string]*Rule // as HostName returns them
	domains map[string]*Rule // of wildcards: "example.com" for *.example.com, "" for *
}

// Rule says who may use the apps of one entry. The zero value is for everybody who is signed in.
type Rule struct {
	groups    []string // nil for everybody who is signed in
	preflight bool
	public    []pattern
	complete  bool // there is an entry for the whole host
}

// Parse parses entries such as "wiki.example.com=staff,editors wiki.example.com/assets/*=PUBLIC *.lab.example.com=lab".
func Parse(setting string) (Rules, error) {
	rules := Rules{hosts: map[string]*Rule{}, domains: map[string]*Rule{}}
	entries := strings.Fields(setting)
	changed := make([]*Rule, len(entries))
	for i, entry := range entries {
		var err error
		if changed[i], err = rules.add(entry); err != nil {
			return Rules{}, fmt.Errorf("ACCESS has %q: %w", entry, err)
		}
	}
	for i, entry := range entries {
		if !changed[i].complete {
			host, _, _ := strings.Cut(entry, "/")
			return Rules{}, fmt.Errorf("ACCESS has %q, but no entry for the rest of that host: add %s=GROUP, or %[2]s=%s for everybody who is signed in", entry, host, signedIn)
		}
	}
	return rules, nil
}

// add adds an entry, and returns the rule that it created or changed.
func (r Rules) add(entry string) (*Rule, error) {
	place, who, ok := strings.Cut(entry, "=")
	if !ok {
		return nil, errors.New("give it as HOST=GROUP, with several groups separated by commas without spaces, such as wiki.example.com=staff,editors")
	}
	host, path, isPath := strings.Cut(place, "/")
	rule, err := r.at(host)
	if err != nil {
		return nil, err
	}
	if isPath {
		return rule, rule.addPath("/"+path, who)
	}
	if rule.complete {
		return nil, errors.New("this host has an entry already: list all of its groups in one entry, separated by commas")
	}
	return rule, rule.addPeople(who)
}

// at returns the rule of a host, wildcard or "*", which it creates if necessary.
func (r Rules) at(host string) (*Rule, error) {
	in, name := r.hosts, HostName(host)
	if domain, wildcard := strings.CutPrefix(host, "*."); wildcard {
		in, name = r.domains, HostName(domain)
		if isAddress(name) {
			name = ""
		}
	}
	switch {
	case host == "*":
		in, name = r.domains, ""
	case name == "" || hasPort(host):
		return nil, errors.New("the host must be a name without scheme or port, such as wiki.example.com, or *.example.com for all subdomains, or * for all other hosts")
	}
	if in[name] == nil {
		in[name] = new(Rule)
	}
	return in[name], nil
}

// addPeople adds what an entry without a path says.
func (r *Rule) addPeople(who string) error {
	everybody := false
	for name := range strings.SplitSeq(who, ",") {
		switch name {
		case signedIn:
			everybody = true
		case preflight:
			r.preflight = true
		case public:
			return fmt.Errorf("%s is for paths: to let everybody in without signing in, end the host with /*", public)
		default:
			if err := models.CheckGroup(name); err != nil {
				return fmt.Errorf("%w, or the words %s and %s", err, signedIn, preflight)
			}
			r.groups = append(r.groups, name)
		}
	}
	switch {
	case everybody && r.groups != nil:
		return fmt.Errorf("%s includes all groups: give one or the other", signedIn)
	case !everybody && r.groups == nil:
		return fmt.Errorf("%s needs a group or %s beside it, for all other requests", preflight, signedIn)
	}
	r.complete = true
	return nil
}

// addPath adds what an entry with a path says.
func (r *Rule) addPath(path, who string) error {
	if who != public {
		return fmt.Errorf("an entry with a path can only be =%s: groups are for whole hosts", public)
	}
	pattern, err := parsePattern(path)
	if err == nil {
		r.public = append(r.public, pattern)
	}
	return err
}

// None reports whether there are no rules.
func (r Rules) None() bool { return len(r.hosts)+len(r.domains) == 0 }

// Hosts returns the hosts and domains that have a rule, sorted.
func (r Rules) Hosts() []string {
	names := slices.AppendSeq(slices.Collect(maps.Keys(r.hosts)), maps.Keys(r.domains))
	names = slices.DeleteFunc(names, func(name string) bool { return name == "" }) // that of "*"
	slices.Sort(names)
	return names
}

// anybodySignedIn is the rule of hosts without an entry.
var anybodySignedIn = new(Rule)

// For returns the one rule for a host: its own entry's, or else the closest parent domain's. own is true if the host
// has its own entry.
func (r Rules) For(host string) (rule *Rule, own bool) {
	if rule, ok := r.hosts[host]; ok {
		return rule, true
	}
	if !isAddress(host) {
		for domain := host; domain != ""; {
			_, domain, _ = strings.Cut(domain, ".")
			if rule, ok := r.domains[domain]; ok {
				return rule, false
			}
		}
	}
	if rule, ok := r.domains[""]; ok {
		return rule, false
	}
	return anybodySignedIn, false
}

// Admits reports whether somebody who is signed in, and in these groups, may use the app.
func (r *Rule) Admits(member models.Groups) bool {
	return r.groups == nil || slices.ContainsFunc(r.groups, func(group string) bool { return slices.Contains(member, group) })
}

// AdmitsAnybody reports whether a request needs no session: it is for a public path, or is a CORS preflight and those
// pass. header is the request's; method and uri are "" if unknown.
func (r *Rule) AdmitsAnybody(method, uri string, header http.Header) bool {
	if r.preflight && method == http.MethodOptions && header.Get("Origin") != "" && header.Get("Access-Control-Request-Method") != "" {
		return true // https://fetch.spec.whatwg.org/#cors-preflight-request
	}
	if len(r.public) == 0 {
		return false
	}
	path, plain := plainPath(uri)
	return plain && slices.ContainsFunc(r.public, func(p pattern) bool { return p.matches(path) })
}

// HostName returns the one spelling of the host in "host" or "host:port": in lower case, with xn--
// labels for non-ASCII ones, without a trailing dot. It returns "" if it isn't a host.
func HostName(authority string) string {
	host := authority
	if hasPort(authority) {
		i := strings.LastIndexByte(authority, ':')
		if _, err := strconv.ParseUint(authority[i+1:], 10, 16); err != nil {
			return ""
		}
		host = authority[:i]
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if strings.ContainsFunc(host, func(r rune) bool { return r > 0x7f }) {
		ascii, err := idna.Lookup.ToASCII(host)
		if err != nil {
			return ""
		}
		host = ascii
	}
	// The rest must not contain a second port: it would be a different host.
	if hasPort(host) || returnto.Host("http://"+host) != host { // returnto.Host knows what browsers accept as a host
		return ""
	}
	return host
}

// hasPort reports whether a colon follows the host. The colons of an IPv6 address are in brackets.
func hasPort(authority string) bool {
	return strings.LastIndexByte(authority, ':') > strings.LastIndexByte(authority, ']')
}

// isAddress reports whether a name from HostName is an IP address, which has no parent domain.
func isAddress(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	return strings.HasPrefix(host, "[") || last != "" && strings.Trim(last, "0123456789") == ""
}
