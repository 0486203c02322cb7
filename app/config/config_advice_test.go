package config_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/app/config"
)

func TestAdviceOnWhatBrowsersWillMakeOfTheSettings(t *testing.T) {
	for _, c := range []struct {
		why, says string
		warning   bool
		configure func(*config.Config)
	}{
		{why: "all on one host", configure: func(c *config.Config) { c.BaseURL = "https://example.com" }},
		{why: "nothing set", configure: func(*config.Config) {}},
		{why: "the cookie is shared", configure: func(c *config.Config) {
			c.BaseURL, c.CookieDomain, c.Access = "https://auth.example.com", "example.com", "wiki.example.com=staff *=all"
			c.AllowedReturnURLs, c.CORSAllowedOrigins = []string{"https://*.example.com"}, []string{"https://app.example.com"}
		}},
		{why: "a front-end on the same site needs no cookie of its own", configure: func(c *config.Config) {
			c.BaseURL, c.CORSAllowedOrigins, c.AllowedReturnURLs = "https://auth.example.com", []string{"https://app.example.com"}, []string{"https://app.example.com"}
		}},
		{why: "apps without BASE_URL", says: "set BASE_URL", warning: true, configure: func(c *config.Config) { c.Access = "wiki.example.com=staff" }},
		{why: "an app that gets no cookie", says: "set COOKIE_DOMAIN=example.com", configure: func(c *config.Config) {
			c.BaseURL, c.Access = "https://auth.example.com", "wiki.example.com=staff"
		}},
		{why: "neighbours under a public suffix", says: "different sites", configure: func(c *config.Config) {
			c.BaseURL, c.Access = "https://auth.github.io", "wiki.github.io=staff"
		}},
		{why: "another site calls", says: "a different site", configure: func(c *config.Config) {
			c.BaseURL, c.CORSAllowedOrigins = "https://auth.example.com", []string{"https://example.org"}
		}},
		{why: "http calls https", says: "different sites", configure: func(c *config.Config) {
			c.BaseURL, c.CORSAllowedOrigins = "https://auth.example.com", []string{"http://app.example.com"}
		}},
		{why: "a sign-in page of one's own that gets the cookie", configure: func(c *config.Config) {
			c.BaseURL, c.CookieDomain, c.LoginUIURL, c.RegistrationUIURL = "https://auth.example.com", "example.com", "https://app.example.com/login", "/join"
		}},
		{why: "a sign-in page of one's own whose script fetches the flow", configure: func(c *config.Config) {
			c.BaseURL, c.LoginUIURL, c.CORSAllowedOrigins = "https://auth.example.com", "https://app.example.com/login", []string{"https://app.example.com"}
		}},
		{why: "a sign-in page of one's own without the cookie", says: "set COOKIE_DOMAIN=example.com", configure: func(c *config.Config) {
			c.BaseURL, c.LoginUIURL = "https://auth.example.com", "https://app.example.com/login"
		}},
		{why: "a sign-in page of one's own on another site", says: "LOGIN_UI_URL has https://example.org, a different site", configure: func(c *config.Config) {
			c.BaseURL, c.LoginUIURL = "https://auth.example.com", "https://example.org/login"
		}},
		{why: "a registration page of one's own without a certificate", says: "REGISTRATION_UI_URL has http://", configure: func(c *config.Config) {
			c.BaseURL, c.RegistrationUIURL = "https://auth.example.com", "http://auth.example.com:3000/join"
		}},
		{why: "people come back to another host", says: "set COOKIE_DOMAIN=example.com", warning: true, configure: func(c *config.Config) {
			c.BaseURL, c.AllowedReturnURLs = "https://auth.example.com", []string{"https://*.example.com"}
		}},
		{why: "an app without a certificate", says: "Secure", warning: true, configure: func(c *config.Config) {
			c.BaseURL, c.CookieDomain, c.AllowedReturnURLs = "https://auth.example.com", "example.com", []string{"http://app.example.com"}
		}},
		{why: "passwords in the clear", says: "BASE_URL", configure: func(c *config.Config) { c.BaseURL = "http://auth.example.com" }},
		{why: "development", says: "DEV", configure: func(c *config.Config) { c.BaseURL, c.Dev = "https://auth.example.com", true }},
	} {
		given, err := parse(t)
		require.NoError(t, err)
		c.configure(&given)
		settings, err := given.Parse()
		require.NoError(t, err, c.why)
		advice := settings.Advise()
		if c.says == "" {
			require.Empty(t, advice, c.why)
			continue
		}
		require.Len(t, advice, 1, c.why)
		require.Contains(t, advice[0].Text, c.says, c.why)
		require.Equal(t, c.warning, advice[0].Warning, c.why)
	}
}
