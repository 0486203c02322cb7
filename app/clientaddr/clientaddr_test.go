package clientaddr

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const proxy = "10.0.0.1"

func resolver(header string) Resolver {
	return Resolver{Header: header, Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("fe80::/10")}}
}

func sent(name string, lines ...string) http.Header {
	return http.Header{http.CanonicalHeaderKey(name): lines}
}

func TestAddressesInEverySpelling(t *testing.T) {
	for node, want := range map[string]string{
		"203.0.113.7": "203.0.113.7", "203.0.113.7:5678": "203.0.113.7", "203.0.113.7:_p": "203.0.113.7",
		"2001:db8::1": "2001:db8::1", "2001:DB8:0::1": "2001:db8::1", "[2001:db8::1]": "2001:db8::1", "[2001:db8::1]:443": "2001:db8::1",
		"fe80::1%eth0": "fe80::1", "[fe80::1%eth0]:80": "fe80::1", "[fe80::1%25eth0]": "fe80::1",
		"::ffff:203.0.113.7": "203.0.113.7", "[::ffff:203.0.113.7]:80": "203.0.113.7",
	} {
		addr, err := parseNode(node)
		require.NoError(t, err, node)
		require.Equal(t, want, addr.String(), node)
	}
	for _, node := range []string{"x", "203.0.113", "203.0.113.7.8", "0203.0.113.7", "0x7f.0.0.1", "203.0.113.7:", "203.0.113.7:x", "203.0.113.7:65536", "203.0.113.7:-1",
		"203.0.113.7:+1", "203.0.113.7 1", "[203.0.113.7]", "[2001:db8::1", "2001:db8::1]", "[2001:db8::1]443", "[2001:db8::1]:", "[]", "[]:1", ":80", "::1::", "fe80::1%",
		"localhost", "<script>", `"203.0.113.7"`, "203.0.113.7/32", "_", "_a b", "unknown.example"} {
		_, err := parseNode(node)
		require.ErrorIs(t, err, errNoAddress, node)
	}
	for _, node := range []string{"unknown", "Unknown", "unknown:80", "_hidden", "_SEVKISEK", "_a.b-c:_p"} {
		_, err := parseNode(node)
		require.ErrorIs(t, err, ErrHidden, node)
	}
}

func TestTheClientIsTheLastAddressThatIsNoProxys(t *testing.T) {
	for _, c := range []struct {
		header string
		lines  []string
		want   string
		wrong  bool
	}{
		{XForwardedFor, nil, proxy, false},
		{XForwardedFor, []string{""}, proxy, false},
		{XForwardedFor, []string{"203.0.113.7:5678"}, "203.0.113.7", false},
		{XForwardedFor, []string{"6.6.6.6, [2001:db8::1]:443, 10.0.0.2:80"}, "2001:db8::1", false},
		{XForwardedFor, []string{"6.6.6.6", "203.0.113.7", " 10.0.0.2 ,,\t10.0.0.3 ,"}, "203.0.113.7", false},
		{XForwardedFor, []string{"garbage, 203.0.113.7"}, "203.0.113.7", false},
		{XForwardedFor, []string{"10.0.0.4, 10.0.0.2"}, "10.0.0.4", false},
		{XForwardedFor, []string{"203.0.113.7, garbage, 10.0.0.2"}, "10.0.0.2", true},
		{XForwardedFor, []string{"203.0.113.7, unknown"}, proxy, true},
		{XForwardedFor, []string{"fe80::1%eth0, [fd00::1]"}, "fe80::1", false},

		{XRealIP, []string{"203.0.113.7"}, "203.0.113.7", false},
		{XRealIP, []string{"[2001:db8::1]:443"}, "2001:db8::1", false},
		{XRealIP, []string{"10.0.0.2"}, "10.0.0.2", false},
		{XRealIP, []string{"6.6.6.6, 203.0.113.7"}, proxy, true},
		{XRealIP, []string{"6.6.6.6", "203.0.113.7"}, proxy, true},

		// RFC 7239 §4 and §6 have most of these.
		{Forwarded, []string{"for=192.0.2.43"}, "192.0.2.43", false},
		{Forwarded, []string{`for="[2001:db8:cafe::17]:4711"`}, "2001:db8:cafe::17", false},
		{Forwarded, []string{"For=192.0.2.60;proto=http;by=203.0.113.43"}, "192.0.2.60", false},
		{Forwarded, []string{"for=192.0.2.43, for=198.51.100.17"}, "198.51.100.17", false},
		{Forwarded, []string{"for=192.0.2.43", `for="198.51.100.17:80"; host=example.com`}, "198.51.100.17", false},
		{Forwarded, []string{`for=6.6.6.6, for="[2001:db8::1]" , for=10.0.0.2;by=10.0.0.1, `}, "2001:db8::1", false},
		{Forwarded, []string{`for="19\2.0.2.43"`}, "192.0.2.43", false},
		{Forwarded, []string{`for=192.0.2.43;host="a\", for=6.6.6.6;x=\"y,;"`}, "192.0.2.43", false},
		{Forwarded, []string{`for="_gazonk"`}, proxy, true},
		{Forwarded, []string{"for=unknown"}, proxy, true},
		{Forwarded, []string{"for=_hidden, for=10.0.0.2"}, "10.0.0.2", true},
		{Forwarded, []string{"proto=http;by=203.0.113.43"}, proxy, true},
		{Forwarded, []string{"192.0.2.43"}, proxy, true},
		{Forwarded, []string{"for=192.0.2.43:80"}, proxy, true},             // a colon needs quotes
		{Forwarded, []string{`for="2001:db8::1"`}, proxy, true},             // needs brackets
		{Forwarded, []string{"for=192.0.2.43;for=192.0.2.44"}, proxy, true}, // which?
		{Forwarded, []string{"for = 192.0.2.43"}, proxy, true},
		{Forwarded, []string{`for="192.0.2.43`}, proxy, true},
		{Forwarded, []string{`for="192.0.2.43"x`}, proxy, true},
		{Forwarded, []string{`for=`}, proxy, true},
		{Forwarded, []string{`for=""`}, proxy, true},
		// What a client has broken to the left of what a proxy says.
		{Forwarded, []string{`for=", for=203.0.113.7`}, "203.0.113.7", false},
		{Forwarded, []string{`for="\, for="[2001:db8::1]:4711";proto=https`}, "2001:db8::1", false},
		{Forwarded, []string{`for="6.6.6.6`, `for=203.0.113.7`}, "203.0.113.7", false},
	} {
		client, err := resolver(c.header).Client(proxy+":1234", sent(c.header, c.lines...))
		require.Equal(t, c.want, client, "%s: %q", c.header, c.lines)
		require.Equal(t, c.wrong, err != nil, "%s: %q: %v", c.header, c.lines, err)
	}
}

func TestOnlyAProxysOwnHeaderIsRead(t *testing.T) {
	for _, header := range Headers {
		for _, other := range Headers {
			client, err := resolver(header).Client(proxy+":1", sent(other, map[string]string{Forwarded: "for=203.0.113.7"}[other]+map[string]string{XRealIP: "203.0.113.7", XForwardedFor: "203.0.113.7"}[other]))
			require.NoError(t, err)
			require.Equal(t, map[bool]string{true: "203.0.113.7", false: proxy}[header == other], client, "%s for %s", other, header)
		}
		client, err := resolver(header).Client("192.0.2.1:1", sent(header, "garbage"))
		require.NoError(t, err)
		require.Equal(t, "192.0.2.1", client, "no proxy")
	}
	for remote, want := range map[string]string{"[fe80::1%eth0]:80": "203.0.113.7", "[::ffff:10.0.0.1]:80": "203.0.113.7", "[2001:db8::9]:80": "2001:db8::9", "@": "@", "": ""} {
		client, err := resolver(XForwardedFor).Client(remote, sent(XForwardedFor, "203.0.113.7"))
		require.NoError(t, err)
		require.Equal(t, want, client, remote)
	}
}

// Whatever a client writes, it can neither choose its address nor hide what the proxy appends.
func FuzzClient(f *testing.F) {
	for _, seed := range []string{"", "6.6.6.6", "[::1]:80", "unknown, _x", `for="[2001:db8::1]:4711";proto=https`, `for="`, `for="\`, `\"`, `for=1.2.3.4;for="a\"b,c"`, ",,;;==", "for=_a;by=\"\\\\\"", "\x00\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, claimed string) {
		for header, own := range map[string]string{XForwardedFor: "203.0.113.7:5678", Forwarded: `for="[2001:db8::7]:4711";host="a\",b"`} {
			want := map[string]string{XForwardedFor: "203.0.113.7", Forwarded: "2001:db8::7"}[header]
			for _, lines := range [][]string{{claimed + ", " + own}, {claimed, own}} {
				client, err := resolver(header).Client(proxy+":1", sent(header, lines...))
				require.NoError(t, err)
				require.Equal(t, want, client)
			}
		}
		for _, header := range Headers {
			client, err := resolver(header).Client(proxy+":1", sent(header, claimed))
			addr, invalid := netip.ParseAddr(client)
			require.NoError(t, invalid)
			require.Equal(t, client, addr.String())
			require.Empty(t, addr.Zone())
			require.False(t, addr.Is4In6())
			if err != nil {
				require.True(t, resolver(header).Trusts(addr), "what is no address counts as the proxy's")
				require.NotContains(t, err.Error(), "\n")
				require.Less(t, len(err.Error()), 1000)
			}
			if strings.Trim(claimed, " \t,;") == "" && header != XRealIP {
				require.Equal(t, proxy, client)
			}
		}
	})
}
