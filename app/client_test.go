package app_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"testing"
	"time"

	"latchkey/app/config"

	ory "github.com/ory/client-go"
	"github.com/stretchr/testify/require"
)

// These tests drive Latchkey with the official Go client of the API that it speaks.

// oryClient returns the client as its users make it. Its answers too are held against the document.
func (s *site) oryClient() ory.FrontendAPI {
	config := ory.NewConfiguration()
	config.Servers = ory.ServerConfigurations{{URL: s.url + "/auth"}}
	config.HTTPClient = &http.Client{Transport: checked{s}}
	return ory.NewAPIClient(config).FrontendAPI
}

// checked fails the test for an answer that is not as documented.
type checked struct{ site *site }

func (c checked) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close(), conforms(req, res.StatusCode, res.Header, string(body))); err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res, nil
}

// oryLogin signs in by a native flow.
func (s *site) oryLogin(email, pass string) (*ory.SuccessfulNativeLogin, *http.Response, error) {
	s.t.Helper()
	client := s.oryClient()
	flow, _, err := client.CreateNativeLoginFlow(s.t.Context()).Execute()
	require.NoError(s.t, err)
	return client.UpdateLoginFlow(s.t.Context()).Flow(flow.Id).UpdateLoginFlowBody(
		ory.UpdateLoginFlowWithPasswordMethodAsUpdateLoginFlowBody(
			ory.NewUpdateLoginFlowWithPasswordMethod(email, "password", pass))).Execute()
}

// errorID returns the id of the error that the client decoded.
func errorID(t *testing.T, err error) string {
	t.Helper()
	var failed *ory.GenericOpenAPIError
	require.ErrorAs(t, err, &failed)
	model, ok := failed.Model().(ory.ErrorGeneric)
	require.True(t, ok, "%T: %s", failed.Model(), failed.Body())
	return model.Error.GetId()
}

func TestOryClientSignsInAndOutNatively(t *testing.T) {
	site := newSite(t)
	ada := site.register("ada@example.com")
	client, ctx := site.oryClient(), t.Context()

	flow, _, err := client.CreateNativeLoginFlow(ctx).ReturnTo("/app").Execute()
	require.NoError(t, err)
	require.Equal(t, "api", flow.Type)
	again, _, err := client.GetLoginFlow(ctx).Id(flow.Id).Execute()
	require.NoError(t, err)
	require.Equal(t, flow, again)

	login, _, err := site.oryLogin("ada@example.com", goodPassword)
	require.NoError(t, err)
	require.Equal(t, ada.ID.String(), login.Session.Identity.Id)

	session, res, err := client.ToSession(ctx).XSessionToken(*login.SessionToken).Execute()
	require.NoError(t, err)
	require.Equal(t, login.Session.Id, session.Id)
	require.True(t, *session.Active)
	require.Equal(t, map[string]any{"email": "ada@example.com"}, session.Identity.Traits)
	require.Equal(t, ory.AUTHENTICATORASSURANCELEVEL_AAL1, *session.AuthenticatorAssuranceLevel)
	require.Equal(t, ada.ID.String(), res.Header.Get("X-Kratos-Authenticated-Identity-Id"))

	logout := *ory.NewPerformNativeLogoutBody(*login.SessionToken)
	_, err = client.PerformNativeLogout(ctx).PerformNativeLogoutBody(logout).Execute()
	require.NoError(t, err)

	_, res, err = client.ToSession(ctx).XSessionToken(*login.SessionToken).Execute()
	require.Equal(t, http.StatusUnauthorized, res.StatusCode)
	require.Equal(t, "session_inactive", errorID(t, err))
}

func TestOryClientIsToldThatAPasswordIsWrong(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")

	_, res, err := site.oryLogin("ada@example.com", "something else")

	require.Equal(t, http.StatusBadRequest, res.StatusCode)
	var failed *ory.GenericOpenAPIError
	require.ErrorAs(t, err, &failed)
	flow, ok := failed.Model().(ory.LoginFlow)
	require.True(t, ok, "%T: %s", failed.Model(), failed.Body())
	require.Len(t, flow.Ui.Messages, 1)
	require.EqualValues(t, 4000006, flow.Ui.Messages[0].Id)
	require.Equal(t, "error", flow.Ui.Messages[0].Type)
	values := map[string]any{}
	for _, node := range flow.Ui.Nodes {
		values[node.Attributes.UiNodeInputAttributes.Name] = node.Attributes.UiNodeInputAttributes.Value
	}
	require.Equal(t, map[string]any{"csrf_token": nil, "identifier": "ada@example.com", "password": nil, "method": "password"}, values)
}

func TestOryClientGetsAFreshFlowForAnExpiredOne(t *testing.T) {
	site := newSite(t)
	client, ctx := site.oryClient(), t.Context()
	flow, _, err := client.CreateNativeLoginFlow(ctx).Execute()
	require.NoError(t, err)
	site.clock.advance(time.Hour)

	_, res, err := client.GetLoginFlow(ctx).Id(flow.Id).Execute()

	require.Equal(t, http.StatusGone, res.StatusCode)
	var failed *ory.GenericOpenAPIError
	require.ErrorAs(t, err, &failed)
	var expired ory.SelfServiceFlowExpiredError
	require.NoError(t, expired.UnmarshalJSON(failed.Body()))
	fresh, _, err := client.GetLoginFlow(ctx).Id(expired.GetUseFlowId()).Execute()
	require.NoError(t, err)
	require.Equal(t, site.clock.Now().Add(time.Hour), fresh.ExpiresAt)
}

func TestOryClientListsAndEndsOtherSessions(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	var tokens, ids []string
	for range 4 {
		login, _, err := site.oryLogin("ada@example.com", goodPassword)
		require.NoError(t, err)
		tokens, ids = append(tokens, *login.SessionToken), append(ids, login.Session.Id)
		site.clock.advance(time.Second)
	}
	client, ctx, mine := site.oryClient(), t.Context(), tokens[0]

	all, _, err := client.ListMySessions(ctx).XSessionToken(mine).Execute()
	require.NoError(t, err)
	require.Len(t, all, 3, "all but this one")

	first, res, err := client.ListMySessions(ctx).XSessionToken(mine).PageSize(2).Execute()
	require.NoError(t, err)
	require.Equal(t, []string{ids[3], ids[2]}, []string{first[0].Id, first[1].Id}, "newest first")
	require.Equal(t, "3", res.Header.Get("X-Total-Count"))
	second, _, err := client.ListMySessions(ctx).XSessionToken(mine).PageSize(2).PageToken(nextPage(t, res)).Execute()
	require.NoError(t, err)
	require.Len(t, second, 1)
	require.Equal(t, ids[1], second[0].Id)

	_, err = client.DisableMySession(ctx, ids[1]).XSessionToken(mine).Execute()
	require.NoError(t, err)
	_, _, err = client.ToSession(ctx).XSessionToken(tokens[1]).Execute()
	require.Equal(t, "session_inactive", errorID(t, err))

	ended, _, err := client.DisableMyOtherSessions(ctx).XSessionToken(mine).Execute()
	require.NoError(t, err)
	require.EqualValues(t, 2, *ended.Count)
	_, _, err = client.ToSession(ctx).XSessionToken(mine).Execute()
	require.NoError(t, err)
}

var nextLink = regexp.MustCompile(`<([^>]*)>; rel="next"`)

// nextPage returns the page token of the Link header's "next".
func nextPage(t *testing.T, res *http.Response) string {
	t.Helper()
	found := nextLink.FindStringSubmatch(res.Header.Get("Link"))
	require.NotNil(t, found, res.Header.Get("Link"))
	u, err := url.Parse(found[1])
	require.NoError(t, err)
	return u.Query().Get("page_token")
}

func TestOryClientOfABackendAsksForItsUser(t *testing.T) {
	site := newSite(t, func(c *config.Config) { c.AllowedReturnURLs = []string{"https://app.example.com"} })
	ada := site.signUp("ada@example.com")
	client, ctx := site.oryClient(), t.Context()
	cookie := "theme=dark; latchkey_session=" + ada.cookie("latchkey_session") // as the browser sent it to the app

	session, _, err := client.ToSession(ctx).Cookie(cookie).Execute()
	require.NoError(t, err)
	require.Equal(t, "ada@example.com", session.Identity.Traits.(map[string]any)["email"])

	_, res, err := client.CreateBrowserLogoutFlow(ctx).Cookie(cookie).ReturnTo("https://evil.example").Execute()
	require.Equal(t, http.StatusBadRequest, res.StatusCode)
	require.Equal(t, "self_service_flow_return_to_forbidden", errorID(t, err))
	_, _, err = client.CreateBrowserLogoutFlow(ctx).Execute()
	require.Equal(t, "session_inactive", errorID(t, err))

	logout, _, err := client.CreateBrowserLogoutFlow(ctx).Cookie(cookie).ReturnTo("https://app.example.com/bye").Execute()
	require.NoError(t, err)
	require.Equal(t, "https://app.example.com/bye", ada.open(logout.LogoutUrl).header.Get("Location"))
	require.False(t, ada.signedIn())
}

func TestOryClientLogsOutWithTheTokenAlone(t *testing.T) {
	ada := newSite(t).signUp("ada@example.com")
	client, ctx := ada.site.oryClient(), t.Context()
	cookie := "latchkey_session=" + ada.cookie("latchkey_session")
	logout, _, err := client.CreateBrowserLogoutFlow(ctx).Cookie(cookie).Execute()
	require.NoError(t, err)

	res, err := client.UpdateLogoutFlow(ctx).Token(logout.LogoutToken).Cookie(cookie).Execute()

	require.NoError(t, err)
	require.Equal(t, http.StatusNoContent, res.StatusCode)
	require.False(t, ada.signedIn())
}

func TestOryClientRegisters(t *testing.T) {
	site := newSite(t, func(c *config.Config) { c.Registration = "open" })
	client, ctx := site.oryClient(), t.Context()
	register := func(email, pass string) (*ory.SuccessfulNativeRegistration, *http.Response, error) {
		flow, _, err := client.CreateNativeRegistrationFlow(ctx).Execute()
		require.NoError(t, err)
		again, _, err := client.GetRegistrationFlow(ctx).Id(flow.Id).Execute()
		require.NoError(t, err)
		require.Equal(t, flow, again)
		return client.UpdateRegistrationFlow(ctx).Flow(flow.Id).UpdateRegistrationFlowBody(
			ory.UpdateRegistrationFlowWithPasswordMethodAsUpdateRegistrationFlowBody(
				ory.NewUpdateRegistrationFlowWithPasswordMethod("password", pass, map[string]any{"email": email, "name": "Ada"}))).Execute()
	}

	done, _, err := register("ada@example.com", goodPassword)
	require.NoError(t, err)
	require.Equal(t, map[string]any{"email": "ada@example.com", "name": "Ada"}, done.Identity.Traits)
	session, _, err := client.ToSession(ctx).XSessionToken(*done.SessionToken).Execute()
	require.NoError(t, err)
	require.Equal(t, done.Session.Id, session.Id)

	for _, wrong := range []struct{ email, pass, node string }{
		{"ada@example.com", goodPassword, "traits.email"},
		{"bob", goodPassword, "traits.email"},
		{"bob@example.com", "password", "password"},
	} {
		_, res, err := register(wrong.email, wrong.pass)
		require.Equal(t, http.StatusBadRequest, res.StatusCode)
		var failed *ory.GenericOpenAPIError
		require.ErrorAs(t, err, &failed)
		flow, ok := failed.Model().(ory.RegistrationFlow)
		require.True(t, ok, "%T: %s", failed.Model(), failed.Body())
		for _, node := range flow.Ui.Nodes {
			name := node.Attributes.UiNodeInputAttributes.Name
			require.Equal(t, name == wrong.node, len(node.Messages) > 0, "%v: %s", wrong, name)
		}
	}
}

func TestOryClientIsToldThatRegistrationIsClosed(t *testing.T) {
	_, res, err := newSite(t).oryClient().CreateNativeRegistrationFlow(t.Context()).Execute()
	require.Equal(t, http.StatusForbidden, res.StatusCode)
	require.Equal(t, "self_service_flow_disabled", errorID(t, err))
}

func TestOryClientOfANativeAppGoesThroughTheWholeLoop(t *testing.T) {
	site := newSite(t, func(c *config.Config) { c.Registration = "open" })
	client, ctx := site.oryClient(), t.Context()
	active := func(token string) bool {
		t.Helper()
		_, res, err := client.ToSession(ctx).XSessionToken(token).Execute()
		if err != nil {
			require.Equal(t, http.StatusUnauthorized, res.StatusCode)
			require.Equal(t, "session_inactive", errorID(t, err))
		}
		return err == nil
	}

	flow, _, err := client.CreateNativeRegistrationFlow(ctx).Execute()
	require.NoError(t, err)
	registered, _, err := client.UpdateRegistrationFlow(ctx).Flow(flow.Id).UpdateRegistrationFlowBody(
		ory.UpdateRegistrationFlowWithPasswordMethodAsUpdateRegistrationFlowBody(
			ory.NewUpdateRegistrationFlowWithPasswordMethod("password", goodPassword, map[string]any{"email": "ada@example.com"}))).Execute()
	require.NoError(t, err)
	phone := *registered.SessionToken
	require.True(t, active(phone), "registration has signed in")

	_, res, err := site.oryLogin("ada@example.com", "something else")
	require.Error(t, err)
	require.Equal(t, http.StatusBadRequest, res.StatusCode)
	var tokens []string
	for range 4 {
		login, _, err := site.oryLogin("ada@example.com", goodPassword)
		require.NoError(t, err)
		require.Equal(t, registered.Identity.Id, login.Session.Identity.Id)
		tokens = append(tokens, *login.SessionToken)
		site.clock.advance(time.Second)
	}

	others, _, err := client.ListMySessions(ctx).XSessionToken(phone).Execute()
	require.NoError(t, err)
	require.Len(t, others, 4)
	_, err = client.DisableMySession(ctx, others[0].Id).XSessionToken(phone).Execute() // the newest
	require.NoError(t, err)
	require.False(t, active(tokens[3]))
	ended, _, err := client.DisableMyOtherSessions(ctx).XSessionToken(tokens[0]).Execute()
	require.NoError(t, err)
	require.EqualValues(t, 3, *ended.Count)
	require.False(t, active(phone) || active(tokens[1]) || active(tokens[2]))
	require.True(t, active(tokens[0]))

	logout := *ory.NewPerformNativeLogoutBody(tokens[0])
	for range 2 { // once more does no harm
		res, err = client.PerformNativeLogout(ctx).PerformNativeLogoutBody(logout).Execute()
		require.NoError(t, err)
		require.Equal(t, http.StatusNoContent, res.StatusCode)
	}
	require.False(t, active(tokens[0]))
}

func TestOryClientUnderstandsEveryError(t *testing.T) {
	site := newSite(t, func(c *config.Config) { c.Registration = "open" })
	site.register("ada@example.com")
	client, ctx, stale := site.oryClient(), t.Context(), site.apiToken("ada@example.com")
	foreign := site.visitor().get("/auth/self-service/login/browser", asJSON).text("id")
	expired, _, err := client.CreateNativeRegistrationFlow(ctx).Execute()
	require.NoError(t, err)
	site.clock.advance(time.Hour)
	login, _, err := site.oryLogin("ada@example.com", goodPassword)
	require.NoError(t, err)
	token := *login.SessionToken
	const unknown = "2f1e9b0a-6e0c-4d6e-9a44-0a4a3a1f0d11"
	register := ory.UpdateRegistrationFlowWithPasswordMethodAsUpdateRegistrationFlowBody(
		ory.NewUpdateRegistrationFlowWithPasswordMethod("password", goodPassword, map[string]any{"email": "bob@example.com"}))
	drop := func(_ any, res *http.Response, err error) (*http.Response, error) { return res, err }

	for _, c := range []struct {
		about  string
		call   func() (*http.Response, error)
		status int
		id     string
	}{
		{"no token", func() (*http.Response, error) { return drop(client.ToSession(ctx).Execute()) }, 401, "session_inactive"},
		{"a token that is none", func() (*http.Response, error) { return drop(client.ToSession(ctx).XSessionToken("x").Execute()) }, 401, "session_inactive"},
		{"list without a token", func() (*http.Response, error) { return drop(client.ListMySessions(ctx).Execute()) }, 401, "session_inactive"},
		{"end all without a token", func() (*http.Response, error) { return drop(client.DisableMyOtherSessions(ctx).Execute()) }, 401, "session_inactive"},
		{"end one without a token", func() (*http.Response, error) { return client.DisableMySession(ctx, login.Session.Id).Execute() }, 401, "session_inactive"},
		{"end one's own", func() (*http.Response, error) {
			return client.DisableMySession(ctx, login.Session.Id).XSessionToken(token).Execute()
		}, 400, ""},
		{"end an unknown one", func() (*http.Response, error) {
			return client.DisableMySession(ctx, unknown).XSessionToken(token).Execute()
		}, 404, ""},
		{"end all without a recent sign-in", func() (*http.Response, error) {
			return drop(client.DisableMyOtherSessions(ctx).XSessionToken(stale).Execute())
		}, 403, "session_refresh_required"},
		{"end one without a recent sign-in", func() (*http.Response, error) {
			return client.DisableMySession(ctx, login.Session.Id).XSessionToken(stale).Execute()
		}, 403, "session_refresh_required"},
		{"log out an unknown token", func() (*http.Response, error) {
			return client.PerformNativeLogout(ctx).PerformNativeLogoutBody(*ory.NewPerformNativeLogoutBody("x")).Execute()
		}, 403, ""},
		{"an unknown flow", func() (*http.Response, error) { return drop(client.GetRegistrationFlow(ctx).Id("x").Execute()) }, 404, ""},
		{"a flow of the other kind", func() (*http.Response, error) { return drop(client.GetLoginFlow(ctx).Id(expired.Id).Execute()) }, 404, ""},
		{"a browser's flow", func() (*http.Response, error) { return drop(client.GetLoginFlow(ctx).Id(foreign).Execute()) }, 403, "security_identity_mismatch"},
		{"an expired flow", func() (*http.Response, error) { return drop(client.GetRegistrationFlow(ctx).Id(expired.Id).Execute()) }, 410, "self_service_flow_expired"},
		{"an expired flow, submitted", func() (*http.Response, error) {
			return drop(client.UpdateRegistrationFlow(ctx).Flow(expired.Id).UpdateRegistrationFlowBody(register).Execute())
		}, 410, "self_service_flow_expired"},
		{"a return_to that is refused", func() (*http.Response, error) {
			return drop(client.CreateNativeRegistrationFlow(ctx).ReturnTo("https://evil.example").Execute())
		}, 400, "self_service_flow_return_to_forbidden"},
	} {
		res, err := c.call()
		require.Error(t, err, c.about)
		require.Equal(t, c.status, res.StatusCode, c.about)
		require.Equal(t, c.id, errorID(t, err), c.about)
	}
	_, _, err = client.ToSession(ctx).XSessionToken(token).Execute()
	require.NoError(t, err, "nothing was ended")
}
