package app_test

import (
	"bytes"
	"image/png"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/app/config"
	"latchkey/test/kit"
)

func TestSecurityTextSaysWhomToTell(t *testing.T) {
	for contact, line := range map[string]string{
		"security@example.com":         "Contact: mailto:security@example.com",
		"https://example.com/security": "Contact: https://example.com/security",
		"tel:+49-30-1234567":           "Contact: tel:+49-30-1234567",
	} {
		site := newSite(t, func(c *config.Config) { c.OperatorContact, c.BaseURL = contact, "https://login.example.com" })
		res := site.visitor().get("/.well-known/security.txt")
		require.Equal(t, http.StatusOK, res.status)
		require.Equal(t, "text/plain; charset=utf-8", res.header.Get("Content-Type"))
		require.Contains(t, res.body, line+"\n")
		require.Contains(t, res.body, "Canonical: https://login.example.com/.well-known/security.txt\n")
		expires := regexp.MustCompile(`(?m)^Expires: (.+)$`).FindStringSubmatch(res.body)
		require.Len(t, expires, 2)
		at, err := time.Parse(time.RFC3339, expires[1])
		require.NoError(t, err)
		require.WithinRange(t, at, site.clock.Now().Add(90*24*time.Hour), site.clock.Now().AddDate(1, 0, 0))
	}
	for _, contact := range []string{"", "room 3", "http://nas.lan/help"} {
		site := newSite(t, func(c *config.Config) { c.OperatorContact = contact })
		site.visitor().get("/.well-known/security.txt").requireError(http.StatusNotFound, "")
	}
}

func TestPasswordManagersFindWhereToChangeThePassword(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	to := ada.open("/.well-known/change-password")
	require.Equal(t, http.StatusSeeOther, to.status)
	require.Equal(t, "/auth/account?change=password#password", to.header.Get("Location"))
	page := ada.open("/auth/account?change=password")
	require.Regexp(t, `<details open><summary>Change password</summary>`, page.body)

	signedOut := site.visitor().open("/auth/account?change=password")
	require.Equal(t, "/auth/login?return_to=%2Fauth%2Faccount%3Fchange%3Dpassword", signedOut.header.Get("Location"), "and back after signing in")
	require.Equal(t, "/auth/login?return_to=%2Fauth%2Faccount%2Factivity", site.visitor().open("/auth/account/activity").header.Get("Location"))
	require.Equal(t, "/auth/login?return_to=%2Fauth%2Faccount", site.visitor().open("/auth/account?x=%zz").header.Get("Location"), "what can't be a return_to")
}

func TestSearchEnginesStayOut(t *testing.T) {
	res := newSite(t).visitor().get("/robots.txt")
	require.Equal(t, "User-agent: *\nDisallow: /\n", res.body)
	require.Equal(t, "text/plain; charset=utf-8", res.header.Get("Content-Type"))
}

// Icons are there under the names by which programs look for them, and linked from each page below the base path.
func TestIcons(t *testing.T) {
	links := func(page answer) (icon, touch string) {
		t.Helper()
		found := regexp.MustCompile(`<link rel="icon" href="([^"]+)"><link rel="apple-touch-icon" href="([^"]+)">`).FindStringSubmatch(page.body)
		require.Len(t, found, 3, page.body)
		return found[1], found[2]
	}
	site := newSite(t, func(c *config.Config) { c.SiteAccent = "#ffd400" })
	v := site.visitor()
	icon, touch := links(v.open("/auth/login"))
	require.True(t, strings.HasPrefix(icon, "/auth/static/") && strings.HasPrefix(touch, "/auth/static/"))
	svg := v.get(icon)
	require.Contains(t, svg.body, `fill="#ffd400"`)
	require.Contains(t, svg.body, `stroke="#000000"`, "to be seen on yellow")
	require.Equal(t, svg.body, v.get("/favicon.ico").body)
	drawn := v.get("/apple-touch-icon.png")
	require.Equal(t, v.get(touch).body, drawn.body)
	picture, err := png.Decode(strings.NewReader(drawn.body))
	require.NoError(t, err)
	require.Equal(t, 180, picture.Bounds().Dx())
	r, g, b, a := picture.At(0, 0).RGBA()
	require.Equal(t, []uint32{0xffff, 0xd4d4, 0, 0xffff}, []uint32{r, g, b, a}, "no transparent corners: home screens make them black")

	logo := filepath.Join(t.TempDir(), "logo.png")
	require.NoError(t, os.WriteFile(logo, []byte(drawn.body), 0o600))
	v = newSite(t, func(c *config.Config) { c.SiteLogo = logo }).visitor()
	icon, touch = links(v.open("/auth/login"))
	require.Equal(t, icon, touch, "both are the logo")
	require.True(t, bytes.Equal([]byte(drawn.body), []byte(v.get("/favicon.ico").body)))
	require.Equal(t, "image/png", v.get("/favicon.ico").header.Get("Content-Type"))
}

func TestHeadOfAPage(t *testing.T) {
	page := newSite(t, func(c *config.Config) { c.SiteName = "Ada & Co" }).visitor().open("/auth/login")
	require.Contains(t, page.body, `<meta name="description" content="Sign in to Ada &amp; Co,`)
	css, err := os.ReadFile(filepath.Join(kit.Root(t), "static/latchkey.css"))
	require.NoError(t, err)
	cards := regexp.MustCompile(`--card: (#\w{6});`).FindAllSubmatch(css, 2)
	for i, scheme := range []string{"light", "dark"} {
		require.Contains(t, page.body, `<meta name="theme-color" content="`+string(cards[i][1])+`" media="(prefers-color-scheme: `+scheme+`)">`)
	}
}

func TestContactAndLinksAreOnThePages(t *testing.T) {
	site := newSite(t, func(c *config.Config) {
		c.OperatorContact, c.SiteLinks = "help@example.com", "Privacy=/privacy Terms of use=https://example.com/terms?a&b"
		c.BaseURL, c.CookieDomain, c.Access, c.TrustedProxies = "http://login.example.com", "example.com", "wiki.example.com=staff", []string{"127.0.0.1"}
	})
	v := site.visitor()
	login := v.open("/auth/login")
	require.Contains(t, login.body, `Ask your administrator for a new one: <a href="mailto:help@example.com">help@example.com</a></p>`)
	require.Contains(t, login.body, `<li><a href="/privacy">Privacy</a></li><li><a href="https://example.com/terms?a&amp;b">Terms of use</a></li>`)
	require.Contains(t, v.open("/auth/registration").body, `Ask <a href="mailto:help@example.com">your administrator</a> for an account.`)

	text := newSite(t, func(c *config.Config) { c.OperatorContact = "Ada, room 3" }).visitor()
	require.Contains(t, text.open("/auth/login").body, "Ask your administrator for a new one: Ada, room 3</p>")
	require.Contains(t, text.open("/auth/registration").body, "Ask your administrator (Ada, room 3) for an account.")

	none := newSite(t).visitor()
	require.Contains(t, none.open("/auth/login").body, "Ask your administrator for a new one.</p>")
	require.Contains(t, none.open("/auth/registration").body, "Ask your administrator for an account.")
	require.NotContains(t, none.open("/auth/login").body, "<footer>")
}
