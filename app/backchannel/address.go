package backchannel

import (
	"fmt"
	"net/netip"
	"syscall"
)

// notPublic is the error for an address that isn't public.
type notPublic netip.Addr

func (a notPublic) Error() string {
	return fmt.Sprintf("%s isn't a public address, and APPS_PUBLIC_ONLY is set", netip.Addr(a))
}

// dialPublic is a net.Dialer's Control. It sees the address that is actually dialled,
// after the DNS lookup, so that a name can't be public first and private then.
func dialPublic(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("parse the address to dial: %w", err)
	}
	if !IsPublic(to.Addr()) {
		return notPublic(to.Addr())
	}
	return nil
}

// Addresses that aren't globally reachable, or lead to some that aren't: IANA's
// registries of special-purpose addresses, RFC 6890, and multicast.
var (
	notPublic4 = prefixes(
		"0.0.0.0/8",       // this network
		"10.0.0.0/8",      // private
		"100.64.0.0/10",   // behind a provider's NAT
		"127.0.0.0/8",     // loopback
		"169.254.0.0/16",  // link-local, and the clouds' metadata
		"172.16.0.0/12",   // private
		"192.0.0.0/24",    // protocol assignments
		"192.0.2.0/24",    // documentation
		"192.88.99.0/24",  // relays to 6to4
		"192.168.0.0/16",  // private
		"198.18.0.0/15",   // benchmarks
		"198.51.100.0/24", // documentation
		"203.0.113.0/24",  // documentation
		"224.0.0.0/4",     // multicast
		"240.0.0.0/4",     // reserved, and broadcast
	)
	// global6 contains all public addresses. Outside of it are ::, ::1,
	// IPv4 addresses in old forms, fc00::/7, fe80::/10, ff00::/8 and the like.
	global6    = netip.MustParsePrefix("2000::/3")
	notPublic6 = prefixes(
		"2001::/23",     // protocol assignments: Teredo, benchmarks, ORCHID
		"2001:db8::/32", // documentation
		"2002::/16",     // 6to4, which hides an IPv4 address
		"3fff::/20",     // documentation
	)
	// nat64 holds an IPv4 address in its last four bytes. IPv6-only hosts reach
	// all of IPv4 that way (RFC 6052).
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
)

func prefixes(list ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, p := range list {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}

// IsPublic reports whether addr is a public address on the internet.
func IsPublic(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	if nat64.Contains(addr) {
		bytes := addr.As16()
		addr = netip.AddrFrom4([4]byte(bytes[12:]))
	}
	if addr.Is4() {
		return !within(notPublic4, addr)
	}
	return global6.Contains(addr) && !within(notPublic6, addr)
}

func within(list []netip.Prefix, addr netip.Addr) bool {
	for _, p := range list {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
