package app_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"latchkey/app/config"
	"latchkey/models"
)

func TestSessionEndsUnusedAndAfterItsLifetime(t *testing.T) {
	for _, c := range []struct {
		why            string
		remember       bool
		idle, lifetime time.Duration
		configure      func(*config.Config)
	}{
		{"as by default", false, 12 * time.Hour, 12 * time.Hour, func(*config.Config) {}},
		{"kept signed in, as by default", true, 7 * 24 * time.Hour, 30 * 24 * time.Hour, func(*config.Config) {}},
		{"as set", false, 30 * time.Minute, 2 * time.Hour, func(c *config.Config) { c.SessionIdle, c.SessionLifetime = 30*time.Minute, 2*time.Hour }},
		{"kept signed in, as set", true, time.Hour, 3 * time.Hour, func(c *config.Config) { c.RememberIdle, c.RememberLifetime = time.Hour, 3*time.Hour }},
		{"less lifetime than idleness", false, time.Hour, time.Hour, func(c *config.Config) { c.SessionIdle, c.SessionLifetime = 3*time.Hour, time.Hour }},
	} {
		t.Run(c.why, func(t *testing.T) {
			site := newSite(t, c.configure)
			site.register("ada@example.com")
			idle, used := site.signInFor(c.remember), site.signInFor(c.remember)
			start := site.clock.Now()

			for site.clock.Now().Add(c.idle - time.Second).Before(start.Add(c.lifetime)) {
				site.clock.advance(c.idle - time.Second)
				used.use()
			}
			if c.idle < c.lifetime {
				require.False(t, idle.signedIn(), "unused for long enough")
			}
			site.clock.advance(start.Add(c.lifetime - time.Second).Sub(site.clock.Now()))
			require.True(t, used.signedIn())
			site.clock.advance(time.Second)
			require.False(t, used.signedIn(), "used all the time, but over")
			require.False(t, idle.signedIn())
			require.Contains(t, used.open("/auth/login").body, "Your session has ended")
		})
	}
}

// signInFor signs ada in. The jar goes by the machine's clock, so it keeps every cookie.
func (s *site) signInFor(remember bool) *visitor {
	s.t.Helper()
	v := s.visitor()
	flow := v.get("/auth/self-service/login/browser", asJSON)
	res := v.postJSON(flow.text("ui.action"), map[string]any{"method": "password", "identifier": "ada@example.com", "password": goodPassword, "remember": remember})
	require.Equal(s.t, http.StatusOK, res.status, res.body)
	return v
}

// stored returns the visitor's session as it is in the database.
func (v *visitor) stored() models.Session {
	v.site.t.Helper()
	session, err := v.site.store.Sessions.ByToken(v.site.t.Context(), v.cookie("latchkey_session"))
	require.NoError(v.site.t, err)
	return session
}

// use uses the session and waits until that is noted, which happens behind the answer.
func (v *visitor) use() {
	v.site.t.Helper()
	require.True(v.site.t, v.signedIn())
	require.Eventually(v.site.t, func() bool { return v.stored().LastSeenAt.Equal(v.site.clock.Now()) }, 30*time.Second, time.Millisecond)
}

func TestUseIsNotedAtMostOnceInTwoMinutes(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	start := site.clock.Now()

	writes := site.writes()
	site.clock.advance(2*time.Minute - time.Second)
	require.True(t, ada.signedIn())
	require.Zero(t, writes())
	site.clock.advance(time.Second)
	ada.use()
	require.WithinDuration(t, start.Add(12*time.Hour), ada.stored().ExpiresAt, 0, "not past its lifetime")
}

// list returns the elements of a JSON array.
func (r answer) list() (elements []any) {
	r.t.Helper()
	require.NoError(r.t, json.Unmarshal([]byte(r.body), &elements), r.body)
	return elements
}

func TestPersonSeesAndEndsTheirOtherSessions(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	bob := site.signUp("bob@example.com")
	var others []*visitor
	for range 5 {
		site.clock.advance(time.Minute)
		others = append(others, site.signIn("ada@example.com"))
	}
	newest := others[4].get("/auth/sessions/whoami").text("id")

	all := ada.get("/auth/sessions")
	require.Equal(t, "5", all.header.Get("X-Total-Count"))
	require.Len(t, all.list(), 5)
	require.Equal(t, newest, all.text("0.id"), "newest first")
	require.NotContains(t, all.body, ada.get("/auth/sessions/whoami").text("id"), "without the current one")
	require.NotContains(t, all.body, "bob@example.com")

	var paged []string
	next, pages := "/auth/sessions?page_size=2", 0
	for link := regexp.MustCompile(`<([^>]+)>; rel="next"`); next != ""; pages++ {
		page := ada.get(next)
		require.Equal(t, http.StatusOK, page.status, page.body)
		require.Equal(t, "5", page.header.Get("X-Total-Count"))
		for _, session := range page.list() {
			paged = append(paged, session.(map[string]any)["id"].(string))
		}
		next = ""
		if found := link.FindStringSubmatch(page.header.Get("Link")); found != nil {
			next = found[1]
		}
	}
	require.Equal(t, 3, pages)
	for i := range 5 {
		require.Equal(t, others[4-i].get("/auth/sessions/whoami").text("id"), paged[i])
	}

	ada.delete("/auth/sessions/"+bob.get("/auth/sessions/whoami").text("id"), "").requireError(http.StatusNotFound, "")
	ada.delete("/auth/sessions/2f1e9b0a-6e0c-4d6e-9a44-0a4a3a1f0d11", "").requireError(http.StatusNotFound, "")
	ada.delete("/auth/sessions/"+ada.get("/auth/sessions/whoami").text("id"), "").requireError(http.StatusBadRequest, "")
	ada.delete("/auth/sessions/x", "").requireError(http.StatusBadRequest, "")
	require.True(t, bob.signedIn() && ada.signedIn())

	require.Equal(t, http.StatusNoContent, ada.delete("/auth/sessions/"+newest, "").status)
	require.False(t, others[4].signedIn())
	require.True(t, others[3].signedIn())
	rest := ada.delete("/auth/sessions", "")
	require.JSONEq(t, `{"count": 4}`, rest.body)
	require.JSONEq(t, `{"count": 0}`, ada.delete("/auth/sessions", "").body)
	require.False(t, others[0].signedIn())
	require.True(t, bob.signedIn() && ada.signedIn())
	require.JSONEq(t, `[]`, ada.get("/auth/sessions").body)
}

func TestPagesThatAreNoneAreRefused(t *testing.T) {
	ada := newSite(t).signUp("ada@example.com")
	for _, query := range []string{"page_size=0", "page_size=-1", "page_size=251", "page_size=x", "page_size=1.5", "page_size=1e2", "page_size=99999999999999999999",
		"page_size=1&page_size=2", "page_size=+1", "page_token=x", "page_token=" + strings.Repeat("A", 31), "page_token=" + strings.Repeat("A", 33), "page_token=a&page_token=b",
		"page_token=" + strings.Repeat("A", 10000), "page_token=%00", "page_token=1%20OR%201=1"} {
		ada.get("/auth/sessions?"+query).requireError(http.StatusBadRequest, "")
	}
	for _, token := range []string{"__________8AAAAAAAAAAAAAAAAAAAAB", "f_________8AAAAAAAAAAAAAAAAAAAAB", "gAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB", strings.Repeat("_", 32)} {
		res := ada.get("/auth/sessions?page_token=" + token) // as if of the far past or future
		require.Contains(t, []int{http.StatusOK, http.StatusBadRequest}, res.status, res.body)
	}
	require.Equal(t, http.StatusOK, ada.get("/auth/sessions?page_size=250").status)
}

func TestDisabledOrDeletedPersonIsSignedOutAtOnce(t *testing.T) {
	for what, end := range map[string]func(*site, models.Identity) error{
		"disabled": func(s *site, i models.Identity) error { return s.store.Identities.Disable(t.Context(), i.ID) },
		"deleted":  func(s *site, i models.Identity) error { return s.store.Identities.Delete(t.Context(), i.ID) },
	} {
		site := newSite(t)
		identity := site.register("ada@example.com")
		ada, token := site.signIn("ada@example.com"), site.apiToken("ada@example.com")
		require.NoError(t, end(site, identity), what)
		ada.get("/auth/sessions/whoami").requireError(http.StatusUnauthorized, "session_inactive")
		ada.get("/auth/self-service/logout/browser").requireError(http.StatusUnauthorized, "session_inactive")
		site.visitor().get("/auth/sessions/whoami", with("X-Session-Token", token)).requireError(http.StatusUnauthorized, "session_inactive")
		require.Equal(t, http.StatusSeeOther, ada.open("/auth/account").status)
		res := ada.submitLogin("ada@example.com", goodPassword)
		require.Equal(t, http.StatusBadRequest, res.status, res.body)
		require.False(t, ada.signedIn())
	}
}

func TestPasswordChangeNeedsTheOldOneAndEndsOtherSessions(t *testing.T) {
	site := newSite(t)
	ada, other := site.signUp("ada@example.com"), site.signIn("ada@example.com")
	change := func(old, next string, more ...string) answer {
		form := url.Values{"password": {old}, "new_password": {next}}
		for _, name := range more {
			form.Set(name, "true")
		}
		return ada.postForm("/auth/account/password", form)
	}
	wrong := change("wrong password", "another good one", "end_others")
	require.Equal(t, http.StatusBadRequest, wrong.status)
	require.NotContains(t, wrong.body, "another good one")
	require.True(t, other.signedIn())

	require.Equal(t, "/auth/account?done=password", change(goodPassword, "another good one").header.Get("Location"))
	require.True(t, other.signedIn(), "it was not asked for")
	require.Equal(t, "/auth/account?done=all", change("another good one", "a third good one", "end_others").header.Get("Location"))
	require.False(t, other.signedIn())
	require.True(t, ada.signedIn())
	require.Equal(t, http.StatusBadRequest, site.visitor().submitLogin("ada@example.com", goodPassword).status)
	require.Equal(t, http.StatusOK, site.visitor().submitLogin("ada@example.com", "a third good one").status)
}

func TestSigningInEndsTheSessionThatTheBrowserHeld(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	site.register("bob@example.com")
	first := ada.cookie("latchkey_session")
	require.Equal(t, http.StatusOK, ada.submitLogin("bob@example.com", goodPassword).status)
	require.NotEqual(t, first, ada.cookie("latchkey_session"))
	site.visitor().get("/auth/sessions/whoami", with("X-Session-Token", first)).requireError(http.StatusUnauthorized, "session_inactive")

	// A token that an attacker planted is not taken over.
	planted := strings.Repeat("A", 26)
	victim := site.visitor()
	flow := victim.get("/auth/self-service/login/browser", asJSON)
	res := victim.postJSON(flow.text("ui.action"), map[string]string{"method": "password", "identifier": "ada@example.com", "password": goodPassword},
		with("Cookie", "latchkey_session="+planted+"; latchkey_flow="+victim.cookie("latchkey_flow")))
	require.Equal(t, http.StatusOK, res.status, res.body)
	require.NotContains(t, res.setCookies()["latchkey_session"], planted)
	site.visitor().get("/auth/sessions/whoami", with("X-Session-Token", planted)).requireError(http.StatusUnauthorized, "session_inactive")
}

func TestWhoIsSignedInIsToldSo(t *testing.T) {
	ada := newSite(t, wide).signUp("ada@example.com")
	for _, kind := range []string{"login", "registration"} {
		ada.get("/auth/self-service/"+kind+"/browser", asJSON).requireError(http.StatusBadRequest, "session_already_available")
		require.Equal(t, "/auth/account", ada.open("/auth/self-service/"+kind+"/browser").header.Get("Location"))
	}
	refresh := ada.get("/auth/self-service/login/browser?refresh=true", asJSON)
	require.Equal(t, http.StatusOK, refresh.status)
	require.Equal(t, true, refresh.field("refresh"))
	require.Contains(t, ada.open("/auth/login?flow="+refresh.text("id")).body, "Confirm that it’s you")
}

// The first request after a while is often a page with many parts.
func TestManyRequestsAtOnceRecordOneUse(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	token := site.apiToken("ada@example.com")
	var updates atomic.Int64
	require.NoError(t, site.db.Callback().Update().Before("gorm:update").Register("test:count", func(tx *gorm.DB) {
		if tx.Statement.Table == "sessions" {
			updates.Add(1)
		}
	}))
	for round := range int64(3) {
		site.clock.advance(3 * time.Minute)
		var clients sync.WaitGroup
		for range 64 {
			clients.Go(func() {
				for range 5 {
					if res := site.visitor().get("/auth/sessions/whoami", with("X-Session-Token", token)); res.status != http.StatusOK {
						t.Errorf("whoami answered %d", res.status)
					}
				}
			})
		}
		clients.Wait()
		require.Eventually(t, func() bool { return updates.Load() == round+1 }, 30*time.Second, time.Millisecond)
		session, err := site.store.Sessions.ByToken(t.Context(), token)
		require.NoError(t, err)
		require.True(t, session.LastSeenAt.Equal(site.clock.Now()))
	}
	site.stop()
	require.EqualValues(t, 3, updates.Load(), "nothing was left in the queue")
}
