package app_test

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/app/config"
	"latchkey/models"
)

const (
	everywhere     = "/auth/account/sign-out-everywhere"
	endFromReceipt = "/auth/signed-out/everywhere"
)

// hasReceipt reports whether the signed-out page says who was signed out.
func (r answer) hasReceipt() bool {
	return strings.Contains(r.body, "has been signed out of this browser")
}

// tell registers apps that can't be reached.
func (s *site) tell(names ...string) {
	s.t.Helper()
	for _, name := range names {
		require.NoError(s.t, s.store.Apps.Add(s.t.Context(), models.App{Name: name, LogoutURL: "http://127.0.0.1:1/" + name, Send: models.SendBoth}))
	}
}

func TestSignedOutPageIsAReceipt(t *testing.T) {
	for how, as := range map[string]header{"a link": asPage, "AJAX": asJSON} {
		t.Run(how, func(t *testing.T) {
			site := newSite(t)
			site.tell("wiki", "photos")
			ada := site.signUp("ada@example.com")
			require.Equal(t, http.StatusSeeOther, ada.postForm("/auth/account/name", url.Values{"name": {"Ada <b>Lovelace"}}).status)
			phone, laptop, bob := site.signIn("ada@example.com"), site.signIn("ada@example.com"), site.signUp("bob@example.com")
			site.clock.advance(stale)

			logout := ada.get(ada.logoutURL(), as)

			cookie := logout.setCookies()["latchkey_receipt"]
			require.True(t, strings.HasSuffix(cookie, "; Path=/; Max-Age=300; HttpOnly; SameSite=Lax"), cookie)
			require.NotContains(t, cookie, "ada")
			page := ada.open("/auth/signed-out")
			require.Equal(t, http.StatusOK, page.status)
			require.Equal(t, "no-store", page.header.Get("Cache-Control"))
			require.Contains(t, page.body, "<strong><bdi>Ada &lt;b&gt;Lovelace</bdi></strong>")
			require.Contains(t, page.body, "(<bdi>ada@example.com</bdi>)")
			require.Contains(t, page.body, "<strong><bdi>wiki</bdi></strong> <small>being signed out</small>")
			require.Contains(t, page.body, "<strong><bdi>photos</bdi></strong> <small>being signed out</small>")
			require.Contains(t, page.body, "This account has 2 other sessions.")
			require.Contains(t, page.body, `data-session=""`, "the page is nobody's")

			site.clock.advance(5*time.Minute - time.Second)
			done := ada.postForm(page.action(), nil)

			require.Equal(t, http.StatusSeeOther, done.status, done.body)
			require.Equal(t, "/auth/signed-out", done.header.Get("Location"))
			require.False(t, phone.signedIn() || laptop.signedIn())
			require.Equal(t, models.EndedByPerson, phone.stored().EndReason)
			require.True(t, bob.signedIn())
			page = ada.open("/auth/signed-out")
			require.Contains(t, page.body, "The other 2 sessions of this account have been ended too.")
			require.NotContains(t, page.body, endFromReceipt)
			site.clock.advance(time.Second)
			require.False(t, ada.open("/auth/signed-out").hasReceipt())
		})
	}
}

func TestReceiptSaysHowAppsWereTold(t *testing.T) {
	site := newSite(t)
	site.tell("mail", "chat")
	wiki, photos := newReceiver(t), newReceiver(t)
	photos.answers(answerWith(http.StatusBadRequest))
	site.addApp("wiki", wiki.url, models.SendBoth)
	site.addApp("photos", photos.url, models.SendBoth)
	ada := site.signUp("ada@example.com")
	ada.open(ada.logoutURL())
	site.awaitDelivery("wiki", models.Delivered, 1)
	site.awaitDelivery("photos", models.Refused, 1)
	mail := site.awaitDelivery("mail", models.Pending, 1)
	mail.State = models.GivenUp
	require.NoError(t, site.store.Deliveries.Settle(t.Context(), mail.Job))

	page := ada.open("/auth/signed-out").body

	for name, how := range map[string]string{"wiki": "signed out", "photos": "could not be reached", "mail": "could not be reached", "chat": "being signed out"} {
		require.Contains(t, page, "<strong><bdi>"+name+"</bdi></strong> <small>"+how+"</small>")
	}
	require.Contains(t, page, "This account has no other sessions.")
}

func TestLogoutThatLeadsElsewhereLeavesNoReceipt(t *testing.T) {
	for name, c := range map[string]struct {
		configure func(*config.Config)
		query     string
	}{
		"return_to":         {returns, "&return_to=" + url.QueryEscape("/goodbye")},
		"LOGOUT_RETURN_URL": {func(c *config.Config) { c.LogoutReturnURL = "/bye" }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			site := newSite(t, c.configure)
			site.register("ada@example.com")
			for _, as := range []header{asPage, asJSON} {
				ada := site.signIn("ada@example.com")
				res := ada.get(ada.logoutURL()+c.query, as)
				require.NotContains(t, res.setCookies(), "latchkey_receipt")
				require.False(t, ada.open("/auth/signed-out").hasReceipt())
			}
		})
	}
	site := newSite(t)
	site.register("ada@example.com")
	token := site.apiToken("ada@example.com")
	res := site.visitor().delete("/auth/self-service/logout/api", `{"session_token":"`+token+`"}`, with("Content-Type", typeJSON))
	require.Equal(t, http.StatusNoContent, res.status)
	require.Empty(t, res.setCookies())
}

func TestReceiptEndsNothingThatBeganLater(t *testing.T) {
	site := newSite(t)
	ada, phone := site.signUp("ada@example.com"), site.signIn("ada@example.com")
	ada.open(ada.logoutURL())
	site.clock.advance(time.Second)
	later := site.signIn("ada@example.com")

	require.Contains(t, ada.open("/auth/signed-out").body, "This account has one other session.")
	require.Equal(t, http.StatusSeeOther, ada.postForm(endFromReceipt, nil).status)

	require.False(t, phone.signedIn())
	require.True(t, later.signedIn())
}

func TestReceiptWorksOnce(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	phone := site.signIn("ada@example.com")
	ada.open(ada.logoutURL())
	copied := with("Cookie", "latchkey_receipt="+ada.cookie("latchkey_receipt"))
	require.Equal(t, http.StatusSeeOther, ada.postForm(endFromReceipt, nil).status)
	require.False(t, phone.signedIn())
	site.clock.advance(time.Second)
	again := site.signIn("ada@example.com")

	twice := ada.postForm(endFromReceipt, nil)
	require.Equal(t, http.StatusForbidden, twice.status)
	require.Contains(t, twice.body, `role="alert">No sessions were ended.`)
	require.True(t, twice.hasReceipt())
	ada.postJSON(endFromReceipt, map[string]string{}).requireError(http.StatusForbidden, "")
	thief := site.visitor().postForm(endFromReceipt, nil, copied)
	require.Equal(t, http.StatusForbidden, thief.status, "it has been used")

	require.True(t, again.signedIn())
	require.False(t, site.visitor().get("/auth/signed-out", asPage, copied).hasReceipt(), "nor does it say anything any more")
}

func TestReceiptUsedByManyAtOnceEndsEachSessionOnce(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	phones := []*visitor{site.signIn("ada@example.com"), site.signIn("ada@example.com")}
	ada.open(ada.logoutURL())
	copied := with("Cookie", "latchkey_receipt="+ada.cookie("latchkey_receipt"))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { site.visitor().postForm(endFromReceipt, nil, copied) })
	}
	all.Wait()
	var ends int64
	require.NoError(t, site.db.Table("ends").Count(&ends).Error)
	require.EqualValues(t, 3, ends)
	require.False(t, phones[0].signedIn() || phones[1].signedIn())
}

func TestReceiptIsGoodForFiveMinutes(t *testing.T) {
	site := newSite(t)
	ada, phone := site.signUp("ada@example.com"), site.signIn("ada@example.com")
	ada.open(ada.logoutURL())
	site.clock.advance(5*time.Minute - time.Second)
	require.True(t, ada.open("/auth/signed-out").hasReceipt())
	site.clock.advance(time.Second)

	page := ada.open("/auth/signed-out")
	require.Equal(t, http.StatusOK, page.status)
	require.False(t, page.hasReceipt())
	require.NotContains(t, page.body, "ada@example.com")
	res := ada.postForm(endFromReceipt, nil)

	require.Equal(t, http.StatusForbidden, res.status)
	require.Contains(t, res.body, "No sessions were ended.")
	require.NotContains(t, res.body, "ada@example.com")
	require.True(t, phone.signedIn())
}

func TestReceiptOfWhatDidNotEndByLogoutSaysNothing(t *testing.T) {
	for name, spoil := range map[string]func(s *site, session models.Session) error{
		"the person is disabled": func(s *site, v models.Session) error { return s.store.Identities.Disable(t.Context(), v.IdentityID) },
		"the person is deleted":  func(s *site, v models.Session) error { return s.store.Identities.Delete(t.Context(), v.IdentityID) },
		"the session is on": func(s *site, v models.Session) error {
			return s.db.Exec("UPDATE sessions SET ended_at = NULL, end_reason = '', expires_at = ? WHERE id = ?", s.clock.Now().Add(time.Hour), v.ID).Error
		},
		"an operator ended it": func(s *site, v models.Session) error {
			return s.db.Exec("UPDATE sessions SET end_reason = 'operator' WHERE id = ?", v.ID).Error
		},
		"it is somebody else's": func(s *site, v models.Session) error {
			return s.db.Exec("UPDATE sessions SET identity_id = ? WHERE id = ?", s.register("eve@example.com").ID, v.ID).Error
		},
	} {
		t.Run(name, func(t *testing.T) {
			site := newSite(t)
			ada := site.signUp("ada@example.com")
			session := ada.stored()
			ada.open(ada.logoutURL())
			require.True(t, ada.open("/auth/signed-out").hasReceipt())
			require.NoError(t, spoil(site, session))

			page := ada.open("/auth/signed-out")

			require.Equal(t, http.StatusOK, page.status)
			require.False(t, page.hasReceipt())
			require.NotContains(t, page.body, "example.com")
			ended := ada.postForm(endFromReceipt, nil)
			require.Equal(t, http.StatusForbidden, ended.status)
			require.NotContains(t, ended.body, "example.com</")
		})
	}
}

func TestReceiptIsGoneWhenSomebodySignsIn(t *testing.T) {
	site := newSite(t, wide)
	for how, enter := range map[string]func(v *visitor){
		"signs in":  func(v *visitor) { require.Equal(t, 200, v.submitLogin("bob@example.com", goodPassword).status) },
		"registers": func(v *visitor) { v.registerAs("eve@example.com") },
	} {
		t.Run(how, func(t *testing.T) {
			browser := site.signInOrUp("ada@example.com")
			phone := site.signInOrUp("ada@example.com")
			site.signInOrUp("bob@example.com")
			browser.open(browser.logoutURL())
			copied := browser.cookie("latchkey_receipt")
			require.NotEmpty(t, copied)

			enter(browser)

			require.Empty(t, browser.cookie("latchkey_receipt"))
			// Not even if the cookie is put back.
			both := with("Cookie", "latchkey_session="+browser.cookie("latchkey_session")+"; latchkey_receipt="+copied)
			require.Equal(t, "/auth/logout", site.visitor().get("/auth/signed-out", asPage, both).header.Get("Location"))
			res := site.visitor().postForm(endFromReceipt, nil, both)
			require.Equal(t, http.StatusForbidden, res.status)
			require.NotContains(t, res.body, "ada@example.com")
			require.True(t, phone.signedIn())
			browser.open(browser.logoutURL() + "&return_to=/bye")
			require.False(t, browser.open("/auth/signed-out").hasReceipt())
		})
	}
}

// signInOrUp signs a person in, who gets an account if need be.
func (s *site) signInOrUp(email string) *visitor {
	s.t.Helper()
	if _, err := s.store.Identities.ByEmail(s.t.Context(), email); err != nil {
		s.register(email)
	}
	return s.signIn(email)
}

// registerAs goes through the JSON flow of a browser.
func (v *visitor) registerAs(email string) {
	v.site.t.Helper()
	flow := v.get("/auth/self-service/registration/browser", asJSON)
	res := v.postJSON(flow.text("ui.action"), map[string]any{"method": "password", "traits": map[string]string{"email": email},
		"password": goodPassword, "csrf_token": flow.csrfToken()})
	require.Equal(v.site.t, http.StatusOK, res.status, res.body)
}

func TestReceiptOfOnesOwnMakingIsNone(t *testing.T) {
	site := newSite(t)
	ada, phone := site.signUp("ada@example.com"), site.signIn("ada@example.com")
	flow := ada.get("/auth/self-service/login/browser?refresh=true", asJSON).text("id")
	device := ada.cookie("latchkey_device")
	ada.open(ada.logoutURL())
	good := ada.cookie("latchkey_receipt")
	for _, cookie := range []string{"", "x", good[1:], good + "A", flow, device, strings.Repeat("A", 200), `{"s":"x"}`, "%00", strings.Repeat("A", 20000)} {
		v := site.visitor()
		as := with("Cookie", "latchkey_receipt="+cookie)
		page := v.get("/auth/signed-out", asPage, as)
		require.Equal(t, http.StatusOK, page.status)
		require.False(t, page.hasReceipt())
		require.Equal(t, http.StatusForbidden, v.postForm(endFromReceipt, nil, as).status)
	}
	res := ada.postForm(endFromReceipt, nil, with("Sec-Fetch-Site", "cross-site"))
	res.requireError(http.StatusForbidden, "")
	require.NotContains(t, res.body, "ada@example.com")
	require.True(t, phone.signedIn())
	require.Equal(t, "/auth/signed-out", ada.open(endFromReceipt).header.Get("Location"), "a reload leads back")
}

func TestSigningOutEverywhere(t *testing.T) {
	site := newSite(t)
	site.tell("wiki")
	ada, phone, laptop := site.signUp("ada@example.com"), site.signIn("ada@example.com"), site.signIn("ada@example.com")
	bob, token := site.signUp("bob@example.com"), ada.cookie("latchkey_session")
	here, there := ada.stored(), phone.stored()
	require.Contains(t, ada.open("/auth/account").body, everywhere)

	res := ada.postForm(everywhere, url.Values{"session": {ada.sessionID()}})

	require.Equal(t, http.StatusSeeOther, res.status, res.body)
	require.Equal(t, "/auth/signed-out", res.header.Get("Location"))
	require.Empty(t, ada.cookie("latchkey_session"))
	require.False(t, phone.signedIn() || laptop.signedIn())
	site.visitor().get("/auth/sessions/whoami", with("X-Session-Token", token)).requireError(http.StatusUnauthorized, "session_inactive")
	require.True(t, bob.signedIn())
	for session, reason := range map[*models.Session]models.Reason{&here: models.EndedByLogout, &there: models.EndedByPerson} {
		ended, err := site.store.Sessions.ByID(t.Context(), session.ID)
		require.NoError(t, err)
		require.Equal(t, reason, ended.EndReason)
	}
	page := ada.open("/auth/signed-out")
	require.Contains(t, page.body, "<strong><bdi>ada@example.com</bdi></strong>")
	require.Contains(t, page.body, "The other 2 sessions of this account have been ended too.")
	require.Contains(t, page.body, "<strong><bdi>wiki</bdi></strong> <small>being signed out</small>")
	require.Equal(t, http.StatusForbidden, ada.postForm(endFromReceipt, nil).status, "there is nothing left to do")
}

func TestSigningOutEverywhereNeedsARecentSignIn(t *testing.T) {
	site := newSite(t, returns)
	ada, phone := site.signUp("ada@example.com"), site.signIn("ada@example.com")
	site.clock.advance(stale)
	page := ada.open("/auth/logout?return_to=https://app.example.com/bye")
	require.Equal(t, everywhere, page.action())

	page = ada.postForm(everywhere, page.hidden())

	require.Equal(t, http.StatusForbidden, page.status)
	require.Contains(t, page.body, "Enter the password of <strong><bdi>ada@example.com</bdi></strong> to continue.")
	require.True(t, ada.signedIn() && phone.signedIn())
	res := ada.confirms(page, goodPassword)
	require.Equal(t, "https://app.example.com/bye", res.header.Get("Location"), "carried along")
	require.Contains(t, res.setCookies()["latchkey_session"], "Max-Age=0", "and not the new token")
	require.False(t, ada.signedIn() || phone.signedIn())
	require.False(t, ada.open("/auth/signed-out").hasReceipt(), "return_to wins")
}

func TestSigningOutEverywhereRefusals(t *testing.T) {
	site := newSite(t)
	ada, phone := site.signUp("ada@example.com"), site.signIn("ada@example.com")
	for _, res := range []answer{
		ada.postForm(everywhere, url.Values{"return_to": {"//evil.example"}}),
		ada.postForm(everywhere, url.Values{"session": {phone.sessionID()}}),
		ada.postForm(everywhere, nil, with("Sec-Fetch-Site", "cross-site")),
		ada.send(http.MethodPost, everywhere, "x", asPage, with("Content-Type", "text/plain")),
	} {
		require.Contains(t, []int{http.StatusBadRequest, http.StatusForbidden, http.StatusUnsupportedMediaType}, res.status)
		require.Empty(t, res.setCookies())
	}
	require.True(t, ada.signedIn() && phone.signedIn())
	require.Equal(t, "/auth/login?return_to=%2Fauth%2Faccount", site.visitor().postForm(everywhere, nil).header.Get("Location"))
	require.Equal(t, "/auth/account", ada.open(everywhere).header.Get("Location"))
}

func TestLogoutAnswersAsItAlwaysDid(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	res := ada.get(ada.logoutURL(), asJSON)
	require.Equal(t, http.StatusNoContent, res.status)
	require.Empty(t, res.body)
	res = site.visitor().get("/auth/self-service/logout?token=x", asPage)
	require.Equal(t, "/auth/signed-out", res.header.Get("Location"))
	require.Empty(t, res.setCookies()["latchkey_receipt"], "nothing was signed out")
}

func TestReceiptOfAFailingDatabaseLeaksNothing(t *testing.T) {
	for _, tables := range []string{"replaced_tokens, sessions", "deliveries"} {
		site := newSite(t)
		ada := site.signUp("ada@example.com")
		ada.open(ada.logoutURL())
		for table := range strings.SplitSeq(tables, ", ") {
			require.NoError(t, site.db.Exec("DROP TABLE "+table).Error)
		}
		res := ada.open("/auth/signed-out")
		res.requireError(http.StatusInternalServerError, "")
		requireNoLeak(t, site, res)
		require.NotContains(t, res.body, "ada@example.com")
	}
}
