package app_test

import (
	"html"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/app/config"
	"latchkey/app/returnto"
)

func TestFlowOfAnotherBrowserIsForbidden(t *testing.T) {
	site := newSite(t, wide)
	site.register("ada@example.com")
	for _, kind := range []string{"login", "registration"} {
		ada, eve := site.visitor(), site.visitor()
		flow := ada.get("/auth/self-service/"+kind+"/browser", asJSON)
		for _, v := range []*visitor{eve, site.withFlowCookie(eve)} {
			v.get("/auth/self-service/"+kind+"/flows?id="+flow.text("id")).requireError(http.StatusForbidden, "security_identity_mismatch")
			v.postJSON(flow.text("ui.action"), map[string]string{"method": "password", "identifier": "ada@example.com", "password": goodPassword,
				"traits.email": "eve@example.com", "csrf_token": flow.csrfToken()}).requireError(http.StatusForbidden, "security_identity_mismatch")
			require.False(t, v.signedIn())
		}
		require.Equal(t, http.StatusOK, ada.get("/auth/self-service/"+kind+"/flows?id="+flow.text("id")).status)
	}
}

// withFlowCookie has the visitor open a flow of their own.
func (s *site) withFlowCookie(v *visitor) *visitor {
	v.get("/auth/self-service/login/browser", asJSON)
	return v
}

func TestFlowThatIsNoneIsNotFound(t *testing.T) {
	site := newSite(t, wide)
	v := site.visitor()
	logins := v.get("/auth/self-service/login/browser", asJSON).text("id")
	registrations := v.get("/auth/self-service/registration/browser", asJSON).text("id")
	flipped := []byte(logins)
	flipped[20] ^= 1
	device := site.signUp("ada@example.com").cookie("latchkey_device")
	writes := site.writes()
	for kind, ids := range map[string][]string{
		"login": {registrations, "x", "2f1e9b0a-6e0c-4d6e-9a44-0a4a3a1f0d11", string(flipped), logins[:len(logins)-1], logins + "A", logins + "=",
			" " + logins, "\x00", "../" + logins, strings.Repeat("A", 12000), device},
		"registration": {logins, device},
	} {
		for _, id := range ids {
			query := url.QueryEscape(id)
			v.get("/auth/self-service/"+kind+"/flows?id="+query).requireError(http.StatusNotFound, "")
			v.postJSON("/auth/self-service/"+kind+"?flow="+query, map[string]string{"method": "password"}).requireError(http.StatusNotFound, "")
			require.Equal(t, http.StatusOK, v.open("/auth/"+kind+"?flow="+query).status, "a person gets a fresh one")
		}
	}
	require.Zero(t, writes())
}

func TestExpiredFlowNamesAFreshOneOfTheSameKind(t *testing.T) {
	site := newSite(t, wide)
	site.register("ada@example.com")
	for _, path := range []string{"login/browser", "login/api", "registration/browser", "registration/api"} {
		kind, typ, _ := strings.Cut(path, "/")
		v := site.visitor()
		old := v.get("/auth/self-service/"+path+"?return_to=/x", asJSON)
		site.clock.advance(59*time.Minute + 59*time.Second)
		require.Equal(t, http.StatusOK, v.get("/auth/self-service/"+kind+"/flows?id="+old.text("id")).status, "not yet")
		site.clock.advance(time.Second)

		for _, res := range []answer{
			v.get("/auth/self-service/" + kind + "/flows?id=" + old.text("id")),
			v.postJSON(old.text("ui.action"), map[string]string{"method": "password", "identifier": "ada@example.com", "password": goodPassword}),
		} {
			res.requireError(http.StatusGone, "self_service_flow_expired")
			fresh := v.get("/auth/self-service/" + kind + "/flows?id=" + res.text("use_flow_id"))
			require.Equal(t, http.StatusOK, fresh.status, fresh.body)
			require.Equal(t, "/x", fresh.text("return_to"))
			require.Equal(t, typ, fresh.text("type"))
			require.NotEqual(t, old.text("id"), fresh.text("id"))
			if kind == "login" {
				in := v.postJSON(fresh.text("ui.action"), map[string]string{"method": "password", "identifier": "ada@example.com", "password": goodPassword})
				require.Equal(t, http.StatusOK, in.status, in.body)
			}
		}
	}
}

func TestPageLeftOpenForADayStillSignsIn(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	v := site.visitor()
	page := v.open("/auth/login?return_to=/x")
	site.clock.advance(25 * time.Hour)

	res := v.postForm(html.UnescapeString(page.action()), signInForm(page))

	require.Equal(t, http.StatusSeeOther, res.status, res.body)
	require.Equal(t, "/x", res.header.Get("Location"))
	require.True(t, v.signedIn())
}

// signInForm is what a browser sends from a sign-in page.
func signInForm(page answer) url.Values {
	token := strings.SplitN(strings.SplitN(page.body, `name="csrf_token" value="`, 2)[1], `"`, 2)[0]
	return url.Values{"csrf_token": {token}, "method": {"password"}, "identifier": {"ada@example.com"}, "password": {goodPassword}, "remember": {"true"}}
}

func TestPageThatLostItsFlowKeepsWhatWasTyped(t *testing.T) {
	site := newSite(t, wide, func(c *config.Config) { c.AllowedReturnURLs = []string{"https://app.example.com"} })
	site.register("ada@example.com")
	page := site.visitor().open("/auth/login?return_to=https://app.example.com/x")

	for why, action := range map[string]string{
		"the cookie is gone": html.UnescapeString(page.action()),
		"the flow is none":   "/auth/self-service/login?flow=x",
	} {
		v := site.visitor() // as the same browser without its cookies
		again := v.refusedForm(action, signInForm(page))
		require.Contains(t, again.body, "send this page’s cookie", why)
		require.Contains(t, again.body, `value="ada@example.com"`, why)
		require.Contains(t, again.body, `name="remember" value="true" checked`, why)
		require.NotContains(t, again.body, goodPassword, why)
		require.False(t, v.signedIn())

		res := v.postForm(html.UnescapeString(again.action()), signInForm(again))
		require.Equal(t, http.StatusSeeOther, res.status, "%s: %s", why, res.body)
		require.True(t, v.signedIn(), "the second try works")
	}

	register := site.visitor().open("/auth/registration")
	form := url.Values{"method": {"password"}, "traits.email": {"bob@example.com"}, "traits.name": {"Bob B."}, "password": {goodPassword}}
	v := site.visitor()
	again := v.refusedForm(html.UnescapeString(register.action()), form)
	require.Contains(t, again.body, `value="bob@example.com"`)
	require.Contains(t, again.body, `value="Bob B."`)
	require.NotContains(t, again.body, goodPassword)
	require.Equal(t, http.StatusSeeOther, v.postForm(html.UnescapeString(again.action()), form).status)
}

func TestWrongCSRFTokenIsRefused(t *testing.T) {
	site := newSite(t, wide)
	site.register("ada@example.com")
	v := site.visitor()
	flow := v.get("/auth/self-service/login/browser", asJSON)
	writes := site.writes()
	for _, token := range []string{"x", flow.csrfToken() + "x", strings.ToUpper(flow.csrfToken()), site.visitor().get("/auth/self-service/login/browser", asJSON).csrfToken()} {
		form := url.Values{"method": {"password"}, "identifier": {"ada@example.com"}, "password": {goodPassword}, "csrf_token": {token}}
		v.postJSON(flow.text("ui.action"), map[string]string{"method": "password", "identifier": "ada@example.com", "password": goodPassword, "csrf_token": token}).
			requireError(http.StatusForbidden, "security_csrf_violation")
		page := v.refusedForm(flow.text("ui.action"), form)
		require.Contains(t, page.body, "csrf_token")
		require.Contains(t, page.body, `value="ada@example.com"`)
	}
	require.False(t, v.signedIn())
	require.Zero(t, writes())
}

func TestFlowOfAnAPIClientTouchesNoCookie(t *testing.T) {
	site := newSite(t, wide)
	ada := site.signUp("ada@example.com")
	flow := ada.get("/auth/self-service/login/api", asPage)
	require.Equal(t, "api", flow.text("type"))
	require.Empty(t, flow.header.Values("Set-Cookie"))

	res := ada.postForm(flow.text("ui.action"), url.Values{"method": {"password"}, "identifier": {"ada@example.com"}, "password": {goodPassword}})

	require.Equal(t, http.StatusOK, res.status, "in JSON whatever is asked for")
	require.NotEmpty(t, res.text("session_token"))
	require.Empty(t, res.header.Values("Set-Cookie"))
	require.True(t, ada.signedIn(), "the browser's own session is another one")
}

func TestAnyReturnToThatIsAllowedComesThroughAFlow(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	for _, c := range []string{"&", "<", `"`, "%22", "'", "+", "|"} {
		to := "/?q=" + strings.Repeat(c, (returnto.MaxLength-len("/?q="))/len(c))
		v := site.visitor()
		page := v.open("/auth/self-service/login/browser?return_to=" + url.QueryEscape(to))
		require.Equal(t, http.StatusSeeOther, page.status, c)
		page = v.open(page.header.Get("Location"))
		require.Equal(t, http.StatusOK, page.status, c)
		res := v.postForm(html.UnescapeString(page.action()), signInForm(page))
		require.Equal(t, http.StatusSeeOther, res.status, c)
		require.Equal(t, to, res.header.Get("Location"))
		require.Equal(t, to, v.open(v.get("/auth/self-service/logout/browser?return_to="+url.QueryEscape(to)).text("logout_url")).header.Get("Location"))
	}
}

func TestClosedRegistrationIsClosedToEverybody(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	writes := site.writes()
	long := strings.Repeat("A", 12000)
	for _, query := range []string{"", "?setup=", "?setup=x", "?setup=" + long, "?setup=a&setup=b"} {
		site.visitor().open("/auth/registration"+query).requireError(http.StatusNotFound, "")
		site.visitor().get("/auth/self-service/registration/browser"+query, asJSON).requireError(http.StatusForbidden, "self_service_flow_disabled")
		site.visitor().get("/auth/self-service/registration/api"+query).requireError(http.StatusForbidden, "self_service_flow_disabled")
	}
	site.visitor().postJSON("/auth/self-service/registration?flow=x", map[string]string{}).requireError(http.StatusForbidden, "self_service_flow_disabled")
	page := site.visitor().postForm("/auth/self-service/registration?flow=x", url.Values{})
	page.requireError(http.StatusForbidden, "")
	require.NotContains(t, page.body, "<form")
	require.Zero(t, writes())

	open := newSite(t, wide)
	shown := open.visitor().open("/auth/registration?setup=" + long)
	require.Equal(t, http.StatusOK, shown.status)
	require.Less(t, len(shown.action()), 1000)
}
