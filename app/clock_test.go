package app_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/models"
)

const day = 24 * time.Hour

// What holds when the clock is a day wrong for a while, in either direction: docs/sessions.md.

func TestFaultClockAheadEndsSessionsForGood(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	short, remembered := site.signIn("ada@example.com"), site.apiToken("ada@example.com")
	asAPI := with("X-Session-Token", remembered)

	site.clock.advance(day)
	require.False(t, short.signedIn())
	require.Equal(t, http.StatusOK, site.visitor().get("/auth/sessions/whoami", asAPI).status)
	eventually(t, func() bool {
		ended, err := site.store.Sessions.AllActive(t.Context(), "ada@example.com")
		require.NoError(t, err)
		return len(ended) == 1
	}, "the session whose time is over is not ended")
	eventually(t, func() bool {
		var noted int64
		require.NoError(t, site.db.Raw("SELECT count(*) FROM sessions WHERE end_reason = ?", models.Expired).Scan(&noted).Error)
		return noted == 1
	}, "the end is not written down")

	site.clock.advance(-day)
	require.False(t, short.signedIn(), "a clock that is put right revives nobody")
	require.Equal(t, http.StatusOK, site.visitor().get("/auth/sessions/whoami", asAPI).status)
	require.NotContains(t, site.signIn("ada@example.com").open("/auth/account").body, "from now")
}

func TestFaultClockSetBackKeepsEndedSessionsEnded(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	other := site.signIn("ada@example.com")
	logout := ada.logoutURL()
	require.Equal(t, http.StatusNoContent, ada.get(logout, asJSON).status)

	site.clock.advance(-day)

	require.False(t, ada.signedIn())
	ada.get(logout, asJSON).requireError(http.StatusUnauthorized, "session_inactive")
	require.True(t, other.signedIn(), "nobody else is signed out by it")
	require.NotContains(t, other.open("/auth/account").body, "from now")
	require.Equal(t, http.StatusNoContent, other.get(other.logoutURL(), asJSON).status)
	require.False(t, other.signedIn())
	site.clock.advance(day)
	require.False(t, ada.signedIn())
	require.False(t, other.signedIn())
}

func TestFaultClockSetBackLengthensNoRight(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	bob := site.visitor()
	flow := bob.get("/auth/self-service/login/browser", asJSON)
	other := site.signIn("ada@example.com").get("/auth/sessions/whoami").text("id")
	leaving := site.signIn("ada@example.com")
	leaving.open(leaving.logoutURL())

	site.clock.advance(-day)

	ada.delete("/auth/sessions/"+other, "", asJSON).requireError(http.StatusForbidden, "session_refresh_required")
	bob.get("/auth/self-service/login/flows?id="+flow.text("id"), asJSON).requireError(http.StatusGone, "self_service_flow_expired")
	leaving.postForm(endFromReceipt, nil).requireError(http.StatusForbidden, "")
	res := bob.submitLogin("ada@example.com", goodPassword)
	require.Equal(t, http.StatusOK, res.status, "a fresh flow works")
}

func TestFaultClockSetBackHoldsNobodyUp(t *testing.T) {
	for name, step := range map[string]time.Duration{"a day": day, "half a minute": 30 * time.Second} {
		t.Run(name, func(t *testing.T) {
			site := newSite(t)
			site.register("ada@example.com")
			ada := site.visitor()
			var res answer
			for range 8 {
				res = ada.submitLogin("ada@example.com", "a wrong password").in(t)
			}
			before := res.wait()

			site.clock.advance(-step)

			res = ada.submitLogin("ada@example.com", goodPassword).in(t)
			if step < time.Minute { // as far apart as the clocks of instances may be
				require.LessOrEqual(t, res.wait(), before)
				return
			}
			require.Equal(t, http.StatusOK, res.status, res.body)
		})
	}
}

// newSiteWithAPendingDelivery returns one whose wiki was down when somebody signed out.
func newSiteWithAPendingDelivery(t *testing.T) (*site, *receiver) {
	t.Helper()
	site, wiki := newSite(t), newReceiver(t)
	site.addApp("wiki", wiki.url, models.SendBoth)
	ada := site.signUp("ada@example.com")
	wiki.answers(answerWith(http.StatusServiceUnavailable))
	ada.open(ada.logoutURL())
	site.awaitDelivery("wiki", models.Pending, 1)
	return site, wiki
}

func TestFaultClockSetBackHoldsUpNoDelivery(t *testing.T) {
	site, wiki := newSiteWithAPendingDelivery(t)
	// One whose sender died with it.
	require.NoError(t, site.db.Exec("UPDATE deliveries SET leased_until = ?", site.clock.Now().Add(time.Minute).UTC()).Error)
	site.stop()
	wiki.answers(nil)
	site.clock.advance(-day)

	site = site.restart()

	eventually(t, func() bool { return site.deliveries("wiki")[0].State == models.Delivered }, "it waits for the clock to come back")
	claims := wiki.told(site, wiki.count()-1)
	require.EqualValues(t, site.clock.Now().Unix(), claims["iat"], "the token's time is the clock's")
}

func TestFaultClockAheadGivesADeliveryItsAttempt(t *testing.T) {
	site, wiki := newSiteWithAPendingDelivery(t)
	wiki.answers(nil)

	site.clock.advance(day)

	eventually(t, func() bool { return site.deliveries("wiki")[0].State == models.Delivered }, "it is given up without an attempt")
}
