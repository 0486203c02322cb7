package app_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/app/config"
)

// referenceUI makes the requests of Ory's reference UI, kratos-selfservice-ui-node 0.23.10, as they were
// recorded: those of its server have the browser's cookies and what axios accepts.
type referenceUI struct{ *visitor }

const referenceOrigin = "http://127.0.0.1:4455"

var fromReference = []header{with("Origin", referenceOrigin), with("Sec-Fetch-Site", "same-site")}

func withReferenceUI(t *testing.T) referenceUI {
	t.Helper()
	site := newSite(t, func(c *config.Config) {
		c.LoginUIURL, c.RegistrationUIURL, c.ErrorUIURL = referenceOrigin+"/login", referenceOrigin+"/registration", referenceOrigin+"/error"
		c.LoginReturnURL, c.LogoutReturnURL, c.AllowedReturnURLs = referenceOrigin+"/welcome", referenceOrigin+"/login", []string{referenceOrigin}
		c.Registration = "open"
	})
	return referenceUI{site.visitor()}
}

// ask is a request of its server.
func (ui referenceUI) ask(path string) answer {
	ui.site.t.Helper()
	return ui.get("/auth"+path, with("Accept", "application/json, text/plain, */*"))
}

// shows opens a page that leads to the UI's page for a flow, which fetches it.
func (ui referenceUI) shows(kind string, redirect answer) answer {
	ui.site.t.Helper()
	require.Equal(ui.site.t, http.StatusSeeOther, redirect.status, redirect.body)
	id, ok := strings.CutPrefix(redirect.header.Get("Location"), referenceOrigin+"/"+kind+"?flow=")
	require.True(ui.site.t, ok, redirect.header.Get("Location"))
	flow := ui.ask("/self-service/" + kind + "/flows?id=" + id)
	require.Equal(ui.site.t, http.StatusOK, flow.status, flow.body)
	return flow
}

func (ui referenceUI) submit(flow answer, fields map[string]string) answer {
	ui.site.t.Helper()
	form := url.Values{"method": {"password"}, "csrf_token": {flow.csrfToken()}}
	for name, value := range fields {
		form.Set(name, value)
	}
	return ui.postForm(flow.text("ui.action"), form, fromReference...)
}

func TestRequestsOfTheReferenceUI(t *testing.T) {
	ui := withReferenceUI(t)
	const login = "/auth/self-service/login/browser?aal=&refresh=&return_to=&organization=&via="

	// Registration, from the link of the sign-in page, with a password that is refused first.
	ui.shows("login", ui.open(login))
	require.Equal(t, http.StatusUnauthorized, ui.ask("/sessions/whoami").status)
	flow := ui.shows("registration", ui.open("/auth/self-service/registration/browser?return_to="))
	flow = ui.shows("registration", ui.submit(flow, map[string]string{"traits.email": "ada@example.com", "traits.username": "", "traits.name": "", "password": "short"}))
	require.Contains(t, flow.body, "4000005")
	done := ui.submit(flow, map[string]string{"traits.email": "ada@example.com", "traits.username": "", "traits.name": "", "password": goodPassword})
	require.Equal(t, referenceOrigin+"/welcome", done.header.Get("Location"), done.body)

	// The welcome page, and signing out by its link.
	require.Equal(t, "ada@example.com", ui.ask("/sessions/whoami").text("identity.traits.email"))
	logout := ui.ask("/self-service/logout/browser?return_to=")
	require.Equal(t, http.StatusOK, logout.status, logout.body)
	require.Equal(t, referenceOrigin+"/login", ui.open(logout.text("logout_url")).header.Get("Location"))
	require.Equal(t, http.StatusUnauthorized, ui.ask("/sessions/whoami").status)

	// Signing in, wrong and right.
	flow = ui.shows("login", ui.open(login))
	flow = ui.shows("login", ui.submit(flow, map[string]string{"identifier": "ada@example.com", "password": "wrong"}))
	require.EqualValues(t, 4000006, flow.field("ui.messages.0.id"))
	require.Equal(t, referenceOrigin+"/welcome", ui.submit(flow, map[string]string{"identifier": "ada@example.com", "password": goodPassword}).header.Get("Location"))

	// Confirming it, with the link to sign out that this page has.
	flow = ui.shows("login", ui.open("/auth/self-service/login/browser?aal=&refresh=true&return_to="+url.QueryEscape(referenceOrigin+"/sessions")+"&organization=&via="))
	require.Equal(t, true, flow.field("refresh"))
	require.EqualValues(t, 1010003, flow.field("ui.messages.0.id"))
	identifier := flow.node("identifier")["attributes"].(map[string]any)
	require.Equal(t, "hidden", identifier["type"])
	require.Equal(t, http.StatusOK, ui.ask("/self-service/logout/browser?return_to="+url.QueryEscape(referenceOrigin+"/sessions")).status)
	flow = ui.shows("login", ui.submit(flow, map[string]string{"identifier": "ada@example.com", "password": "wrong"}))
	require.Equal(t, "ada@example.com", flow.node("identifier")["attributes"].(map[string]any)["value"])
	require.Equal(t, referenceOrigin+"/sessions", ui.submit(flow, map[string]string{"identifier": "ada@example.com", "password": goodPassword}).header.Get("Location"))

	// Its error page.
	failed := ui.open("/auth/self-service/login/browser?aal=&refresh=&return_to=" + url.QueryEscape("https://evil.example") + "&organization=&via=")
	id, ok := strings.CutPrefix(failed.header.Get("Location"), referenceOrigin+"/error?id=")
	require.True(t, ok, failed.header.Get("Location"))
	require.EqualValues(t, http.StatusBadRequest, ui.ask("/self-service/errors?id="+id).field("error.code"))
}
