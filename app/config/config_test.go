package config_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"latchkey/app/config"
)

// start does with the environment what main does, up to the first complaint.
func start(t *testing.T, env map[string]string) (config.Config, error) {
	t.Helper()
	for _, pair := range os.Environ() { // nothing of the machine's own
		name, _, _ := strings.Cut(pair, "=")
		if _, set := env[name]; !set && settingNames[name] {
			t.Setenv(name, "")
			require.NoError(t, os.Unsetenv(name))
		}
	}
	for name, value := range env {
		t.Setenv(name, value)
	}
	given, err := parse(t)
	if err != nil {
		return given, err
	}
	_, err = given.Parse()
	return given, err
}

// parse reads the settings from the environment, as they are given there.
func parse(t *testing.T) (given config.Config, err error) {
	t.Helper()
	parser, err := kong.New(&given, kong.Writers(io.Discard, io.Discard))
	require.NoError(t, err)
	_, err = parser.Parse(nil)
	return given, err
}

// settingNames are the variables of all settings.
var settingNames = func() map[string]bool {
	names := map[string]bool{}
	for _, flag := range kong.Must(new(config.Config)).Model.Flags {
		for _, name := range flag.Envs {
			names[name] = true
		}
	}
	return names
}()

func TestWrongSettingStopsTheStartWithASentenceThatNamesIt(t *testing.T) {
	big := filepath.Join(t.TempDir(), "big.png")
	require.NoError(t, os.WriteFile(big, make([]byte, 257<<10), 0o600))
	for name, values := range map[string][]string{
		"LISTEN":              {"localhost", "8080", "localhost:x", "localhost:70000", "localhost:-1", "::1:80", "http://localhost:8080"},
		"PORT":                {"x", "-1", "70000", "8080 ", "1.5"},
		"BASE_URL":            {"example.com", "ftp://example.com", "https://", "https://Example.com", "HTTPS://example.com", "https://example.com/auth", "https://example.com?x", "https://example.com#x", "https://a@example.com", "https://example.com:443", "http://example.com:80", "https://example.com:", "https://example.com:99999", "https://*.example.com", "https://exämple.com", "https://a..b", "https://a b", " https://example.com", "https://example.com.", "//example.com", "https://[::1", "javascript:x", "https://example.com\\x"},
		"BASE_PATH":           {"auth", "/auth/", "//", "/a//b", "/.", "/..", "/a/../b", "/a/./b", "/a b", "/ä", "/%61", "/a?b", "/a#b", "/:id", "/*x", "/a;b", "/a\\b", "https://example.com/auth", " /auth", "/auth\n"},
		"TRUSTED_PROXIES":     {"x", "10.0.0.0/33", "10.0.0", "10.0.0.1-10.0.0.9", "localhost", "*", "10.0.0.0/8;::1", "10.0.0.0/8,x", "::1/129"},
		"CLIENT_IP_HEADER":    {"x", "X-Forwarded-Host", "X-Forwarded-For,X-Real-IP", " "},
		"METRICS_LISTEN":      {"localhost", "9464", "localhost:x", "localhost:70000", "::1:80", "http://localhost:9464"},
		"LOG_LEVEL":           {"x", "INFO", "trace", "1"},
		"DEV":                 {"x", "2"},
		"COOKIE_DOMAIN":       {".example.com", "com", "other.com", "x.login.example.com", "ogin.example.com", "https://example.com", "Example.com", "*.example.com", "example.com:443", "example.com; Secure"},
		"ALLOWED_RETURN_URLS": {"app.example.com", "/x", "//x", "https://", "https://*", "https://*.com", "https://*.co.uk", "https://a.*.example.com", "https://a@b.example.com", "https://x.example.com?y", "javascript:x", "ftp://x.example.com", "https://a.example.com,x", "https://*.10.0.0.1", "https://a b"},
		"LOGIN_RETURN_URL":    {"x", "app.example.com", "//app.example.com", "/\\app.example.com", "https://", "https:app.example.com", "javascript:alert(1)", "ftp://app.example.com", "https://a@b.example.com/", "/x\ny", "https://a b/"},
		"LOGIN_UI_URL":        {"x", "app.example.com", "//app.example.com", "https://", "javascript:alert(1)", "ftp://app.example.com", "https://a@app.example.com/", "/auth/login", "/auth/account", "/auth/sessions/x"},
		"ERROR_UI_URL":        {"x", "mailto:ada@example.com", "/auth/docs"},
		"REGISTRATION_UI_URL": {"x", "data:text/html,x", "/auth/registration"},
		"LOGOUT_RETURN_URL":   {"x", "//x", "/\\x", "data:text/html,x", "https:x"},
		"CORS_ALLOWED_ORIGINS": {"*", "null", "app.example.com", "https://app.example.com/", "https://App.example.com", "https://*.example.com", "https://app.example.com:443", "https://a@app.example.com", "https://app.example.com/x", "https://app.example.com https://b.example.com",
			"https://a.example.com,null", "chrome-extension://x", "file://"},
		"ACCESS": {"wiki.example.com", "=staff", "wiki.example.com=", "wiki.example.com=staff,", "wiki.example.com=,staff", "wiki.example.com=Staff",
			"https://wiki.example.com=staff", "wiki.example.com:443=staff", "wiki.example.com/x=staff", "wiki.example.com=PUBLIC", "wiki.example.com/x=PUBLIC", "wiki.example.com=staff,SIGNED-IN", "wiki.example.com=PREFLIGHT", "wiki.example.com=staff wiki.example.com/../x=PUBLIC", "wiki.example.com=signed-in,",
			"*.*.example.com=staff", "wiki.*=staff", "**=staff", "*.=staff", "*.192.0.2.1=staff", "*.[::1]=staff",
			"a..b=staff", "wiki.example.com=staff;editors", "wiki.example.com=a=b", "a@wiki.example.com=staff", "0x7f.1=staff", "xn--.example.com=staff",
			"wiki.example.com=a WIKI.example.com=b", "*=a *=b", "*.example.com=a *.Example.com=b", "wiki.example.com=a wiki.example.com.=a"},
		"REGISTRATION":        {"x", "Open", "true"},
		"PASSWORD_MIN_LENGTH": {"x", "0", "7", "65", "-1", "8.5"},
		"PASSWORD_MEMORY":     {"x", "-1", "1", "7", "1048577", "99999999999"},
		"PASSWORD_PASSES":     {"x", "-1", "101"},
		"PASSWORD_LANES":      {"x", "-1", "256"},
		"SESSION_LIFETIME":    {"x", "0", "0s", "59s", "-1h", "12", "1d"},
		"SESSION_IDLE":        {"x", "0s", "-1h"},
		"REMEMBER_LIFETIME":   {"x", "0s", "30 days"},
		"REMEMBER_IDLE":       {"x", "0s"},
		"CONFIRM_AFTER":       {"x", "0", "59s", "-15m", "15"},
		"SESSION_RETENTION":   {"x", "-1s"},
		"CLEAR_SITE_DATA":     {"\"cache\"\r\nX: y", "a\nb", "auto"},
		"SITE_NAME":           {" ", "\t"},
		"SITE_LOGO":           {"/does/not/exist.png", "/", big},
		"SITE_LINKS":          {"Privacy", "Privacy=", "Privacy=javascript:alert(1)"},
		"OPERATOR_CONTACT":    {"ada@", "ftp://example.com", "a\nb"},
		"SITE_ACCENT":         {"x", "red", "#fff", "0066cc", "#0066cg", "#0066cc;", "#0066cc00"},
	} {
		for _, value := range values {
			t.Run(name+"="+value, func(t *testing.T) {
				env := map[string]string{name: value}
				if name == "COOKIE_DOMAIN" {
					env["BASE_URL"] = "https://login.example.com"
				}
				_, err := start(t, env)
				require.Error(t, err)
				flag := "--" + strings.ReplaceAll(strings.ToLower(name), "_", "-")
				require.True(t, strings.Contains(err.Error(), name) || strings.Contains(err.Error(), flag), err.Error())
			})
		}
	}
	for _, c := range []struct {
		base, domain string
	}{{"", "example.com"}, {"https://10.0.0.1", "10.0.0.1"}, {"https://10.0.0.1", "0.0.1"}, {"https://example.co.uk", "co.uk"}, {"https://ada.github.io", "github.io"}, {"http://localhost:8080", "localhost"}} {
		_, err := start(t, map[string]string{"BASE_URL": c.base, "COOKIE_DOMAIN": c.domain})
		require.ErrorContains(t, err, "COOKIE_DOMAIN", c)
	}
}

func TestRightSettingsPass(t *testing.T) {
	logo := filepath.Join(t.TempDir(), "logo.SVG")
	require.NoError(t, os.WriteFile(logo, []byte(`<svg xmlns="http://www.w3.org/2000/svg"/>`), 0o600))
	for name, values := range map[string][]string{
		"LISTEN":               {"", "localhost:8080", ":8080", "127.0.0.1:0", "[::1]:8080", "0.0.0.0:80", "localhost:http"},
		"PORT":                 {"1", "65535"},
		"DATABASE_URL":         {"sqlite:x.db", "sqlite:/var/lib/latchkey/latchkey.db"},
		"BASE_URL":             {"", "https://example.com", "https://example.com/", "http://localhost:8080", "https://10.0.0.1:8443", "https://[::1]:8443", "https://xn--bcher-kva.example", "http://nas.lan"},
		"BASE_PATH":            {"/auth", "/", "/a", "/id/sign-in_1.0~x", "/..."},
		"TRUSTED_PROXIES":      {"", "10.0.0.0/8", "127.0.0.1,::1", "fd00::/8", "0.0.0.0/0", "::ffff:10.0.0.0/104", "fe80::1%eth0"},
		"CLIENT_IP_HEADER":     {"X-Forwarded-For", "forwarded", "X-Real-Ip"},
		"METRICS_LISTEN":       {"", "localhost:9464", "127.0.0.1:0", "[::1]:9464", ":9464"},
		"LOG_LEVEL":            {"debug", "info", "warn", "error"},
		"DEV":                  {"true", "false", "1"},
		"COOKIE_DOMAIN":        {"", "example.com", "login.example.com"},
		"ALLOWED_RETURN_URLS":  {"", "https://app.example.com", "https://*.example.com,http://localhost:3000", "https://a.example.com, https://b.example.com/x/"},
		"LOGIN_RETURN_URL":     {"", "/", "/app?x=y#z", "https://app.example.com", "https://app.example.com/x?y", "http://localhost:3000/"},
		"LOGIN_UI_URL":         {"", "/login", "/authors", "https://app.example.com", "https://app.example.com:8443/sign-in?lang=de#form", "http://localhost:3000/login", "https://app.example.com/auth/login"},
		"ERROR_UI_URL":         {"", "/error", "https://app.example.com/error?x"},
		"REGISTRATION_UI_URL":  {"", "/join", "https://app.example.com/join"},
		"LOGOUT_RETURN_URL":    {"", "/bye", "https://www.example.com/bye"},
		"CORS_ALLOWED_ORIGINS": {"", "https://app.example.com", "https://app.example.com,http://localhost:3000", "https://[::1]:3000"},
		"APPS_PUBLIC_ONLY":     {"true", "false"},
		"ACCESS":               {"", " \n", "wiki.example.com=staff", "*.example.com=a,b example.com=c\n*=d", "localhost=a", "192.0.2.1=a [::1]=b", "bücher.example=a", "a=SIGNED-IN,PREFLIGHT a/x/*=PUBLIC a/=PUBLIC"},
		"REGISTRATION":         {"closed", "open"},
		"PASSWORD_MIN_LENGTH":  {"8", "15", "64"},
		"PASSWORD_MEMORY":      {"19456", "65536"},
		"PASSWORD_PASSES":      {"1", "3"},
		"PASSWORD_LANES":       {"1", "4"},
		"SESSION_LIFETIME":     {"1m", "12h", "8760h"},
		"SESSION_IDLE":         {"30m"},
		"REMEMBER_LIFETIME":    {"720h"},
		"REMEMBER_IDLE":        {"24h"},
		"CONFIRM_AFTER":        {"1m", "15m", "8760h"},
		"SESSION_RETENTION":    {"0s", "24h"},
		"CLEAR_SITE_DATA":      {"off", `"cache", "storage"`, `"*"`},
		"SITE_NAME":            {"Ada's cloud", "家"},
		"MAX_SESSIONS":         {"1", "200", "100000"},
		"SECRET_KEY":           {"", strings.Repeat("k", 44), strings.Repeat("k", 44) + "," + strings.Repeat("l", 44)},
		"SECRET_KEY_FILE":      {""},
		"SITE_LOGO":            {"", logo},
		"SITE_LINKS":           {"", "Privacy=https://example.com/privacy Terms of use=/terms"},
		"OPERATOR_CONTACT":     {"", "help@example.com", "https://example.com/help", "room 3"},
		"SITE_ACCENT":          {"", "#0066cc", "#ABCDEF"},
	} {
		for _, value := range values {
			env := map[string]string{name: value}
			if name == "COOKIE_DOMAIN" {
				env["BASE_URL"] = "https://login.example.com"
			}
			_, err := start(t, env)
			require.NoError(t, err, "%s=%s", name, value)
		}
	}
}

func TestDefaultsAreThoseOfTheHelp(t *testing.T) {
	config, err := start(t, nil)
	require.NoError(t, err)
	require.Equal(t, "localhost:8080", config.Address(), "bound to loopback")
	require.Equal(t, []time.Duration{12 * time.Hour, 12 * time.Hour, 30 * 24 * time.Hour, 7 * 24 * time.Hour},
		[]time.Duration{config.SessionLifetime, config.SessionIdle, config.RememberLifetime, config.RememberIdle})

	config, err = start(t, map[string]string{"PORT": "5000"})
	require.NoError(t, err)
	require.Equal(t, ":5000", config.Address())
	config, err = start(t, map[string]string{"PORT": "5000", "LISTEN": "127.0.0.1:6000"})
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:6000", config.Address())
}
