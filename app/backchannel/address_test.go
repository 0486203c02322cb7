package backchannel

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAddressesThatArePublic(t *testing.T) {
	for _, addr := range []string{
		"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
		"169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.0.3.0", "192.167.255.255", "192.169.0.0",
		"198.17.255.255", "198.20.0.0", "198.51.99.255", "203.0.112.255", "203.0.114.0", "223.255.255.255",
		"::ffff:1.1.1.1", "64:ff9b::1.1.1.1", "2606:4700::1111", "2001:4860:4860::8888", "2001:200::1", "2a00:1450::1", "3ffe::1",
	} {
		require.True(t, IsPublic(netip.MustParseAddr(addr)), addr)
	}
}

func TestAddressesThatAreNot(t *testing.T) {
	for addr, what := range map[string]string{
		"0.0.0.0": "unspecified", "0.1.2.3": "this network", "::": "unspecified",
		"127.0.0.1": "loopback", "127.255.255.255": "loopback", "::1": "loopback",
		"10.0.0.0": "private", "10.255.255.255": "private", "172.16.0.0": "private", "172.31.255.255": "private",
		"192.168.0.0": "private", "192.168.255.255": "private",
		"169.254.0.0": "link-local", "169.254.169.254": "metadata", "169.254.255.255": "link-local",
		"fe80::1": "link-local", "fe80::1%eth0": "link-local", "febf::1": "link-local", "fec0::1": "site-local",
		"100.64.0.0": "CGNAT", "100.127.255.255": "CGNAT",
		"fc00::1": "ULA", "fd12:3456::1": "ULA", "fd00:ec2::254": "metadata",
		"192.0.0.0": "assignments", "192.0.0.170": "assignments", "192.88.99.1": "6to4 relay",
		"192.0.2.1": "documentation", "198.51.100.1": "documentation", "203.0.113.255": "documentation",
		"2001:db8::1": "documentation", "2001:db8:ffff::1": "documentation", "3fff::1": "documentation", "3fff:fff::1": "documentation",
		"198.18.0.0": "benchmarks", "198.19.255.255": "benchmarks", "2001:2::1": "benchmarks",
		"224.0.0.1": "multicast", "239.255.255.255": "multicast", "ff02::1": "multicast", "ff0e::1": "multicast",
		"240.0.0.1": "reserved", "255.255.255.255": "broadcast", "4000::1": "reserved", "5f00::1": "SRv6", "100::1": "discarded",
		"::ffff:127.0.0.1": "mapped", "::ffff:10.0.0.1": "mapped", "::ffff:169.254.169.254": "mapped", "::ffff:0.0.0.0": "mapped",
		"::ffff:0:127.0.0.1": "translated", "::127.0.0.1": "compatible", "::1.1.1.1": "compatible",
		"64:ff9b::127.0.0.1": "NAT64", "64:ff9b::10.0.0.1": "NAT64", "64:ff9b::169.254.169.254": "NAT64", "64:ff9b::": "NAT64",
		"64:ff9b::1%eth0": "NAT64", "64:ff9b:1::1.1.1.1": "local NAT64",
		"2002:7f00:1::": "6to4", "2002:a00:1::1": "6to4", "2002:c0a8:101::1": "6to4",
		"2001::1": "Teredo", "2001:0:5ef5:79fd::1": "Teredo", "2001:10::1": "ORCHID", "2001:20::1": "ORCHID",
	} {
		require.False(t, IsPublic(netip.MustParseAddr(addr)), "%s: %s", addr, what)
	}
	require.False(t, IsPublic(netip.Addr{}))
}

func TestDialIsRefusedWhereTheAddressIsNoAddress(t *testing.T) {
	for _, address := range []string{"", "localhost:80", "127.0.0.1", "127.0.0.1:80", "[::1]:80", "[fe80::1%eth0]:80"} {
		require.Error(t, dialPublic("tcp", address, nil), address)
	}
	require.NoError(t, dialPublic("tcp4", "1.1.1.1:443", nil))
	require.NoError(t, dialPublic("tcp6", "[2606:4700::1111]:443", nil))
}
