package app_test

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"latchkey/app/config"

	"github.com/stretchr/testify/require"
)

var assetURL = regexp.MustCompile(`/auth/static/[^"]+`)

func TestAssetsAreKeptForEver(t *testing.T) {
	visitor := newSite(t).visitor()
	urls := assetURL.FindAllString(visitor.open("/auth/login").body, -1)
	require.NotEmpty(t, urls)
	for _, url := range urls {
		res := visitor.get(url)
		require.Equal(t, http.StatusOK, res.status, url)
		require.Equal(t, "public, max-age=31536000, immutable", res.header.Get("Cache-Control"))
		require.Regexp(t, `^(text/(css|javascript); charset=utf-8|image/svg\+xml|image/png)$`, res.header.Get("Content-Type"))
		plain := visitor.get(url, with("Accept-Encoding", "gzip;q=0"))
		require.Empty(t, plain.header.Get("Content-Encoding"))
		require.Equal(t, res.body, plain.body, "the same, packed or not")
	}
	for _, path := range []string{"/auth/static/", "/auth/static/pico.css", "/auth/static/../routes.go", "/auth/static/%2e%2e/latchkey.db"} {
		require.Equal(t, http.StatusNotFound, visitor.get(path).status, path)
	}
}

func TestLogoIsShown(t *testing.T) {
	logo := filepath.Join(t.TempDir(), "logo.svg")
	require.NoError(t, os.WriteFile(logo, []byte(`<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`), 0o600))
	visitor := newSite(t, func(c *config.Config) { c.SiteLogo, c.SiteName = logo, "Ada & Co" }).visitor()

	page := visitor.open("/auth/login")

	require.Contains(t, page.body, "Ada &amp; Co")
	url := regexp.MustCompile(`<img src="([^"]+)"`).FindStringSubmatch(page.body)
	require.NotNil(t, url)
	res := visitor.get(url[1])
	require.Equal(t, "image/svg+xml", res.header.Get("Content-Type"))
	require.Contains(t, res.header.Get("Content-Security-Policy"), "default-src 'none'", "a script in it can't run")
}

func TestLogoMustBeAPicture(t *testing.T) {
	config := defaults(t)
	config.SiteLogo = filepath.Join(t.TempDir(), "logo.html")
	require.NoError(t, os.WriteFile(config.SiteLogo, []byte("<p>"), 0o600))
	_, err := config.Parse()
	require.ErrorContains(t, err, "SITE_LOGO")
	config.SiteLogo = filepath.Join(t.TempDir(), "missing.png")
	_, err = config.Parse()
	require.ErrorContains(t, err, "SITE_LOGO")
}
