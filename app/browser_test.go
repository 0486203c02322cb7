package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

// chromium is one process for all tests of the package; each test gets a profile of its own in it.
var chromium struct {
	once sync.Once
	ctx  context.Context
	err  error
	stop func()
}

func TestMain(m *testing.M) {
	code := m.Run()
	if chromium.stop != nil {
		chromium.stop()
	}
	os.Exit(code)
}

func startChromium(t testing.TB) context.Context {
	t.Helper()
	path := kit.NeedProgram(t, "chromium", "chromium")
	chromium.once.Do(func() {
		options := append(chromedp.DefaultExecAllocatorOptions[:],
			chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
			chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
			// Nothing is reached but this machine, which has more names.
			chromedp.Flag("host-resolver-rules", "MAP "+unknownHost+" 127.0.0.1, MAP *.localhost 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"))
		allocator, freed := chromedp.NewExecAllocator(context.Background(), options...)
		ctx, closed := chromedp.NewContext(allocator)
		chromium.ctx, chromium.err = ctx, chromedp.Do(ctx)
		chromium.stop = func() { closed(); freed() }
	})
	require.NoError(t, chromium.err)
	return chromium.ctx
}

// unknownHost is a name of the test server that nobody vouched for.
const unknownHost = "latchkey.test"

// tab is a tab of a real browser. The test fails at its end if the page caused an error on the
// console, broke its content security policy or talked to another host.
type tab struct {
	t     testing.TB
	site  string // URL of the server
	ctx   context.Context
	close func()

	mu         sync.Mutex
	complaints []string
	failing    string   // path that may answer with an error
	others     []string // origins besides the site's that it may talk to
	bytes      float64  // that came over the network
	requests   []string // each as its kind and path
}

// browser opens a tab in a new profile.
func (s *site) browser() *tab {
	s.t.Helper()
	return newTab(s.t, s.url, startChromium(s.t), chromedp.WithNewBrowserContext())
}

// secondTab opens another one in the same profile.
func (b *tab) secondTab() *tab {
	b.t.Helper()
	next := newTab(b.t, b.site, b.ctx)
	next.others = b.others
	return next
}

func newTab(t testing.TB, site string, parent context.Context, options ...chromedp.ContextOption) *tab {
	t.Helper()
	b := &tab{t: t, site: site}
	ctx, closeTab := chromedp.NewContext(parent, append(options, chromedp.WithListener(b.listen))...)
	t.Cleanup(closeTab)
	b.close = closeTab
	require.NoError(t, chromedp.Do(ctx)) // not within the time limit, which would end the profile
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	t.Cleanup(cancel)
	b.ctx = ctx
	call(b, audits.Enable, cdp.Empty{})
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		require.Empty(t, b.complaints)
	})
	return b
}

// listen is called for everything that the browser reports of the tab.
func (b *tab) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	complain := func(format string, args ...any) { b.complaints = append(b.complaints, fmt.Sprintf(format, args...)) }
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		complain("exception: %s", e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		complain("console: %s", e.Type)
	case *log.EventEntryAdded:
		// A status that is an error is judged below.
		// And the unknown host has no https, without which some headers are ignored.
		if e.Entry.Source != log.EntrySourceNetwork && !strings.Contains(e.Entry.URL, unknownHost) &&
			(e.Entry.Level == log.EntryLevelWarning || e.Entry.Level == log.EntryLevelError) {
			complain("log: %s", e.Entry.Text)
		}
	case *audits.EventIssueAdded:
		raw, _ := json.Marshal(e.Issue)
		complain("issue: %s", raw)
	case *network.EventRequestWillBeSent:
		u, err := url.Parse(e.Request.URL)
		own := err == nil && (u.Scheme == "data" || strings.HasPrefix(b.site, u.Scheme+"://"+u.Host) || u.Hostname() == unknownHost ||
			slices.Contains(b.others, u.Scheme+"://"+u.Host))
		if !own {
			complain("request to another host: %s", e.Request.URL)
		}
		b.requests = append(b.requests, string(e.Type)+" "+strings.TrimPrefix(e.Request.URL, b.site))
	case *network.EventResponseReceived:
		if b.failing != "" && strings.Contains(e.Response.URL, b.failing) {
			return
		}
		expects := []network.ResourceType{network.ResourceTypeDocument, network.ResourceTypeFetch, network.ResourceTypeEventSource}
		if e.Response.Status >= 400 && !slices.Contains(expects, e.Type) {
			complain("%d for %s", int(e.Response.Status), e.Response.URL)
		}
	case *network.EventLoadingFinished:
		b.bytes += e.EncodedDataLength
	}
}

// sent returns how many requests the tab has sent that begin so: "Document /auth/login".
func (b *tab) sent(prefix string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(slices.DeleteFunc(slices.Clone(b.requests), func(r string) bool { return !strings.HasPrefix(r, prefix) }))
}

// call runs a command of the DevTools protocol.
func call[P, R any](b *tab, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	result, err := chromedp.Call(b.ctx, command, params)
	require.NoError(b.t, err)
	return result
}

// mayFail says that answers from a path may be errors.
func (b *tab) mayFail(path string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failing = path
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	require.NoError(b.t, chromedp.Do(b.ctx, steps...))
}

// open goes to a path or URL as if it was typed.
func (b *tab) open(target string) {
	b.t.Helper()
	if strings.HasPrefix(target, "/") {
		target = b.site + target
	}
	b.do(chromedp.Navigate(target))
}

// eval returns the value of a JavaScript expression in the page.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	require.NoError(b.t, err, expression)
	return value
}

// until waits for a JavaScript condition to hold, over any number of page loads.
func (b *tab) until(condition string) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		holds, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool]("!!("+condition+")"))
		return err == nil && holds
	}, 30*time.Second, 10*time.Millisecond, "never came true: %s", condition)
}

// arrives waits for the page with that heading to be complete.
func (b *tab) arrives(heading string) {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return b.shows(heading) }, 30*time.Second, 10*time.Millisecond, "%q never came", heading)
}

// shows reports whether the page with that heading is complete.
func (b *tab) shows(heading string) bool {
	now, err := chromedp.Run(b.ctx, chromedp.Evaluate[any](`document.readyState === "complete" && document.querySelector("h1")?.innerText`))
	return err == nil && now == heading
}

// text returns what can be read on the page.
func (b *tab) text() string {
	b.t.Helper()
	return eval[string](b, "document.body.innerText")
}

// value returns a property of the first element that matches.
func (b *tab) value(selector, property string) string {
	b.t.Helper()
	return eval[string](b, fmt.Sprintf("String(document.querySelector(%q)[%q])", selector, property))
}

// click clicks in the middle of the first visible element that matches.
func (b *tab) click(selector string, options ...chromedp.MouseOption) {
	b.t.Helper()
	middle := eval[[]float64](b, fmt.Sprintf(`(() => {
		const element = [...document.querySelectorAll(%q)].find((e) => e.checkVisibility());
		element.scrollIntoView({ block: "center", behavior: "instant" });
		const box = element.getBoundingClientRect();
		return [box.x + box.width / 2, box.y + box.height / 2];
	})()`, selector))
	b.do(chromedp.MouseClickXY(middle[0], middle[1], options...))
}

// fill replaces what is in a field.
func (b *tab) fill(selector, text string) {
	b.t.Helper()
	eval[any](b, fmt.Sprintf("{ const field = document.querySelector(%q); field.focus(); field.select(); null }", selector))
	if text == "" {
		b.press(kb.Delete)
		return
	}
	b.write(text)
}

// write types where the focus is, all at once.
func (b *tab) write(text string) {
	b.t.Helper()
	call(b, input.InsertText, input.InsertTextParams{Text: text})
}

// press presses keys, one after the other.
func (b *tab) press(keys string, options ...chromedp.KeyOption) {
	b.t.Helper()
	b.do(chromedp.KeyEvent(keys, options...))
}

// signIn fills in the sign-in page, which is shown.
func (b *tab) signIn(email, pass string) {
	b.t.Helper()
	b.fill("#identifier", email)
	b.fill("#password", pass)
	b.click("button[name=method]")
}

// at opens a tab at the account page of somebody who has an account.
func (s *site) at(email string) *tab {
	s.t.Helper()
	b := s.browser()
	b.open("/auth/login")
	b.signIn(email, goodPassword)
	b.arrives(email)
	return b
}

// back goes back in the tab's history.
func (b *tab) back() {
	b.t.Helper()
	history := call(b, page.GetNavigationHistory, cdp.Empty{})
	call(b, page.NavigateToHistoryEntry, page.NavigateToHistoryEntryParams{EntryID: history.Entries[history.CurrentIndex-1].ID})
}

func (b *tab) size(width, height int64) {
	b.t.Helper()
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1})
}

func (b *tab) scheme(name string) {
	b.t.Helper()
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
}

// headers has the tab send these with every request, as a proxy would.
func (b *tab) headers(all network.Headers) {
	b.t.Helper()
	call(b, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: all})
}

func (b *tab) withoutJavaScript() {
	b.t.Helper()
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
}
