package app_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"

	"latchkey/app/config"
	"latchkey/models"
)

func open(c *config.Config) { c.Registration = "open" }

// setupLink returns the link that a server without accounts prints.
func (s *site) setupLink() string {
	s.t.Helper()
	link, err := s.app.SetupURL(s.t.Context(), s.url)
	require.NoError(s.t, err)
	return link
}

func TestSetupLinkMakesTheFirstAccountAndNoOther(t *testing.T) {
	site := newSite(t)
	link := site.setupLink()
	require.Contains(t, link, "/auth/registration?setup=")
	first, second := site.visitor(), site.visitor()
	page, late := first.open(link), second.open(link)

	res := first.fillIn(page, url.Values{"traits.email": {"ada@example.com"}, "traits.name": {"Ada"}, "password": {goodPassword}})
	require.Equal(t, http.StatusSeeOther, res.status, res.body)
	require.Equal(t, "/auth/account", res.header.Get("Location"))
	require.Equal(t, "Ada", first.get("/auth/sessions/whoami").text("identity.traits.name"))

	stolen := second.fillIn(late, url.Values{"traits.email": {"eve@example.com"}, "password": {goodPassword}})
	require.Equal(t, http.StatusForbidden, stolen.status)
	require.Equal(t, http.StatusNotFound, second.open(link).status)
	require.Empty(t, site.setupLink(), "none is needed any more")
	identities, err := site.store.Identities.List(t.Context())
	require.NoError(t, err)
	require.Len(t, identities, 1)
	require.Equal(t, models.SetByOperator, identities[0].EmailTrust, "only an operator has the link")
}

func TestSetupLinkDiesWithAnAccountMadeElsewhere(t *testing.T) {
	site := newSite(t)
	link := site.setupLink()
	site.register("ada@example.com")
	require.Equal(t, http.StatusNotFound, site.visitor().open(link).status)
}

func TestRegistrationIsClosedByDefault(t *testing.T) {
	site := newSite(t)
	stranger := site.visitor()
	for _, path := range []string{"/auth/registration", "/auth/registration?setup=", "/auth/registration?setup=AAAAAAAAAAAAAAAAAAAAAAAAAA", "/auth/self-service/registration/browser"} {
		require.Equal(t, http.StatusNotFound, stranger.open(path).status, path)
	}
	for _, path := range []string{"/auth/self-service/registration/browser", "/auth/self-service/registration/api"} {
		res := stranger.get(path, asJSON)
		require.Equal(t, http.StatusForbidden, res.status)
		require.Equal(t, "self_service_flow_disabled", res.text("error.id"))
	}
	require.NotContains(t, stranger.open("/auth/login").body, "/auth/registration")
}

func TestOpenRegistrationSignsIn(t *testing.T) {
	site := newSite(t, open)
	require.Empty(t, site.setupLink())
	browser := site.visitor()
	page := browser.open("/auth/registration?return_to=/app")
	require.Contains(t, page.body, "At least 8 characters", "the rules are shown before they bite")

	res := browser.fillIn(page, url.Values{"traits.email": {"Ada@Example.com"}, "password": {goodPassword}})

	require.Equal(t, "/app", res.header.Get("Location"))
	require.Equal(t, "ada@example.com", browser.get("/auth/sessions/whoami").text("identity.traits.email"))
}

func TestRegistrationComplainsBesideTheField(t *testing.T) {
	site := newSite(t, open)
	site.register("taken@example.com")
	for _, c := range []struct {
		about, email, name, password string
		node                         string
		id                           float64
	}{
		{"no address", "", "", goodPassword, "traits.email", 4000002},
		{"malformed address", "ada", "", goodPassword, "traits.email", 4000040},
		{"address with a name", "Ada <ada@example.com>", "", goodPassword, "traits.email", 4000040},
		{"overlong address", strings.Repeat("a", 250) + "@example.com", "", goodPassword, "traits.email", 4000040},
		{"taken address", "TAKEN@example.com", "", goodPassword, "traits.email", 4000007},
		{"address that looks like one that's taken", "tаken@example.com", "", goodPassword, "traits.email", 4000007},
		{"address with something invisible", "ada\u200d@example.com", "", goodPassword, "traits.email", 4000040},
		{"name that runs backwards", "ada@example.com", "Ada \u202enimda", goodPassword, "traits.name", 4000001},
		{"name with something invisible", "ada@example.com", "A\u200dda", goodPassword, "traits.name", 4000001},
		{"overlong name", "ada@example.com", strings.Repeat("é", 201), goodPassword, "traits.name", 4000001},
		{"name with a line break", "ada@example.com", "Ada\nBcc: eve", goodPassword, "traits.name", 4000001},
		{"no password", "ada@example.com", "", "", "password", 4000002},
		{"short password", "ada@example.com", "", "ïïïïïïï", "password", 4000005},
		{"common password", "ada@example.com", "", "Password1", "password", 4000005},
		{"password with the address", "lovelace@example.com", "", "my lovelace 1815", "password", 4000005},
		{"password with the site's name", "ada@example.com", "", "my latchkey login", "password", 4000005},
	} {
		t.Run(c.about, func(t *testing.T) {
			browser := site.visitor()
			flow := browser.get("/auth/self-service/registration/browser", asJSON)

			res := browser.postJSON(flow.text("ui.action"), map[string]any{"method": "password", "password": c.password,
				"traits": map[string]any{"email": c.email, "name": c.name}})

			require.Equal(t, http.StatusBadRequest, res.status, res.body)
			messages := res.node(c.node)["messages"].([]any)
			require.Len(t, messages, 1, res.body)
			require.Equal(t, c.id, messages[0].(map[string]any)["id"])
			if c.password != "" {
				require.NotContains(t, res.body, c.password, "the password is not sent back")
			}
		})
	}
	identities, err := site.store.Identities.List(t.Context())
	require.NoError(t, err)
	require.Len(t, identities, 1)
}

func TestUsernameThatLooksLikeATakenOne(t *testing.T) {
	site := newSite(t, open)
	require.NoError(t, site.store.Identities.SetUsername(t.Context(), site.register("ada@example.com").ID, "mill"))
	bob := site.signUp("bob@example.com")

	for _, res := range []answer{
		site.visitor().register("eve@example.com", map[string]string{"traits.username": "rnill"}),
		bob.postForm("/auth/account/username", url.Values{"username": {"rnill"}}),
	} {
		require.Equal(t, http.StatusBadRequest, res.status, res.body)
		require.Contains(t, res.body, "This username, or one that looks the same, is taken.")
	}
}

func TestLongPasswordsOfAnyCharactersAreNotTruncated(t *testing.T) {
	site := newSite(t, open)
	long := strings.Repeat("⚿ \x00", 50) + "end" // 253 bytes
	browser := site.visitor()
	res := browser.fillIn(browser.open("/auth/registration"), url.Values{"traits.email": {"ada@example.com"}, "password": {long}})
	require.Equal(t, http.StatusSeeOther, res.status, res.body)

	require.Equal(t, http.StatusBadRequest, site.visitor().submitLogin("ada@example.com", strings.TrimSuffix(long, "d")).status)
	require.Equal(t, http.StatusOK, site.visitor().submitLogin("ada@example.com", long).status)
}

func TestRealNamesAreAccepted(t *testing.T) {
	site := newSite(t, open)
	for email, name := range map[string]string{"ali@example.com": "علی\u200cرضا", "shri@example.com": "ශ\u0dca\u200dරී", "family@example.com": "👩\u200d👩\u200d👧", "zoe@example.com": "Zoe\u0308"} {
		res := site.visitor().register(email, map[string]string{"traits.name": name})
		require.Equal(t, http.StatusOK, res.status, res.body)
		require.Equal(t, norm.NFC.String(name), res.text("identity.traits.name"))

		v := site.signIn(email)
		res = v.postForm("/auth/account/name", url.Values{"name": {name + " " + name}}, with("Origin", site.url))
		require.Equal(t, http.StatusSeeOther, res.status, res.body)
		require.Contains(t, v.open("/auth/account").body, norm.NFC.String(name+" "+name))
		for _, bad := range []string{"\u2067" + name, name + "\u200b", name + "\u200d"} {
			res = v.postForm("/auth/account/name", url.Values{"name": {bad}}, with("Origin", site.url))
			require.Contains(t, res.body, "characters that can’t be shown", "%q", bad)
		}
	}
}
