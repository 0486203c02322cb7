package app_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestErrorsComeInTheFormThatIsPreferred(t *testing.T) {
	const page, json = "text/html; charset=utf-8", "application/json; charset=utf-8"
	site := newSite(t)
	for _, c := range []struct {
		accept []string
		want   string
	}{
		{nil, json},
		{[]string{""}, json},
		{[]string{"*/*"}, json},
		{[]string{"application/json"}, json},
		{[]string{"application/*"}, json},
		{[]string{"APPLICATION/JSON"}, json},
		{[]string{"text/html"}, page},
		{[]string{"Text/HTML"}, page},
		{[]string{"text/*"}, page},
		{[]string{"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"}, page}, // a browser
		{[]string{"application/json, text/plain, */*"}, json},                                                     // axios
		{[]string{"text/html, application/json"}, json},                                                           // as much as each other
		{[]string{"text/html, application/json;q=0.9"}, page},
		{[]string{"text/html;q=0.9, application/json"}, json},
		{[]string{"text/html;q=0.5, */*;q=0.1"}, page},
		{[]string{"text/html;q=0.1, */*;q=0.5"}, json},
		{[]string{"text/*;q=0.3, text/html;q=0.7, */*;q=0.5"}, page},
		{[]string{"*/*, application/json;q=0"}, page},
		{[]string{"*/*, text/html;q=0"}, json},
		{[]string{"text/html;q=0"}, json},
		{[]string{"text/html;q=0.000, application/json;q=0"}, json},
		{[]string{"application/json;q=0.001", "text/html;q=0.002"}, page},
		{[]string{"image/png", "text/html"}, page},
		{[]string{"image/png"}, json},
		{[]string{"text/html ; q=1.0 , application/json;q=0.2"}, page},
		{[]string{"text/html;level=1"}, page},
		{[]string{"text/html;q=2"}, json},
		{[]string{"text/html;q=-1"}, json},
		{[]string{"text/html;q=x"}, json},
		{[]string{"text/html;q=NaN"}, json},
		{[]string{"text/html;q=NaN, application/json;q=0.1"}, json},
		{[]string{"application/json;q=NaN, text/html;q=0.1"}, page},
		{[]string{"text/html;q=0.5;q=1"}, json}, // can't be read
		{[]string{"text"}, json},
		{[]string{";;;,,,/"}, json},
		{[]string{"\xff\xfe"}, json},
		{[]string{";;, text/html"}, page},
		{[]string{strings.Repeat("a/b,", 5000) + "text/html"}, page},
	} {
		accept := func(h http.Header) { h["Accept"] = c.accept }
		res := site.visitor().get("/nothing", accept)
		res.requireError(http.StatusNotFound, "")
		require.Equal(t, c.want, res.header.Get("Content-Type"), "%.100q", c.accept)
	}
}

func TestWhoSendsJSONGetsJSON(t *testing.T) {
	site := newSite(t)
	for _, contentType := range []string{"application/json", "application/json; charset=utf-8", "Application/JSON"} {
		res := site.visitor().send(http.MethodPost, "/auth/self-service/login?flow=x", "{}", asPage, with("Content-Type", contentType))
		res.requireError(http.StatusNotFound, "")
		require.Equal(t, "application/json; charset=utf-8", res.header.Get("Content-Type"))
	}
	for _, contentType := range []string{"", "text/plain", "application/jsonp", "application/x-www-form-urlencoded", "a b c"} {
		res := site.visitor().send(http.MethodPost, "/nothing", "{}", asPage, with("Content-Type", contentType))
		res.requireError(http.StatusNotFound, "")
		require.Equal(t, "text/html; charset=utf-8", res.header.Get("Content-Type"))
	}
}

func TestJSONEndpointsAnswerInJSONWhateverIsAskedFor(t *testing.T) {
	site := newSite(t)
	for path, status := range map[string]int{"/auth/sessions/whoami": 401, "/auth/sessions": 401, "/auth/self-service/logout/browser": 401,
		"/auth/self-service/login/flows?id=x": 404, "/auth/self-service/registration/flows?id=x": 404, "/auth/self-service/registration/api": 403} {
		res := site.visitor().open(path)
		require.Equal(t, status, res.status)
		require.Equal(t, status, int(res.field("error.code").(float64)))
	}
	site.visitor().delete("/auth/self-service/logout/api", "", asPage).requireError(http.StatusBadRequest, "")
	for _, path := range []string{"/auth/sessions", "/auth/sessions/x"} {
		res := site.visitor().delete(path, "", asPage)
		res.requireError(http.StatusUnauthorized, "session_inactive")
		require.Equal(t, "application/json; charset=utf-8", res.header.Get("Content-Type"))
	}
}
