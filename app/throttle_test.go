package app_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/app/config"
	"latchkey/app/password"
)

// behindProxy lets a test choose where a visitor is.
func behindProxy(c *config.Config) { c.TrustedProxies = []string{"127.0.0.1"} }

func from(ip string) header { return with("X-Forwarded-For", ip) }

// tryLogin submits a password through an API flow, which no cookie ties to a browser.
func (v *visitor) tryLogin(email, pass string, headers ...header) answer {
	v.site.t.Helper()
	flow := v.get("/auth/self-service/login/api")
	return v.postJSON(flow.text("ui.action"), map[string]string{"method": "password", "identifier": email, "password": pass}, headers...)
}

// wait returns what Retry-After says. It is of a flow or of another form.
func (r answer) wait() time.Duration {
	r.t.Helper()
	if r.member("ui") != nil {
		require.Equal(r.t, http.StatusBadRequest, r.status)
		require.EqualValues(r.t, 4000001, r.field("ui.messages.0.id"))
		require.Contains(r.t, r.text("ui.messages.0.context.reason"), "Try again in ")
	} else {
		r.requireError(http.StatusTooManyRequests, "too_many_attempts")
	}
	seconds, err := strconv.Atoi(r.header.Get("Retry-After"))
	require.NoError(r.t, err)
	require.Positive(r.t, seconds)
	return time.Duration(seconds) * time.Second
}

// lockOut fails until the person has to wait, and returns for how long.
func (v *visitor) lockOut(email string, headers ...header) time.Duration {
	v.site.t.Helper()
	for range 6 {
		require.Equal(v.site.t, http.StatusBadRequest, v.tryLogin(email, "wrong password", headers...).status)
	}
	return v.tryLogin(email, "wrong password", headers...).wait()
}

func TestWrongPasswordsSlowDown(t *testing.T) {
	site := newSite(t, behindProxy)
	site.register("ada@example.com")
	v := site.visitor()
	wait := v.lockOut("ada@example.com", from("203.0.113.1"))
	require.Equal(t, time.Second, wait)

	eventually(t, func() bool { // or what the failures leave is taken for a write of the next try
		var noted int
		return site.db.Raw("SELECT COALESCE(SUM(count), 0) FROM failures").Scan(&noted).Error == nil && noted == 6
	}, "the failures were not noted")
	writes := site.writes()
	require.Equal(t, wait, v.tryLogin(" ADA@Example.com ", goodPassword, from("203.0.113.1")).wait(), "not even the right one, however it is spelt")
	require.Zero(t, writes(), "a try that waits is not counted")
	page := v.open("/auth/login")
	res := v.postForm(page.action(), signInForm(page), from("203.0.113.1"))
	require.Equal(t, "1", res.header.Get("Retry-After"))
	res = v.shownAfter(res)
	require.Contains(t, res.body, "1 second")
	require.Contains(t, res.body, `value="ada@example.com"`)

	for _, next := range []time.Duration{2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900} {
		site.clock.advance(wait)
		require.Equal(t, http.StatusBadRequest, v.tryLogin("ada@example.com", "wrong password", from("203.0.113.1")).status)
		wait = v.tryLogin("ada@example.com", "wrong password", from("203.0.113.1")).wait()
		require.Equal(t, next*time.Second, wait)
	}
	require.Equal(t, http.StatusOK, v.tryLogin("ada@example.com", goodPassword, from("198.51.100.1")).status, "from elsewhere nobody waits")
	site.clock.advance(wait)
	require.Equal(t, http.StatusOK, v.tryLogin("ada@example.com", goodPassword, from("203.0.113.1")).status)
	require.Equal(t, http.StatusBadRequest, v.tryLogin("ada@example.com", "wrong password", from("203.0.113.1")).status, "a success clears the count")
}

func TestCountsSurviveARestart(t *testing.T) {
	site := newSite(t, behindProxy)
	site.register("ada@example.com")
	wait := site.visitor().lockOut("ada@example.com", from("203.0.113.1"))

	other := site.restart(behindProxy)

	require.Equal(t, wait, other.visitor().tryLogin("ada@example.com", goodPassword, from("203.0.113.1")).wait())
	other.clock.advance(25 * time.Hour)
	require.Equal(t, http.StatusOK, other.visitor().tryLogin("ada@example.com", goodPassword, from("203.0.113.1")).status)
}

func TestNetworkIsSlowedDownForAllAccounts(t *testing.T) {
	site := newSite(t, behindProxy)
	site.register("ada@example.com")
	v := site.visitor()
	for i := range 101 { // an IPv6 network is a /64
		require.Equal(t, http.StatusBadRequest, v.tryLogin(fmt.Sprintf("user%d@example.com", i), "wrong password", from(fmt.Sprintf("2001:db8:1:2::%x", i+1))).status)
	}
	v.tryLogin("ada@example.com", goodPassword, from("2001:db8:1:2:ffff::1")).wait()
	require.Equal(t, http.StatusOK, v.tryLogin("ada@example.com", goodPassword, from("2001:db8:1:3::1")).status)

	writes := site.writes()
	for i := range 20 {
		v.tryLogin(fmt.Sprintf("more%d@example.com", i), "wrong password", from("2001:db8:1:2::1")).wait()
	}
	require.Zero(t, writes(), "who has to wait can't fill the table")
}

func TestUnknownAndKnownAddressesAnswerAlike(t *testing.T) {
	known, unknown := newSite(t), newSite(t)
	known.register("ada@example.com")
	var answers [2][]string
	varying := regexp.MustCompile(`"id":"[A-Za-z0-9_-]{36,}"|flow=[A-Za-z0-9_-]+|"request":"[^"]*"|http://127.0.0.1:\d+`)
	for i, site := range []*site{known, unknown} {
		v := site.visitor()
		for range 8 {
			res := v.tryLogin("ada@example.com", "wrong password")
			res.header.Del("X-Request-Id")
			res.header.Del("Date")
			res.header.Del("Content-Length")
			answers[i] = append(answers[i], fmt.Sprint(res.status, res.header, varying.ReplaceAllString(res.body, "")))
		}
		require.Contains(t, answers[i][7], "Too many wrong passwords.")
	}
	require.Equal(t, answers[0], answers[1])
}

// Eve never stops: whenever a wait is over, she is the first to try again.
func TestNobodyCanKeepAnotherPersonOut(t *testing.T) {
	site := newSite(t, behindProxy)
	ada := site.signUp("ada@example.com") // leaves the sign of a known device in this browser
	ada.open(ada.logoutURL())
	eve := site.visitor()
	fail := func(ip string) answer { return eve.tryLogin("ada@example.com", "wrong password", from(ip)) }
	for i := range 25 { // from everywhere
		for range 5 {
			require.Equal(t, http.StatusBadRequest, fail(fmt.Sprintf("198.51.100.%d", i)).status)
		}
	}
	for i := range 103 { // and everything from Ada's own network
		eve.tryLogin(fmt.Sprintf("user%d@example.com", i), "wrong password", from("203.0.113.1"))
	}
	for i := range 6 { // a /48 is one network
		require.Equal(t, http.StatusBadRequest, fail(fmt.Sprintf("2001:db8:0:%d::1", i)).status)
	}
	for _, minutes := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		wait := fail("2001:db8:0:ffff::1").wait()
		require.Equal(t, minutes*time.Minute, wait, "her own failures make her wait, the longer for all those of others")
		site.clock.advance(wait)
		require.Equal(t, http.StatusBadRequest, fail("2001:db8::1").status)
	}
	fail("198.51.100.1")

	require.Equal(t, http.StatusOK, ada.submitLogin("ada@example.com", goodPassword, from("203.0.113.1")).status, "Ada where she has signed in before, even in Eve's network")
	other := site.visitor()
	for range 5 {
		fail("198.51.100.1").wait()
		require.Equal(t, http.StatusBadRequest, other.tryLogin("ada@example.com", "a typo", from("192.0.2.1")).status)
	}
	require.Equal(t, http.StatusOK, other.tryLogin("ada@example.com", goodPassword, from("192.0.2.1")).status, "Ada in a new browser elsewhere, though she mistypes")
}

func TestOneAccountCanNotTakeTheHashingFromOthers(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	site.register("bob@example.com")
	right := 0
	for site.visitor().tryLogin("ada@example.com", goodPassword).status == http.StatusOK {
		right++
	}
	require.Equal(t, 60, right)

	require.Equal(t, time.Second, site.visitor().tryLogin("ada@example.com", goodPassword).wait(), "right or wrong, it isn't looked at")
	require.Equal(t, http.StatusOK, site.visitor().tryLogin("bob@example.com", goodPassword).status)
	site.clock.advance(time.Second)
	require.Equal(t, http.StatusOK, site.visitor().tryLogin("ada@example.com", goodPassword).status)
	site.visitor().tryLogin("ada@example.com", goodPassword).wait()
	site.clock.advance(time.Minute)
	require.Equal(t, http.StatusBadRequest, site.visitor().tryLogin("ada@example.com", "wrong password").status, "wrong ones don't count")
}

func TestKnownDeviceHasACountOfItsOwn(t *testing.T) {
	site := newSite(t, behindProxy)
	identity := site.register("ada@example.com")
	ada := site.signIn("ada@example.com")
	thief := site.visitor()
	stolen := with("Cookie", "latchkey_device="+ada.cookie("latchkey_device"))
	fail := func(headers ...header) answer { return thief.tryLogin("ada@example.com", "wrong password", headers...) }
	for i := range 6 {
		require.Equal(t, http.StatusBadRequest, fail(stolen, from(fmt.Sprintf("192.0.2.%d", i))).status)
	}
	fail(stolen, from("192.0.2.7")).wait()

	for range 6 {
		fail(from("192.0.2.100"))
	}
	for _, worthless := range []string{"x", strings.Repeat("A", 200), ada.cookie("latchkey_session"), ada.get("/auth/self-service/login/api").text("id")} {
		fail(with("Cookie", "latchkey_device="+worthless), from("192.0.2.100")).wait()
	}

	hash, err := password.NewHasher(password.Params{MemoryKiB: 8, Passes: 1, Lanes: 1}).Hash(t.Context(), goodPassword)
	require.NoError(t, err)
	site.setPassword(identity.ID, hash, false)
	require.Equal(t, http.StatusBadRequest, fail(stolen, from("192.0.2.200")).status, "after a change of password it is as good as none")
}

func TestRightPasswordsOfClientsThatGoAwayDoNotCount(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	v := site.visitor()
	for range 12 {
		action := v.get("/auth/self-service/login/api").text("ui.action")
		ctx, cancel := context.WithCancel(t.Context())
		body := &leavingReader{Reader: strings.NewReader(`{"method":"password","identifier":"ada@example.com","password":"` + goodPassword + `"}`), leave: cancel}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, action, body)
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		if res, err := v.client.Do(req); err == nil {
			require.NoError(t, res.Body.Close())
		}
	}
	require.Eventually(t, func() bool {
		return v.tryLogin("ada@example.com", goodPassword).status == http.StatusOK
	}, 30*time.Second, 10*time.Millisecond)
	require.Equal(t, http.StatusBadRequest, v.tryLogin("ada@example.com", "wrong password").status, "no count is left over")
}

// leavingReader hangs up when all has been read.
type leavingReader struct {
	io.Reader
	leave func()
}

func (r *leavingReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err == io.EOF {
		r.leave()
	}
	return n, err
}

func TestRightPasswordsWhileTheHashIsRenewed(t *testing.T) {
	site := newSite(t, func(c *config.Config) { c.PasswordPasses = 2 })
	site.register("ada@example.com") // with one pass
	var statuses [8]int
	var running sync.WaitGroup
	for i := range statuses {
		running.Go(func() { statuses[i] = site.visitor().tryLogin("ada@example.com", goodPassword).status })
	}
	running.Wait()
	for _, status := range statuses {
		require.Equal(t, http.StatusOK, status)
	}
}

func TestParallelGuessesDoNotOutrunTheCount(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	action := site.visitor().get("/auth/self-service/login/api").text("ui.action")
	var mu sync.Mutex
	count := map[bool]int{} // by whether there is a wait
	var running sync.WaitGroup
	for range 40 {
		running.Go(func() {
			res := site.visitor().postJSON(action, map[string]string{"method": "password", "identifier": "ada@example.com", "password": "wrong password"})
			mu.Lock()
			defer mu.Unlock()
			count[res.header.Get("Retry-After") != ""]++
		})
	}
	running.Wait()
	require.Equal(t, map[bool]int{false: 6, true: 34}, count)
}

func TestRightPasswordsWaitInLine(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	action := site.visitor().get("/auth/self-service/login/api").text("ui.action")
	var statuses [40]int
	var running sync.WaitGroup
	for i := range statuses {
		running.Go(func() {
			statuses[i] = site.visitor().postJSON(action, map[string]string{"method": "password", "identifier": "ada@example.com", "password": goodPassword}).status
		})
	}
	running.Wait()
	for _, status := range statuses {
		require.Equal(t, http.StatusOK, status, "nobody is turned away for what others are doing at the same time")
	}
}

func TestOldPasswordIsThrottledToo(t *testing.T) {
	ada := newSite(t).signUp("ada@example.com")
	try := func(pass string) answer {
		return ada.postJSON("/auth/account/password", map[string]any{"password": pass, "new_password": "another good one"}, asPage)
	}
	for range 6 {
		require.Equal(t, http.StatusBadRequest, try("wrong password").status)
	}
	res := try(goodPassword)
	require.Equal(t, http.StatusTooManyRequests, res.status)
	require.Equal(t, "1", res.header.Get("Retry-After"))
	ada.site.clock.advance(time.Second)
	require.Equal(t, http.StatusOK, ada.submitLogin("ada@example.com", goodPassword).status, "the password is the old one")
}

func TestOpeningPagesWritesNothing(t *testing.T) {
	site := newSite(t, wide)
	writes := site.writes()
	for path := range site.paths() {
		for range 3 {
			site.visitor().open(path)
			site.visitor().get(path, asJSON, with("Cookie", "latchkey_session="+strings.Repeat("A", 26)))
		}
	}
	require.Zero(t, writes())
}
