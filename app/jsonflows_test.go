package app_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/app/config"

	"github.com/stretchr/testify/require"
)

// These tests hold what JSON clients get of the flows against the contract, line by line.

// flowJSON fills in what every flow of that kind has: its nodes between csrf_token and method, the
// label of method, and what else is in it.
func flowJSON(flow answer, site, kind, typ, query, more, nodes, label string) string {
	csrf := `"type": "hidden"`
	if typ == "browser" {
		csrf += `, "value": "` + flow.csrfToken() + `"`
	}
	return strings.NewReplacer("ID", flow.text("id"), "KIND", kind, "TYPE", typ, "SITE", site, "QUERY", query, "MORE", more,
		"CSRF", csrf, "NODES", nodes, "LABEL", label).Replace(`{
		"id": "ID", "type": "TYPE", MORE
		"issued_at": "2026-11-22T09:00:00Z", "expires_at": "2026-11-22T10:00:00Z",
		"created_at": "2026-11-22T09:00:00Z", "updated_at": "2026-11-22T09:00:00Z",
		"request_url": "SITE/auth/self-service/KIND/TYPEQUERY", "state": "choose_method",
		"ui": {"action": "SITE/auth/self-service/KIND?flow=ID", "method": "POST", "nodes": [
			{"type": "input", "group": "default", "messages": [], "meta": {},
				"attributes": {"name": "csrf_token", CSRF, "required": true, "disabled": false, "node_type": "input"}},
			NODES
			{"type": "input", "group": "password", "messages": [], "meta": {"label": LABEL},
				"attributes": {"name": "method", "type": "submit", "value": "password", "disabled": false, "node_type": "input"}}]}}`)
}

func TestLoginFlowIsWhatClientsKnow(t *testing.T) {
	site := newSite(t)
	for _, c := range []struct{ typ, query, more string }{
		{"browser", "", `"refresh": false,`},
		{"browser", "?refresh=true&utm_source=x&return_to=%2Fapp", `"refresh": false, "return_to": "/app",`},
		{"api", "", `"refresh": false,`},
		{"api", "?return_to=%2Fapp", `"refresh": false, "return_to": "/app",`},
	} {
		v := site.visitor()
		flow := v.get("/auth/self-service/login/"+c.typ+c.query, asJSON)
		require.Equal(t, http.StatusOK, flow.status, flow.body)
		require.JSONEq(t, flowJSON(flow, site.url, "login", c.typ, c.query, c.more+` "requested_aal": "aal1",`, `
			{"type": "input", "group": "default", "messages": [], "meta": {"label": {"id": 1070002, "text": "Email address or username", "type": "info",
				"context": {"title": "Email address or username", "name": "identifier"}}},
				"attributes": {"name": "identifier", "type": "text", "value": "", "autocomplete": "username", "required": true, "disabled": false, "node_type": "input"}},
			{"type": "input", "group": "password", "messages": [], "meta": {"label": {"id": 1070001, "text": "Password", "type": "info"}},
				"attributes": {"name": "password", "type": "password", "autocomplete": "current-password", "required": true, "disabled": false, "node_type": "input"}},`,
			`{"id": 1010022, "text": "Sign in with password", "type": "info"}`), flow.body)
		require.JSONEq(t, flow.body, v.get("/auth/self-service/login/flows?id="+flow.text("id")).body)
		require.Equal(t, c.typ == "browser", len(flow.header.Values("Set-Cookie")) > 0)
	}
}

func TestRegistrationFlowIsWhatClientsKnow(t *testing.T) {
	site := newSite(t, wide)
	for _, c := range []struct{ typ, query, more string }{
		{"browser", "", ""},
		{"browser", "?return_to=%2Fapp", `"return_to": "/app",`},
		{"api", "", ""},
		{"api", "?return_to=%2Fapp", `"return_to": "/app",`},
	} {
		v := site.visitor()
		flow := v.get("/auth/self-service/registration/"+c.typ+c.query, asJSON)
		require.Equal(t, http.StatusOK, flow.status, flow.body)
		require.JSONEq(t, flowJSON(flow, site.url, "registration", c.typ, c.query, c.more, `
			{"type": "input", "group": "password", "messages": [], "meta": {"label": {"id": 1070002, "text": "Email address", "type": "info", "context": {"title": "Email address", "name": "traits.email"}}},
				"attributes": {"name": "traits.email", "type": "email", "autocomplete": "email", "required": true, "disabled": false, "node_type": "input"}},
			{"type": "input", "group": "password", "messages": [], "meta": {"label": {"id": 1070002, "text": "Username", "type": "info", "context": {"title": "Username", "name": "traits.username"}}},
				"attributes": {"name": "traits.username", "type": "text", "autocomplete": "username", "disabled": false, "node_type": "input"}},
			{"type": "input", "group": "password", "messages": [], "meta": {"label": {"id": 1070002, "text": "Name", "type": "info", "context": {"title": "Name", "name": "traits.name"}}},
				"attributes": {"name": "traits.name", "type": "text", "autocomplete": "name", "disabled": false, "node_type": "input"}},
			{"type": "input", "group": "password", "messages": [], "meta": {"label": {"id": 1070001, "text": "Password", "type": "info"}},
				"attributes": {"name": "password", "type": "password", "autocomplete": "new-password", "required": true, "disabled": false, "node_type": "input"}},`,
			`{"id": 1040001, "text": "Create account", "type": "info"}`), flow.body)
		require.JSONEq(t, flow.body, v.get("/auth/self-service/registration/flows?id="+flow.text("id")).body)
		require.Equal(t, c.typ == "browser", len(flow.header.Values("Set-Cookie")) > 0)
	}
}

func TestBrowserThatOpensARegistrationFlowGetsThePage(t *testing.T) {
	site := newSite(t, wide)
	v := site.visitor()
	res := v.open("/auth/self-service/registration/browser?return_to=/app")
	require.Equal(t, http.StatusSeeOther, res.status)
	require.Regexp(t, `^/auth/registration\?flow=.`, res.header.Get("Location"))
	page := v.open(res.header.Get("Location"))

	done := v.fillIn(page, url.Values{"traits.email": {"ada@example.com"}, "password": {goodPassword}})

	require.Equal(t, http.StatusSeeOther, done.status, done.body)
	require.Equal(t, "/app", done.header.Get("Location"))
}

func TestRegistrationByAProgramSignsIn(t *testing.T) {
	traits := map[string]any{"email": " Ada@Example.com", "name": " Ada "}
	for about, send := range map[string]func(v *visitor, flow answer) answer{
		"JSON": func(v *visitor, flow answer) answer {
			return v.postJSON(flow.text("ui.action"), map[string]any{"method": "password", "csrf_token": flow.csrfToken(), "traits": traits,
				"password": goodPassword, "transient_payload": map[string]any{"theme": "dark"}})
		},
		"JSON with flat names": func(v *visitor, flow answer) answer {
			return v.postJSON(flow.text("ui.action"), map[string]any{"method": "password", "csrf_token": flow.csrfToken(),
				"traits.email": traits["email"], "traits.name": traits["name"], "password": goodPassword})
		},
		"JSON that accepts pages": func(v *visitor, flow answer) answer {
			return v.postJSON(flow.text("ui.action"), map[string]any{"method": "password", "traits": traits, "password": goodPassword}, asPage)
		},
		"a form that accepts JSON": func(v *visitor, flow answer) answer {
			return v.postForm(flow.text("ui.action"), url.Values{"method": {"password"}, "csrf_token": {flow.csrfToken()},
				"traits.email": {" Ada@Example.com"}, "traits.name": {" Ada "}, "password": {goodPassword}}, asJSON)
		},
	} {
		for _, typ := range []string{"browser", "api"} {
			t.Run(about+", "+typ, func(t *testing.T) {
				v := newSite(t, wide).visitor()
				res := send(v, v.get("/auth/self-service/registration/"+typ, asJSON)).in(t)
				require.Equal(t, http.StatusOK, res.status, res.body)
				require.Equal(t, "no-store", res.header.Get("Cache-Control"))
				require.Equal(t, map[string]any{"email": "ada@example.com", "name": "Ada"}, res.field("identity.traits"))
				require.Equal(t, res.field("identity"), res.field("session.identity"))

				who := v.get("/auth/sessions/whoami")
				if typ == "api" {
					require.Empty(t, res.header.Values("Set-Cookie"))
					who.requireError(http.StatusUnauthorized, "session_inactive")
					who = v.get("/auth/sessions/whoami", with("X-Session-Token", res.text("session_token")))
				} else {
					require.NotContains(t, res.body, "session_token", "a page's script has no use for it")
					require.NotContains(t, res.body, v.cookie("latchkey_session"))
				}
				require.Equal(t, res.field("session"), whole(who))
			})
		}
	}
}

// whole returns the JSON body of an answer.
func whole(r answer) (value any) {
	r.t.Helper()
	require.NoError(r.t, json.Unmarshal([]byte(r.body), &value), r.body)
	return value
}

func TestRefusedRegistrationKeepsWhatWasTypedButThePassword(t *testing.T) {
	site := newSite(t, wide)
	site.register("taken@example.com")
	for _, typ := range []string{"browser", "api"} {
		v := site.visitor()
		flow := v.get("/auth/self-service/registration/"+typ+"?return_to=/app", asJSON)
		writes := site.writes()
		res := v.postJSON(flow.text("ui.action"), map[string]any{"method": "password", "csrf_token": flow.csrfToken(),
			"traits": map[string]any{"email": "bob", "name": "Bob\x07"}, "password": "short12"})
		require.Equal(t, http.StatusBadRequest, res.status, res.body)
		require.Zero(t, writes())
		for name, value := range map[string]any{"traits.email": "bob", "traits.name": "Bob\x07", "password": nil, "method": "password"} {
			node := res.node(name)
			require.Equal(t, value, node["attributes"].(map[string]any)["value"], name)
			require.Len(t, node["messages"], map[bool]int{true: 0, false: 1}[name == "method"], name)
		}
		require.NotContains(t, res.body, "short12")
		require.Nil(t, whole(res).(map[string]any)["ui"].(map[string]any)["messages"], "each is a message of its own node")
		require.Equal(t, flow.text("id"), res.text("id"), "it is the same flow")
		require.Equal(t, "/app", res.text("return_to"))

		taken := v.postJSON(flow.text("ui.action"), map[string]any{"method": "password", "csrf_token": flow.csrfToken(),
			"traits": map[string]any{"email": "Taken@Example.com"}, "password": goodPassword})
		require.Equal(t, http.StatusBadRequest, taken.status, taken.body)
		require.Len(t, taken.node("traits.email")["messages"], 1)
		require.Empty(t, taken.node("password")["messages"])
		require.NotContains(t, taken.body, goodPassword)
		require.Empty(t, taken.header.Values("Set-Cookie"))

		again := v.postJSON(res.text("ui.action"), map[string]any{"method": "password", "csrf_token": flow.csrfToken(),
			"traits": map[string]any{"email": "bob." + typ + "@example.com"}, "password": goodPassword})
		require.Equal(t, http.StatusOK, again.status, again.body)
	}
}

func TestRegistrationWithAWrongCSRFTokenIsRefused(t *testing.T) {
	site := newSite(t, wide)
	v := site.visitor()
	flow := v.get("/auth/self-service/registration/browser", asJSON)
	writes := site.writes()
	for _, token := range []string{"x", flow.csrfToken() + "x", site.visitor().get("/auth/self-service/registration/browser", asJSON).csrfToken()} {
		v.postJSON(flow.text("ui.action"), map[string]any{"method": "password", "csrf_token": token, "traits": map[string]any{"email": "ada@example.com"},
			"password": goodPassword}).requireError(http.StatusForbidden, "security_csrf_violation")
	}
	require.Zero(t, writes())
	require.False(t, v.signedIn())
}

func TestRegisteringEndsTheSessionTheBrowserHeld(t *testing.T) {
	site := newSite(t, wide)
	site.register("ada@example.com")
	v := site.visitor()
	flow := v.get("/auth/self-service/registration/browser", asJSON)
	require.Equal(t, http.StatusOK, v.submitLogin("ada@example.com", goodPassword).status)
	held := v.cookie("latchkey_session")

	res := v.postJSON(flow.text("ui.action"), map[string]any{"method": "password", "traits": map[string]any{"email": "bob@example.com"}, "password": goodPassword})

	require.Equal(t, http.StatusOK, res.status, res.body)
	require.Equal(t, "bob@example.com", v.get("/auth/sessions/whoami").text("identity.traits.email"))
	site.visitor().get("/auth/sessions/whoami", with("X-Session-Token", held)).requireError(http.StatusUnauthorized, "session_inactive")
}

func TestAnAddressIsRegisteredOnce(t *testing.T) {
	site := newSite(t, wide)
	var actions []string
	for range 6 {
		actions = append(actions, site.visitor().get("/auth/self-service/registration/api").text("ui.action"))
	}
	answers := make([]answer, len(actions))
	var all sync.WaitGroup
	for i, action := range actions {
		v, address := site.visitor(), "ada@example.com"
		if i%2 == 1 {
			address = "ADA@example.com"
		}
		all.Go(func() {
			answers[i] = v.postJSON(action, map[string]any{"method": "password", "traits": map[string]any{"email": address}, "password": goodPassword})
		})
	}
	all.Wait()

	done := 0
	for _, res := range answers {
		if res.status == http.StatusOK {
			done++
			continue
		}
		require.Equal(t, http.StatusBadRequest, res.status, res.body)
		require.EqualValues(t, 4000007, res.node("traits.email")["messages"].([]any)[0].(map[string]any)["id"])
		require.NotContains(t, res.body, "session_token")
	}
	require.Equal(t, 1, done)
	identities, err := site.store.Identities.List(t.Context())
	require.NoError(t, err)
	require.Len(t, identities, 1)
}

func TestManyRegistrationsFromOneNetworkSlowDown(t *testing.T) {
	site := newSite(t, wide, func(c *config.Config) { c.TrustedProxies = []string{"127.0.0.1"} })
	flow := site.visitor().get("/auth/self-service/registration/api")
	register := func(ip string, n int) answer {
		t.Helper()
		return site.visitor().postJSON(flow.text("ui.action"), map[string]any{"method": "password",
			"traits": map[string]any{"email": fmt.Sprintf("p%d@example.com", n)}, "password": goodPassword},
			from(ip))
	}
	for n := range 21 { // twenty without a wait, and the one that makes the next wait
		res := register("192.0.2.1", n)
		require.Equal(t, http.StatusOK, res.status, res.body)
	}
	require.Equal(t, time.Second, register("192.0.2.1", 21).wait())
	require.Equal(t, http.StatusOK, register("198.51.100.1", 22).status, "another network")
	site.clock.advance(time.Second)
	require.Equal(t, http.StatusOK, register("192.0.2.1", 23).status)
	require.Equal(t, 2*time.Second, register("192.0.2.1", 24).wait())
}
