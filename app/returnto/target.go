package returnto

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// A target is a URL in parts. A path on this origin has only a path and a tail.
type target struct {
	scheme string // "http" or "https"
	host   string // lower case; an IPv6 address in its brackets
	port   string // "" for the scheme's default
	path   string // as given: "", or begins with a slash
	tail   string // query and fragment, as given
}

// A problem is what is wrong with a URL. It continues a sentence that begins with
// the URL's name, and lacks the full stop.
type problem string

func (p problem) Error() string { return string(p) }

const notURL problem = "isn't a URL that can be used here: begin it with https:// (or http://) or with a single /"

func (t target) authority() string {
	if t.port == "" {
		return t.host
	}
	return t.host + ":" + t.port
}

func (t target) origin() string { return t.scheme + "://" + t.authority() }

func (t target) String() string {
	if t.host == "" {
		return t.path + t.tail
	}
	return t.origin() + t.path + t.tail
}

// parse splits raw into its parts if browsers and servers can't disagree about any of
// them. Its error is a problem.
func parse(raw string) (target, error) {
	if err := checkBytes(raw); err != nil {
		return target{}, err
	}
	var t target
	rest := raw
	if !strings.HasPrefix(raw, "/") {
		scheme, after, ok := strings.Cut(raw, "://")
		t.scheme = strings.ToLower(scheme)
		if !ok || t.scheme != "https" && t.scheme != "http" {
			return target{}, notURL
		}
		var authority string
		var err error
		authority, rest = splitBefore(after, "/?#")
		if t.host, t.port, err = parseAuthority(t.scheme, authority); err != nil {
			return target{}, err
		}
	}
	t.path, t.tail = splitBefore(rest, "?#")
	if err := checkPath(t.path); err != nil {
		return target{}, err
	}
	if _, err := url.PathUnescape(t.tail); err != nil {
		return target{}, problem("has a % that doesn't begin a percent-encoded byte: write it as %25")
	}
	return t, nil
}

func checkBytes(raw string) error {
	if raw == "" {
		return problem("is empty: leave it out, or give it a URL")
	}
	if len(raw) > MaxLength {
		return problem("is longer than " + strconv.Itoa(MaxLength) + " bytes: shorten it")
	}
	for i := range len(raw) {
		switch c := raw[i]; {
		case c == ' ':
			return problem("contains a space: write it as %20")
		case c < ' ' || c == 0x7f:
			return problem("contains a control character, such as a tab or a line break: remove it")
		case c > 0x7f:
			return problem("contains a character outside ASCII: percent-encode it, or write a host in its xn-- form")
		case c == '\\':
			return problem("contains a backslash, which browsers take for a slash: remove it")
		}
	}
	return nil
}

func parseAuthority(scheme, authority string) (host, port string, err error) {
	if authority == "" {
		return "", "", problem("has no host after " + scheme + "://: write it there")
	}
	if strings.Contains(authority, "@") {
		return "", "", problem("has a user name before its host: remove everything up to the @")
	}
	host = authority
	// The colons inside an IPv6 address come before its closing bracket.
	if i := strings.LastIndexByte(authority, ':'); i > strings.LastIndexByte(authority, ']') {
		host, port = authority[:i], authority[i+1:]
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
			return "", "", problem("has a port that isn't a number from 1 to 65535: correct it, or remove it with its colon")
		}
	}
	if scheme == "https" && port == "443" || scheme == "http" && port == "80" {
		port = ""
	}
	host = strings.ToLower(host)
	return host, port, checkHost(host)
}

// checkHost accepts a name that DNS and browsers interpret the same way, or an IP address
// in its canonical form.
func checkHost(host string) error {
	if isAddress(host) {
		return nil
	}
	if strings.HasPrefix(host, "[") {
		return problem("has a host that isn't an IPv6 address in its canonical form: use the shortest form, with no zone and no IPv4 part")
	}
	if strings.Contains(host, "*") {
		return problem("has a wildcard in the wrong place: it is only allowed as *. at the beginning of an entry's host")
	}
	if len(host) > 253 {
		return problem("has a host that is longer than the 253 bytes that DNS allows")
	}
	var last string
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, notPlain) {
			return problem("has a host that isn't a plain name: use letters, digits, hyphens and underscores, with single dots between")
		}
		last = label
	}
	if isNumber(last) {
		return problem("has a host that browsers would take for an IPv4 address: write it as four decimal numbers, as in 192.0.2.1")
	}
	if !isStable(host) {
		return problem("has a host with an invalid xn-- label: correct it")
	}
	return nil
}

func notPlain(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

// isAddress reports whether host is an IP address exactly as a browser would print it.
func isAddress(host string) bool {
	bare, bracketed := strings.CutPrefix(host, "[")
	if bracketed {
		var closed bool
		if bare, closed = strings.CutSuffix(bare, "]"); !closed {
			return false
		}
	}
	addr, err := netip.ParseAddr(bare)
	return err == nil && addr.Is6() == bracketed && !addr.Is4In6() && addr.Zone() == "" && addr.String() == bare
}

// isNumber reports whether a host that ends in label is treated by browsers as an IPv4
// address, valid or not (WHATWG URL §3.5, "ends in a number").
func isNumber(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// lookup is how browsers process a domain name: WHATWG URL §3.3, with beStrict false.
var lookup = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.CheckHyphens(false), idna.CheckJoiners(true), idna.StrictDomainName(false))

// isStable reports whether host is still the same after IDNA. Among
// plain hosts, only those with an invalid xn-- label change or fail.
func isStable(host string) bool {
	ascii, err := lookup.ToASCII(host)
	return err == nil && ascii == host
}

func checkPath(path string) error {
	if strings.HasPrefix(path, "//") {
		return problem("has a path that begins with two slashes, which can lead to another host: use one")
	}
	for segment := range strings.SplitSeq(path, "/") {
		decoded, err := url.PathUnescape(segment)
		if err != nil {
			return problem("has a % that doesn't begin a percent-encoded byte: write it as %25")
		}
		if decoded == "." || decoded == ".." {
			return problem("has a path with . or .. in it: write the path that is meant")
		}
		if strings.ContainsAny(decoded, `/\`) {
			return problem("has an encoded slash or backslash in its path: use plain slashes, or move the value into the query")
		}
		if strings.ContainsFunc(decoded, isControl) {
			return problem("has an encoded control character in its path: remove it")
		}
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// splitBefore splits s before the first byte that is one of stops, or at its end.
func splitBefore(s, stops string) (before, from string) {
	if i := strings.IndexAny(s, stops); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}
