package app

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"

	"latchkey/app/returnto"
	"latchkey/models"
)

// access is the setting ACCESS: which groups an app is for, by the host that the app is on. The
// zero value lets everybody who is signed in use every app.
type access struct {
	hosts   map[string][]string // as hostName returns them
	domains map[string][]string // of wildcards: "example.com" for *.example.com, "" for *
}

// parseAccess reads entries as in "wiki.example.com=staff,editors *.lab.example.com=lab".
func parseAccess(setting string) (access, error) {
	rules := access{hosts: map[string][]string{}, domains: map[string][]string{}}
	for entry := range strings.FieldsSeq(setting) {
		if err := rules.add(entry); err != nil {
			return access{}, fmt.Errorf("ACCESS has %q: %w", entry, err)
		}
	}
	return rules, nil
}

func (r access) add(entry string) error {
	host, groups, ok := strings.Cut(entry, "=")
	if !ok {
		return errors.New("give it as HOST=GROUP, with commas and no space between several groups, such as wiki.example.com=staff,editors")
	}
	names := strings.Split(groups, ",")
	for _, name := range names {
		if err := models.CheckGroup(name); err != nil {
			return err
		}
	}
	to, name := r.hosts, hostName(host)
	if domain, wildcard := strings.CutPrefix(host, "*."); wildcard {
		to, name = r.domains, hostName(domain)
		if isAddress(name) {
			name = ""
		}
	}
	switch {
	case host == "*":
		to, name = r.domains, ""
	case name == "" || hasPort(host):
		return errors.New("the host must be a name without scheme, port or path, such as wiki.example.com, or *.example.com for all names below one, or * for all the rest")
	}
	if _, twice := to[name]; twice {
		return errors.New("this host has an entry already: put all of its groups into one, with commas between")
	}
	to[name] = names
	return nil
}

func (r access) none() bool { return len(r.hosts)+len(r.domains) == 0 }

// groups returns the groups that a host is for: by its own entry, else by that of the closest
// domain above it. It returns false for a host that is for everybody.
func (r access) groups(host string) ([]string, bool) {
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

// allow reports whether somebody in these groups may use the app on a host.
func (r access) allow(host string, member models.Groups) bool {
	groups, restricted := r.groups(host)
	return !restricted || slices.ContainsFunc(groups, func(group string) bool { return slices.Contains(member, group) })
}

// hostName returns the one spelling of the host in "host" or "host:port": in lower case, with xn--
// for what is not ASCII, without a dot at its end. It returns "" for what is no host.
func hostName(authority string) string {
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
	// What is left must be a host without a second port, which would make it another one than it is.
	if hasPort(host) || returnto.Host("http://"+host) != host { // which knows what browsers take for a host
		return ""
	}
	return host
}

// hasPort reports whether something follows the host. The colons of an IPv6 address are in brackets.
func hasPort(authority string) bool {
	return strings.LastIndexByte(authority, ':') > strings.LastIndexByte(authority, ']')
}

// isAddress reports whether a name from hostName is an IP address, which lies below no domain.
func isAddress(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	return strings.HasPrefix(host, "[") || last != "" && strings.Trim(last, "0123456789") == ""
}
