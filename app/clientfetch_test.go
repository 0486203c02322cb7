package app_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"latchkey/app/config"
	"latchkey/test/kit"
)

// These tests drive Latchkey with the official npm client of the API that it speaks, in pages of a
// real browser whose origins are not Latchkey's.

const (
	latchkeyHost = "login.example.localhost"
	appHost      = "app.example.localhost"   // another origin of the same site
	siblingHost  = "other.example.localhost" // of the same site too, and not listed
	strangerHost = "app.elsewhere.localhost" // of another site
)

// frontEnd is an app that consists of one page and its script, and the Latchkey that it uses.
type frontEnd struct {
	site     *site
	latchkey string // its origin, as browsers know it
	app      string // the page's origin, which CORS_ALLOWED_ORIGINS names
	port     string // of the page's server, under whatever host
	page     string // in HTML
	script   []byte // /app.js
}

// newFrontEnd starts an app without a page, and Latchkey on another host.
func newFrontEnd(t *testing.T, configure ...func(*config.Config)) *frontEnd {
	t.Helper()
	f := &frontEnd{}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	f.port = ":" + portOf(server.URL)
	f.app = "http://" + appHost + f.port
	f.site = newSite(t, append([]func(*config.Config){func(c *config.Config) {
		c.Registration, c.CORSAllowedOrigins = "open", []string{f.app}
	}}, configure...)...)
	checked := httptest.NewServer(f.site.checkedApp())
	t.Cleanup(checked.Close)
	f.latchkey = "http://" + latchkeyHost + ":" + portOf(checked.URL)
	return f
}

// withOryClient is a front-end whose page has the official client in it.
func withOryClient(t *testing.T, configure ...func(*config.Config)) *frontEnd {
	t.Helper()
	script := bundle(t, "testdata/clientfetch/page.js", "iife")
	f := newFrontEnd(t, configure...)
	f.page = fmt.Sprintf(`<!DOCTYPE html><title>App</title><script src="/app.js" data-latchkey="%s"></script>`, f.latchkey)
	f.script = script
	return f
}

func (f *frontEnd) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/", "/login", "/registration", "/error":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, f.page)
	case "/app.js":
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		_, _ = w.Write(f.script)
	default:
		http.NotFound(w, r)
	}
}

// bundle makes one file for browsers of a script and the packages that it imports, which are in the folders
// or in that of all tests.
func bundle(t *testing.T, script, format string, folders ...string) []byte {
	t.Helper()
	modules, err := filepath.Abs("testdata/node_modules")
	require.NoError(t, err)
	esbuild := filepath.Join(modules, ".bin", "esbuild")
	_, err = os.Stat(esbuild)
	kit.Need(t, err == nil, "npm packages: npm ci --prefix app/testdata")
	kit.NeedProgram(t, "node", "nodejs")
	target := filepath.Join(t.TempDir(), "app.js")
	command := exec.CommandContext(t.Context(), esbuild, script, "--bundle", "--format="+format, "--log-level=warning",
		"--log-limit=0", `--define:process.env.NODE_ENV="production"`, "--outfile="+target)
	var path []string
	for _, folder := range append(folders, modules) {
		folder, err := filepath.Abs(folder)
		require.NoError(t, err)
		path = append(path, folder)
	}
	command.Env = append(os.Environ(), "NODE_PATH="+strings.Join(path, ":"))
	said, err := command.CombinedOutput()
	require.NoError(t, err, "%s", said)
	made, err := os.ReadFile(target)
	require.NoError(t, err)
	return made
}

// checkedApp serves the site, and fails the test for an answer that is not as documented. It leaves
// out streams of events, which have no end.
func (s *site) checkedApp() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") == "text/event-stream" {
			s.app.ServeHTTP(w, r)
			return
		}
		seen := &seenAnswer{ResponseWriter: w, status: http.StatusOK}
		s.app.ServeHTTP(seen, r)
		if err := conforms(s.documented(r), seen.status, w.Header(), seen.body.String()); err != nil {
			s.t.Errorf("the answer to %s %s is not as documented: %v", r.Method, r.URL.Path, err)
		}
	})
}

type seenAnswer struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (a *seenAnswer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

func (a *seenAnswer) Write(p []byte) (int, error) {
	a.body.Write(p)
	return a.ResponseWriter.Write(p)
}

func (a *seenAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// browser opens the page at one of its origins, in a new profile. Unlike the tab of our own pages, it may
// talk to other origins and complain of what they refuse.
func (f *frontEnd) browser(origin string) *tab {
	t := f.site.t
	t.Helper()
	ctx, closeTab := chromedp.NewContext(startChromium(t), chromedp.WithNewBrowserContext())
	t.Cleanup(closeTab)
	require.NoError(t, chromedp.Do(ctx)) // not within the time limit, which would end the profile
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)
	b := &tab{t: t, site: f.latchkey, ctx: ctx}
	b.open(origin + "/")
	return b
}

// outcome is what became of a call of the client: what it returned, or what it threw.
type outcome struct {
	Value      any            `json:"value"`
	Thrown     string         `json:"thrown"` // the class
	Status     int            `json:"status"` // of the answer, 0 if there was none
	Body       map[string]any `json:"body"`
	Recognised []string       `json:"recognised"` // by which of the client's guards
	RetryAfter string         `json:"retryAfter"`
}

// ory calls the client in the page.
func (b *tab) ory(call string, args ...any) outcome {
	b.t.Helper()
	return eval[outcome](b, "outcome(async () => "+fmt.Sprintf(call, args...)+")")
}

// does calls the client, which must not fail.
func (b *tab) does(call string, args ...any) any {
	b.t.Helper()
	did := b.ory(call, args...)
	require.Empty(b.t, did.Thrown, "%s: %d %v", call, did.Status, did.Body)
	return did.Value
}

// fails calls the client, which must throw an error of that status that it recognises; by none of
// its guards if recognised is "".
func (b *tab) fails(status int, recognised, call string, args ...any) outcome {
	b.t.Helper()
	failed := b.ory(call, args...)
	require.Equal(b.t, "ResponseError", failed.Thrown, call)
	require.Equal(b.t, status, failed.Status, "%s: %v", call, failed.Body)
	if recognised == "" {
		require.Empty(b.t, failed.Recognised, call)
	} else {
		require.Equal(b.t, []string{recognised}, failed.Recognised, call)
	}
	return failed
}

// Calls that the tests below make more than once. flow is a variable of the page.
const (
	oryRegister = `ory.updateRegistrationFlow({ flow: flow.id, updateRegistrationFlowBody:
		{ method: "password", csrf_token: csrfToken(flow), traits: { email: %q, name: %q }, password: %q } })`
	oryLogin = `ory.updateLoginFlow({ flow: flow.id, updateLoginFlowBody:
		{ method: "password", csrf_token: csrfToken(flow), identifier: %q, password: %q } })`
	newLogin        = `flow = await ory.createBrowserLoginFlow()`
	newRegistration = `flow = await ory.createBrowserRegistrationFlow()`
	oryLogout       = `ory.updateLogoutFlow({ token: (await ory.createBrowserLogoutFlow()).logout_token })`
)

// member returns a member of a decoded value by its path.
func member(t testing.TB, value any, path string) any {
	t.Helper()
	for name := range strings.SplitSeq(path, ".") {
		object, ok := value.(map[string]any)
		require.True(t, ok, "no %s in %v", path, value)
		value = object[name]
	}
	return value
}

func TestOryFetchClientRegistersAndSignsOutFromAnotherOrigin(t *testing.T) {
	f := withOryClient(t)
	b := f.browser(f.app)
	b.fails(http.StatusUnauthorized, "isNoActiveSession", `ory.toSession()`)

	flow := b.does(newRegistration)
	require.Equal(t, f.latchkey+"/auth/self-service/registration?flow="+member(t, flow, "id").(string), member(t, flow, "ui.action"))
	require.Equal(t, flow, b.does(`ory.getRegistrationFlow({ id: flow.id })`))
	for _, wrong := range []struct{ email, password, messages string }{
		{"ada", goodPassword, `{"traits.email":[4000040]}`},
		{"ada@example.com", "password1", `{"password":[4000005]}`},
		{"", "", `{"traits.email":[4000002],"password":[4000002]}`},
	} {
		call := fmt.Sprintf(oryRegister, wrong.email, "Ada", wrong.password)
		b.fails(http.StatusBadRequest, "", "%s", call)
		require.JSONEq(t, wrong.messages, eval[string](b, `handled(() => `+call+`)
			.then(({ shows }) => JSON.stringify(messages(client.RegistrationFlowFromJSON(shows))))`))
	}
	session := member(t, b.does(oryRegister, "ada@example.com", "Ada", goodPassword), "session")

	who := b.does(`ory.toSession()`)
	require.Equal(t, session, who, "registration has signed in")
	require.Equal(t, map[string]any{"email": "ada@example.com", "name": "Ada"}, member(t, who, "identity.traits"))
	require.Equal(t, "2026-11-22T21:00:00.000Z", member(t, who, "expires_at"), "as a Date of the page")
	require.Equal(t, member(t, who, "identity.id"), b.does(`(await ory.toSessionRaw({})).raw.headers.get("X-Kratos-Authenticated-Identity-Id")`))

	require.Nil(t, b.does(oryLogout))

	b.fails(http.StatusUnauthorized, "isNoActiveSession", `ory.toSession()`)
	f.site.requireEnded(member(t, session, "id").(string))
}

// requireEnded holds a session's row against the claim that it has ended.
func (s *site) requireEnded(id string) {
	s.t.Helper()
	var ended int64
	require.NoError(s.t, s.db.Table("sessions").Where("id = ? AND ended_at IS NOT NULL", id).Count(&ended).Error)
	require.EqualValues(s.t, 1, ended, "session %s is active", id)
}

func TestOryFetchClientSignsInAndOutFromAnotherOrigin(t *testing.T) {
	f := withOryClient(t, func(c *config.Config) { c.AllowedReturnURLs = []string{"https://app.example.com"} })
	f.site.register("ada@example.com")
	b := f.browser(f.app)
	phone, laptop, tv := f.site.signIn("ada@example.com"), f.site.signIn("ada@example.com"), f.site.signIn("ada@example.com")

	flow := b.does(newLogin)
	require.Equal(t, flow, b.does(`ory.getLoginFlow({ id: flow.id })`))
	wrong := fmt.Sprintf(oryLogin, "ada@example.com", "something else")
	b.fails(http.StatusBadRequest, "", "%s", wrong)
	require.JSONEq(t, `{"":[4000006]}`, eval[string](b, `handled(() => `+wrong+`)
		.then(({ shows }) => JSON.stringify(messages(client.LoginFlowFromJSON(shows))))`))
	b.fails(http.StatusUnauthorized, "isNoActiveSession", `ory.toSession()`)
	signedIn := member(t, b.does(oryLogin, "ada@example.com", goodPassword), "session")
	require.Equal(t, signedIn, b.does(`ory.toSession()`))

	b.does(`first = await ory.listMySessionsRaw({ pageSize: 2 })`)
	require.Len(t, b.does(`first.value()`), 2)
	require.Equal(t, "3", b.does(`first.raw.headers.get("X-Total-Count")`), "the page may read it")
	require.Len(t, b.does(`ory.listMySessions({ pageSize: 2, pageToken:
		new URL(/<([^>]*)>; rel="next"/.exec(first.raw.headers.get("Link"))[1]).searchParams.get("page_token") })`), 1)
	require.Nil(t, b.does(`ory.disableMySession({ id: %q })`, phone.get("/auth/sessions/whoami").text("id")))
	require.False(t, phone.signedIn())
	require.True(t, laptop.signedIn() && tv.signedIn())
	require.EqualValues(t, 2, member(t, b.does(`ory.disableMyOtherSessions()`), "count"))
	require.False(t, laptop.signedIn() || tv.signedIn())
	require.Empty(t, b.does(`ory.listMySessions()`))

	logout := b.does(`ory.createBrowserLogoutFlow({ returnTo: "https://app.example.com/bye" })`)
	require.Equal(t, f.latchkey+"/auth/self-service/logout?return_to=https%3A%2F%2Fapp.example.com%2Fbye&token="+
		member(t, logout, "logout_token").(string), sortedQuery(t, member(t, logout, "logout_url").(string)))
	require.Nil(t, b.does(`ory.updateLogoutFlow({ token: %q })`, member(t, logout, "logout_token")))

	f.site.requireEnded(member(t, signedIn, "id").(string))
	for _, call := range []string{`ory.toSession()`, `ory.listMySessions()`, `ory.createBrowserLogoutFlow()`, `ory.disableMyOtherSessions()`,
		`ory.disableMySession({ id: "2f1e9b0a-6e0c-4d6e-9a44-0a4a3a1f0d11" })`, `ory.updateLogoutFlow({ token: "x" })`} {
		b.fails(http.StatusUnauthorized, "isNoActiveSession", "%s", call)
	}
}

// sortedQuery brings the parameters of a URL into the order of their names.
func sortedQuery(t *testing.T, raw string) string {
	t.Helper()
	u, err := url.Parse(raw)
	require.NoError(t, err)
	u.RawQuery = u.Query().Encode()
	return u.String()
}

func TestOryFetchClientFollowsALogoutURL(t *testing.T) {
	f := withOryClient(t, func(c *config.Config) { c.AllowedReturnURLs = []string{"http://*.example.localhost"} })
	b := f.browser(f.app)
	b.does(newRegistration)
	b.does(oryRegister, "ada@example.com", "", goodPassword)

	eval[any](b, `ory.createBrowserLogoutFlow().then(({ logout_url }) => { location = logout_url; })`)

	b.arrives("You are signed out")
	b.open(f.app + "/")
	b.fails(http.StatusUnauthorized, "isNoActiveSession", `ory.toSession()`)
}

func TestOryFetchClientUnderstandsEveryError(t *testing.T) {
	f := withOryClient(t)
	f.site.register("ada@example.com")
	foreign := f.site.visitor().get("/auth/self-service/login/browser", asJSON).text("id")
	b := f.browser(f.app)

	b.fails(http.StatusBadRequest, "isRedirectUrlNotAllowed", `ory.createBrowserLoginFlow({ returnTo: "https://evil.example" })`)
	b.fails(http.StatusBadRequest, "isRedirectUrlNotAllowed", `ory.createBrowserRegistrationFlow({ returnTo: "//evil.example" })`)
	b.does(newLogin)
	b.fails(http.StatusForbidden, "isSecurityIdentityMismatch", `ory.getLoginFlow({ id: %q })`, foreign)
	b.fails(http.StatusForbidden, "isCsrfError", `ory.updateLoginFlow({ flow: flow.id, updateLoginFlowBody:
		{ method: "password", csrf_token: "x", identifier: "ada@example.com", password: %q } })`, goodPassword)
	b.fails(http.StatusNotFound, "", `ory.getLoginFlow({ id: "x" })`)
	b.fails(http.StatusNotFound, "", `ory.getRegistrationFlow({ id: flow.id })`)
	b.fails(http.StatusBadRequest, "isSelfServiceFlowDisabled", `ory.createBrowserSettingsFlow()`)
	b.fails(http.StatusBadRequest, "isSelfServiceFlowDisabled", `ory.createBrowserRecoveryFlow()`)
	b.fails(http.StatusBadRequest, "isSelfServiceFlowDisabled", `ory.getVerificationFlow({ id: "x" })`)
	for range 6 { // five without a wait, and the one that makes the next wait
		b.fails(http.StatusBadRequest, "", oryLogin, "bob@example.com", "wrong")
	}
	throttled := b.fails(http.StatusBadRequest, "", oryLogin, "bob@example.com", "wrong")
	require.EqualValues(t, 4000001, member(t, member(t, throttled.Body, "ui.messages").([]any)[0], "id"))
	require.Equal(t, "1", throttled.RetryAfter, "the page may read it")

	b.does(oryLogin, "ada@example.com", goodPassword)
	b.fails(http.StatusBadRequest, "isSessionAlreadyAvailable", newLogin)
	b.fails(http.StatusBadRequest, "isSessionAlreadyAvailable", newRegistration)
	b.fails(http.StatusBadRequest, "isRedirectUrlNotAllowed", `ory.createBrowserLogoutFlow({ returnTo: "https://evil.example" })`)
	b.fails(http.StatusBadRequest, "", `ory.updateLogoutFlow()`)
	b.fails(http.StatusForbidden, "", `ory.updateLogoutFlow({ token: "x" })`)
	b.fails(http.StatusForbidden, "", `ory.performNativeLogout({ performNativeLogoutBody: { session_token: "x" } })`)
	b.fails(http.StatusBadRequest, "", `ory.disableMySession({ id: (await ory.toSession()).id })`)
	b.fails(http.StatusNotFound, "", `ory.disableMySession({ id: "2f1e9b0a-6e0c-4d6e-9a44-0a4a3a1f0d11" })`)
	require.Equal(t, true, member(t, b.does(`ory.createBrowserLoginFlow({ refresh: true })`), "refresh"))
	require.Equal(t, "ada@example.com", member(t, b.does(`ory.toSession()`), "identity.traits.email"), "nothing was ended")
}

func TestOryFetchClientGoesOnWithAFreshFlow(t *testing.T) {
	f := withOryClient(t)
	f.site.register("ada@example.com")
	b := f.browser(f.app)
	for _, c := range []struct{ create, get, submit string }{
		{newRegistration, `ory.getRegistrationFlow`, fmt.Sprintf(oryRegister, "bob@example.com", "", goodPassword)},
		{newLogin, `ory.getLoginFlow`, fmt.Sprintf(oryLogin, "ada@example.com", goodPassword)},
	} {
		b.does("%s", c.create)
		f.site.clock.advance(time.Hour)
		for _, late := range []string{c.get + `({ id: flow.id })`, c.submit} {
			b.fails(http.StatusGone, "isSelfServiceFlowExpiredError", "%s", late)
			did := eval[map[string]any](b, `handled(() => `+late+`)`)
			require.NotEmpty(t, did["restarts"], "the client's handler knows what to go on with: %v", did)
			b.does(`flow = await %s({ id: %q })`, c.get, did["restarts"])
			b.does(`flow.expires_at > flow.issued_at`)
			if late != c.submit {
				f.site.clock.advance(time.Hour)
			}
		}
		b.does("%s", c.submit)
		b.does(oryLogout)
	}
	b.does(newLogin)
	require.Equal(t, map[string]any{"restarts": ""}, eval[map[string]any](b, `handled(() => ory.updateLoginFlow({ flow: flow.id,
		updateLoginFlowBody: { method: "password", csrf_token: "x", identifier: "ada@example.com", password: "x" } }))`))
}

func TestOryFetchClientIsToldThatRegistrationIsClosed(t *testing.T) {
	f := withOryClient(t, func(c *config.Config) { c.Registration = "closed" })
	b := f.browser(f.app)
	b.fails(http.StatusForbidden, "isSelfServiceFlowDisabled", newRegistration)
}

func TestPageOfAnOriginThatIsNotListedCanDoNothing(t *testing.T) {
	f := withOryClient(t)
	f.site.register("ada@example.com")
	phone := f.site.signIn("ada@example.com")
	b := f.browser(f.app)
	b.does(newLogin)
	b.does(oryLogin, "ada@example.com", goodPassword)
	token := b.does(`(await ory.createBrowserLogoutFlow()).logout_token`)
	flows := []any{b.does(`flow = await ory.createBrowserLoginFlow({ refresh: true })`), f.site.visitor().get("/auth/self-service/login/api").field("id")}
	elsewhere := httptest.NewServer(f)
	t.Cleanup(elsewhere.Close)
	writes := f.site.writes()

	for _, origin := range []string{
		"http://" + siblingHost + f.port,                      // the cookie travels, since it is the same site
		"http://" + appHost + ":" + portOf(elsewhere.URL),     // and to another port
		"http://" + latchkeyHost + f.port,                     // even of Latchkey's own host
		"http://" + strangerHost + f.port,                     // it does not: another site
		"http://" + unknownHost + f.port,                      // another site, not trustworthy either
		"http://127.0.0.1:" + strings.TrimPrefix(f.port, ":"), // an address
	} {
		b.open(origin + "/")
		eval[any](b, fmt.Sprintf(`{ flow = { id: %q, ui: { nodes: [{ attributes: { node_type: "input", name: "csrf_token", value: "" } }] } }; null }`,
			member(t, flows[0], "id")))
		for _, call := range []string{
			`ory.toSession()`, `ory.listMySessions()`, `ory.disableMyOtherSessions()`, `ory.createBrowserLoginFlow({ refresh: true })`,
			`ory.disableMySession({ id: "` + phone.get("/auth/sessions/whoami").text("id") + `" })`, `ory.createBrowserRegistrationFlow()`,
			`ory.createNativeLoginFlow()`, `ory.getLoginFlow({ id: flow.id })`, fmt.Sprintf(oryLogin, "ada@example.com", goodPassword),
			fmt.Sprintf(oryRegister, "eve@example.com", "Eve", goodPassword), `ory.createBrowserLogoutFlow()`, `ory.updateLogoutFlow({ token: "x" })`,
			`ory.performNativeLogout({ performNativeLogoutBody: { session_token: "` + phone.cookie("latchkey_session") + `" } })`,
		} {
			require.Equal(t, outcome{Thrown: "FetchError"}, b.ory("%s", call), "%s from %s", call, origin)
		}
		// Nor by what needs no leave of the other side.
		for _, path := range []string{"self-service/login?flow=" + fmt.Sprint(flows[0].(map[string]any)["id"]), "self-service/login?flow=" + fmt.Sprint(flows[1]),
			"account/sessions/end", "account/name"} {
			require.Equal(t, "withheld", eval[string](b, fmt.Sprintf(`fetch(latchkey + "/auth/" + %q, { method: "POST", mode: "no-cors", credentials: "include",
				body: new URLSearchParams({ method: "password", identifier: "ada@example.com", password: %q, name: "Eve" }) }).then(({ type }) => type, () => "withheld")`,
				path, goodPassword)), "%s from %s", path, origin)
		}
		eval[any](b, `{ const form = document.createElement("form"); form.method = "post"; form.action = latchkey + "/auth/account/sessions/end";
			document.documentElement.append(form); form.submit(); null }`)
		b.arrives("That came from another site")
	}

	require.Zero(t, writes())
	b.open(f.app + "/")
	require.Equal(t, "ada@example.com", member(t, b.does(`ory.toSession()`), "identity.traits.email"))
	require.Equal(t, token, b.does(`(await ory.createBrowserLogoutFlow()).logout_token`), "it is the same session")
	require.True(t, phone.signedIn())
	identities, err := f.site.store.Identities.List(t.Context())
	require.NoError(t, err)
	require.Len(t, identities, 1)
}

// What docs/spa.md says of other sites: to list one is not enough, since browsers keep the cookies back.
func TestPageOfAnotherSiteGetsNoCookieEvenIfListed(t *testing.T) {
	var stranger string
	f := withOryClient(t, func(c *config.Config) {
		stranger = strings.Replace(c.CORSAllowedOrigins[0], appHost, strangerHost, 1)
		c.CORSAllowedOrigins = []string{stranger}
	})
	f.site.register("ada@example.com")
	b := f.browser(stranger)

	b.does(newLogin)

	b.fails(http.StatusForbidden, "isSecurityIdentityMismatch", oryLogin, "ada@example.com", goodPassword)
	b.fails(http.StatusUnauthorized, "isNoActiveSession", `ory.toSession()`)
}

func TestSignOutButtonOfASinglePageApp(t *testing.T) {
	const doc = "docs/spa.md"
	settings, page := codeIn(t, doc, "sh", "CORS_ALLOWED_ORIGINS"), codeIn(t, doc, "html", "sign-out")
	for name, c := range map[string]struct {
		text  string // by which the code is found
		build func(t *testing.T, file string) []byte
	}{
		"@ory/client-fetch": {`from "@ory/client-fetch"`, func(t *testing.T, file string) []byte { return bundle(t, file, "esm") }},
		"plain fetch": {"await fetch(", func(t *testing.T, file string) []byte {
			script, err := os.ReadFile(file)
			require.NoError(t, err)
			return script
		}},
	} {
		t.Run(name, func(t *testing.T) {
			source := codeIn(t, doc, "js", c.text)
			f := newFrontEnd(t, func(c *config.Config) {
				app := c.CORSAllowedOrigins[0]
				for line := range strings.Lines(adapt(t, settings, "https://app.example.com", app)) {
					switch name, value, _ := strings.Cut(strings.TrimSpace(line), "="); name {
					case "CORS_ALLOWED_ORIGINS":
						c.CORSAllowedOrigins = []string{value}
					case "ALLOWED_RETURN_URLS":
						c.AllowedReturnURLs = []string{value}
					default:
						require.Equal(t, "BASE_URL=https://login.example.com", name+"="+value) // here it is the request's own host
					}
				}
			})
			f.page = "<!DOCTYPE html><title>App</title>" + adapt(t, page, "https://login.example.com", f.latchkey)
			file := filepath.Join(t.TempDir(), "main.js")
			require.NoError(t, os.WriteFile(file, []byte(adapt(t, source, "https://login.example.com", f.latchkey)), 0o600))
			f.script = c.build(t, file)
			f.site.register("ada@example.com")
			phone := f.site.signIn("ada@example.com")
			b := f.browser(f.app)
			says := func(text string) {
				t.Helper()
				is := fmt.Sprintf(`document.querySelector("#who")?.textContent === %q`, text)
				require.Eventually(t, func() bool {
					holds, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](is))
					return err == nil && holds
				}, 30*time.Second, 10*time.Millisecond, "the page never says %q", text)
			}
			signIn := func() {
				t.Helper()
				b.click("#sign-in")
				b.arrives("Sign in")
				b.signIn("ada@example.com", goodPassword)
				says("Hello ada@example.com")
			}

			says("Nobody is signed in.")
			require.False(t, eval[bool](b, `document.querySelector("#sign-out").checkVisibility()`))
			signIn()
			require.False(t, eval[bool](b, `document.querySelector("#sign-in").checkVisibility()`))

			b.click("#sign-out")
			says("Nobody is signed in.")
			require.Equal(t, f.app+"/", eval[string](b, "location.href"), "it is still the same page")
			require.EqualValues(t, 1, f.site.activeSessions(), "the phone's")

			signIn()
			require.Equal(t, http.StatusOK, phone.delete("/auth/sessions", "").status)
			says("Nobody is signed in.") // session.js has told it

			signIn()
			require.Equal(t, http.StatusOK, phone.delete("/auth/sessions", "").status)
			eval[any](b, `{ document.querySelector("#sign-out").click(); null }`) // too late, which is no failure
			says("Nobody is signed in.")

			signIn()
			b.open("/auth/docs")
			require.Equal(t, http.StatusOK, phone.delete("/auth/sessions", "").status)
			b.back()
			says("Nobody is signed in.")

			signIn()
			require.NoError(t, f.site.database.Close())
			b.click("#sign-out")
			says("This did not work. Try again in a moment.")
		})
	}
}

// activeSessions counts them.
func (s *site) activeSessions() (n int64) {
	s.t.Helper()
	require.NoError(s.t, s.db.Table("sessions").Where("ended_at IS NULL").Count(&n).Error)
	return n
}
