package app_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/app/config"
)

const uiOrigin = "https://app.example.com"

// withUI has the operator's own pages in place of ours.
func withUI(c *config.Config) {
	c.Registration = "open"
	c.LoginUIURL, c.RegistrationUIURL = uiOrigin+"/sign-in?lang=de", "/join#top"
}

// fromUI is what browsers send with a form of that UI.
var fromUI = []header{with("Origin", uiOrigin), with("Sec-Fetch-Site", "same-site")}

// flowAt returns the flow that a redirect to a page of the operator's own UI names.
func (v *visitor) flowAt(res answer, page, kind string) answer {
	v.site.t.Helper()
	require.Equal(v.site.t, http.StatusSeeOther, res.status, res.body)
	to, err := url.Parse(res.header.Get("Location"))
	require.NoError(v.site.t, err)
	query := to.Query()
	id := query.Get("flow")
	require.NotEmpty(v.site.t, id)
	query.Del("flow")
	to.RawQuery = query.Encode()
	require.Equal(v.site.t, page, to.String())
	flow := v.get("/auth/self-service/"+kind+"/flows?id="+url.QueryEscape(id), asJSON)
	require.Equal(v.site.t, http.StatusOK, flow.status, flow.body)
	require.Equal(v.site.t, id, flow.text("id"))
	return flow
}

func TestOwnUIGetsTheFlowsOfForms(t *testing.T) {
	site := newSite(t, withUI)
	site.register("ada@example.com")
	v := site.visitor()
	const login = uiOrigin + "/sign-in?lang=de"

	flow := v.flowAt(v.open("/auth/self-service/login/browser?return_to=/wiki"), login, "login")
	wrong := url.Values{"csrf_token": {flow.csrfToken()}, "method": {"password"}, "identifier": {"ada@example.com"}, "password": {"wrong"}}
	flow = v.flowAt(v.postForm(flow.text("ui.action"), wrong, fromUI...), login, "login")
	require.EqualValues(t, 4000006, flow.field("ui.messages.0.id"))
	require.Equal(t, "ada@example.com", flow.node("identifier")["attributes"].(map[string]any)["value"])
	require.NotContains(t, flow.body, "wrong\"")

	flow = v.flowAt(v.postForm(flow.text("ui.action"), url.Values{"method": {"password"}}, fromUI...), login, "login")
	require.Contains(t, flow.body, "4000002")
	wrong.Set("password", goodPassword)
	wrong.Set("csrf_token", flow.csrfToken())
	signedIn := v.postForm(flow.text("ui.action"), wrong, fromUI...)
	require.Equal(t, "/wiki", signedIn.header.Get("Location"), signedIn.body)
	require.True(t, v.signedIn())

	// A flow of another browser, as without cookies, comes back with words instead of an error.
	other := site.visitor()
	flow = other.flowAt(other.postForm(flow.text("ui.action"), wrong, fromUI...), login, "login")
	require.Contains(t, flow.text("ui.messages.0.text"), "cookie")
}

func TestOwnUIForRegistration(t *testing.T) {
	site := newSite(t, withUI)
	v := site.visitor()
	const join = "/join#top"

	flow := v.flowAt(v.open("/auth/self-service/registration/browser"), join, "registration")
	form := url.Values{"csrf_token": {flow.csrfToken()}, "method": {"password"}, "traits.email": {"ada"}, "traits.name": {"Ada"}, "password": {goodPassword}}
	flow = v.flowAt(v.postForm(flow.text("ui.action"), form), join, "registration")
	require.NotEmpty(t, flow.node("traits.email")["messages"])
	require.Equal(t, "Ada", flow.node("traits.name")["attributes"].(map[string]any)["value"])
	form.Set("traits.email", "ada@example.com")
	form.Set("csrf_token", flow.csrfToken())
	require.Equal(t, http.StatusSeeOther, v.postForm(flow.text("ui.action"), form).status)
	require.True(t, v.signedIn())
}

func TestOwnUIIsWhereOurPagesLead(t *testing.T) {
	site := newSite(t, withUI)
	v := site.visitor()
	follow := func(res answer) answer {
		for strings.HasPrefix(res.header.Get("Location"), "/auth/") {
			res = v.open(res.header.Get("Location"))
		}
		return res
	}
	for _, path := range []string{"/auth/login", "/auth/account", "/auth/login?refresh=true&return_to=%2Fwiki", "/auth/self-service/login"} {
		res := follow(v.open(path))
		require.True(t, strings.HasPrefix(res.header.Get("Location"), uiOrigin+"/sign-in?flow="), "%s: %d %s", path, res.status, res.header.Get("Location"))
	}
	flow := v.flowAt(follow(v.open("/auth/account")), uiOrigin+"/sign-in?lang=de", "login")
	require.Equal(t, "/auth/account", flow.text("return_to"))
	require.True(t, strings.HasPrefix(follow(v.open("/auth/registration")).header.Get("Location"), "/join?flow="))
	require.Equal(t, uiOrigin+"/sign-in?flow=x&lang=de", v.open("/auth/login?flow=x").header.Get("Location"))
	require.Contains(t, v.get("/auth/self-service/login/browser", asJSON).text("ui.action"), site.url, "programs are answered as ever")

	ada := site.signUp("ada@example.com")
	require.Contains(t, ada.open("/auth/account").header.Get("Content-Security-Policy"), "form-action 'self' "+uiOrigin, "a form of the account page may lead to the sign-in page")
	require.Equal(t, "/auth/account", ada.open("/auth/self-service/login/browser").header.Get("Location"))
}

// The page with the password's form is trusted with flows. Nothing else is its business.
func TestOwnUIMaySubmitFlowsOnly(t *testing.T) {
	site := newSite(t, withUI)
	ada := site.signUp("ada@example.com")
	for _, path := range []string{"/auth/account/name", "/auth/account/password", "/auth/account/sign-out-everywhere", "/auth/signed-out/everywhere"} {
		ada.postForm(path, url.Values{"name": {"Eve"}}, fromUI...).requireError(http.StatusForbidden, "security_csrf_violation")
	}
	ada.delete("/auth/sessions", "", fromUI...).requireError(http.StatusForbidden, "security_csrf_violation")
	flow := site.visitor().get("/auth/self-service/login/browser", asJSON)
	for _, from := range [][]header{{with("Origin", "https://app.example.com.evil.example"), with("Sec-Fetch-Site", "cross-site")},
		{with("Origin", "http://app.example.com"), with("Sec-Fetch-Site", "cross-site")}, {with("Origin", "null"), with("Sec-Fetch-Site", "cross-site")}} {
		ada.postForm(flow.text("ui.action"), url.Values{"method": {"password"}}, from...).requireError(http.StatusForbidden, "security_csrf_violation")
	}
	res := ada.get("/auth/sessions/whoami", fromUI...)
	require.Empty(t, res.header.Get("Access-Control-Allow-Origin"), "reading is for CORS_ALLOWED_ORIGINS")
}

func TestOwnUIGetsErrors(t *testing.T) {
	site := newSite(t, withUI, func(c *config.Config) {
		c.ErrorUIURL, c.Registration = "https://app.example.com/error?lang=de", "closed"
	})
	ada := site.signUp("ada@example.com")
	v := site.visitor()
	shown := func(res answer) answer {
		t.Helper()
		require.Equal(t, http.StatusSeeOther, res.status, res.body)
		to, err := url.Parse(res.header.Get("Location"))
		require.NoError(t, err)
		require.Equal(t, "https://app.example.com/error", to.Scheme+"://"+to.Host+to.Path)
		require.Equal(t, "de", to.Query().Get("lang"))
		id := to.Query().Get("id")
		found := v.get("/auth/self-service/errors?id="+url.QueryEscape(id), asJSON)
		require.Equal(t, http.StatusOK, found.status, found.body)
		require.Equal(t, id, found.text("id"))
		require.Equal(t, res.header.Get("X-Request-Id"), found.text("error.request"))
		require.Equal(t, "2026-11-22T09:00:00Z", found.text("created_at"))
		return found
	}

	refused := shown(v.open("/auth/self-service/login/browser?return_to=https://evil.example"))
	require.EqualValues(t, http.StatusBadRequest, refused.field("error.code"))
	require.Equal(t, "self_service_flow_return_to_forbidden", refused.text("error.id"))
	require.NotContains(t, refused.body, "ALLOWED_RETURN_URLS", "these are words for visitors")
	require.Equal(t, "self_service_flow_disabled", shown(v.open("/auth/self-service/registration/browser")).text("error.id"))
	cross := v.postForm("/auth/self-service/login?flow=x", url.Values{}, with("Origin", "https://evil.example"), with("Sec-Fetch-Site", "cross-site"))
	require.Equal(t, "security_csrf_violation", shown(cross).text("error.id"))
	shown(ada.open("/auth/self-service/logout?token=x&return_to=https://evil.example"))

	// Programs, and our own pages, are answered as ever.
	v.get("/auth/self-service/login/browser?return_to=https://evil.example", asJSON).requireError(http.StatusBadRequest, "self_service_flow_return_to_forbidden")
	ada.postForm("/auth/account/name", url.Values{}, with("Sec-Fetch-Site", "cross-site")).requireError(http.StatusForbidden, "security_csrf_violation")
	v.open("/auth/nowhere").requireError(http.StatusNotFound, "")
	require.Equal(t, http.StatusServiceUnavailable, ada.get(ada.logoutURL(), asPage, with("Sec-Purpose", "prefetch")).status, "a second try may help")

	require.EqualValues(t, http.StatusInternalServerError, v.get("/auth/self-service/errors?id=stub:500").field("error.code"))
	for _, id := range []string{"x", "stub:404", strings.Repeat("A", 80), v.get("/auth/self-service/login/browser", asJSON).text("id")} {
		v.get("/auth/self-service/errors?id="+id).requireError(http.StatusNotFound, "")
	}
	v.get("/auth/self-service/errors").requireError(http.StatusBadRequest, "")
}
