package app_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"latchkey/app/config"

	"github.com/stretchr/testify/require"
)

// wide is a site on which every endpoint is open.
func wide(c *config.Config) { c.Registration = "open" }

// requireError checks that the answer is the documented error, said once: as errorGeneric or as a
// page, never cached, with its request id.
func (r answer) requireError(status int, id string) {
	r.t.Helper()
	require.Equal(r.t, status, r.status, r.body)
	require.Equal(r.t, "no-store", r.header.Get("Cache-Control"))
	request := r.header.Get("X-Request-Id")
	require.Regexp(r.t, `^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`, request)
	if strings.HasPrefix(r.header.Get("Content-Type"), "text/html") {
		require.Equal(r.t, "text/html; charset=utf-8", r.header.Get("Content-Type"))
		require.True(r.t, strings.HasPrefix(r.body, "<!doctype html>"), r.body)
		require.Regexp(r.t, `role="alert"|<h1 tabindex="-1" autofocus`, r.body)
		require.Contains(r.t, r.body, "</html>")
		return
	}
	require.Equal(r.t, "application/json; charset=utf-8", r.header.Get("Content-Type"))
	if status == http.StatusBadRequest && id == "" && r.member("ui") != nil { // the flow says it
		require.Equal(r.t, "error", r.text("ui.messages.0.type"))
		require.NotEmpty(r.t, r.text("ui.messages.0.context.reason"))
		return
	}
	require.EqualValues(r.t, status, r.field("error.code"))
	require.Equal(r.t, http.StatusText(status), r.text("error.status"))
	require.Equal(r.t, request, r.text("error.request"))
	require.NotEmpty(r.t, r.text("error.message"))
	require.NotEmpty(r.t, r.text("error.reason"))
	if got, _ := r.field("error.id").(string); got != id {
		require.Equal(r.t, id, got, r.body)
	}
	require.NotContains(r.t, r.body, `"debug"`)
}

// in returns the answer for a subtest to look at.
func (r answer) in(t *testing.T) answer {
	r.t = t
	return r
}

// raw sends bytes that net/http's client would not, and returns what comes back for method.
func (s *site) raw(method, request string) answer {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	require.NoError(s.t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, request)
	require.NoError(s.t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	require.NoError(s.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(s.t, err)
	return answer{t: s.t, status: res.StatusCode, header: res.Header, body: string(body)}
}

// paths returns every path of the site with the methods it has.
func (s *site) paths() map[string][]string {
	paths := map[string][]string{}
	for _, route := range s.app.Routes() {
		path := strings.NewReplacer(":id", "2f1e9b0a-6e0c-4d6e-9a44-0a4a3a1f0d11", "*name", "none.css").Replace(route.Path)
		paths[path] = append(paths[path], route.Method)
	}
	// The route of /auth/sessions/{id} takes them for an id.
	paths["/auth/sessions/events"] = append(paths["/auth/sessions/events"], http.MethodDelete)
	return paths
}

func TestMethodsThatAPathDoesNotHaveAreRefused(t *testing.T) {
	site := newSite(t, wide)
	ada := site.signUp("ada@example.com")
	writes := site.writes()
	for path, has := range site.paths() {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get", "X"} {
			if slices.Contains(has, method) {
				continue
			}
			page := ada.send(method, path, "", asPage)
			if method == http.MethodGet && page.status == http.StatusSeeOther {
				require.Equal(t, []string{http.MethodPost}, has, "only from a form to its page")
				require.Regexp(t, "^/auth/(login|registration|account|signed-out)$", page.header.Get("Location"), path)
				continue
			}
			require.Equal(t, http.StatusMethodNotAllowed, page.status, "%s %s", method, path)
			require.ElementsMatch(t, has, strings.Split(page.header.Get("Allow"), ", "), path)
			if method == "HEAD" {
				require.Empty(t, page.body)
				continue
			}
			page.requireError(http.StatusMethodNotAllowed, "")
			ada.send(method, path, "", asJSON).requireError(http.StatusMethodNotAllowed, "")
		}
	}
	require.Zero(t, writes())
	require.True(t, ada.signedIn())
}

func TestHeadAnswersLikeGetAndDoesNothing(t *testing.T) {
	site := newSite(t, wide)
	ada := site.signUp("ada@example.com")
	writes := site.writes()
	for path, has := range site.paths() {
		if !slices.Contains(has, http.MethodHead) {
			continue
		}
		for _, v := range []*visitor{ada, site.visitor()} {
			head, get := v.send(http.MethodHead, path, "", asPage), v.get(path, asPage)
			require.Equal(t, get.status, head.status, path)
			require.Equal(t, get.header.Get("Content-Type"), head.header.Get("Content-Type"), path)
			require.Empty(t, head.body, path)
		}
	}
	require.Zero(t, writes())
}

func TestUnknownPathsAreNotFound(t *testing.T) {
	ada := newSite(t).signUp("ada@example.com")
	for _, path := range []string{"/x", "/auth/x", "/auth/login/", "//auth/login", "/AUTH/LOGIN", "/auth/self-service", "/auth/self-service/logout/",
		"/auth/self-service/login/browser/", "/auth/sessions/", "/auth/../auth/x", "/auth/static", "/auth/%00", "/auth/login%2f", "/auth/favicon.ico", "/.well-known/x", "/auth/sessions/a%2Fb", "/%ff%fe", "/." + strings.Repeat("/x", 500)} {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			for _, as := range []header{asPage, asJSON} {
				ada.send(method, path, "", as).requireError(http.StatusNotFound, "")
			}
		}
	}
	for _, name := range []string{"", "x", "../openapi.json", "%2e%2e/%2e%2e/etc/passwd", "latchkey.css"} {
		ada.get("/auth/static/"+name, asPage).requireError(http.StatusNotFound, "")
	}
}

func TestOverlongRequestsAreRefused(t *testing.T) {
	site := newSite(t, wide)
	ada := site.signUp("ada@example.com")
	long := strings.Repeat("x", 50<<10) // more than net/http reads is for it to refuse
	writes := site.writes()
	for path, has := range site.paths() {
		for _, method := range has {
			if method == http.MethodHead {
				continue
			}
			ada.send(method, path+"?return_to="+long, "", asPage).requireError(http.StatusRequestURITooLong, "")
			ada.send(method, path, "", asJSON, with("Cookie", "latchkey_session="+long)).requireError(http.StatusRequestHeaderFieldsTooLarge, "")
		}
	}
	ada.get("/"+long, asJSON).requireError(http.StatusRequestURITooLong, "")
	ada.get("/auth/login", asPage, with("X-Long", long)).requireError(http.StatusRequestHeaderFieldsTooLarge, "")
	ada.get("/auth/sessions/whoami", with("Host", long)).requireError(http.StatusRequestHeaderFieldsTooLarge, "")
	require.Zero(t, writes())
	require.True(t, ada.signedIn())
}

func TestOverlongBodiesAreRefused(t *testing.T) {
	site := newSite(t, wide)
	ada := site.signUp("ada@example.com")
	flows := site.flows()
	long := strings.Repeat("x", 1<<20)
	writes := site.writes()
	for _, to := range []string{flows.login, flows.api, flows.registration,
		"/auth/account/name", "/auth/account/password", "/auth/account/sessions/end", everywhere} {
		v := flows.visitorFor(to, ada)
		res := v.postForm(to, url.Values{"name": {long}, "identifier": {long}})
		if v == flows.stranger && to != flows.api {
			require.Contains(t, v.shownAfter(res).body, "What you entered is too long.")
		} else {
			res.requireError(http.StatusRequestEntityTooLarge, "")
		}
		flows.visitorFor(to, ada).postJSON(to, map[string]string{"name": long}).requireError(http.StatusRequestEntityTooLarge, "")
	}
	ada.delete("/auth/self-service/logout/api", `{"session_token": "`+long+`"}`, with("Content-Type", "application/json")).
		requireError(http.StatusRequestEntityTooLarge, "")
	require.Zero(t, writes())
}

// flowURLs are where the forms of open flows go, with the stranger who opened those of a browser.
type flowURLs struct {
	stranger                 *visitor
	login, api, registration string
	csrfToken                string
}

func (s *site) flows() flowURLs {
	s.t.Helper()
	v := s.visitor()
	login := v.get("/auth/self-service/login/browser", asJSON)
	return flowURLs{stranger: v, csrfToken: login.csrfToken(), login: login.text("ui.action"),
		api:          v.get("/auth/self-service/login/api").text("ui.action"),
		registration: v.get("/auth/self-service/registration/browser", asJSON).text("ui.action")}
}

// visitorFor returns who can submit to a URL: the stranger for a flow, else the person.
func (f flowURLs) visitorFor(to string, person *visitor) *visitor {
	if strings.HasPrefix(to, "/auth/account") {
		return person
	}
	return f.stranger
}

func TestQueriesThatCanNotBeReadAreRefused(t *testing.T) {
	site := newSite(t, wide)
	ada := site.signUp("ada@example.com")
	writes := site.writes()
	for _, path := range []string{"/auth/self-service/login/browser", "/auth/self-service/login/api", "/auth/self-service/login/flows",
		"/auth/self-service/registration/browser", "/auth/self-service/registration/api", "/auth/self-service/registration/flows",
		"/auth/self-service/logout/browser", "/auth/self-service/logout", "/auth/login", "/auth/registration", "/auth/logout", "/auth/sessions"} {
		for _, query := range []string{"return_to=%zz", "id=%", "a;b", "return_to=/x;y=z", "page_size=1;2", "%ff=%f"} {
			for _, as := range []header{asPage, asJSON} {
				ada.get(path+"?"+query, as).requireError(http.StatusBadRequest, "")
			}
		}
	}
	for _, path := range []string{"/auth/self-service/login", "/auth/self-service/registration"} {
		for _, query := range []string{"", "?flow=", "?flow=a&flow=b", "?flow=%zz", "?flow=a;b", "?id=x"} {
			ada.send(http.MethodPost, path+query, "", asJSON, with("Content-Type", typeForm)).requireError(http.StatusBadRequest, "")
			require.Contains(t, site.visitor().refusedForm(path+query, nil).body, "Something is missing or wrong in what your browser sent.")
		}
	}
	for _, path := range []string{"/auth/self-service/login/flows", "/auth/self-service/registration/flows"} {
		for _, query := range []string{"", "?id=", "?id=a&id=b", "?flow=x"} {
			ada.get(path+query, asPage).requireError(http.StatusBadRequest, "")
		}
	}
	require.Zero(t, writes())
}

func TestRequestsThatHTTPForbidsNeverReachLatchkey(t *testing.T) {
	site := newSite(t)
	// net/http answers these itself, with a line of text: nothing of Latchkey has run.
	for _, request := range []string{"GET\r\n\r\n", "GET /auth/%zz HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET /auth/login HTTP/1.1\r\n\r\n",
		"GET /auth/login HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET /auth/login HTTP/1.1\r\nHost: a b\r\n\r\n",
		"GET /auth/login HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n", "GET /auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
		"G(T /auth/login HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET auth/login HTTP/1.1\r\nHost: localhost\r\n\r\n"} {
		res := site.raw("GET", request)
		require.Equal(t, http.StatusBadRequest, res.status, "%q", request)
		require.Empty(t, res.header.Get("X-Request-Id"), "%q", request)
	}
	// These are odd, but requests.
	site.raw("CONNECT", "CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").requireError(http.StatusNotFound, "")
	site.raw("GET", "GET http://evil.example/auth/login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").requireError(http.StatusMisdirectedRequest, "")
	site.raw("GET", "GET /auth/login HTTP/1.0\r\n\r\n").requireError(http.StatusMisdirectedRequest, "")
	site.raw("FOO", "FOO * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").requireError(http.StatusNotFound, "")
}

func TestBodyThatBreaksOffIsRefused(t *testing.T) {
	site := newSite(t, wide)
	flow := strings.TrimPrefix(site.flows().api, site.url)
	for _, body := range []string{"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "Transfer-Encoding: chunked\r\n\r\n5\r\nabcdefgh\r\n0\r\n\r\n"} {
		site.raw("POST", fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n%s", flow, body)).
			requireError(http.StatusBadRequest, "")
	}
}
