package app_test

import (
	"html"
	"net/http"
	"strings"
	"testing"

	"latchkey/app/config"

	"github.com/stretchr/testify/require"
)

func TestLogoutURLEndsTheSessionItWasMadeFor(t *testing.T) {
	ada := newSite(t).signUp("ada@example.com")
	token := ada.cookie("latchkey_session")

	res := ada.open(ada.logoutURL())

	require.Equal(t, http.StatusSeeOther, res.status)
	require.Equal(t, "/auth/signed-out", res.header.Get("Location"))
	require.Empty(t, ada.cookie("latchkey_session"), "the cookie is gone")
	require.False(t, ada.signedIn())
	copied := ada.site.visitor().get("/auth/sessions/whoami", with("Cookie", "latchkey_session="+token))
	require.Equal(t, http.StatusUnauthorized, copied.status, "a copy of the cookie signs nobody in")
	require.Equal(t, "session_inactive", copied.text("error.id"))
}

func TestLogoutByAJAXAnswersWithoutContent(t *testing.T) {
	ada := newSite(t).signUp("ada@example.com")
	flow := ada.get("/auth/self-service/logout/browser", asJSON)

	res := ada.get("/auth/self-service/logout?token="+flow.text("logout_token"), asJSON)

	require.Equal(t, http.StatusNoContent, res.status)
	require.Empty(t, res.body)
	require.False(t, ada.signedIn())
	again := ada.get("/auth/self-service/logout?token="+flow.text("logout_token"), asJSON)
	require.Equal(t, http.StatusUnauthorized, again.status)
	require.Equal(t, "session_inactive", again.text("error.id"))
}

func TestLogoutURLIsAbsoluteStableAndWritesNothing(t *testing.T) {
	ada := newSite(t).signUp("ada@example.com")
	writes := ada.site.writes()

	first := ada.get("/auth/self-service/logout/browser?return_to=/goodbye%3Fx%3D1%262")
	second := ada.get("/auth/self-service/logout/browser?return_to=/goodbye%3Fx%3D1%262")

	require.Equal(t, http.StatusOK, first.status, first.body)
	require.Equal(t, "no-store", first.header.Get("Cache-Control"))
	require.JSONEq(t, first.body, second.body)
	token := first.text("logout_token")
	require.Equal(t, ada.site.url+"/auth/self-service/logout?token="+token+"&return_to=%2Fgoodbye%3Fx%3D1%262", first.text("logout_url"))
	require.NotEqual(t, ada.cookie("latchkey_session"), token)
	require.Zero(t, writes())

	res := ada.open(first.text("logout_url"))
	require.Equal(t, "/goodbye?x=1&2", res.header.Get("Location"))
}

func TestLogoutURLIsOfNoUseToSomebodyElse(t *testing.T) {
	site := newSite(t)
	ada, bob := site.signUp("ada@example.com"), site.signUp("bob@example.com")

	page := bob.open(ada.logoutURL())
	json := bob.get(ada.logoutURL(), asJSON)

	require.Equal(t, http.StatusForbidden, page.status)
	require.Contains(t, page.body, "bob@example.com", "the page says who is signed in here")
	require.Contains(t, page.body, strings.ReplaceAll(bob.logoutURL(), "&", "&amp;"), "with the right link")
	require.Equal(t, http.StatusForbidden, json.status)
	require.True(t, ada.signedIn() && bob.signedIn(), "nothing was ended")
}

func TestLogoutURLNeedsTheCookie(t *testing.T) {
	ada := newSite(t).signUp("ada@example.com")

	stranger := ada.site.visitor()
	page := stranger.open(ada.logoutURL())
	json := stranger.get(ada.logoutURL(), asJSON)

	require.Equal(t, http.StatusSeeOther, page.status, "for a person it is as if it had worked")
	require.Equal(t, http.StatusUnauthorized, json.status)
	require.True(t, ada.signedIn())
}

func TestLogoutWithoutItsTokenOffersARealLink(t *testing.T) {
	ada := newSite(t).signUp("ada@example.com")
	for _, query := range []string{"", "?token=", "?token=a&token=b"} {
		page := ada.open("/auth/self-service/logout" + query)
		require.Equal(t, http.StatusBadRequest, page.status)
		require.Contains(t, page.body, ada.logoutURL())
		require.Equal(t, http.StatusBadRequest, ada.get("/auth/self-service/logout"+query, asJSON).status)
	}
	require.True(t, ada.signedIn())
	require.Equal(t, http.StatusBadRequest, ada.site.visitor().open("/auth/self-service/logout").status)
}

func TestSpeculationEndsNothing(t *testing.T) {
	ada := newSite(t).signUp("ada@example.com")
	url := ada.logoutURL()
	path := strings.TrimPrefix(url, ada.site.url) // BASE_URL is unset

	for _, sign := range []header{with("Sec-Purpose", "prefetch"), with("Sec-Purpose", "prefetch;prerender"),
		with("Purpose", "prefetch"), with("X-Moz", "prefetch")} {
		res := ada.get(url, asPage, sign)
		require.Equal(t, http.StatusServiceUnavailable, res.status)
		require.Contains(t, html.UnescapeString(res.body), `href="`+path+`">Try again<`, "whoever sees the page can still sign out")
	}
	require.Equal(t, http.StatusMethodNotAllowed, ada.send(http.MethodHead, url, "", asPage).status)

	require.True(t, ada.signedIn())
}

func TestLogoutIsRefusedWithAForbiddenReturnTo(t *testing.T) {
	ada := newSite(t).signUp("ada@example.com")
	url := ada.logoutURL() + "&return_to=https%3A%2F%2Fevil.example"

	for _, as := range []header{asPage, asJSON} {
		require.Equal(t, http.StatusBadRequest, ada.get(url, as).status)
	}
	res := ada.get("/auth/self-service/logout/browser?return_to=//evil.example")
	require.Equal(t, http.StatusBadRequest, res.status)
	require.Equal(t, "self_service_flow_return_to_forbidden", res.text("error.id"))
	require.True(t, ada.signedIn())
}

func TestLogoutGoesWhereTheOperatorSays(t *testing.T) {
	site := newSite(t, func(c *config.Config) { c.LogoutReturnURL = "https://www.example.com/bye" })
	ada := site.signUp("ada@example.com")
	require.Equal(t, "https://www.example.com/bye", ada.open(ada.logoutURL()).header.Get("Location"))
}

func TestSessionTokenInAHeaderHasNoLogoutURL(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	token := site.apiToken("ada@example.com")

	res := site.visitor().get("/auth/self-service/logout/browser", with("X-Session-Token", token))

	require.Equal(t, http.StatusUnauthorized, res.status)
	require.Contains(t, res.text("error.reason"), "/auth/self-service/logout/api")
}

func TestAPIClientEndsItsOwnSession(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	token := site.apiToken("ada@example.com")
	client := site.visitor()
	body := `{"session_token": "` + token + `"}`

	for range 2 { // now, or already before
		res := client.delete("/auth/self-service/logout/api", body, with("Content-Type", "application/json"))
		require.Equal(t, http.StatusNoContent, res.status)
		require.Empty(t, res.header.Values("Set-Cookie"))
	}

	res := client.get("/auth/sessions/whoami", with("X-Session-Token", token))
	require.Equal(t, http.StatusUnauthorized, res.status)
}

func TestLogoutPageAsks(t *testing.T) {
	ada := newSite(t).signUp("ada@example.com")

	page := ada.open("/auth/logout?return_to=/bye")
	require.Equal(t, http.StatusOK, page.status)
	require.Contains(t, page.body, "Sign out?")
	require.Contains(t, page.body, "return_to=%2Fbye")
	require.True(t, ada.signedIn(), "asking ends nothing")

	ada.open(ada.logoutURL())
	require.Contains(t, ada.open("/auth/logout").body, "You are signed out")
	require.Contains(t, ada.open("/auth/signed-out").body, `href="/auth/login"`)
}

func TestLogoutOfAnAccountThatIsDeletedMeanwhile(t *testing.T) {
	ada := newSite(t).signUp("ada@example.com")
	url := ada.logoutURL()
	identity, err := ada.site.store.Identities.ByEmail(t.Context(), "ada@example.com")
	require.NoError(t, err)
	require.NoError(t, ada.site.store.Identities.Delete(t.Context(), identity.ID))

	require.Equal(t, http.StatusUnauthorized, ada.get(url, asJSON).status)
	require.Equal(t, http.StatusSeeOther, ada.open(url).status)
}

func TestJSONEndpointsAnswerUnknownMethodsInJSON(t *testing.T) {
	v := newSite(t).visitor()
	for _, path := range []string{"/auth/sessions/events", "/auth/sessions", "/auth/sessions/x", "/auth/self-service/logout/browser", "/auth/health/ready"} {
		res := v.send(http.MethodPatch, path, "", asPage)
		require.Equal(t, http.StatusMethodNotAllowed, res.status)
		require.EqualValues(t, http.StatusMethodNotAllowed, res.field("error.code"), path)
	}
}
