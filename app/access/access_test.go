package access

import (
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"

	"latchkey/app/returnto"
	"latchkey/models"
)

func FuzzHostName(f *testing.F) {
	for _, seed := range []string{"", "a", "A.example.com.:443", "[::1]:80", "bücher.example.com", "a:b", "a..b", "127.1", "a@b", "。", "a:99999", ":80", "[::1", "xn--", "a.:1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, authority string) {
		host := HostName(authority)
		if host == "" {
			return
		}
		require.Equal(t, host, HostName(host), "it stays what it is")
		require.Equal(t, host, HostName(host+":8443"))
		require.Equal(t, host, returnto.Host("http://"+host), "browsers take it for the same")
		require.NotRegexp(t, `[^a-z0-9._:\[\]-]`, host)
	})
}

func FuzzAccess(f *testing.F) {
	for _, seed := range []string{"", " ", "wiki.example.com=staff,editors *.lab.example.com=lab", "*=a", "*.=a", "*.*=a", "a=b a=c", "A.example=b a.example.=c", "a:80=b", "[::1]=b",
		"127.1=b", "*.127.0.0.1=b", "bücher.example=b", "a=", "=a", "a=b=c", "a=b,,c", "a=b\u00a0c=d", "*.com=a x.com=b", "\x00=a",
		"a=SIGNED-IN", "a=b,PREFLIGHT a/x=PUBLIC a/y/*=PUBLIC", "*/*=PUBLIC *=b", "a=SIGNED-IN,b", "a=PREFLIGHT", "a/=PUBLIC a=b", "a/x=b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, setting string) {
		rules, err := Parse(setting)
		if err != nil {
			require.ErrorContains(t, err, "ACCESS has ")
			return
		}
		for _, entry := range strings.Fields(setting) {
			place, who, _ := strings.Cut(entry, "=")
			name, path, isPath := strings.Cut(place, "/")
			host, wildcard := strings.CutPrefix(name, "*.")
			host = HostName(host)
			if wildcard || name == "*" {
				host = strings.TrimSuffix("q7."+strings.TrimPrefix(host, "*"), ".")
			}
			rule, own := rules.For(host)
			require.Equal(t, !own, wildcard || name == "*", host)
			switch {
			case wildcard || name == "*": // whose it is, an entry closer to it may say
			case isPath:
				require.True(t, rule.AdmitsAnybody("GET", "/"+strings.TrimSuffix(path, "*"), nil), "%q lets anybody in", entry)
			case who == signedIn || who == signedIn+","+preflight || who == preflight+","+signedIn:
				require.True(t, rule.Admits(nil), "%q is for everybody", host)
			case strings.Contains(who, signedIn):
			default:
				require.False(t, rule.Admits(nil), "%q is for nobody without a group", host)
				require.False(t, rule.Admits(models.Groups{"q7"}), host)
				for _, group := range strings.Split(who, ",") {
					require.Equal(t, group != preflight, rule.Admits(models.Groups{"q7", group}), "%q is for %q", host, group)
				}
			}
			require.False(t, rule.AdmitsAnybody("GET", "", nil))
		}
	})
}

func TestPublicPathsAreThoseThatEverybodyReadsAlike(t *testing.T) {
	rules, err := Parse("a=staff a/robots.txt=PUBLIC a/assets/*=PUBLIC a/s/~x/*=PUBLIC")
	require.NoError(t, err)
	rule, _ := rules.For("a")
	for _, uri := range []string{"/robots.txt", "/robots.txt?x=../..", "/assets/", "/assets/x.css", "/assets/a/b/?c;d", "/assets/a%20b/%C3%A4%E5%AE%B6.png", "/assets/a.b..c/.d", "/s/~x/1", "/assets/@2x/a,b=(c)!$&'*+:"} {
		require.True(t, rule.AdmitsAnybody("POST", uri, nil), uri)
	}
	for _, uri := range []string{"", "/", "*", "robots.txt", "/robots.txt/", "/robots.txt/x", "/robots.txtx", "/Robots.txt", "/assets", "/ASSETS/x", "/assetsx/", "//assets/x", "/assets//x", "/x/assets/y",
		"/assets/../x", "/assets/..", "/assets/.", "/assets/./x", "/assets/.../x", "/assets/..;/x", "/assets/;/../x", "/assets/x;y", "/assets/%2e%2e/x", "/assets/.%2E/x", "/assets/%2e/x", "/assets/..%2fx", "/assets/%2F", "/assets/x%5c..", "/assets/..\\x",
		"/assets/%252e%252e/x", "/assets/%25", "/assets/%", "/assets/%0", "/assets/%zz", "/assets/%u002e", "/assets/%00", "/assets/x%0a", "/assets/%3b", "/assets/%3f", "/assets/%23", "/assets/#/x", "/assets/x y", "/assets/%20/x", "/assets/..%20/x",
		"/assets/%c0%ae%c0%ae/x", "/assets/%c0%af", "/assets/%ef%bc%8e%ef%bc%8e/x", "/assets/%ef%bc%8f", "/assets/%e2%88%95", "/assets/ä", "/%61ssets/x", "/assets%2fx", "/assets/{x}", "/assets/|", "/assets/\x00", "https://a/assets/x", "//a/assets/x"} {
		require.False(t, rule.AdmitsAnybody("GET", uri, nil), uri)
	}
	for _, entry := range []string{"a/../x=PUBLIC", "a//=PUBLIC", "a/x//*=PUBLIC", "a/%61=PUBLIC", "a/*/x=PUBLIC", "a/x*=PUBLIC", "a/**=PUBLIC", "a/x;y=PUBLIC", "a/x?y=PUBLIC", "a/ä=PUBLIC", "a/./*=PUBLIC"} {
		_, err := Parse("a=staff " + entry)
		require.ErrorContains(t, err, "dot segments", entry)
	}
}

// However an app decodes and cleans a path, it stays below the public one.
func FuzzPublicPath(f *testing.F) {
	rules, err := Parse("a=staff a/assets/*=PUBLIC")
	require.NoError(f, err)
	rule, _ := rules.For("a")
	for _, seed := range []string{"x", "../x", "..;/x", "%2e%2e/x", "%252e%252e%252fx", "..%5cx", "%c0%ae%c0%ae/", "a%20b", "%C3%A4", "//", "?/../x", "%EF%BC%8E%EF%BC%8E%EF%BC%8Fx", ". ./", "%E2%80%A5/x"} {
		f.Add(seed)
	}
	cleaners := []func(string) string{
		func(p string) string { return path.Clean(p) + "/" },
		func(p string) string { p, _ = url.PathUnescape(p); return p },
		func(p string) string { return strings.ReplaceAll(p, "\\", "/") },
		func(p string) string { return regexp.MustCompile(`;[^/]*`).ReplaceAllString(p, "") },
		func(p string) string { return regexp.MustCompile(`[. ]+(/|$)`).ReplaceAllString(p, "$1") },
		func(p string) string { return norm.NFKC.String(p) },
		func(p string) string { p, _, _ = strings.Cut(p, "\x00"); return p },
	}
	f.Fuzz(func(t *testing.T, rest string) {
		uri := "/assets/" + rest
		if !rule.AdmitsAnybody("GET", uri, nil) {
			return
		}
		read, _, _ := strings.Cut(uri, "?")
		for range 3 {
			for _, clean := range cleaners {
				read = clean(read)
				require.True(t, strings.HasPrefix(strings.TrimRight(read, "/")+"/", "/assets/"), "%q is read as %q", uri, read)
			}
		}
	})
}

func TestPreflightsPassWhereTheyMay(t *testing.T) {
	rules, err := Parse("api=staff,PREFLIGHT open=PREFLIGHT,SIGNED-IN wiki=staff")
	require.NoError(t, err)
	asks := http.Header{"Origin": {"https://spa.example"}, "Access-Control-Request-Method": {"PUT"}}
	for host, may := range map[string]bool{"api": true, "open": true, "wiki": false, "other": false} {
		rule, _ := rules.For(host)
		require.Equal(t, may, rule.AdmitsAnybody("OPTIONS", "", asks), host)
		for _, method := range []string{"", "GET", "POST", "options"} {
			require.False(t, rule.AdmitsAnybody(method, "/", asks))
		}
		for name := range asks {
			without := asks.Clone()
			without.Del(name)
			require.False(t, rule.AdmitsAnybody("OPTIONS", "/", without), "an OPTIONS request of another kind")
		}
		require.Equal(t, host == "open" || host == "other", rule.Admits(nil))
	}
}

func TestTheClosestEntryHasThePublicPathsToo(t *testing.T) {
	rules, err := Parse("*=staff */robots.txt=PUBLIC *.open.example/*=PUBLIC *.open.example=SIGNED-IN secret.open.example=admins")
	require.NoError(t, err)
	for place, anybody := range map[string]bool{"a/robots.txt": true, "a/x": false, "x.open.example/x": true, "secret.open.example/robots.txt": false, "secret.open.example/x": false} {
		host, path, _ := strings.Cut(place, "/")
		rule, _ := rules.For(host)
		require.Equal(t, anybody, rule.AdmitsAnybody("GET", "/"+path, nil), place)
	}
}
