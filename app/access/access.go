// Package access implements the setting ACCESS: which groups may use an app, by its host.
package access

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"

	"latchkey/app/returnto"
	"latchkey/models"
)

// Rules say which groups may use an app. The zero value lets everybody who is signed in use every app.
type Rules struct {
	hosts   map[string][]string // as HostName returns them
	domains map[string][]string // of wildcards: "example.com" for *.example.com, "" for *
}

// Parse parses entries such as "wiki.example.com=staff,editors *.lab.example.com=lab".
func Parse(setting string) (Rules, error) {
	rules := Rules{hosts: map[string][]string{}, domains: map[string][]string{}}
	for entry := range strings.FieldsSeq(setting) {
		if err := rules.add(entry); err != nil {
			return Rules{}, fmt.Errorf("ACCESS has %q: %w", entry, err)
		}
	}
	return rules, nil
}

func (r Rules) add(entry string) error {
	host, groups, ok := strings.Cut(entry, "=")
	if !ok {
		return errors.New("give it as HOST=GROUP, with several groups separated by commas without spaces, such as wiki.example.com=staff,editors")
	}
	names := strings.Split(groups, ",")
	for _, name := range names {
		if err := models.CheckGroup(name); err != nil {
			return err
		}
	}
	to, name := r.hosts, HostName(host)
	if domain, wildcard := strings.CutPrefix(host, "*."); wildcard {
		to, name = r.domains, HostName(domain)
		if isAddress(name) {
			name = ""
		}
	}
	switch {
	case host == "*":
		to, name = r.domains, ""
	case name == "" || hasPort(host):
		return errors.New("the host must be a name without scheme, port or path, such as wiki.example.com, or *.example.com for all subdomains, or * for all other hosts")
	}
	if _, twice := to[name]; twice {
		return errors.New("this host has an entry already: list all of its groups in one entry, separated by commas")
	}
	to[name] = names
	return nil
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

// groups returns the groups that may use a host: those of its own entry, or else of the closest parent
// domain. It returns false for a host that is open to everybody.
func (r Rules) groups(host string) ([]string, bool) {
	if groups, ok := r.hosts[host]; ok {
		return groups, true
	}
	if !isAddress(host) {
		for domain := host; domain != ""; {
			_, domain, _ = strings.Cut(domain, ".")
			if groups, ok := r.domains[domain]; ok {
				return groups, true
			}
		}
	}
	groups, ok := r.domains[""]
	return groups, ok
}

// Allow reports whether somebody in these groups may use the app on a host.
func (r Rules) Allow(host string, member models.Groups) bool {
	groups, restricted := r.groups(host)
	return !restricted || slices.ContainsFunc(groups, func(group string) bool { return slices.Contains(member, group) })
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
