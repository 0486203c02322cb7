package backchannel_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/app/backchannel"
)

func TestURLsThatCanBeRegistered(t *testing.T) {
	for _, raw := range []string{
		"https://app.example.com/logged-out", "https://app.example.com", "https://app.example.com/?tenant=7&x=%C3%A4",
		"http://localhost:8080/auth/backchannel", "http://app:3000/x", "http://my_app.internal/x", "HTTPS://App.Example.com/x",
		"http://192.168.1.2/x", "http://[::1]:8080/x", "https://xn--bcher-kva.example/x",
		"https://app.example.com/" + strings.Repeat("x", 2048-24),
	} {
		require.NoError(t, backchannel.CheckURL(raw), raw)
	}
}

func TestURLsThatCannotBeRegistered(t *testing.T) {
	for raw, why := range map[string]string{
		"":                                 "is empty",
		"app.example.com/x":                "doesn't begin with https://",
		"/x":                               "doesn't begin with https://",
		"//app.example.com/x":              "doesn't begin with https://",
		"ftp://app.example.com/x":          "doesn't begin with https://",
		"file:///etc/passwd":               "doesn't begin with https://",
		"javascript:alert(1)":              "doesn't begin with https://",
		"https:app.example.com":            "has no host",
		"https:///x":                       "has no host",
		"https://:443/x":                   "plain name",
		"https://ada:pw@app.example.com":   "user name",
		"https://@app.example.com":         "user name",
		"https://app.example.com/#x":       "fragment",
		"https://app.example.com/#":        "fragment",
		"https://app.example.com/a b":      "space",
		"https://app.example.com/\r\nX: y": "space",
		"https://app.example.com/\x00":     "space",
		`https://app.example.com\x`:        "backslash",
		"https://exämple.com/":             "outside ASCII",
		"https://app.example.com/100%":     "is invalid",
		"https://app.example.com:port/":    "is invalid",
		"https://app.example.com:/x":       "port",
		"https://app.example.com:0/x":      "port",
		"https://app.example.com:65536/x":  "port",
		"https://*.example.com/x":          "wildcard",
		"https://app..example.com/x":       "plain name",
		"https://0x7f.1/x":                 "IPv4",
		"https://2130706433/x":             "IPv4",
		"https://127.1/x":                  "IPv4",
		"https://[fe80::1%25eth0]/x":       "IPv6",
		"https://[::ffff:127.0.0.1]/x":     "IPv6",
		"https://[::1/x":                   "is invalid",
		"https://a%2fb.example.com/x":      "",
		"https://app.example.com/" + strings.Repeat("x", 2049-24): "2048 bytes",
	} {
		err := backchannel.CheckURL(raw)
		require.ErrorContains(t, err, why, raw)
		require.True(t, strings.HasPrefix(err.Error(), "the URL "), err.Error())
		require.NotContains(t, err.Error(), "pw", "nothing that may be a password is repeated")
	}
}

func FuzzCheckURL(f *testing.F) {
	for _, seed := range []string{
		"https://app.example.com/logged-out", "http://[::1]:8080/x?y", "https://a@b/", "https://a/#", "https:a", "//a/", "https://a\\b/",
		"https://a:65536", "http://127.1", "https://%61/", "https://a/%zz", "https://[::ffff:1.2.3.4]", "\x00", "https://é/",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if err := backchannel.CheckURL(raw); err != nil {
			require.Regexp(t, `^the URL [ -~]{1,250}$`, err.Error())
			return
		}
		require.Regexp(t, `^[!-~]+$`, raw)
		require.LessOrEqual(t, len(raw), 2048)
		require.NotContains(t, raw, "#")
		u, err := url.Parse(raw)
		require.NoError(t, err)
		require.Contains(t, []string{"http", "https"}, u.Scheme)
		require.NotEmpty(t, u.Hostname())
		require.Nil(t, u.User)
		_, err = http.NewRequest(http.MethodPost, raw, nil)
		require.NoError(t, err)
	})
}
