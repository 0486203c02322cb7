package config

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"latchkey/app/returnto"
)

// Reachable turns an address that is listened on into one to connect to from this machine.
func Reachable(listening string) string {
	host, port, err := net.SplitHostPort(listening)
	if err != nil {
		return listening
	}
	if host == "" || host == "127.0.0.1" || net.ParseIP(host).IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// LocalHost reports whether a host is a loopback name or an IP address, with or without a port, and
// valid in a URL.
func LocalHost(hostport string) bool {
	// Parsing a URL would be 3 % of a whoami request, so the common hosts do without.
	if host, port, found := strings.Cut(hostport, ":"); !found || isPort(port) {
		if addr, err := netip.ParseAddr(host); host == "localhost" || err == nil && addr.Is4() {
			return true
		}
	}
	if returnto.CheckOrigin("http://"+hostport) != nil {
		return false
	}
	host := (&url.URL{Host: hostport}).Hostname()
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	host = strings.ToLower(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") // RFC 6761 §6.3
}

// isPort reports whether text is a port as browsers write it.
func isPort(text string) bool {
	port, err := strconv.ParseUint(text, 10, 16)
	return err == nil && port > 0 && strconv.FormatUint(port, 10) == text
}

func checkAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	return err
}

// parseOrigin parses an origin as browsers write it, with nothing after the host and port.
func parseOrigin(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || returnto.CheckOrigin(raw) != nil || u.Scheme+"://"+u.Host != raw || u.Host != strings.ToLower(u.Host) {
		return nil, errors.New("give scheme and host in lower case, with a port if necessary and nothing after it, such as https://example.com")
	}
	if u.Scheme == "https" && u.Port() == "443" || u.Scheme == "http" && u.Port() == "80" {
		return nil, errors.New("leave out the port, which is the scheme's default: browsers do")
	}
	return u, nil
}

// parsePrefix parses an address or a CIDR range. IPv4 ranges in IPv6 notation become plain ones, since
// addresses are compared in that form.
func parsePrefix(raw string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(raw); err == nil {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(raw)
	if err == nil && prefix.Addr().Is4In6() && prefix.Bits() >= 96 {
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	return prefix, err
}

// checkTarget accepts what an operator may choose as a destination: any path here, any URL, as
// long as all browsers interpret it the same way. It returns it as browsers write it.
func checkTarget(target string) (string, error) {
	if target == "" {
		return "", nil
	}
	origin := "http://localhost"
	if u, err := url.Parse(target); err == nil && u.Host != "" {
		origin = u.Scheme + "://" + u.Host
	}
	checked, err := (returnto.Rules{}).Check(origin, target)
	if err != nil {
		return "", errors.New("give a path such as /app or a whole URL such as https://app.example.com/, percent-encoded where necessary")
	}
	return checked, nil
}
