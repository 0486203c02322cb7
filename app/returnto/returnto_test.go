package returnto

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const origin = "https://login.example.com"

// rules has an entry of every kind.
func rules(t testing.TB) Rules {
	t.Helper()
	r, err := Parse([]string{
		"https://app.example.org",
		"https://limited.example.org/app",
		"https://*.apps.example.net",
		"https://*.ports.example.net:8443/in/",
		"http://nas.lan:5000",
		"http://192.0.2.7",
		"https://[2001:db8::1]:8443",
		"HTTPS://Shouting.Example.org:443/",
		"https://xn--bcher-kva.example",
		" https://spaced.example.org ",
		"",
	})
	require.NoError(t, err)
	return r
}

func TestAllowedReturnToIsGivenInItsPlainForm(t *testing.T) {
	for _, c := range []struct{ why, raw, want string }{
		{"a path", "/x", "/x"},
		{"the root", "/", "/"},
		{"a path with a query and a fragment", "/x?a=b&c=%2F%0A#d/../e", "/x?a=b&c=%2F%0A#d/../e"},
		{"an address in a path is no user-info", "/@ada", "/@ada"},
		{"a URL in a query is data", "/x?next=https://evil.test//", "/x?next=https://evil.test//"},
		{"a URL in a path is a path", "/x/https://evil.test", "/x/https://evil.test"},
		{"a colon in a first segment with a slash before", "/https:evil.test", "/https:evil.test"},
		{"dots in a name are no dot segment", "/.well-known/..x/x../...", "/.well-known/..x/x../..."},
		{"an encoded space", "/my%20files", "/my%20files"},
		{"an encoded letter outside ASCII", "/caf%C3%A9", "/caf%C3%A9"},
		{"an encoded percent sign", "/100%25", "/100%25"},
		{"two slashes further on", "/x//y", "/x//y"},
		{"what browsers leave raw in a query", "/?q={a|b}^[c]*", "/?q={a|b}^[c]*"},

		{"this origin", "https://login.example.com", "https://login.example.com"},
		{"this origin with a path", "https://login.example.com/x?y#z", "https://login.example.com/x?y#z"},
		{"this origin, its port spelled out", "https://login.example.com:443/x", "https://login.example.com/x"},
		{"this origin in capitals", "HTTPS://LOGIN.Example.COM/X", "https://login.example.com/X"},
		{"this origin with a query but no path", "https://login.example.com?x", "https://login.example.com?x"},

		{"an entry", "https://app.example.org", "https://app.example.org"},
		{"below an entry", "https://app.example.org/x/y", "https://app.example.org/x/y"},
		{"a fragment at an entry", "https://app.example.org#/route", "https://app.example.org#/route"},
		{"an @ after the host", "https://app.example.org/@ada?x=@b", "https://app.example.org/@ada?x=@b"},
		{"an entry's path", "https://limited.example.org/app", "https://limited.example.org/app"},
		{"an entry's path with a slash", "https://limited.example.org/app/", "https://limited.example.org/app/"},
		{"an entry's path with a query", "https://limited.example.org/app?x", "https://limited.example.org/app?x"},
		{"below an entry's path", "https://limited.example.org/app/x", "https://limited.example.org/app/x"},
		{"a subdomain of a wildcard", "https://a.apps.example.net/", "https://a.apps.example.net/"},
		{"a deep subdomain of a wildcard", "https://c.b.a.apps.example.net", "https://c.b.a.apps.example.net"},
		{"an underscore in a label", "https://a_b.apps.example.net", "https://a_b.apps.example.net"},
		{"an xn-- label under a wildcard", "https://xn--bcher-kva.apps.example.net", "https://xn--bcher-kva.apps.example.net"},
		{"a wildcard with a port and a path", "https://a.ports.example.net:8443/in/x", "https://a.ports.example.net:8443/in/x"},
		{"an entry's path, written with a slash, without it", "https://a.ports.example.net:8443/in", "https://a.ports.example.net:8443/in"},
		{"http where the entry says so", "http://nas.lan:5000/", "http://nas.lan:5000/"},
		{"an IPv4 address", "http://192.0.2.7/x", "http://192.0.2.7/x"},
		{"an IPv4 address, its port spelled out", "http://192.0.2.7:80/x", "http://192.0.2.7/x"},
		{"an IPv6 address", "https://[2001:db8::1]:8443/x", "https://[2001:db8::1]:8443/x"},
		{"an IPv6 address in capitals", "https://[2001:DB8::1]:8443/x", "https://[2001:db8::1]:8443/x"},
		{"an entry in capitals", "https://shouting.example.org/x", "https://shouting.example.org/x"},
		{"an entry in xn-- form", "https://XN--Bcher-KVA.example/", "https://xn--bcher-kva.example/"},
		{"an entry with spaces around it", "https://spaced.example.org/", "https://spaced.example.org/"},
		{"as long as can be", "/" + strings.Repeat("x", MaxLength-1), "/" + strings.Repeat("x", MaxLength-1)},
	} {
		t.Run(c.why, func(t *testing.T) {
			got, err := rules(t).Check(origin, c.raw)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestReturnToElsewhereIsRefused(t *testing.T) {
	for _, c := range []struct{ why, raw, reason string }{
		{"nothing", "", "empty"},
		{"too long by a byte", "/" + strings.Repeat("x", MaxLength), "longer"},

		{"a host that isn't allowed", "https://evil.test", "no entry"},
		{"this host over http", "http://login.example.com/", "no entry"},
		{"this host on another port", "https://login.example.com:8443/", "no entry"},
		{"an allowed host over http", "http://app.example.org/", "no entry"},
		{"an allowed host on another port", "https://app.example.org:8443/", "no entry"},
		{"http's port over https", "https://app.example.org:80/", "no entry"},
		{"an allowed host as a prefix", "https://app.example.org.evil.test/", "no entry"},
		{"an allowed host as a suffix", "https://evilapp.example.org/", "no entry"},
		{"a subdomain where no wildcard is", "https://x.app.example.org/", "no entry"},
		{"the wildcard's own domain", "https://apps.example.net/", "no entry"},
		{"a wildcard's domain within a label", "https://evilapps.example.net/", "no entry"},
		{"a wildcard's domain as a prefix", "https://a.apps.example.net.evil.test/", "no entry"},
		{"a wildcard without its port", "https://a.ports.example.net/in", "no entry"},
		{"a wildcard without its path", "https://a.ports.example.net:8443/", "no entry"},
		{"an entry's path within a segment", "https://limited.example.org/apple", "no entry"},
		{"above an entry's path", "https://limited.example.org/", "no entry"},
		{"an entry's path in capitals", "https://limited.example.org/App", "no entry"},
		{"an entry's path, encoded", "https://limited.example.org/%61pp", "no entry"},

		{"no scheme", "//evil.test", "two slashes"},
		{"no scheme, three slashes", "///evil.test", "two slashes"},
		{"no scheme, though this host", "//login.example.com", "two slashes"},
		{"two slashes after this host, for a router that redirects", "https://login.example.com//evil.test", "two slashes"},
		{"a backslash for the second slash", `/\evil.test`, "backslash"},
		{"backslashes for both", `\\evil.test`, "backslash"},
		{"a backslash before user-info", `https://evil.test\@login.example.com/`, "backslash"},
		{"a backslash that ends the host for browsers alone", `https://evil.test\.apps.example.net/`, "backslash"},
		{"a backslash in a query", `/x?a\b`, "backslash"},
		{"no slashes", "https:evil.test", "begin it"},
		{"one slash", "https:/evil.test", "begin it"},
		{"three slashes", "https:///evil.test", "no host"},
		{"no slashes, this host", "https:login.example.com", "begin it"},
		{"a scheme that runs", "javascript:alert(1)", "begin it"},
		{"a scheme that runs, with slashes", "javascript://login.example.com/%0aalert(1)", "begin it"},
		{"data", "data:text/html,x", "begin it"},
		{"a scheme that takes an app over", "intent://login.example.com/", "begin it"},
		{"ftp", "ftp://login.example.com/", "begin it"},
		{"a URL within a scheme", "blob:https://login.example.com/x", "begin it"},
		{"a relative path", "x", "begin it"},
		{"a relative path that looks like a host", "login.example.com", "begin it"},
		{"only a query", "?x", "begin it"},
		{"only a fragment", "#x", "begin it"},
		{"a star", "*", "begin it"},

		{"user-info", "https://login.example.com@evil.test/", "user name"},
		{"user-info with a password", "https://login.example.com:443@evil.test/", "user name"},
		{"user-info before this host", "https://ada@login.example.com/", "user name"},
		{"empty user-info", "https://@login.example.com/", "user name"},
		{"user-info that ends at the second @", "https://a@login.example.com@evil.test/", "user name"},

		{"a tab that browsers drop", "/\t/evil.test", "control"},
		{"a line break that browsers drop", "/\n/evil.test", "control"},
		{"a header of its own", "/x\r\nSet-Cookie: a=b", "control"},
		{"a tab within the scheme", "ht\ttps://evil.test", "control"},
		{"NUL", "/x\x00", "control"},
		{"DEL", "/x\x7f", "control"},
		{"a space before", " //evil.test", "space"},
		{"a space behind", "/x ", "space"},
		{"a space in a host", "https://login.example.com .evil.test/", "space"},

		{"a letter outside ASCII", "/café", "outside ASCII"},
		{"a full-width slash, which is / after IDNA", "https://evil.test／.apps.example.net/", "outside ASCII"},
		{"a full-width dot, which is . after IDNA", "https://login。example.com/", "outside ASCII"},
		{"a sharp s, which was ss once", "https://faß.apps.example.net/", "outside ASCII"},
		{"a soft hyphen, which vanishes", "https://login\u00ad.example.com/", "outside ASCII"},
		{"a byte that is no text", "/\xff", "outside ASCII"},

		{"a trailing dot", "https://login.example.com./", "plain name"},
		{"an empty label", "https://a..apps.example.net/", "plain name"},
		{"a leading dot", "https://.apps.example.net/", "plain name"},
		{"an encoded host", "https://%65vil.test/", "plain name"},
		{"an encoded slash in a host", "https://evil.test%2f.apps.example.net/", "plain name"},
		{"an encoded NUL in a host", "https://evil.test%00.apps.example.net/", "plain name"},
		{"a comma in a host", "https://a,b.apps.example.net/", "plain name"},
		{"a quote in a host", `https://a".apps.example.net/`, "plain name"},
		{"a star in a host", "https://*.apps.example.net/", "wildcard"},
		{"a label that is too long", "https://" + strings.Repeat("a", 64) + ".apps.example.net/", "plain name"},
		{"a host that is too long", "https://" + strings.Repeat("a.", 120) + "apps.example.net/", "253"},
		{"xn-- with nothing behind", "https://xn--.apps.example.net/", "xn--"},
		{"xn-- that decodes to plain ASCII", "https://xn--evil-.apps.example.net/", "xn--"},
		{"xn-- that doesn't decode", "https://xn--0.apps.example.net/", "xn--"},

		{"no port after the colon", "https://login.example.com:/", "port"},
		{"a port with leading zeros", "https://login.example.com:0443/", "port"},
		{"a port that is too high", "https://login.example.com:65979/", "port"},
		{"port 0", "https://login.example.com:0/", "port"},
		{"a port with a sign", "https://login.example.com:+443/", "port"},
		{"a port that is no number", "https://login.example.com:x/", "port"},
		{"two ports", "https://login.example.com:443:443/", "plain name"},

		{"IPv4 as one number", "http://3221225991/", "IPv4"},
		{"IPv4 in hexadecimal", "http://0xc0.0x0.0x2.0x7/", "IPv4"},
		{"IPv4 with leading zeros", "http://192.000.002.007/", "IPv4"},
		{"IPv4 with parts missing", "http://192.519/", "IPv4"},
		{"IPv4 out of range", "http://192.0.2.256/", "IPv4"},
		{"a bare 0x", "http://evil.0x/", "IPv4"},
		{"a number for a last label", "http://nas.1/", "IPv4"},
		{"an IPv6 zone", "https://[fe80::1%25eth0]/", "IPv6"},
		{"IPv6 at length", "https://[2001:db8:0::1]:8443/", "IPv6"},
		{"IPv4 within IPv6", "http://[::ffff:192.0.2.7]/", "IPv6"},
		{"IPv4 within IPv6, in hexadecimal", "http://[::ffff:c000:207]/", "IPv6"},
		{"IPv4 in brackets", "http://[192.0.2.7]/", "IPv6"},
		{"IPv6 with something behind", "https://[2001:db8::1].evil.test/", "IPv6"},
		{"IPv6 with something behind and a port", "https://[2001:db8::1]evil:8443/", "IPv6"},
		{"IPv6 that doesn't end", "https://[2001:db8::1/", "IPv6"},
		{"IPv6 without brackets", "https://2001:db8::1/", "plain name"},

		{"an encoded slash", "/%2fevil.test", "encoded slash"},
		{"an encoded slash in capitals", "/%2Fevil.test", "encoded slash"},
		{"an encoded backslash", "/%5cevil.test", "encoded slash"},
		{"an encoded tab", "/%09/evil.test", "encoded control"},
		{"an encoded line break", "/x%0d%0aSet-Cookie:a=b", "encoded control"},
		{"an encoded NUL", "/x%00", "encoded control"},
		{"a dot segment before two slashes", "/.//evil.test", ". or .."},
		{"dot segments out of an entry", "https://limited.example.org/app/../admin", ". or .."},
		{"dot segments at the end", "/x/..", ". or .."},
		{"encoded dot segments", "/x/%2e%2E//evil.test", ". or .."},
		{"half-encoded dot segments", "/x/.%2e//evil.test", ". or .."},
		{"an encoded single dot", "/%2e//evil.test", ". or .."},
		{"half an escape", "/x%2", "%25"},
		{"no escape", "/x%zz", "%25"},
		{"no escape in a query", "/x?discount=50%", "%25"},
	} {
		t.Run(c.why, func(t *testing.T) {
			got, err := rules(t).Check(origin, c.raw)
			require.Empty(t, got)
			var refused *Refused
			require.ErrorAs(t, err, &refused)
			require.Contains(t, refused.Reason, c.reason)
			require.Regexp(t, `^return_to .+\.$`, refused.Reason, "a sentence")
		})
	}
}

func TestZeroRulesAllowOnlyThisOrigin(t *testing.T) {
	var none Rules
	for _, raw := range []string{"/x", origin, origin + "/x"} {
		_, err := none.Check(origin, raw)
		require.NoError(t, err)
	}
	_, err := none.Check(origin, "https://app.example.org/")
	require.ErrorAs(t, err, new(*Refused))
	require.Empty(t, none.Sources())
}

func TestOriginMayHaveAnAddressAndAPort(t *testing.T) {
	var none Rules
	for _, own := range []string{"http://localhost:4433", "http://127.0.0.1:4433", "http://[::1]:4433", "https://login.example.com:8443"} {
		_, err := none.Check(own, own+"/x")
		require.NoError(t, err)
		_, err = none.Check(own, strings.Replace(own, "://", "://x", 1))
		require.Error(t, err)
	}
}

func TestBadOriginIsNotBlamedOnReturnTo(t *testing.T) {
	for _, own := range []string{"", "/", "login.example.com", "https://a@b"} {
		_, err := Rules{}.Check(own, "/x")
		require.Error(t, err)
		require.NotErrorAs(t, err, new(*Refused))
	}
}

func TestBadEntryIsNamed(t *testing.T) {
	for _, c := range []struct{ entry, says string }{
		{"app.example.org", "begin it with https://"},
		{"app.example.org:8443", "begin it with https://"},
		{"ftp://app.example.org", "begin it with https://"},
		{"*", "begin it with https://"},
		{"/app", "always allowed"},
		{"//app.example.org", "no scheme"},
		{"https://", "no host"},
		{"https://app.example.org/?x", "query"},
		{"https://app.example.org#", "fragment"},
		{"https://ada:pw@app.example.org", "user name"},
		{"https://app.example.org:", "port"},
		{"https://bücher.example", "xn--"},
		{"https://app.example.org https://b.example.org", "space"},
		{"https://app.example.org/a/../b", ". or .."},
		{"https://*", "wildcard"},
		{"https://*app.example.org", "wildcard"},
		{"https://app.*.example.org", "wildcard"},
		{"https://*.*.example.org", "wildcard"},
		{"https://*.", "no host"},
		{"https://*.192.0.2.7", "IP address"},
		{"https://*.com", "anybody"},
		{"https://*.co.uk", "anybody"},
		{"https://*.github.io", "anybody"},
		{"https://app.example.org/://*.example.net/..", ". or .."},
	} {
		t.Run(c.entry, func(t *testing.T) {
			_, err := Parse([]string{"https://fine.example.org", c.entry})
			require.ErrorContains(t, err, `"`+c.entry+`" in ALLOWED_RETURN_URLS`)
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestWildcardOfAHomeNetworkIsFine(t *testing.T) {
	r, err := Parse([]string{"http://*.lan", "https://*.home.arpa"})
	require.NoError(t, err)
	_, err = r.Check(origin, "http://nas.lan/")
	require.NoError(t, err)
}

func TestSourcesNameEachOriginOnce(t *testing.T) {
	r, err := Parse([]string{
		"https://a.example/app", "https://a.example/other", "https://*.Example.com", "http://nas.lan:5000", "https://b.example:443",
	})
	require.NoError(t, err)
	require.Equal(t, []string{"https://a.example", "https://*.example.com", "http://nas.lan:5000", "https://b.example"}, r.Sources())
}

func TestHostIsWhatAPersonReads(t *testing.T) {
	for raw, want := range map[string]string{
		"https://App.example.com/x":            "app.example.com",
		"https://app.example.com:443/x":        "app.example.com",
		"https://app.example.com:8443/x":       "app.example.com:8443",
		"https://[2001:db8::1]:8443":           "[2001:db8::1]:8443",
		"/x":                                   "",
		"":                                     "",
		`https://login.example.com\@evil.test`: "",
	} {
		require.Equal(t, want, Host(raw), raw)
	}
}
