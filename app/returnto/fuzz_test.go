package returnto

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// allowedOrigins says in its own way which origins the rules of these tests and the
// origin itself allow.
var allowedOrigins = regexp.MustCompile(`^(` + strings.Join([]string{
	`https://login\.example\.com`,
	`https://(app|limited|shouting|spaced)\.example\.org`,
	`https://[a-z0-9_.-]+\.apps\.example\.net`,
	`https://[a-z0-9_.-]+\.ports\.example\.net:8443`,
	`http://nas\.lan:5000`,
	`http://192\.0\.2\.7`,
	`https://\[2001:db8::1\]:8443`,
	`https://xn--bcher-kva\.example`,
}, `|`) + `)$`)

func FuzzCheck(f *testing.F) {
	for _, seed := range []string{
		"/x?y#z", "//evil.test", `/\evil.test`, "/%2e%2e//evil.test", "/\t/evil.test", "https:evil.test",
		"https:///evil.test", "HTTPS://Login.Example.com:443/X", "https://login.example.com@evil.test/",
		`https://evil.test\@a.apps.example.net/`, "https://a.apps.example.net:08443/", "http://192.0.2.7:80?x",
		"http://0xc0.2.7", "https://[2001:db8::1]:8443/", "https://xn--bcher-kva.apps.example.net",
		"https://a.ports.example.net:8443/in/x", "https://limited.example.org/app%2f", "http://nas.lan:5000#/x",
	} {
		f.Add(seed)
	}
	r := rules(f)
	own, err := url.Parse(origin)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, raw string) {
		to, err := r.Check(origin, raw)
		if err != nil {
			require.ErrorAs(t, err, new(*Refused))
			require.Empty(t, to)
			return
		}

		again, err := r.Check(origin, to)
		require.NoError(t, err)
		require.Equal(t, to, again, "checked twice")

		for _, s := range []string{raw, to} {
			require.Regexp(t, allowedOrigins, browserOrigin(s), "a browser's view of %q", s)
		}
		resolved, err := own.Parse(to)
		require.NoError(t, err)
		require.Nil(t, resolved.User)
		require.Regexp(t, allowedOrigins, resolved.Scheme+"://"+resolved.Host, "net/url's view of %q", to)
		require.Equal(t, resolved.Host, browserOrigin(to)[len(resolved.Scheme+"://"):])
		if Host(raw) == "" {
			require.Equal(t, origin, browserOrigin(to), "only a path is without a host")
		} else {
			require.Equal(t, resolved.Host, Host(raw))
		}
		segments := strings.Split(resolved.Path, "/")
		require.False(t, slices.Contains(segments, "..") || slices.Contains(segments, "."), "dot segments in %q", to)
		if resolved.Host == "limited.example.org" {
			require.Regexp(t, `^/app(/|$)`, resolved.Path)
		}
	})
}

// browserOrigin returns the origin that raw leads to from a page of ours if read as
// generously as a browser does (WHATWG URL §4.4), apart from what only makes a host
// unlike any that is allowed: IDNA, and numbers for addresses.
func browserOrigin(raw string) string {
	s := strings.TrimFunc(raw, func(r rune) bool { return r <= ' ' })
	s = strings.NewReplacer("\t", "", "\n", "", "\r", "").Replace(s)
	special := regexp.MustCompile(`^(?i)(https?):(.*)$`).FindStringSubmatch(s)
	scheme, rest := "https", s
	switch {
	case special != nil:
		scheme, rest = strings.ToLower(special[1]), special[2]
		if scheme == "https" && !regexp.MustCompile(`^[/\\]{2}`).MatchString(rest) {
			return origin // "https:x" is relative to a page of the same scheme
		}
	case regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9+.-]*:`).MatchString(s):
		return "another scheme"
	case !regexp.MustCompile(`^[/\\]{2}`).MatchString(s):
		return origin
	}
	rest = strings.TrimLeft(rest, `/\`)
	if i := strings.IndexAny(rest, `/\?#`); i >= 0 {
		rest = rest[:i]
	}
	rest = rest[strings.LastIndexByte(rest, '@')+1:]
	if host, err := url.PathUnescape(rest); err == nil {
		rest = host
	}
	rest = strings.ToLower(rest)
	if scheme == "https" {
		return scheme + "://" + strings.TrimSuffix(rest, ":443")
	}
	return scheme + "://" + strings.TrimSuffix(rest, ":80")
}
