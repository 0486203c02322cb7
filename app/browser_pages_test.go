package app_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"latchkey/app/config"
	"latchkey/test/kit"
)

// everyPage leads a tab to each page that a person can meet, and calls check there.
func everyPage(t *testing.T, check func(b *tab, name string), prepare ...func(*tab)) {
	site := newSite(t, func(c *config.Config) {
		c.AllowedReturnURLs = []string{"https://app.example.com"}
		c.TrustedProxies = []string{"127.0.0.1"}
		c.Access = "app.example.com=staff"
	})
	b := site.browser()
	for _, do := range prepare {
		do(b)
	}
	setup, err := site.app.SetupURL(t.Context(), site.url)
	require.NoError(t, err)

	b.open("/auth/login")
	check(b, "login")
	b.open("/auth/login?return_to=https://app.example.com/reports")
	check(b, "login-why")
	b.signIn("ada@example.com", "not the password")
	b.until(`document.querySelector(".alert")`)
	check(b, "login-error")
	b.open("/auth/registration")
	check(b, "registration-closed")
	b.open(setup)
	check(b, "registration")
	b.fill("[name='traits.email']", "ada@example")
	b.fill("#password", "password")
	b.click("button[name=method]")
	b.until(`document.querySelector(".problem")`)
	check(b, "registration-error")
	b.open(setup)
	b.fill("[name='traits.email']", "ada.augusta.king-noel.countess.of.lovelace@analytical-engine.example.com")
	b.fill("[name='traits.name']", "Ada Lovelace")
	b.fill("#password", goodPassword)
	b.click("button[name=method]")
	b.arrives("Ada Lovelace")
	check(b, "account")
	email := "ada.augusta.king-noel.countess.of.lovelace@analytical-engine.example.com"
	stranger := site.signUp("bob@example.com")
	for address, agent := range map[string]string{
		"203.0.113.7":                          "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
		"198.51.100.4":                         "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
		"2001:db8:85a3:8d3:1319:8a2e:370:7348": "SomeProgramWithALongNameAndNoSpacesInItToBreakTheLineAt/1.0",
	} {
		v := site.visitor()
		flow := v.get("/auth/self-service/login/browser", asJSON)
		v.postJSON(flow.text("ui.action"), map[string]any{"method": "password", "identifier": email,
			"password": goodPassword, "csrf_token": flow.csrfToken()}, with("User-Agent", agent), with("X-Forwarded-For", address))
	}
	b.open("/auth/account")
	b.click("details:nth-of-type(3) > summary")
	check(b, "account-others")
	b.fill("#password", "wrong")
	b.fill("#new_password", "also a good password")
	b.click("form[action$=password] button:not(.show)")
	b.until(`document.querySelector(".problem")`)
	check(b, "account-error")
	site.clock.advance(time.Hour)
	for range 3 {
		site.visitor().submitLogin(email, "wrong", with("X-Forwarded-For", "203.0.113.7"),
			with("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"))
	}
	for range 4 {
		site.clock.advance(time.Minute)
		v := site.signIn(email)
		v.open(v.logoutURL() + "&return_to=/auth/login")
	}
	site.failuresOf(email, 2)
	b.open("/auth/account")
	check(b, "account-activity")
	b.open("/auth/account/activity")
	check(b, "activity")
	site.clock.advance(stale)
	b.open("/auth/account")
	b.click(".sessions form button")
	b.arrives("Confirm that it’s you")
	check(b, "confirm")
	b.fill("#password", "wrong")
	b.click("form button[type=submit]")
	b.until(`document.querySelector(".problem")`)
	check(b, "confirm-error")
	b.open("/auth/logout")
	check(b, "logout")
	b.open(stranger.logoutURL())
	check(b, "403")
	b.headers(network.Headers{"X-Forwarded-Method": "GET", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "app.example.com", "X-Forwarded-Uri": "/"})
	b.open("/auth/verify")
	b.arrives("You don’t have access to app.example.com")
	check(b, "forbidden")
	b.headers(network.Headers{})
	b.open("/auth/self-service/logout?token=x&return_to=https://evil.example")
	check(b, "400")
	b.open("/auth/nowhere")
	check(b, "404")
	b.open(strings.Replace(site.url, "127.0.0.1", unknownHost, 1) + "/auth/login")
	check(b, "421")
	site.tell("wiki", "a-photo-album.with-a-name-that-is-as-long-as-a-name-can-be.at-all")
	b.open("/auth/logout")
	b.click("a[data-logout]")
	b.arrives("You are signed out")
	check(b, "receipt")
	b.click("form[action$=everywhere] button")
	b.until(`document.readyState === "complete" && !document.querySelector("form")`)
	check(b, "receipt-done")
	site.clock.advance(5 * time.Minute)
	b.open("/auth/signed-out")
	check(b, "signed-out")
}

func TestEveryPageIsAccessible(t *testing.T) {
	axe, err := os.ReadFile("testdata/node_modules/axe-core/axe.min.js")
	kit.Need(t, err == nil, "npm packages: npm ci --prefix app/testdata")
	const run = `axe.run({ resultTypes: ["violations"], runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] })
		.then(({ violations }) => violations.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => [id, html, failureSummary].join("\n"))))`
	everyPage(t, func(b *tab, name string) {
		eval[any](b, string(axe)+"; null")
		for _, width := range []int64{1280, 360} {
			for _, scheme := range []string{"light", "dark"} {
				b.size(width, 800)
				b.scheme(scheme)
				require.Empty(t, eval[[]string](b, run), "%s, %s, %d pixels wide", name, scheme, width)
				b.keepScreenshot(fmt.Sprintf("%s-%d-%s.png", name, width, scheme))
			}
		}
	}, func(b *tab) {
		// axe-core styles the page it looks at.
		call(b, page.SetBypassCSP, page.SetBypassCSPParams{Enabled: true})
	})
}

func TestEveryAccentCanBeRead(t *testing.T) {
	axe, err := os.ReadFile("testdata/node_modules/axe-core/axe.min.js")
	kit.Need(t, err == nil, "npm packages: npm ci --prefix app/testdata")
	for _, accent := range []string{"#ffd400", "#10103a"} {
		site := newSite(t, func(c *config.Config) { c.SiteAccent, c.Registration = accent, "open" })
		b := site.browser()
		b.open("/auth/login")
		eval[any](b, string(axe)+"; null")
		for _, scheme := range []string{"light", "dark"} {
			b.scheme(scheme)
			violations := eval[[]string](b, `axe.run({ runOnly: ["color-contrast"] }).then(({ violations }) => violations.flatMap(({ nodes }) => nodes.map(({ failureSummary }) => failureSummary)))`)
			require.Empty(t, violations, "%s, %s", accent, scheme)
			b.keepScreenshot(fmt.Sprintf("accent-%s-%s.png", accent[1:], scheme))
		}
	}
}

// keepScreenshot saves what the tab shows in the directory that SCREENSHOTS names, to be looked at.
func (b *tab) keepScreenshot(name string) {
	b.t.Helper()
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		return
	}
	shot, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	require.NoError(b.t, err)
	require.NoError(b.t, os.WriteFile(filepath.Join(dir, name), shot, 0o644))
}

// 320 pixels is also what a window of 1280 has left at a zoom of 400 %: WCAG 2.2 §1.4.10.
func TestEveryPageFitsANarrowScreenAndAFinger(t *testing.T) {
	everyPage(t, func(b *tab, name string) {
		b.size(320, 256)
		require.LessOrEqual(t, eval[int](b, "document.documentElement.scrollWidth"), 320, "%s scrolls sideways", name)
		small := eval[[]string](b, `[...document.querySelectorAll("a, button, input, summary, label.check")]
			.filter((e) => e.checkVisibility() && !e.closest("label.check > *"))
			.map((e) => [e.getBoundingClientRect(), e.outerHTML])
			.filter(([box, _]) => box.height < 36 || box.width < 44).map(([box, html]) => box.width + "x" + box.height + " " + html)`)
		require.Empty(t, small, "%s: hard to hit", name)
		b.size(1280, 800)
	})
}

func TestEveryPageIsReachedByTheKeyboard(t *testing.T) {
	everyPage(t, func(b *tab, name string) {
		all := eval[[]string](b, `[...document.querySelectorAll("*")].map((e, i) => [e, i])
			.filter(([e]) => e.matches("a[href], button, input, summary") && e.checkVisibility() && e.type !== "hidden").map(([_, i]) => String(i))`)
		if len(all) == 0 {
			return
		}
		require.Equal(t, all, b.tabStops(all[0]), "%s: everything once, in the order in which it is read, and marked", name)
	})
}

// tabStops goes once around the page with the Tab key, from wherever the focus is. It returns the
// elements that it came by as their numbers, from the first one on.
func (b *tab) tabStops(first string) []string {
	b.t.Helper()
	const there = `(() => {
		const at = document.activeElement;
		if (at === document.body) return "";
		const { outlineStyle, outlineWidth } = getComputedStyle(at);
		const marked = outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
		return [...document.querySelectorAll("*")].indexOf(at) + (marked ? "" : " without a mark");
	})()`
	var stops []string
	for range 100 {
		b.press(kb.Tab)
		stop := eval[string](b, there)
		switch {
		case stop == "": // the end of the page
		case len(stops) > 0 && stop == stops[0]:
			start := max(0, slices.Index(stops, first))
			return append(stops[start:], stops[:start]...)
		default:
			stops = append(stops, stop)
		}
	}
	require.FailNow(b.t, "the keyboard is trapped", "%v", stops)
	return nil
}

func TestPagesAreLight(t *testing.T) {
	site := newSite(t, func(c *config.Config) { c.Registration = "open" })
	v := site.signUp("ada@example.com")
	for range 10 {
		site.signIn("ada@example.com")
	}
	for _, path := range []string{"/auth/login", "/auth/registration", "/auth/account", "/auth/account/activity", "/auth/signed-out", "/auth/docs"} {
		b := site.browser()
		if strings.HasPrefix(path, "/auth/account") {
			call(b, network.SetCookie, network.SetCookieParams{Name: "latchkey_session", Value: v.cookie("latchkey_session"), URL: site.url})
		}
		b.open(path)
		b.mu.Lock()
		require.Less(t, b.bytes, 60e3, path)
		require.Greater(t, b.bytes, 5e3, "%s: it was counted", path)
		b.mu.Unlock()
	}
}
