package access

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

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
		"127.1=b", "*.127.0.0.1=b", "bücher.example=b", "a=", "=a", "a=b=c", "a=b,,c", "a=b\u00a0c=d", "*.com=a x.com=b", "\x00=a"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, setting string) {
		rules, err := Parse(setting)
		if err != nil {
			require.ErrorContains(t, err, "ACCESS has ")
			return
		}
		for _, entry := range strings.Fields(setting) {
			name, groups, _ := strings.Cut(entry, "=")
			domain, wildcard := strings.CutPrefix(name, "*.")
			host := HostName(domain)
			if wildcard || name == "*" {
				host = strings.TrimSuffix("q7."+strings.TrimPrefix(host, "*"), ".")
				require.False(t, rules.Allow(host, nil), "%q is for nobody without a group", host)
				continue // whose it is, an entry closer to it may say
			}
			require.False(t, rules.Allow(host, nil), "%q is for nobody without a group", host)
			require.False(t, rules.Allow(host, models.Groups{"q7"}), host)
			for _, group := range strings.Split(groups, ",") {
				require.True(t, rules.Allow(host, models.Groups{"q7", group}), "%q is for %q", host, group)
			}
		}
	})
}
