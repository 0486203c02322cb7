package app_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	typeJSON = "application/json"
	typeForm = "application/x-www-form-urlencoded"
)

// badBodies can be read by nobody, or in two ways.
var badBodies = []struct {
	why, contentType, body string
	status                 int
}{
	{"no content type", "", `{}`, 415},
	{"text", "text/plain", `{"method":"password"}`, 415},
	{"multipart", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"method\"\r\n\r\npassword\r\n--x--\r\n", 415},
	{"a content type that is none", "json", `{}`, 415},
	{"a broken parameter", "application/json; charset", `{}`, 415},
	{"JSON in all but name", "application/x-json", `{}`, 415},

	{"nothing", typeJSON, ``, 400},
	{"a space", typeJSON, ` `, 400},
	{"an array", typeJSON, `[{"method":"password"}]`, 400},
	{"a string", typeJSON, `"method"`, 400},
	{"a number", typeJSON, `1`, 400},
	{"null", typeJSON, `null`, 400},
	{"a byte order mark", typeJSON, "\ufeff{}", 400},
	{"cut off", typeJSON, `{"method":"password"`, 400},
	{"cut off in a string", typeJSON, `{"method":"pass`, 400},
	{"cut off after a comma", typeJSON, `{"method":"password",`, 400},
	{"a trailing comma", typeJSON, `{"method":"password",}`, 400},
	{"single quotes", typeJSON, `{'method':'password'}`, 400},
	{"no quotes", typeJSON, `{method:"password"}`, 400},
	{"a number for a name", typeJSON, `{1:"password"}`, 400},
	{"two objects", typeJSON, `{} {}`, 400},
	{"something after it", typeJSON, `{}x`, 400},
	{"a comment", typeJSON, `{}// x`, 400},
	{"the wrong closing bracket", typeJSON, `{"a":"b"]`, 400},
	{"a raw line break in a string", typeJSON, "{\"method\":\"pass\nword\"}", 400},
	{"bytes that are no UTF-8", typeJSON, "{\"method\":\"\xff\"}", 400},
	{"UTF-16", typeJSON, "\xff\xfe{\x00}\x00", 400},
	{"a form", typeJSON, `method=password&identifier=x`, 400},
	{"too deep", typeJSON, `{"a":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`, 400},
	{"a member twice", typeJSON, `{"method":"password","method":"password"}`, 400},
	{"a member twice, once escaped", typeJSON, `{"method":"password","meth\u006fd":"x"}`, 400},
	{"a member twice, of no interest", typeJSON, `{"x":1,"x":2}`, 400},
	{"traits twice", typeJSON, `{"traits":{"email":"a@b.example"},"traits":{"name":"x"}}`, 400},
	{"a trait twice", typeJSON, `{"traits":{"email":"a@b.example","email":"c@d.example"}}`, 400},
	{"a trait in two places", typeJSON, `{"traits.email":"a@b.example","traits":{"email":"c@d.example"}}`, 400},
	{"traits that are no object", typeJSON, `{"traits":"a@b.example"}`, 400},
	{"traits that are an array", typeJSON, `{"traits":[]}`, 400},
	{"traits that are null", typeJSON, `{"traits":null}`, 400},

	{"a percent sign alone", typeForm, `method=%`, 400},
	{"a wrong escape", typeForm, `method=%zz`, 400},
	{"a wrong escape in a name", typeForm, `%zz=x`, 400},
	{"semicolons", typeForm, `method=password;identifier=x`, 400},
	{"a field twice", typeForm, `method=password&method=password`, 400},
	{"a field twice, once escaped", typeForm, `method=password&metho%64=x`, 400},
	{"bytes that are no UTF-8, escaped", typeForm, `method=%ff%fe`, 400},
	{"bytes that are no UTF-8", typeForm, "method=\xff", 400},
	{"an overlong encoding of a slash", typeForm, `method=%c0%af`, 400},
}

func TestBodiesThatCanNotBeReadAreRefused(t *testing.T) {
	site := newSite(t, wide)
	ada := site.signUp("ada@example.com")
	flows := site.flows()
	writes := site.writes()
	for _, to := range []string{flows.login, flows.api, flows.registration, "/auth/account/name", "/auth/account/password",
		"/auth/account/sessions/end", "/auth/account/sessions/end/2f1e9b0a-6e0c-4d6e-9a44-0a4a3a1f0d11", everywhere} {
		for _, c := range badBodies {
			t.Run(c.why, func(t *testing.T) {
				v := flows.visitorFor(to, ada)
				v.send(http.MethodPost, to, c.body, asJSON, with("Content-Type", c.contentType)).in(t).requireError(c.status, "")
				res := v.send(http.MethodPost, to, c.body, asPage, with("Content-Type", c.contentType)).in(t)
				if v == flows.stranger && to != flows.api && c.contentType != typeJSON {
					require.Regexp(t, `Something is missing or wrong in what your browser sent|The connection broke`, v.shownAfter(res).body)
				} else {
					res.requireError(c.status, "")
				}
			})
		}
	}
	for _, c := range badBodies {
		ada.delete("/auth/self-service/logout/api", c.body, asPage, with("Content-Type", c.contentType)).requireError(http.StatusBadRequest, "")
	}
	require.Zero(t, writes())
	require.True(t, ada.signedIn())
}

func TestFieldsOfTheWrongTypeAreRefused(t *testing.T) {
	site := newSite(t, wide)
	ada := site.signUp("ada@example.com")
	flows := site.flows()
	writes := site.writes()
	for to, names := range map[string][]string{
		flows.login:                  {"method", "identifier", "password", "csrf_token"},
		flows.api:                    {"method", "identifier", "password"},
		flows.registration:           {"method", "traits.email", "traits.name", "password"},
		"/auth/account/name":         {"name", "session"},
		"/auth/account/password":     {"password", "new_password"},
		"/auth/account/sessions/end": {"session", "password", "proof"},
		everywhere:                   {"session", "password", "proof", "return_to"},
	} {
		for _, name := range names {
			for _, value := range []any{1, 1.5, true, false, []string{"x"}, map[string]any{"x": "y"}} {
				body := map[string]any{"method": "password", "identifier": "ada@example.com", "password": goodPassword,
					"traits.email": "bob@example.com", "new_password": goodPassword + "!", "name": "Ada"}
				body[name] = value
				flows.visitorFor(to, ada).postJSON(to, body).requireError(http.StatusBadRequest, "")
			}
		}
	}
	for _, box := range []any{1, []string{"x"}, map[string]any{}} {
		flows.stranger.postJSON(flows.login, map[string]any{"method": "password", "identifier": "ada@example.com", "password": goodPassword, "remember": box}).
			requireError(http.StatusBadRequest, "")
		ada.postJSON("/auth/account/password", map[string]any{"password": goodPassword, "new_password": goodPassword + "!", "end_others": box}).
			requireError(http.StatusBadRequest, "")
	}
	for _, token := range []string{`1`, `true`, `[]`, `{}`} {
		ada.delete("/auth/self-service/logout/api", `{"session_token":`+token+`}`, with("Content-Type", typeJSON)).requireError(http.StatusForbidden, "")
	}
	require.Zero(t, writes())
}

func TestLogoutOfAnAPIClientWithoutARealTokenIsForbidden(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	writes := site.writes()
	for _, body := range []string{`{}`, `{"session_token":null}`, `{"session_token":""}`, `{"session_token":"x"}`, `{"token":"x"}`,
		`{"session_token":"` + strings.Repeat("A", 26) + `"}`, `{"session_token":"` + strings.Repeat("A", 60000) + `"}`,
		`{"session_token":" ` + ada.cookie("latchkey_session") + `"}`, `{"session_token":"' OR 1=1 --"}`,
		`{"session_token":"` + strings.ToLower(ada.cookie("latchkey_session")) + `"}`, `{"session_token":"\u0000"}`} {
		ada.delete("/auth/self-service/logout/api", body, with("Content-Type", typeJSON)).requireError(http.StatusForbidden, "")
	}
	form := ada.delete("/auth/self-service/logout/api", "session_token="+ada.cookie("latchkey_session"), with("Content-Type", typeForm))
	form.requireError(http.StatusBadRequest, "")
	require.Zero(t, writes())
	require.True(t, ada.signedIn())
}

func TestMissingFieldsAreNamedBesideTheirNode(t *testing.T) {
	site := newSite(t, wide)
	site.register("ada@example.com")
	flows := site.flows()
	for _, c := range []struct {
		why, to string
		body    map[string]any
		node    string // which complains
		id      int
	}{
		{"no method", flows.login, map[string]any{"identifier": "ada@example.com", "password": goodPassword}, "", 4010002},
		{"an unknown method", flows.api, map[string]any{"method": "oidc", "identifier": "ada@example.com", "password": goodPassword}, "", 4010002},
		{"no identifier", flows.login, map[string]any{"method": "password", "password": goodPassword}, "identifier", 4000002},
		{"an empty identifier", flows.login, map[string]any{"method": "password", "identifier": " ", "password": goodPassword}, "identifier", 4000002},
		{"an overlong identifier", flows.login, map[string]any{"method": "password", "identifier": strings.Repeat("a", 50000), "password": goodPassword}, "identifier", 4000001},
		{"no password", flows.api, map[string]any{"method": "password", "identifier": "ada@example.com"}, "password", 4000002},
		{"null for a password", flows.login, map[string]any{"method": "password", "identifier": "ada@example.com", "password": nil}, "password", 4000002},
		{"no address", flows.registration, map[string]any{"method": "password", "password": goodPassword}, "traits.email", 4000002},
		{"no address at all", flows.registration, map[string]any{"method": "password", "password": goodPassword, "traits.email": "bob"}, "traits.email", 4000040},
		{"two addresses", flows.registration, map[string]any{"method": "password", "password": goodPassword, "traits.email": "bob@example.com, eve@example.com"}, "traits.email", 4000040},
		{"an address with a name", flows.registration, map[string]any{"method": "password", "password": goodPassword, "traits.email": "Bob <bob@example.com>"}, "traits.email", 4000040},
		{"an address with a line break", flows.registration, map[string]any{"method": "password", "password": goodPassword, "traits.email": "bob@example.com\r\nBcc: eve@example.com"}, "traits.email", 4000040},
		{"an address with NUL", flows.registration, map[string]any{"method": "password", "password": goodPassword, "traits.email": "bob\x00@example.com"}, "traits.email", 4000040},
		{"an overlong address", flows.registration, map[string]any{"method": "password", "password": goodPassword, "traits.email": strings.Repeat("b", 50000) + "@example.com"}, "traits.email", 4000040},
		{"a name that can't be shown", flows.registration, map[string]any{"method": "password", "password": goodPassword, "traits.email": "bob@example.com", "traits.name": "B\u202eob"}, "traits.name", 4000001},
		{"an overlong name", flows.registration, map[string]any{"method": "password", "password": goodPassword, "traits.email": "bob@example.com", "traits.name": strings.Repeat("b", 201)}, "traits.name", 4000001},
		{"no new password", flows.registration, map[string]any{"method": "password", "traits.email": "bob@example.com"}, "password", 4000002},
		{"a short password", flows.registration, map[string]any{"method": "password", "traits.email": "bob@example.com", "password": "1234567"}, "password", 4000005},
		{"an overlong password", flows.registration, map[string]any{"method": "password", "traits.email": "bob@example.com", "password": strings.Repeat("p", 50000)}, "password", 4000005},
		{"a common password", flows.registration, map[string]any{"method": "password", "traits.email": "bob@example.com", "password": "password1"}, "password", 4000005},
		{"the address as password", flows.registration, map[string]any{"method": "password", "traits.email": "bob@example.com", "password": "bob@example.com"}, "password", 4000005},
		{"a taken address", flows.registration, map[string]any{"method": "password", "traits.email": "ADA@example.com", "password": goodPassword}, "traits.email", 4000007},
	} {
		t.Run(c.why, func(t *testing.T) {
			res := flows.stranger.postJSON(c.to, c.body).in(t)
			require.Equal(t, http.StatusBadRequest, res.status, res.body)
			require.Equal(t, "no-store", res.header.Get("Cache-Control"))
			messages, _ := res.field("ui.messages").([]any)
			if c.node != "" {
				messages = res.node(c.node)["messages"].([]any)
			}
			require.Len(t, messages, 1, res.body)
			require.EqualValues(t, c.id, messages[0].(map[string]any)["id"])
			require.NotContains(t, res.body, goodPassword)

			form := url.Values{}
			for name, value := range c.body {
				if text, ok := value.(string); ok {
					form.Set(name, text)
				}
			}
			if c.to == flows.api || c.node == "" {
				return // no page of ours sends it
			}
			page := flows.stranger.refusedForm(c.to, form)
			require.Contains(t, page.body, `aria-invalid="true"`)
			require.NotContains(t, page.body, goodPassword)
		})
	}
	identities, err := site.store.Identities.List(t.Context())
	require.NoError(t, err)
	require.Len(t, identities, 1)
}

func TestAccountFormsChangeNothingOnBadInput(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	other := site.signIn("ada@example.com")
	session := other.get("/auth/sessions/whoami").text("id")
	writes := site.writes()
	for _, c := range []struct {
		why, to, form string
		status        int
	}{
		{"no name", "name", "", 400},
		{"an overlong name", "name", "name=" + strings.Repeat("x", 201), 400},
		{"a name that can't be shown", "name", "name=a%00b", 400},
		{"another session's form", "name", "name=Ada&session=" + session, 403},
		{"a session that is none", "name", "name=Ada&session=x", 403},
		{"no password", "password", "new_password=another+good+one", 400},
		{"no new password", "password", "password=" + url.QueryEscape(goodPassword), 400},
		{"a short one", "password", "new_password=short&password=" + url.QueryEscape(goodPassword), 400},
		{"another session's password form", "password", "new_password=another+good+one&session=" + session + "&password=" + url.QueryEscape(goodPassword), 403},
		{"no session's id", "sessions/end/x", "", 400},
		{"an unknown session", "sessions/end/2f1e9b0a-6e0c-4d6e-9a44-0a4a3a1f0d11", "", 404},
		{"this session", "sessions/end/" + ada.get("/auth/sessions/whoami").text("id"), "", 400},
		{"another session's list", "sessions/end/" + session, "session=" + session, 403},
		{"another session's whole list", "sessions/end", "session=" + session, 403},
		{"another session's sign-out", "sign-out-everywhere", "session=" + session, 403},
		{"a return_to that is not allowed", "sign-out-everywhere", "return_to=https://evil.example", 400},
	} {
		for _, as := range []header{asPage, asJSON} {
			res := ada.send(http.MethodPost, "/auth/account/"+c.to, c.form, as, with("Content-Type", typeForm))
			require.Equal(t, c.status, res.status, "%s: %s", c.why, res.body)
			require.NotContains(t, res.body, goodPassword)
		}
	}
	require.Zero(t, writes())
	require.True(t, ada.signedIn() && other.signedIn())

	stranger := site.visitor()
	for _, to := range []string{"name", "password", "sessions/end", "sessions/end/" + session, "sign-out-everywhere"} {
		page := stranger.postForm("/auth/account/"+to, url.Values{"name": {"Eve"}})
		require.Equal(t, http.StatusSeeOther, page.status)
		require.Equal(t, "/auth/login?return_to=%2Fauth%2Faccount", page.header.Get("Location"))
		stranger.postJSON("/auth/account/"+to, map[string]string{"name": "Eve"}).requireError(http.StatusUnauthorized, "session_inactive")
	}
	require.Zero(t, writes())
}
