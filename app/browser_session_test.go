package app_test

import (
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/app"
	"latchkey/app/config"
	"latchkey/models"
)

// otherApp is an app on another origin of the same site, with session.js in its page.
type otherApp struct {
	url      string
	latchkey string // URL

	mu   sync.Mutex
	told []string // the reasons that its pages were given
}

var otherPage = template.Must(template.New("").Parse(`<!DOCTYPE html><html lang="en"><title>App</title><link rel="icon" href="data:,">
<h1>{{if .Bye}}Goodbye{{else}}An app{{end}}</h1><script>
	document.addEventListener("latchkey:signed-out", (event) => {
		if ({{.Prevent}}) event.preventDefault();
		navigator.sendBeacon("/told", event.detail.reason);
	});
</script>{{if not .Bye}}<script src="{{.Latchkey}}/auth/session.js" {{.Attributes}}></script>{{end}}`))

func newOtherApp(t *testing.T) *otherApp {
	a := &otherApp{}
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	a.url = server.URL
	return a
}

func (a *otherApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/told" {
		reason, _ := io.ReadAll(r.Body)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.told = append(a.told, string(reason))
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	attributes := map[string]template.HTMLAttr{
		"/stay": "data-stay", "/bye-url": template.HTMLAttr(`data-signed-out-url="` + a.url + `/bye"`), "/async": "async", "/defer": "defer"}
	_ = otherPage.Execute(w, map[string]any{"Latchkey": a.latchkey, "Attributes": attributes[r.URL.Path],
		"Prevent": r.URL.Path == "/prevent", "Bye": r.URL.Path == "/bye"})
}

func (a *otherApp) reasons() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.told)
}

// withOtherApp returns a site whose pages' session an app on another origin shares.
func withOtherApp(t *testing.T) (*site, *otherApp) {
	other := newOtherApp(t)
	site := newSite(t, func(c *config.Config) { c.CORSAllowedOrigins = []string{other.url} })
	other.latchkey = site.url
	return site, other
}

// at returns a tab of somebody who is signed in, at a page of the app that listens.
func (a *otherApp) at(site *site, path string) *tab {
	site.t.Helper()
	site.register("ada@example.com")
	b := site.at("ada@example.com")
	b.others = []string{a.url}
	site.leave(b)
	b.open(a.url + path)
	site.streams(1)
	return b
}

// leave has a tab, the only one, show a page without a stream, so that the next one is the next page's.
func (s *site) leave(b *tab) {
	s.t.Helper()
	b.open("/auth/docs")
	s.streams(0)
}

// endElsewhere ends all sessions as the command line does.
func (s *site) endElsewhere() {
	s.t.Helper()
	identity, err := s.store.Identities.ByEmail(s.t.Context(), "ada@example.com")
	require.NoError(s.t, err)
	_, err = s.command().Sessions.EndAll(s.t.Context(), identity.ID)
	require.NoError(s.t, err)
}

func TestPageOfAnAppLeavesWhenItsSessionEnds(t *testing.T) {
	for path, heading := range map[string]string{
		"/": "You are signed out", "/async": "You are signed out", "/defer": "You are signed out", "/bye-url": "Goodbye",
		"/stay": "An app", "/prevent": "An app",
	} {
		t.Run(path, func(t *testing.T) {
			site, other := withOtherApp(t)
			b := other.at(site, path)

			site.endElsewhere()

			require.Eventually(t, func() bool { return len(other.reasons()) > 0 }, soon, 10*time.Millisecond)
			require.Equal(t, []string{string(models.EndedByOperator)}, other.reasons())
			b.arrives(heading)
			site.streams(0)
		})
	}
}

func TestPageOfAnAppIsLoadedAnewForAnotherSignIn(t *testing.T) {
	site, other := withOtherApp(t)
	site.register("bob@example.com")
	b := other.at(site, "/")
	second := b.secondTab()
	second.open("/auth/self-service/login/browser?refresh=true")
	second.arrives("Sign in")
	loaded := b.sent("Document " + other.url)

	second.signIn("bob@example.com", goodPassword)

	second.arrives("bob@example.com")
	require.Eventually(t, func() bool { return b.sent("Document "+other.url) == loaded+1 }, soon, 10*time.Millisecond)
	require.Equal(t, []string{string(models.EndedByNewLogin)}, other.reasons())
	b.until(`navigator.locks.query().then(({ held }) => held.length === 1)`)
	site.streams(2) // one for each origin
	bob, err := site.store.Identities.ByEmail(t.Context(), "bob@example.com")
	require.NoError(t, err)
	require.NoError(t, site.store.Identities.Disable(t.Context(), bob.ID))
	b.arrives("You are signed out")
	second.arrives("You are signed out")
}

func TestTabsOfAnOriginShareOneStream(t *testing.T) {
	const many = 10
	site, other := withOtherApp(t)
	tabs := []*tab{other.at(site, "/")}
	for range many - 1 {
		next := tabs[0].secondTab()
		next.open(other.url + "/")
		tabs = append(tabs, next)
	}
	share := func(n int) {
		t.Helper()
		tabs[0].until(fmt.Sprintf(`navigator.locks.query().then(({ held, pending }) => held.length === 1 && pending.length === %d)`, n-1))
		site.streams(1)
	}
	share(many)

	tabs[many-1].close() // the last one held it
	share(many - 1)

	site.endElsewhere()
	for _, b := range tabs[:many-1] {
		b.arrives("You are signed out")
	}
	require.Eventually(t, func() bool { return len(other.reasons()) == many-1 }, soon, 10*time.Millisecond)
	site.streams(0)
}

// front is an address whose server can be exchanged, or be away.
type front struct {
	url     string
	current atomic.Pointer[app.App]
}

func newFront(t *testing.T) *front {
	f := &front{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		current := f.current.Load()
		if current == nil {
			panic(http.ErrAbortHandler)
		}
		current.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

func TestPagesOutlastARestartAndStillLearnOfAnEnd(t *testing.T) {
	f := newFront(t)
	before := newSite(t)
	before.url = f.url
	f.current.Store(before.app)
	before.register("ada@example.com")
	b := before.at("ada@example.com")
	before.streams(1)
	loaded := b.sent("Document")

	f.current.Store(nil)
	before.stop()
	tries := b.sent("EventSource")
	require.Eventually(t, func() bool { return b.sent("EventSource") > tries }, soon, 10*time.Millisecond, "it tries on")
	after := before.restart()
	f.current.Store(after.app)

	after.streams(1)
	require.Equal(t, loaded, b.sent("Document"), "the page stays")
	require.Contains(t, b.text(), "ada@example.com")
	after.endElsewhere()
	b.arrives("You are signed out")
}

func TestPageThatGetsNoStreamChecksWhenItIsShown(t *testing.T) {
	site, other := withOtherApp(t)
	site.register("ada@example.com")
	site.app.Live().Limit(0)
	b := site.at("ada@example.com")
	b.others = []string{other.url}
	site.leave(b)
	tries := b.sent("EventSource")
	b.open(other.url + "/")
	require.Eventually(t, func() bool { return b.sent("EventSource") > tries }, soon, 10*time.Millisecond)
	site.endElsewhere()

	eval[any](b, `document.dispatchEvent(new Event("visibilitychange")), null`)

	b.arrives("You are signed out")
	require.Equal(t, []string{"unknown"}, other.reasons())
}

func TestPageOfNobodyIsLeftAloneUntilItSignsSomebodyIn(t *testing.T) {
	site, other := withOtherApp(t)
	site.register("ada@example.com")
	b := site.browser()
	b.others = []string{other.url}
	b.open(other.url + "/")
	b.arrives("An app")
	second := b.secondTab()
	second.open("/auth/login")
	second.signIn("ada@example.com", goodPassword)
	second.arrives("ada@example.com")
	site.streams(1)
	second.click("a[data-logout]")
	second.arrives("You are signed out")
	site.streams(0)
	require.Equal(t, "An app", eval[string](b, `document.querySelector("h1").innerText`))

	second.open("/auth/login")
	second.signIn("ada@example.com", goodPassword)
	second.arrives("ada@example.com")
	eval[any](b, `document.dispatchEvent(new Event("latchkey:signed-in")), null`)
	site.streams(2)
	site.endElsewhere()
	b.arrives("You are signed out")
}

func TestPlainHTTPHasAStreamWithoutLocks(t *testing.T) {
	f := newFront(t)
	site := newSite(t, func(c *config.Config) { c.BaseURL = strings.Replace(f.url, "127.0.0.1", unknownHost, 1) })
	site.url = strings.Replace(f.url, "127.0.0.1", unknownHost, 1)
	f.current.Store(site.app)
	site.register("ada@example.com")
	b := site.at("ada@example.com")
	require.True(t, eval[bool](b, "!isSecureContext && !navigator.locks"))
	site.streams(1)

	site.endElsewhere()

	b.arrives("You are signed out")
}

func TestScriptIsServedAtAnAddressThatStays(t *testing.T) {
	site := newSite(t)
	v := site.visitor()
	res := v.get("/auth/session.js")
	require.Equal(t, http.StatusOK, res.status)
	require.Equal(t, "text/javascript; charset=utf-8", res.header.Get("Content-Type"))
	require.Equal(t, "public, max-age=300", res.header.Get("Cache-Control"))
	require.Equal(t, "cross-origin", res.header.Get("Cross-Origin-Resource-Policy"))
	require.Equal(t, "nosniff", res.header.Get("X-Content-Type-Options"))
	require.Contains(t, res.body, "latchkey:signed-out")
	packed := v.get("/auth/session.js", with("Accept-Encoding", "gzip"))
	require.Equal(t, "gzip", packed.header.Get("Content-Encoding"))
	require.Less(t, len(packed.body), 4<<10)

	tag := res.header.Get("ETag")
	for _, known := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
		same := v.get("/auth/session.js", with("If-None-Match", known))
		require.Equal(t, http.StatusNotModified, same.status, known)
		require.Empty(t, same.body)
		require.Equal(t, tag, same.header.Get("ETag"))
	}
	require.Equal(t, http.StatusOK, v.get("/auth/session.js", with("If-None-Match", `"x"`)).status)
	require.Equal(t, http.StatusOK, v.send(http.MethodHead, "/auth/session.js", "").status)
	require.Equal(t, res.body, v.get(assetNamed(t, v.open("/auth/login").body, "session")).body, "the same as our own pages have")
}

func assetNamed(t *testing.T, page, name string) string {
	t.Helper()
	for _, url := range assetURL.FindAllString(page, -1) {
		if strings.HasPrefix(url, "/auth/static/"+name+".") {
			return url
		}
	}
	require.FailNow(t, "no such asset", name)
	return ""
}
