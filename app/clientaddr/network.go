package clientaddr

import "net/netip"

// Network returns an address's network: the address itself, or for IPv6 its /64, the smallest prefix that a site gets
// (RFC 6177).
func Network(ip string) string { return prefixOf(ip, 64) }

// Site is Network with the /48, the largest prefix that a site gets: an attacker who has one can't start
// afresh from each of its 65,536 networks.
func Site(ip string) string { return prefixOf(ip, 48) }

func prefixOf(ip string, bits int) string {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return ip
	}
	addr = plain(addr)
	if addr.Is4() {
		return addr.String()
	}
	return netip.PrefixFrom(addr, bits).Masked().String()
}
