package app_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/stretchr/testify/require"

	"latchkey/app/config"
	"latchkey/models"
)

// failuresOf waits until so many failures of an account are noted, which happens behind the
// answers, and returns them.
func (s *site) failuresOf(email string, entries int) (failures []models.Failure) {
	s.t.Helper()
	identity, err := s.store.Identities.ByEmail(s.t.Context(), email)
	require.NoError(s.t, err)
	require.Eventually(s.t, func() bool {
		require.NoError(s.t, s.db.Where("identity_id = ?", identity.ID).Order("last_at").Find(&failures).Error)
		return len(failures) >= entries
	}, 30*time.Second, 5*time.Millisecond)
	require.Len(s.t, failures, entries)
	return failures
}

// counted waits until the failures of an account that were noted in one place are so many.
func (s *site) counted(email string, count int) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return s.failuresOf(email, 1)[0].Count == count }, 30*time.Second, 5*time.Millisecond)
}

var activityEntry = regexp.MustCompile(`(?s)<li( class="failed")?><strong>([^<]*)</strong> <small><time datetime="([^"]*)">[^<]*</time></small> <small class="where"><bdi>([^<]*)</bdi></small>`)

// activity returns the entries of a page as "what | time | where".
func (r answer) activity() (entries []string) {
	for _, found := range activityEntry.FindAllStringSubmatch(r.body, -1) {
		entries = append(entries, strings.Join(found[2:], " | "))
	}
	return entries
}

const firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"

func TestAccountShowsWhatHasHappenedToIt(t *testing.T) {
	site := newSite(t, func(c *config.Config) { c.TrustedProxies = []string{"127.0.0.1"} })
	at := func(minutes time.Duration) string {
		return time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC).Add(minutes * time.Minute).Format(time.RFC3339)
	}
	ada := site.signUp("ada@example.com")
	site.clock.advance(time.Minute)
	phone := site.signIn("ada@example.com")
	site.clock.advance(time.Minute)
	for range 3 {
		site.visitor().submitLogin("ada@example.com", "wrong", with("User-Agent", firefox), with("X-Forwarded-For", "203.0.113.7"))
	}
	site.counted("ada@example.com", 3)
	site.clock.advance(time.Minute)
	phone.open(phone.logoutURL())
	site.signUp("bob@example.com")

	want := []string{
		"Signed out | " + at(3) + " | Go-http-client, 127.0.0.1",
		"3 failed sign-ins | " + at(2) + " | Firefox on Linux, 203.0.113.7",
		"Signed in | " + at(1) + " | Go-http-client, 127.0.0.1",
		"Signed in | " + at(0) + " | Go-http-client, 127.0.0.1",
	}
	for _, path := range []string{"/auth/account", "/auth/account/activity"} {
		page := ada.open(path)
		require.Equal(t, http.StatusOK, page.status)
		require.Equal(t, "no-store", page.header.Get("Cache-Control"))
		require.Equal(t, want, page.activity())
		require.NotContains(t, page.body, "bob@example.com")
	}
}

func TestActivitySaysWhatEndedASession(t *testing.T) {
	for words, end := range map[string]func(s *site, ada, other *visitor){
		"Signed out":                       func(_ *site, _, other *visitor) { other.open(other.logoutURL()) },
		"Ended by you from another device": func(_ *site, ada, _ *visitor) { ada.delete("/auth/sessions", "") },
		"Replaced by a new sign-in":        func(_ *site, _, other *visitor) { other.submitLogin("ada@example.com", goodPassword) },
		"Session expired":                  func(s *site, _, _ *visitor) { s.clock.advance(12 * time.Hour) },
		"Ended: account disabled":          func(s *site, ada, _ *visitor) { s.disabledForAWhile(ada) },
		"Ended by your administrator": func(s *site, ada, other *visitor) {
			require.NoError(s.t, s.store.Sessions.End(s.t.Context(), other.stored().ID, models.EndedByOperator))
		},
		"Ended by a password change": func(_ *site, ada, _ *visitor) {
			ada.postForm("/auth/account/password", url.Values{"password": {goodPassword}, "new_password": {"another good one"}, "end_others": {"true"}})
		},
	} {
		t.Run(words, func(t *testing.T) {
			site := newSite(t)
			site.register("ada@example.com")
			other := site.signIn("ada@example.com")
			site.clock.advance(time.Minute)
			ada := site.signInFor(true)
			site.clock.advance(time.Minute)

			end(site, ada, other)

			if !ada.signedIn() {
				ada = site.signIn("ada@example.com")
			}
			require.Contains(t, strings.Join(ada.open("/auth/account").activity(), "\n"), words+" | ")
		})
	}
}

func (s *site) disabledForAWhile(v *visitor) {
	s.t.Helper()
	id := v.stored().IdentityID
	require.NoError(s.t, s.store.Identities.Disable(s.t.Context(), id))
	require.NoError(s.t, s.store.Identities.Enable(s.t.Context(), id))
}

func TestEveryFailureIsNoted(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	n := 0
	for what, fail := range map[string]func() answer{
		"a sign-in": func() answer { return ada.submitLogin("Ada@Example.com", "wrong") },
		"a native one": func() answer {
			flow := ada.get("/auth/self-service/login/api")
			return ada.postJSON(flow.text("ui.action"), map[string]any{"method": "password", "identifier": "ada@example.com", "password": "wrong"})
		},
		"a change of password": func() answer {
			return ada.postForm("/auth/account/password", url.Values{"password": {"wrong"}, "new_password": {"another good one"}})
		},
		"a confirmation": func() answer {
			site.clock.advance(stale)
			return ada.confirms(ada.postForm("/auth/account/sessions/end", nil), "wrong")
		},
		"a disabled account": func() answer {
			site.disable("ada@example.com", true)
			defer site.disable("ada@example.com", false)
			return site.visitor().submitLogin("ada@example.com", goodPassword)
		},
	} {
		ada = site.signIn("ada@example.com") // which forgets the wrong passwords before
		res := fail()
		require.Equal(t, http.StatusBadRequest, res.status, "%s: %s", what, res.body)
		n++
		require.Eventually(t, func() bool {
			sum := 0
			for _, f := range site.failures() {
				sum += f.Count
			}
			return sum == n
		}, 30*time.Second, 5*time.Millisecond, what)
	}
}

func (s *site) disable(email string, disabled bool) {
	s.t.Helper()
	identity, err := s.store.Identities.ByEmail(s.t.Context(), email)
	require.NoError(s.t, err)
	do := s.store.Identities.Enable
	if disabled {
		do = s.store.Identities.Disable
	}
	require.NoError(s.t, do(s.t.Context(), identity.ID))
}

func (s *site) failures() (failures []models.Failure) {
	s.t.Helper()
	require.NoError(s.t, s.db.Find(&failures).Error)
	return failures
}

func TestWhatIsNoFailureIsNotNoted(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	for range 6 {
		ada.submitLogin("ada@example.com", "wrong")
	}
	site.counted("ada@example.com", 6)

	ada.submitLogin("ada@example.com", goodPassword).wait() // it isn't looked at
	ada.submitLogin("ada@example.com", "wrong").wait()
	require.Equal(t, http.StatusBadRequest, ada.submitLogin("ada@example.com", "").status)
	site.visitor().submitLogin("nobody@example.com", "wrong")
	site.clock.advance(time.Hour)
	ada.submitLogin("ada@example.com", "wrong") // notes are written in order, so this one is the last

	failures := site.failuresOf("ada@example.com", 2)
	require.Equal(t, []int{6, 1}, []int{failures[0].Count, failures[1].Count})
	require.Len(t, site.failures(), 2)
	require.NotContains(t, site.logged(), "not noted", "an unknown address is no error")
}

func TestActivityGoesAsFarBackAsRecordsAreKept(t *testing.T) {
	site := newSite(t, func(c *config.Config) { c.SessionRetention = 48 * time.Hour })
	site.register("ada@example.com")
	old := site.signIn("ada@example.com")
	old.open(old.logoutURL())
	site.clock.advance(48*time.Hour - time.Second)
	ada := site.signIn("ada@example.com")
	require.Len(t, ada.open("/auth/account/activity").activity(), 3)
	site.clock.advance(time.Second)
	require.Len(t, ada.open("/auth/account/activity").activity(), 1)

	none := site.restart(func(c *config.Config) { c.SessionRetention = 0 })
	require.Contains(t, none.sameBrowserAt(ada).open("/auth/account").body, "No recent activity.")
}

// sameBrowserAt is a visitor's session in a browser at another server.
func (s *site) sameBrowserAt(v *visitor) *visitor {
	s.t.Helper()
	other := s.visitor()
	u, err := url.Parse(s.url)
	require.NoError(s.t, err)
	other.jar.SetCookies(u, []*http.Cookie{{Name: "latchkey_session", Value: v.cookie("latchkey_session")}})
	return other
}

func TestAccountShowsTheNewestAndAPageTheRest(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	person := ada.stored().IdentityID
	require.NotContains(t, ada.open("/auth/account").body, "/auth/account/activity")
	site.manySignIns(person, 9)
	page := ada.open("/auth/account")
	require.Len(t, page.activity(), 10)
	require.NotContains(t, page.body, "/auth/account/activity", "all is there")

	site.manySignIns(person, 241)
	page = ada.open("/auth/account")
	require.Len(t, page.activity(), 10)
	require.Contains(t, page.body, `href="/auth/account/activity"`)
	whole := ada.open("/auth/account/activity")
	require.Len(t, whole.activity(), 250)
	require.Contains(t, whole.body, "Older activity isn’t shown.")
	require.Contains(t, whole.activity()[0], site.clock.Now().Format(time.RFC3339), "the newest first")
}

// manySignIns writes down sessions that began one second after the other.
func (s *site) manySignIns(person uuid.UUID, n int) {
	s.t.Helper()
	sessions := make([]models.Session, n)
	for i := range sessions {
		s.clock.advance(time.Second)
		now := s.clock.Now()
		sessions[i] = models.Session{ID: uuid.Must(uuid.NewV4()), TokenHash: []byte(now.String()), IdentityID: person, AuthenticatedAt: now,
			ConfirmedAt: now, LastSeenAt: now, ExpiresAt: now.Add(time.Hour), LatestExpiresAt: now.Add(time.Hour), Method: "password"}
	}
	require.NoError(s.t, s.db.Omit("Identity").CreateInBatches(sessions, 100).Error)
}

func TestActivityShowsTheLastChangeOfThePassword(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	require.NotContains(t, ada.open("/auth/account").body, "Password changed")
	for _, pass := range []string{"another good one", "a third good one"} {
		site.clock.advance(time.Minute)
		old := map[string]string{"another good one": goodPassword, "a third good one": "another good one"}[pass]
		res := ada.postForm("/auth/account/password", url.Values{"password": {old}, "new_password": {pass}})
		require.Equal(t, http.StatusSeeOther, res.status)
	}
	page := ada.open("/auth/account/activity").body
	require.Equal(t, 1, strings.Count(page, "<strong>Password changed</strong>"))
	require.Contains(t, page, `<strong>Password changed</strong> <small><time datetime="`+site.clock.Now().Format(time.RFC3339)+`"`)
	require.NotContains(t, page, "unnamed program")
	require.NotContains(t, site.signUp("bob@example.com").open("/auth/account").body, "Password changed")
}

func TestActivityIsOnesOwn(t *testing.T) {
	site := newSite(t)
	stranger := site.visitor()
	require.Equal(t, "/auth/login?return_to=%2Fauth%2Faccount%2Factivity", stranger.open("/auth/account/activity").header.Get("Location"))
	stranger.get("/auth/account/activity", asJSON).requireError(http.StatusUnauthorized, "session_inactive")
}

func TestActivityShowsWhatStrangersSendAsText(t *testing.T) {
	site := newSite(t, func(c *config.Config) { c.TrustedProxies = []string{"127.0.0.1"} })
	ada := site.signUp("ada@example.com")
	for i, agent := range []string{"<script>alert(1)</script>/1.0", strings.Repeat("A", 5000), "\xff\xfe/1", "\u202egnp.exe/1"} {
		site.visitor().submitLogin("ada@example.com", "wrong", with("User-Agent", agent), with("X-Forwarded-For", fmt.Sprintf("203.0.113.%d", i)))
	}
	for _, f := range site.failuresOf("ada@example.com", 4) {
		require.LessOrEqual(t, len(f.UserAgent), 512)
	}
	page := ada.open("/auth/account/activity").body
	require.NotContains(t, page, "<script>alert")
	require.NotContains(t, page, "\u202e", "nothing that turns the line around")
	require.NotContains(t, page, "\xff")
}
