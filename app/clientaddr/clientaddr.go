// Package clientaddr finds the address that a request comes from, behind any number of reverse proxies.
package clientaddr

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// The headers in which a proxy can send the addresses. Only one of them is ever read: a proxy passes the others on
// as the client sent them.
const (
	XForwardedFor = "X-Forwarded-For" // a list of addresses, to which each proxy appends
	Forwarded     = "Forwarded"       // the same with parameters: RFC 7239
	XRealIP       = "X-Real-IP"       // a single address
)

// Headers are the names that a Resolver accepts.
var Headers = []string{XForwardedFor, Forwarded, XRealIP}

// Resolver finds the clients of requests.
type Resolver struct {
	Header  string         // one of Headers
	Trusted []netip.Prefix // the proxies; nobody else's header is read
}

// ErrHidden means that a proxy knows the client's address but withholds it: RFC 7239 §6.2 and §6.3.
var ErrHidden = errors.New("it hides the client's address")

// Peer returns the address of the other end of a connection, as in http.Request.RemoteAddr. It is the zero
// Addr if there is none.
func Peer(remoteAddr string) netip.Addr {
	peer, err := netip.ParseAddrPort(remoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return plain(peer.Addr())
}

// plain returns the canonical form of an address: IPv4 as such, and without a zone, which only this machine knows.
func plain(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

// Trusts reports whether an address is a trusted proxy's.
func (r Resolver) Trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(r.Trusted, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Client returns the address that a request comes from: the last one in the list that isn't a trusted proxy's.
// Anything to the left of it may be forged, so it is ignored.
//
// If a proxy gives no address, the result is the proxy's own, with an error that says what it has sent.
func (r Resolver) Client(remoteAddr string, header http.Header) (string, error) {
	peer := Peer(remoteAddr)
	if !peer.IsValid() {
		return remoteAddr, nil
	}
	if !r.Trusts(peer) {
		return peer.String(), nil
	}
	client, err := r.walk(peer, strings.Join(header.Values(r.Header), ","))
	return client.String(), err
}

// walk follows the list from its end, back to the first address that isn't a proxy's.
func (r Resolver) walk(peer netip.Addr, list string) (netip.Addr, error) {
	client := peer
	for list != "" && r.Trusts(client) {
		var entry string
		list, entry = r.last(list)
		if entry = strings.Trim(entry, " \t"); entry == "" {
			continue // RFC 9110 §5.6.1.2
		}
		addr, err := r.parse(entry)
		if err != nil {
			return client, fmt.Errorf("%s has sent %.100q as %s: %w", client, entry, r.Header, err)
		}
		client = addr
	}
	return client, nil
}

// last cuts the last entry off a list.
func (r Resolver) last(list string) (rest, entry string) {
	i := -1 // there is only one
	switch r.Header {
	case XForwardedFor:
		i = strings.LastIndexByte(list, ',')
	case Forwarded:
		i = lastUnquoted(list, ',')
	}
	return list[:max(i, 0)], list[i+1:]
}

// lastUnquoted returns the index of the last separator outside quoted strings, or -1. It reads backwards,
// so that a quote that a client leaves open can't swallow what a proxy appends.
func lastUnquoted(text string, separator byte) int {
	quoted := false
	for i := len(text) - 1; i >= 0; i-- {
		switch {
		case text[i] == '"' && (!quoted || !escaped(text, i)):
			quoted = !quoted
		case text[i] == separator && !quoted:
			return i
		}
	}
	return -1
}

// escaped reports whether an odd number of backslashes precedes a character: RFC 9110 §5.6.4.
func escaped(text string, i int) bool {
	before := strings.TrimRight(text[:i], `\`)
	return (i-len(before))%2 == 1
}

var errNoAddress = errors.New("it isn't an IP address")

func (r Resolver) parse(entry string) (netip.Addr, error) {
	if r.Header == Forwarded {
		node, err := forwardedFor(entry)
		if err != nil {
			return netip.Addr{}, err
		}
		if bare := strings.Count(node, ":") > 1 && node[0] != '['; bare {
			return netip.Addr{}, errors.New("an IPv6 address needs square brackets: RFC 7239 §6")
		}
		return parseNode(node)
	}
	return parseNode(entry)
}

// parseNode parses an address with or without a port. IPv6 addresses may have brackets, and must with a port.
func parseNode(node string) (netip.Addr, error) {
	name, port, err := splitPort(node)
	if err != nil || port != "" && !isPort(port) {
		return netip.Addr{}, errNoAddress
	}
	if strings.EqualFold(name, "unknown") || isObfuscated(name) {
		return netip.Addr{}, ErrHidden
	}
	addr, err := netip.ParseAddr(name)
	if err != nil {
		return netip.Addr{}, errNoAddress
	}
	return plain(addr), nil
}

func splitPort(node string) (name, port string, err error) {
	if inner, bracketed := strings.CutPrefix(node, "["); bracketed {
		name, after, closed := strings.Cut(inner, "]")
		port, hasPort := strings.CutPrefix(after, ":")
		if !closed || !strings.Contains(name, ":") || after != "" && (!hasPort || port == "") {
			return "", "", errNoAddress
		}
		return name, port, nil
	}
	if strings.Count(node, ":") != 1 {
		return node, "", nil
	}
	name, port, _ = strings.Cut(node, ":")
	if port == "" {
		return "", "", errNoAddress
	}
	return name, port, nil
}

func isPort(text string) bool {
	if isObfuscated(text) {
		return true
	}
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil && text[0] != '+'
}

// isObfuscated reports whether text is an identifier in place of an address or port: RFC 7239 §6.3.
func isObfuscated(text string) bool {
	return len(text) > 1 && text[0] == '_' && !strings.ContainsFunc(text[1:], func(r rune) bool {
		return !isAlphanumeric(r) && !strings.ContainsRune("._-", r)
	})
}

func isAlphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

// forwardedFor returns the value of the parameter "for" of an element: RFC 7239 §4.
func forwardedFor(element string) (node string, err error) {
	seen := map[string]bool{}
	for rest := element; rest != ""; {
		i := lastUnquoted(rest, ';')
		pair := strings.Trim(rest[i+1:], " \t")
		rest = rest[:max(i, 0)]
		if pair == "" {
			continue
		}
		name, raw, _ := strings.Cut(pair, "=")
		name = strings.ToLower(name)
		value, ok := unquote(raw)
		if !ok || !isToken(name) || seen[name] {
			return "", errors.New("it doesn't conform to RFC 7239 §4")
		}
		seen[name] = true
		if name == "for" {
			node = value
		}
	}
	if node == "" {
		return "", errors.New(`it has no "for"`)
	}
	return node, nil
}

// unquote returns the text of a token or quoted string (RFC 9110 §5.6.4), and false if it is neither.
func unquote(raw string) (string, bool) {
	inner, quoted := strings.CutPrefix(raw, `"`)
	if !quoted {
		return raw, isToken(raw)
	}
	var text strings.Builder
	for i := 0; i < len(inner); i++ {
		switch inner[i] {
		case '"':
			return text.String(), i == len(inner)-1
		case '\\':
			if i++; i == len(inner) {
				return "", false
			}
		}
		text.WriteByte(inner[i])
	}
	return "", false
}

// isToken reports whether text is a token: RFC 9110 §5.6.2.
func isToken(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		return !isAlphanumeric(r) && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}
