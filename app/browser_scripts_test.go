package app_test

import (
	"bytes"
	"context"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"latchkey/app/config"
	"latchkey/test/kit"
)

// newSiteWithBaseURL starts a site at its BASE_URL, by http or https, with an app's page at /app.
func newSiteWithBaseURL(t *testing.T, scheme, page string, configure ...func(*config.Config)) *site {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	base := scheme + "://" + server.Listener.Addr().String()
	site := newSite(t, append(configure, func(c *config.Config) { c.BaseURL = base })...)
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/app" {
			site.app.ServeHTTP(w, r)
			return
		}
		writeApp(w, "<h1>An app</h1>"+page)
	})
	if scheme == "https" {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	site.url = base
	return site
}

// Somebody may be able to put elements into an app's page, though no script.
func TestElementsOfAPageDoNotMisleadSessionJS(t *testing.T) {
	for name, page := range map[string]string{
		"currentScript": `<img name="currentScript" data-signed-out-url="javascript:document.title='owned'" data-session="">` +
			`<script src="/auth/session.js"></script>`,
		"members of document": `<img name="dispatchEvent"><img name="addEventListener"><img name="documentElement">` +
			`<form name="visibilityState"></form><script src="/auth/session.js" data-hide></script>`,
		"members of window": `<a id="addEventListener"></a><a id="dispatchEvent"></a><script src="/auth/session.js"></script>`,
		"base":              `<script src="/auth/session.js" defer></script><base href="https://evil.example/">`,
		"base for attributes": `<script src="/auth/session.js" data-signed-out-url="/auth/signed-out" defer></script>` +
			`<base href="https://evil.example/">`,
	} {
		t.Run(name, func(t *testing.T) {
			site := newSiteWithBaseURL(t, "http", page)
			site.register("ada@example.com")
			b := site.at("ada@example.com")
			site.leave(b)
			b.open("/app")
			site.streams(1)

			site.endElsewhere()

			b.arrives("You are signed out")
			require.Equal(t, site.url+"/auth/signed-out", eval[string](b, "location.href"))
		})
	}
}

func TestSessionJSLeadsToWebAddressesOnly(t *testing.T) {
	site := newSiteWithBaseURL(t, "http", `<script src="/auth/session.js" data-signed-out-url="javascript:document.title='owned'"></script>`)
	site.register("ada@example.com")
	b := site.at("ada@example.com")
	site.leave(b)
	b.open("/app")
	site.streams(1)

	site.endElsewhere()

	b.arrives("You are signed out")
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Equal(t, []string{"console: error"}, b.complaints, "whoever wrote the page is told")
	b.complaints = nil
}

func TestFragmentOfAnAddressOutlivesASignIn(t *testing.T) {
	site := newSiteWithBaseURL(t, "http", "", open)
	site.register("ada@example.com")

	b := site.browser()
	b.open("/auth/self-service/login/browser?return_to=/app#section-2")
	b.arrives("Sign in")
	b.signIn("ada@example.com", "not the password")
	b.until(`document.querySelector(".alert")`)
	b.signIn("ada@example.com", goodPassword)
	b.arrives("An app")
	require.Equal(t, site.url+"/app#section-2", eval[string](b, "location.href"))

	b = site.browser()
	b.open("/auth/login?return_to=/app#section-2")
	b.click(`a[href*="/registration"]`)
	b.arrives("Create an account")
	b.fill("[name='traits.email']", "bob@example.com")
	b.fill("#password", goodPassword)
	b.click("button[name=method]")
	b.arrives("An app")
	require.Equal(t, site.url+"/app#section-2", eval[string](b, "location.href"))
}

func TestSignInPagesInOtherTabsGoOn(t *testing.T) {
	site := newSiteWithBaseURL(t, "http", "", open)
	site.register("ada@example.com")
	first := site.browser()
	first.open("/auth/login")
	second, third, fourth := first.secondTab(), first.secondTab(), first.secondTab()
	second.open("/auth/login?return_to=/app#part")
	third.open("/auth/registration?return_to=/app")
	fourth.open("/auth/login?return_to=/app")
	fourth.fill("#identifier", "bob@example.com")

	first.signIn("ada@example.com", "not the password")
	first.until(`document.querySelector(".alert")`)
	first.signIn("ada@example.com", goodPassword)
	first.arrives("ada@example.com")

	second.arrives("An app")
	require.Equal(t, site.url+"/app#part", eval[string](second, "location.href"))
	third.arrives("An app")
	fourth.arrives("An app")
}

func TestSignInPageThatIsShownAgainGoesOn(t *testing.T) {
	site := newSiteWithBaseURL(t, "http", "")
	session := site.startSession(site.register("ada@example.com"))
	b := site.browser()
	b.open("/auth/login?return_to=/app")
	b.arrives("Sign in")
	call(b, network.SetCookie, network.SetCookieParams{Name: "latchkey_session", Value: session.Token, URL: site.url})

	eval[any](b, `document.dispatchEvent(new Event("visibilitychange")), null`)

	b.arrives("An app")
}

// Without Clear-Site-Data it is no-store, and the script, that leave nothing.
func TestSignOutLeavesNothingInTheBrowser(t *testing.T) {
	path := kit.NeedProgram(t, "chromium", "chromium")
	site := newSiteWithBaseURL(t, "https", "")
	identity := site.register("ada@example.com")
	require.NoError(t, site.store.Identities.Rename(t.Context(), identity.ID, "Marker Lovelace"))
	profile := t.TempDir()
	allocator, freed := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(profile),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("ignore-certificate-errors", true),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"))...)
	t.Cleanup(freed)
	b := newTab(t, site.url, allocator)
	b.open("/auth/login")
	b.signIn("ada@example.com", goodPassword)
	b.arrives("Marker Lovelace")
	b.open("/auth/account/activity")
	b.arrives("Recent activity")
	eval[any](b, `fetch("/auth/sessions/whoami").then((answer) => answer.json())`)
	b.open("/auth/account")
	b.arrives("Marker Lovelace")
	b.click("a[data-logout]")
	b.arrives("You are signed out")

	b.back()
	b.arrives("Sign in")
	require.NotContains(t, b.text(), "Marker")

	call(b, browser.Close, cdp.Empty{})
	<-b.ctx.Done()
	require.NotEmpty(t, filesWith(t, profile, "/auth/static/latchkey."), "what may be stored is found on the disk")
	require.Empty(t, filesWith(t, profile, "Marker"))
}

// filesWith returns the files below a folder that contain a text.
func filesWith(t *testing.T, folder, text string) (found []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path) //nolint:gosec // of the test
		for _, form := range [][]byte{[]byte(text), utf16le(text)} {
			if bytes.Contains(content, form) {
				found = append(found, path)
				break
			}
		}
		return err
	}))
	return found
}

// utf16le is how Chromium keeps some of its texts.
func utf16le(text string) []byte {
	wide := make([]byte, 0, 2*len(text))
	for _, char := range []byte(text) {
		wide = append(wide, char, 0)
	}
	return wide
}
