package app_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func (v *visitor) sessionID() string { return v.get("/auth/sessions/whoami").text("id") }

func TestAccountShowsEverySessionWithAButtonToEndIt(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	phone, bob := site.signIn("ada@example.com"), site.signUp("bob@example.com")

	page := ada.open("/auth/account")

	require.Equal(t, http.StatusOK, page.status)
	require.Equal(t, "no-store", page.header.Get("Cache-Control"))
	require.Contains(t, page.body, "ada@example.com")
	require.Contains(t, page.body, strings.ReplaceAll(ada.logoutURL(), "&", "&amp;"))
	require.Contains(t, page.body, "/auth/account/sessions/end/"+phone.sessionID())
	require.NotContains(t, page.body, bob.sessionID())

	res := ada.postForm("/auth/account/sessions/end/"+phone.sessionID(), url.Values{"session": {ada.sessionID()}})
	require.Equal(t, http.StatusSeeOther, res.status)
	require.Contains(t, ada.open(res.header.Get("Location")).body, "That session has ended.")
	require.False(t, phone.signedIn())
	require.True(t, ada.signedIn() && bob.signedIn())

	require.Equal(t, http.StatusNotFound, ada.postForm("/auth/account/sessions/end/"+bob.sessionID(), nil).status)
	require.Equal(t, http.StatusBadRequest, ada.postForm("/auth/account/sessions/end/"+ada.sessionID(), nil).status)
	require.True(t, ada.signedIn() && bob.signedIn())
}

func TestAccountEndsAllOtherSessions(t *testing.T) {
	site := newSite(t)
	ada, bob := site.signUp("ada@example.com"), site.signUp("bob@example.com")
	others := []*visitor{site.signIn("ada@example.com"), site.signIn("ada@example.com")}

	res := ada.postForm("/auth/account/sessions/end", url.Values{"session": {ada.sessionID()}})

	require.Equal(t, http.StatusSeeOther, res.status)
	for _, other := range others {
		require.False(t, other.signedIn())
	}
	require.True(t, ada.signedIn() && bob.signedIn())
}

func TestAccountFormOfSomebodyElseChangesNothing(t *testing.T) {
	site := newSite(t)
	browser := site.signUp("ada@example.com")
	adas := browser.sessionID()
	site.register("bob@example.com")
	require.Equal(t, http.StatusOK, browser.submitLogin("bob@example.com", goodPassword).status)

	res := browser.postForm("/auth/account/name", url.Values{"session": {adas}, "name": {"Ada"}})

	require.Equal(t, http.StatusForbidden, res.status)
	require.NotContains(t, browser.get("/auth/sessions/whoami").body, "Ada")
}

func TestChangeOfName(t *testing.T) {
	ada := newSite(t).signUp("ada@example.com")

	res := ada.postForm("/auth/account/name", url.Values{"name": {" Ada <b>Lovelace</b> "}})
	require.Equal(t, http.StatusSeeOther, res.status)
	require.Equal(t, "Ada <b>Lovelace</b>", ada.get("/auth/sessions/whoami").text("identity.traits.name"))
	require.Contains(t, ada.open("/auth/account").body, "<h1><bdi>Ada &lt;b&gt;Lovelace&lt;/b&gt;</bdi></h1>")

	res = ada.postForm("/auth/account/name", url.Values{"name": {strings.Repeat("a", 201)}})
	require.Equal(t, http.StatusBadRequest, res.status)
	require.Contains(t, res.body, strings.Repeat("a", 201), "what was typed is kept")
	require.Contains(t, res.body, "too long")
}

func TestChangeOfPassword(t *testing.T) {
	const better = "a staple of batteries"
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	phone := site.signIn("ada@example.com")
	change := func(old, new, endOthers string) answer {
		values := url.Values{"password": {old}, "new_password": {new}}
		if endOthers != "" {
			values.Set("end_others", endOthers)
		}
		return ada.postForm("/auth/account/password", values)
	}
	require.Contains(t, ada.open("/auth/account").body, `name="end_others" value="true" checked`, "offered, ticked")

	for _, refused := range []answer{
		change("", better, "true"), change("wrong password", better, "true"), change(goodPassword, "", "true"),
		change(goodPassword, "short", "true"), change(goodPassword, "password1", "true"),
	} {
		require.Equal(t, http.StatusBadRequest, refused.status)
		require.Contains(t, refused.body, `class="problem"`)
		require.NotContains(t, refused.body, better)
	}
	require.True(t, phone.signedIn())

	require.Equal(t, http.StatusSeeOther, change(goodPassword, better, "").status)
	require.True(t, ada.signedIn() && phone.signedIn(), "nobody asked for more")
	require.Equal(t, http.StatusSeeOther, change(better, goodPassword, "true").status)
	require.True(t, ada.signedIn())
	require.False(t, phone.signedIn())
	require.Equal(t, http.StatusBadRequest, site.visitor().submitLogin("ada@example.com", better).status)
	require.True(t, site.signIn("ada@example.com").signedIn())
}

func TestAccountIsOnlyForWhoIsSignedIn(t *testing.T) {
	site := newSite(t)
	stranger := site.visitor()
	writes := site.writes()
	for _, path := range []string{"/auth/account/name", "/auth/account/password", "/auth/account/sessions/end",
		"/auth/account/sessions/end/8f2f0a3e-7b0c-4c6c-9a51-5f6f0d3b8f11"} {
		res := stranger.postForm(path, url.Values{"name": {"Eve"}})
		require.Equal(t, http.StatusSeeOther, res.status)
		require.Equal(t, "/auth/login?return_to=%2Fauth%2Faccount", res.header.Get("Location"))
		require.Equal(t, http.StatusUnauthorized, stranger.postForm(path, nil, asJSON).status)
	}
	require.Zero(t, writes())
}
