package app_test

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

func TestSetupLinkMakesTheFirstAccountInABrowser(t *testing.T) {
	site := newSite(t)
	b := site.browser()
	setup, err := site.app.SetupURL(t.Context(), site.url)
	require.NoError(t, err)

	b.open(setup)
	b.fill("[name='traits.email']", "ada@example.com")
	b.fill("[name='traits.name']", "Ada Lovelace")
	b.fill("#password", goodPassword)
	b.click("button[name=method]")

	b.arrives("Ada Lovelace")
	b.open(setup)
	b.arrives("Ada Lovelace")
}

func TestSigningInWithAWrongAndThenARightPassword(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	b := site.browser()
	b.open("/auth/login")

	b.signIn("ada@example.com", "not the password")

	b.until(`document.readyState === "complete" && document.querySelector(".alert")`)
	require.True(t, strings.HasPrefix(eval[string](b, "document.title"), "Error: "))
	require.Equal(t, "ada@example.com", b.value("#identifier", "value"))
	require.Empty(t, b.value("#password", "value"))
	require.Equal(t, "password", eval[string](b, "document.activeElement.id"), "one types on where it was wrong")
	require.Contains(t, eval[string](b, `document.getElementById(document.activeElement.getAttribute("aria-describedby")).innerText`),
		"isn’t right", "a screen reader reads the error out with the field")

	b.write(goodPassword)
	b.press("\r")

	b.arrives("ada@example.com")
}

func TestSigningOutWithoutJavaScript(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	b := site.browser()
	b.withoutJavaScript()
	b.open("/auth/login")
	require.False(t, eval[bool](b, `document.querySelector("button.show").checkVisibility()`), "no button that does nothing")
	b.signIn("ada@example.com", goodPassword)
	b.arrives("ada@example.com")

	b.click("a[data-logout]")

	b.arrives("You are signed out")
	require.Equal(t, 1, b.sent("Document /auth/self-service/logout?token="))
	require.Zero(t, b.sent("Fetch"))
	b.open("/auth/account")
	b.arrives("Sign in")
}

func TestSigningOutByAJAX(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	b := site.at("ada@example.com")

	b.click("a[data-logout]")

	b.arrives("You are signed out")
	require.Equal(t, "/auth/signed-out", eval[string](b, "location.pathname"))
	require.Equal(t, 1, b.sent("Fetch /auth/self-service/logout/browser"), "a fresh URL")
	require.Equal(t, 1, b.sent("Fetch /auth/self-service/logout?token="))
	require.Zero(t, b.sent("Document /auth/self-service/logout"))
	b.open("/auth/account")
	b.arrives("Sign in")
}

func TestSignOutThatFailsByAJAXIsDoneByTheLink(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	b := site.at("ada@example.com")
	eval[any](b, `window.fetch = () => Promise.reject(new Error("no network")), null`)

	b.click("a[data-logout]")

	b.arrives("You are signed out")
	require.Equal(t, 1, b.sent("Document /auth/self-service/logout?token="))
}

func TestOtherTabsFollowASignOut(t *testing.T) {
	for how, signOut := range map[string]func(b *tab){
		"by AJAX":         func(b *tab) { b.click("a[data-logout]") },
		"in a new tab":    func(b *tab) { b.click("a[data-logout]", chromedp.ButtonMiddle) },
		"at another page": func(b *tab) { b.open(b.value("a[data-logout]", "href")) },
	} {
		t.Run(how, func(t *testing.T) {
			site := newSite(t)
			site.register("ada@example.com")
			first := site.at("ada@example.com")
			second := first.secondTab()
			second.open("/auth/logout")
			second.arrives("Sign out?")

			signOut(first)

			first.arrives("You are signed out")
			second.arrives("You are signed out")
		})
	}
}

func TestTabsFollowASignInAndSettle(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	site.register("bob@example.com")
	first := site.at("ada@example.com")
	second := first.secondTab()
	second.open("/auth/account")
	second.arrives("ada@example.com")
	third := first.secondTab()
	third.open("/auth/self-service/login/browser?refresh=true")
	third.arrives("Sign in")
	before, loaded := first.sent("Document"), second.sent("Document")

	third.signIn("bob@example.com", goodPassword)

	third.arrives("bob@example.com")
	first.arrives("bob@example.com")
	second.arrives("bob@example.com")
	// Whatever the three have told each other by now has been heard when this has.
	for range 3 {
		heard := first.sent("Fetch /auth/sessions/whoami")
		eval[any](third, `new BroadcastChannel("latchkey").postMessage("news"), null`)
		require.Eventually(t, func() bool { return first.sent("Fetch /auth/sessions/whoami") > heard }, 30*time.Second, 10*time.Millisecond)
	}
	require.Equal(t, before+1, first.sent("Document"), "loaded once")
	require.Equal(t, loaded+1, second.sent("Document"), "loaded once")
}

func TestBackButtonShowsNothingOfAnEndedSession(t *testing.T) {
	for how, prepare := range map[string]func(b *tab){
		"with JavaScript":    func(*tab) {},
		"without JavaScript": (*tab).withoutJavaScript,
	} {
		t.Run(how, func(t *testing.T) {
			site := newSite(t)
			site.register("ada@example.com")
			b := site.browser()
			prepare(b)
			b.open("/auth/login")
			b.signIn("ada@example.com", goodPassword)
			b.arrives("ada@example.com")
			b.click("a[data-logout]")
			b.arrives("You are signed out")

			b.back()

			b.arrives("Sign in")
			require.NotContains(t, b.text(), "ada@example.com")
		})
	}
}

// Chromium keeps no page that may not be stored once it has got a stream, which may not be stored
// either, and loads it anew; and if that was not yet so, the page finds out by itself.
func TestBackButtonBringsNoPageOfOursBackAfterTheEnd(t *testing.T) {
	site := newSite(t)
	ada := site.register("ada@example.com")
	site.withAnApp("<h1>An app</h1>")
	b := site.at("ada@example.com")
	site.streams(1)
	b.open("/app")
	site.streams(0)
	_, err := site.store.Sessions.EndAll(t.Context(), ada.ID)
	require.NoError(t, err)

	b.back()

	b.until(`document.readyState === "complete" && ["Sign in", "You are signed out"].includes(document.querySelector("h1")?.innerText)`)
	require.NotContains(t, b.text(), "ada@example.com")
}

// It may keep another page alive behind the next one, and put it back as it was.
func TestBackForwardCacheShowsNothingOfAnEndedSession(t *testing.T) {
	site := newSite(t)
	ada := site.register("ada@example.com")
	site.withAnApp(hidden)
	b := site.at("ada@example.com")
	site.leave(b)
	b.open("/app")
	site.streams(1)
	b.recordReturn()
	b.open("/auth/docs")
	site.streams(0)
	_, err := site.store.Sessions.EndAll(t.Context(), ada.ID)
	require.NoError(t, err)

	b.back()

	b.arrives("You are signed out")
	require.Equal(t, "hidden", eval[string](b, "sessionStorage.returned"), "nothing of it was shown")
}

func TestBackForwardCacheShowsAPageWhoseSessionGoesOn(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	site.withAnApp(hidden)
	b := site.at("ada@example.com")
	site.leave(b)
	b.open("/app")
	site.streams(1)
	b.recordReturn()
	b.open("/auth/docs")

	b.back()

	b.until(`sessionStorage.returned && getComputedStyle(document.body).visibility === "visible"`)
	require.Contains(t, b.text(), "An app")
	site.streams(1)
}

// hidden is a page of an app that hides until its session is known to go on.
const hidden = `<h1>An app</h1><script src="/auth/session.js" data-hide></script>`

// recordReturn has the page note how it looks when it comes back from the back/forward cache.
func (b *tab) recordReturn() {
	b.t.Helper()
	eval[any](b, `addEventListener("pageshow", (event) => {
		if (event.persisted) sessionStorage.returned = getComputedStyle(document.body).visibility;
	}), null`)
}

// writeApp answers with the page of an app.
func writeApp(w http.ResponseWriter, page string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(w, `<!DOCTYPE html><html lang="en"><title>App</title><link rel="icon" href="data:,">`+page)
}

// withAnApp puts an app on the site's host, at /app. It returns the statuses that logout URLs
// are answered with, by the Sec-Purpose of the requests.
func (s *site) withAnApp(page string) func() map[string]int {
	var mu sync.Mutex
	logouts := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/app":
			writeApp(w, page)
		case "/auth/self-service/logout":
			watched := &statusWriter{ResponseWriter: w}
			s.app.ServeHTTP(watched, r)
			mu.Lock()
			defer mu.Unlock()
			logouts[r.Header.Get("Sec-Purpose")] = watched.status
		default:
			s.app.ServeHTTP(w, r)
		}
	}))
	s.t.Cleanup(server.Close)
	s.url = server.URL
	return func() map[string]int {
		mu.Lock()
		defer mu.Unlock()
		return maps.Clone(logouts)
	}
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func TestLinkThatTheBrowserPrefetchesDoesNotSignOut(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	logouts := site.withAnApp(`<h1>An app</h1><a>Sign out</a><script>
		const link = document.querySelector("a");
		link.href = location.hash.slice(1);
		const prefetch = document.createElement("link");
		prefetch.rel = "prefetch";
		prefetch.href = link.href;
		const rules = document.createElement("script");
		rules.type = "speculationrules";
		rules.text = JSON.stringify({ prerender: [{ urls: [link.href], eagerness: "immediate" }] });
		document.head.append(prefetch, rules);
	</script>`)
	b := site.at("ada@example.com")
	link := b.value("a[data-logout]", "href")
	b.mayFail("/auth/self-service/logout")

	b.open("/app#" + link)

	require.Eventually(t, func() bool { return len(logouts()) == 2 }, 30*time.Second, 10*time.Millisecond, "Chromium speculates")
	require.Equal(t, map[string]int{"prefetch": http.StatusServiceUnavailable, "prefetch;prerender": http.StatusServiceUnavailable}, logouts())
	b.open("/auth/account")
	b.arrives("ada@example.com")
	b.open("/app#" + link)
	b.click("a")
	b.arrives("You are signed out")
}

func TestKeepMeSignedInKeepsTheCookieWhenTheBrowserCloses(t *testing.T) {
	for _, keep := range []bool{false, true} {
		site := newSite(t)
		site.register("ada@example.com")
		b := site.browser()
		b.open("/auth/login")
		if keep {
			b.click("label.check")
		}
		b.signIn("ada@example.com", goodPassword)
		b.arrives("ada@example.com")

		cookies := call(b, network.GetCookies, network.GetCookiesParams{}).Cookies
		i := slices.IndexFunc(cookies, func(c *network.Cookie) bool { return c.Name == "latchkey_session" })
		require.NotEqual(t, -1, i)
		require.Equal(t, !keep, cookies[i].Session)
	}

}
