package app_test

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// refreshed returns a login flow for somebody who is signed in.
func (v *visitor) refreshed(query string) answer {
	v.site.t.Helper()
	flow := v.get("/auth/self-service/login/browser?refresh=true"+query, asJSON)
	require.Equal(v.site.t, http.StatusOK, flow.status, flow.body)
	return flow
}

func TestRefreshKeepsTheSessionAndChangesItsToken(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	before := ada.get("/auth/sessions/whoami")
	old := ada.cookie("latchkey_session")
	site.clock.advance(time.Hour)

	flow := ada.refreshed("&return_to=/app")
	require.Equal(t, true, flow.field("refresh"))
	require.EqualValues(t, 1010003, flow.field("ui.messages.0.id"))
	require.Equal(t, "info", flow.text("ui.messages.0.type"))
	require.Equal(t, "hidden", flow.text("ui.nodes.1.attributes.type"))
	require.Equal(t, "ada@example.com", flow.text("ui.nodes.1.attributes.value"))
	require.EqualValues(t, 1010001, flow.field("ui.nodes.3.meta.label.id"))
	wrong := ada.postJSON(flow.text("ui.action"), map[string]string{"method": "password", "password": "not the password"})
	require.Equal(t, http.StatusBadRequest, wrong.status)
	require.EqualValues(t, 4000006, wrong.field("ui.messages.1.id"))
	require.Equal(t, "ada@example.com", wrong.text("ui.nodes.1.attributes.value"), "it is still known who")
	res := ada.postJSON(flow.text("ui.action"), map[string]string{"method": "password", "password": goodPassword, "csrf_token": flow.csrfToken()})

	require.Equal(t, http.StatusOK, res.status, res.body)
	require.Equal(t, before.text("id"), res.text("session.id"))
	require.Equal(t, before.text("issued_at"), res.text("session.issued_at"))
	require.Equal(t, "2026-11-22T10:00:00Z", res.text("session.authenticated_at"))
	require.Equal(t, site.url+"/app", res.text("continue_with.0.redirect_browser_to"))
	require.NotEqual(t, old, ada.cookie("latchkey_session"))
	require.Equal(t, http.StatusOK, ada.get("/auth/sessions/whoami").status)
	require.Equal(t, http.StatusUnauthorized, site.visitor().get("/auth/sessions/whoami", with("Cookie", "latchkey_session="+old)).status)
}

func TestRefreshByAnotherPersonStartsTheirSession(t *testing.T) {
	site := newSite(t)
	site.register("bob@example.com")
	ada := site.signUp("ada@example.com")
	session := ada.get("/auth/sessions/whoami").text("id")

	res := ada.postJSON(ada.refreshed("").text("ui.action"), map[string]string{"method": "password", "identifier": "bob@example.com", "password": goodPassword})

	require.Equal(t, http.StatusOK, res.status, res.body)
	require.NotEqual(t, session, res.text("session.id"))
	require.Equal(t, "bob@example.com", res.text("session.identity.traits.email"))
}

// Not from the browser's history, nor from an id that another browser got hold of.
func TestRefreshFlowTellsNobodyElseWhoseItIs(t *testing.T) {
	site := newSite(t)
	site.register("bob@example.com")
	person := site.register("ada@example.com")
	ada := site.signIn("ada@example.com")
	flow := ada.refreshed("")
	get := "/auth/self-service/login/flows?id=" + flow.text("id")
	require.Equal(t, "ada@example.com", ada.get(get).text("ui.nodes.1.attributes.value"))
	_, err := site.store.Sessions.EndAll(t.Context(), person.ID)
	require.NoError(t, err)

	later := ada.get(get)
	require.Equal(t, false, later.field("refresh"))
	require.Equal(t, "text", later.text("ui.nodes.1.attributes.type"))
	require.NotContains(t, later.body, "ada@example.com")
	require.NotContains(t, ada.open("/auth/login?flow="+flow.text("id")).body, "ada@example.com")
	refused := ada.postJSON(flow.text("ui.action"), map[string]string{"method": "password", "password": goodPassword})
	require.EqualValues(t, 4000002, refused.field("ui.nodes.1.messages.0.id"), "it doesn't know who")

	require.Equal(t, http.StatusOK, ada.submitLogin("bob@example.com", goodPassword).status)
	require.Equal(t, "bob@example.com", ada.get(get).text("ui.nodes.1.attributes.value"), "of who is signed in now")

	eve := site.visitor()
	shown := eve.open("/auth/login?flow=" + flow.text("id"))
	require.NotContains(t, shown.body, "example.com")
}

func TestRefreshWithoutASessionIsASignIn(t *testing.T) {
	site := newSite(t)
	flow := site.visitor().refreshed("")
	require.Equal(t, false, flow.field("refresh"))
	require.Equal(t, "text", flow.text("ui.nodes.1.attributes.type"))
}

func TestAPIClientsSignInOnceAndRefresh(t *testing.T) {
	site := newSite(t, wide)
	site.register("ada@example.com")
	v := site.visitor()
	signedIn := v.tryLogin("ada@example.com", goodPassword)
	require.Equal(t, http.StatusOK, signedIn.status, signedIn.body)
	require.Nil(t, signedIn.member("continue_with"))
	token := with("X-Session-Token", signedIn.text("session_token"))

	for _, kind := range []string{"login", "registration"} {
		v.get("/auth/self-service/"+kind+"/api", token).requireError(http.StatusBadRequest, "session_already_available")
		require.Equal(t, http.StatusOK, v.get("/auth/self-service/"+kind+"/api", with("X-Session-Token", "x")).status, "it is nobody's")
	}
	flow := v.get("/auth/self-service/login/api?refresh=true", token)
	require.Equal(t, true, flow.field("refresh"))
	require.JSONEq(t, flow.body, v.get("/auth/self-service/login/flows?id="+flow.text("id"), token).body)
	require.Equal(t, false, v.get("/auth/self-service/login/flows?id="+flow.text("id")).field("refresh"))
	browser := site.signIn("ada@example.com")
	for _, h := range []header{asJSON, with("Authorization", "Basic eDp4")} {
		require.Equal(t, false, browser.get("/auth/self-service/login/api?refresh=true", h).field("refresh"), "a browser's session is not theirs")
		require.Equal(t, http.StatusOK, browser.get("/auth/self-service/login/api", h).status)
	}
	res := v.postJSON(flow.text("ui.action"), map[string]string{"method": "password", "password": goodPassword}, token)
	require.Equal(t, http.StatusOK, res.status, res.body)
	require.Equal(t, signedIn.text("session.id"), res.text("session.id"))
	require.NotEqual(t, signedIn.text("session_token"), res.text("session_token"))
	require.Equal(t, http.StatusOK, v.get("/auth/sessions/whoami", with("X-Session-Token", res.text("session_token"))).status)
	require.Empty(t, res.header.Values("Set-Cookie"))
}

func TestSuccessSaysHowToContinue(t *testing.T) {
	site := newSite(t, wide)
	for query, to := range map[string]string{"": "/auth/account", "?return_to=/app%3Fa=1%26b=2": "/app?a=1&b=2", "?return_to=": "/auth/account"} {
		v := site.visitor()
		flow := v.get("/auth/self-service/registration/browser"+query, asJSON)
		address := "p" + base64.RawURLEncoding.EncodeToString([]byte(query)) + "@example.com"
		res := v.postJSON(flow.text("ui.action"), map[string]any{"method": "password", "traits": map[string]any{"email": address}, "password": goodPassword})
		require.Equal(t, http.StatusOK, res.status, res.body)
		require.Equal(t, map[string]any{"action": "redirect_browser_to", "redirect_browser_to": site.url + to}, res.field("continue_with.0"))
		v = site.visitor()
		res = v.postJSON(v.get("/auth/self-service/login/browser"+query, asJSON).text("ui.action"), map[string]any{"method": "password", "password_identifier": address, "password": goodPassword})
		require.Equal(t, http.StatusOK, res.status, res.body)
		require.Equal(t, map[string]any{"action": "redirect_browser_to", "redirect_browser_to": site.url + to}, res.field("continue_with.0"))
	}
	v := site.visitor()
	res := v.postJSON(v.get("/auth/self-service/registration/api").text("ui.action"), map[string]any{"method": "password", "traits": map[string]any{"email": "api@example.com"}, "password": goodPassword})
	require.Equal(t, map[string]any{"action": "set_ory_session_token", "ory_session_token": res.text("session_token")}, res.field("continue_with.0"))
}

func TestEmptyQueryValuesAreAbsent(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	v := site.visitor()
	flow := v.get("/auth/self-service/login/browser?return_to=&aal=&refresh=&via=&organization=&login_challenge=", asJSON)
	require.Equal(t, http.StatusOK, flow.status, flow.body)
	require.Equal(t, site.url+"/auth/self-service/login/browser", flow.text("request_url"))
	require.Nil(t, flow.member("return_to"))
	require.Equal(t, http.StatusOK, v.postJSON(flow.text("ui.action"), map[string]string{"method": "password", "identifier": "ada@example.com", "password": goodPassword}).status)
	logout := v.get("/auth/self-service/logout/browser?return_to=")
	require.NotContains(t, logout.text("logout_url"), "return_to")
	require.Equal(t, http.StatusOK, v.get("/auth/sessions/whoami?tokenize_as=").status)
	require.Equal(t, http.StatusOK, v.get("/auth/sessions?page_size=&page_token=").status)
	require.Equal(t, http.StatusNoContent, v.get(logout.text("logout_url")+"&return_to=", asJSON).status)
}

func TestAssuranceLevelsThatNobodyHas(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	for _, path := range []string{"/auth/self-service/login/browser", "/auth/self-service/login/api"} {
		site.visitor().get(path+"?aal=aal2", asJSON).requireError(http.StatusUnauthorized, "session_aal1_required")
		ada.get(path+"?aal=aal2&refresh=true", asJSON).requireError(http.StatusBadRequest, "")
		ada.get(path+"?aal=aal3", asJSON).requireError(http.StatusBadRequest, "")
		require.Equal(t, http.StatusOK, site.visitor().get(path+"?aal=aal1", asJSON).status)
	}
	for _, path := range []string{"/auth/self-service/login/browser", "/auth/login"} {
		require.Equal(t, http.StatusUnauthorized, site.visitor().open(path+"?aal=aal2").status)
		require.Equal(t, http.StatusBadRequest, ada.open(path+"?aal=aal2").status)
	}
}

func TestMethodThatIsNotThere(t *testing.T) {
	site := newSite(t, wide)
	site.register("ada@example.com")
	for kind, id := range map[string]int{"login": 4010002, "registration": 4010003} {
		for _, method := range []string{"oidc", "PASSWORD", ""} {
			v := site.visitor()
			res := v.postJSON(v.get("/auth/self-service/"+kind+"/browser", asJSON).text("ui.action"), map[string]string{"method": method, "identifier": "ada@example.com", "password": goodPassword})
			require.Equal(t, http.StatusBadRequest, res.status)
			require.EqualValues(t, id, res.field("ui.messages.0.id"), res.body)
		}
	}
	v := site.visitor() // a password manager submits the form without its button
	flow := v.get("/auth/self-service/login/browser", asJSON)
	res := v.postForm(flow.text("ui.action"), url.Values{"identifier": {"ada@example.com"}, "password": {goodPassword}, "csrf_token": {flow.csrfToken()}})
	require.Equal(t, http.StatusSeeOther, res.status)
	require.True(t, v.signedIn())
}

func TestExpiredFlowSaysWhenAndWhatNext(t *testing.T) {
	site := newSite(t)
	v := site.visitor()
	flow := v.get("/auth/self-service/login/browser?return_to=/app", asJSON)
	site.clock.advance(90 * time.Minute)
	for _, res := range []answer{
		v.postJSON(flow.text("ui.action"), map[string]string{"method": "password"}),
		v.get("/auth/self-service/login/flows?id=" + flow.text("id")),
	} {
		require.Equal(t, http.StatusGone, res.status)
		require.Equal(t, "self_service_flow_expired", res.text("error.id"))
		require.Equal(t, "2026-11-22T10:00:00Z", res.text("expired_at"))
		require.EqualValues(t, 30*time.Minute, res.field("since"))
		require.Equal(t, site.url+"/auth/self-service/login/browser?return_to=%2Fapp", res.text("error.details.redirect_to"))
		next := v.get("/auth/self-service/login/flows?id=" + res.text("use_flow_id"))
		require.EqualValues(t, 4010001, next.field("ui.messages.0.id"))
		require.EqualValues(t, 1795341600, next.field("ui.messages.0.context.expired_at_unix"))
		require.Equal(t, "/app", next.text("return_to"))
	}
}

func TestProxiesAskWhoamiByAnyMethod(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	writes := site.writes()
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"} {
		cross := []header{with("Sec-Fetch-Site", "cross-site"), with("Origin", "https://evil.example")}
		require.Equal(t, http.StatusOK, ada.send(method, "/auth/sessions/whoami", "", cross...).status, method)
		require.Equal(t, http.StatusUnauthorized, site.visitor().send(method, "/auth/sessions/whoami", "", cross...).status, method)
	}
	ada.get("/auth/sessions/whoami?tokenize_as=jwt").requireError(http.StatusBadRequest, "")
	site.visitor().get("/auth/sessions/whoami?tokenize_as=jwt").requireError(http.StatusBadRequest, "")
	require.Zero(t, writes())
	require.True(t, ada.signedIn())

	bob := site.signUp("bob@example.com")
	value := with("X-Session-Cookie", bob.cookie("latchkey_session"))
	for _, v := range []*visitor{site.visitor(), bob} {
		require.Equal(t, "bob@example.com", v.get("/auth/sessions/whoami", value).text("identity.traits.email"))
	}
	site.visitor().get("/auth/sessions/whoami", with("X-Session-Cookie", `x; latchkey_session="`)).requireError(http.StatusUnauthorized, "session_inactive")
	site.visitor().get("/auth/self-service/logout/browser", value).requireError(http.StatusUnauthorized, "session_inactive")
}

func TestFlowsThatDoNotExistSaySo(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	for _, kind := range []string{"settings", "recovery", "verification"} {
		path := "/auth/self-service/" + kind
		for _, v := range []*visitor{ada, site.visitor()} {
			for _, tail := range []string{"/browser", "/api", "/flows?id=x"} {
				v.get(path+tail, asJSON).requireError(http.StatusBadRequest, "self_service_flow_disabled")
			}
			v.postJSON(path+"?flow=x", map[string]string{"method": "profile"}).requireError(http.StatusBadRequest, "self_service_flow_disabled")
			page := v.open(path + "/browser")
			if kind == "settings" {
				require.Equal(t, "/auth/account", page.header.Get("Location"))
				continue
			}
			page.requireError(http.StatusNotFound, "")
			require.Contains(t, page.body, "Ask your administrator")
		}
	}
}

func TestSchemas(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	v := site.visitor()
	schema := v.get(ada.get("/auth/sessions/whoami").text("identity.schema_url"))
	require.Equal(t, http.StatusOK, schema.status)
	require.JSONEq(t, schema.body, v.get("/auth/schemas/ZGVmYXVsdA").body)
	require.JSONEq(t, schema.body, v.get("/auth/schemas/ZGVmYXVsdA==").body)
	require.JSONEq(t, `[{"id":"default","schema":`+schema.body+`}]`, v.get("/auth/schemas").body)
	require.Equal(t, "<"+site.url+`/auth/schemas>; rel="first"`, v.get("/auth/schemas").header.Get("Link"))
	v.get("/auth/schemas/other").requireError(http.StatusNotFound, "")
	require.NotEmpty(t, v.get("/auth/version").text("version"))
}
