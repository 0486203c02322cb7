package app_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/chromedp/chromedp"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"latchkey/app/config"
	"latchkey/models"
	"latchkey/test/kit"
)

// serveTLS serves a host of example.com and returns its address.
func (p *protected) serveTLS(t *testing.T, handler http.Handler) string {
	t.Helper()
	certificate, err := tls.LoadX509KeyPair(p.cert, p.key)
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "https://")
}

// device is a browser of its own, with a tab at each of a person's apps.
type device struct {
	account, wiki, spa, notes *tab
}

// device starts a browser to which these are the hosts of the world, given as HOST=ADDRESS.
func (p *protected) device(t *testing.T, hosts ...string) device {
	t.Helper()
	kit.NeedProgram(t, "chromium", "chromium")
	var rules strings.Builder
	for _, host := range hosts {
		name, address, _ := strings.Cut(host, "=")
		fmt.Fprintf(&rules, "MAP %s:443 %s, ", name, address)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("ignore-certificate-errors", true), // of an authority of this test
		chromedp.Flag("host-resolver-rules", rules.String()+"MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"))
	ctx, closeBrowser := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(closeBrowser)
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	t.Cleanup(cancel)
	tab := func(parent context.Context, site string) *tab {
		ctx, closeTab := chromedp.NewContext(parent)
		t.Cleanup(closeTab)
		require.NoError(t, chromedp.Do(ctx))
		return &tab{t: t, site: site, ctx: ctx}
	}
	account := tab(ctx, p.url)
	return device{account: account, wiki: tab(account.ctx, "https://app.example.com"),
		spa: tab(account.ctx, "https://spa.example.com"), notes: tab(account.ctx, "https://notes.example.com")}
}

// notes is an app with sessions of its own: it asks Latchkey once, and then waits to be told.
type notes struct {
	t        testing.TB
	latchkey string // where its server reaches Latchkey
	now      func() time.Time

	mu     sync.Mutex
	signed map[string]bool // its sessions, by that of Latchkey
}

func (n *notes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		n.told(w, r)
		return
	}
	whoami, err := n.ask(r.Header.Get("Cookie"))
	if err != nil {
		n.t.Error(err)
	}
	n.mu.Lock()
	n.signed[whoami.ID] = true
	n.mu.Unlock()
	fmt.Fprintf(w, "<!DOCTYPE html><title>Notes</title><h1>Notes of %s</h1>", whoami.Identity.Traits.Email)
}

type whoamiAnswer struct {
	ID       string `json:"id"`
	Identity struct {
		Traits struct {
			Email string `json:"email"`
		} `json:"traits"`
	} `json:"identity"`
}

func (n *notes) ask(cookie string) (answer whoamiAnswer, err error) {
	req, err := http.NewRequest(http.MethodGet, n.latchkey+"/auth/sessions/whoami", nil)
	if err != nil {
		return answer, err
	}
	req.Header.Set("Cookie", cookie)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer, err
	}
	defer res.Body.Close()
	return answer, json.NewDecoder(res.Body).Decode(&answer)
}

// told ends the session that a logout token names.
func (n *notes) told(w http.ResponseWriter, r *http.Request) {
	keys, err := keyfunc.NewDefaultCtx(r.Context(), []string{n.latchkey + "/auth/.well-known/jwks.json"})
	claims := jwt.MapClaims{}
	if err == nil {
		_, err = jwt.ParseWithClaims(r.FormValue("logout_token"), claims, keys.Keyfunc,
			jwt.WithIssuer("https://auth.example.com"), jwt.WithAudience("notes"), jwt.WithTimeFunc(n.now))
	}
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	sid, _ := claims["sid"].(string)
	n.signed[sid] = false
}

// signedIn returns how many of its sessions last, and how many there were.
func (n *notes) signedIn() (last, all int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, signedIn := range n.signed {
		if signedIn {
			last++
		}
	}
	return last, len(n.signed)
}

// A person is signed in at two browsers and three apps: one behind nginx, a single-page app on
// another origin, and one that is told. One click ends all of it.
func TestOneClickSignsOutEverywhere(t *testing.T) {
	p := protect(t, "docs/nginx.md", guardWithNginx, func(c *config.Config) {
		c.CORSAllowedOrigins = []string{"https://spa.example.com"}
	})
	p.register("ada@example.com")
	notes := &notes{t: t, latchkey: "http://" + p.latchkey, now: p.clock.Now, signed: map[string]bool{}}
	notesAt := httptest.NewServer(notes)
	t.Cleanup(notesAt.Close)
	p.addApp("notes", notesAt.URL, models.SendBoth)
	spa := p.serveTLS(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `<!DOCTYPE html><title>App</title><h1>A single-page app</h1><script src="https://auth.example.com/auth/session.js"></script>`)
	}))
	nginx := "127.0.0.1:" + portOf(p.https)
	hosts := []string{"auth.example.com=" + nginx, "app.example.com=" + nginx, "spa.example.com=" + spa, "notes.example.com=" + p.serveTLS(t, notes)}
	laptop, phone := p.device(t, hosts...), p.device(t, hosts...)
	apiOfWiki := func(d device) int {
		return eval[int](d.wiki, `fetch("/api", { headers: { "X-Requested-With": "fetch" } }).then((r) => r.status)`)
	}
	for _, d := range []device{laptop, phone} {
		d.wiki.open("/page")
		d.wiki.arrives("Sign in")
		d.wiki.signIn("ada@example.com", goodPassword)
		d.wiki.arrives("Hello ada@example.com at /page")
		d.spa.open("/")
		d.spa.arrives("A single-page app")
		d.spa.until(`fetch("https://auth.example.com/auth/sessions/whoami", { credentials: "include" }).then((r) => r.ok)`)
		d.notes.open("/")
		d.notes.arrives("Notes of ada@example.com")
		d.account.open("/auth/account")
		d.account.arrives("ada@example.com")
	}
	last, all := notes.signedIn()
	require.Equal(t, 2, last)
	require.Equal(t, 2, all)

	begin := time.Now()
	took := func(what string) { t.Logf("%5d ms: %s", time.Since(begin).Milliseconds(), what) }
	laptop.account.click(`form[action="/auth/account/sign-out-everywhere"] button`)

	eventually(t, func() bool { last, _ := notes.signedIn(); return last == 0 }, "the app that is told was not")
	took("the app that is told has ended both of its sessions")
	require.Equal(t, http.StatusUnauthorized, apiOfWiki(laptop))
	require.Equal(t, http.StatusUnauthorized, apiOfWiki(phone))
	took("the app behind nginx refuses the next request of both browsers")
	others := map[string]*tab{"the page of the click": laptop.account, "the account page of the other browser": phone.account,
		"the single-page app in this browser": laptop.spa, "the single-page app in the other browser": phone.spa}
	eventually(t, func() bool {
		for name, b := range others {
			if b.shows("You are signed out") {
				took(name + " has become the signed-out page")
				delete(others, name)
			}
		}
		return len(others) == 0
	}, "not every tab has left")
	require.Contains(t, laptop.account.text(), "ada@example.com")
	require.Contains(t, laptop.account.text(), "notes")
	active, err := p.store.Sessions.AllActive(t.Context(), "ada@example.com")
	require.NoError(t, err)
	require.Empty(t, active)
}
