package main

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

// wiki is an app that is told when sessions end.
type wiki struct {
	url string

	pause time.Duration // before it answers

	mu     sync.Mutex
	status int // that it answers
	tokens []jwt.MapClaims
}

func newWiki(t testing.TB) *wiki {
	w := &wiki{status: http.StatusOK}
	server := httptest.NewServer(http.HandlerFunc(func(res http.ResponseWriter, req *http.Request) {
		time.Sleep(w.pause)
		claims := jwt.MapClaims{}
		_, _, err := jwt.NewParser().ParseUnverified(req.FormValue("logout_token"), claims)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.tokens = append(w.tokens, claims)
		if err != nil {
			t.Errorf("not a token: %v", err)
		}
		res.WriteHeader(w.status)
	}))
	t.Cleanup(server.Close)
	w.url = server.URL + "/signed-out"
	return w
}

func (w *wiki) answers(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status = status
}

func (w *wiki) told() []jwt.MapClaims {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tokens
}

func (w *wiki) heardOf(session string) bool {
	for _, claims := range w.told() {
		if claims["sid"] == session {
			return true
		}
	}
	return false
}

func TestAppCommands(t *testing.T) {
	m := newMachine(t)
	m.addUser("ada@example.com")
	s, w := m.start(), newWiki(t)
	require.Contains(t, m.do("", "app", "add", "wiki", w.url), "wiki is told of every session that ends from now on")
	require.Regexp(t, `(?m)^wiki +`+regexp.QuoteMeta(w.url)+` +both +\d{4}-\d\d-\d\d$`, m.do("", "app", "list"))

	w.answers(http.StatusServiceUnavailable)
	m.do("", "session", "end", "--user=ada@example.com") // none: nothing is told
	token := s.signIn("ada@example.com")
	m.do("", "session", "end", "--user=ada@example.com") // by another process than the server
	s.await("a first attempt", func() bool { return len(w.told()) > 0 })
	s.await("its note", func() bool { return strings.Contains(m.do("", "app", "deliveries", "wiki"), "503") })
	log := m.do("", "app", "deliveries")
	require.Regexp(t, `(?m)^[0-9a-f-]{36} +wiki +[0-9a-f-]{36} +operator +\S+Z +pending +\d +\S+Z +503 Service Unavailable$`, log)
	require.NotContains(t, log, token)
	require.NotContains(t, m.do("", "app", "deliveries", "--state=delivered"), "wiki")

	w.answers(http.StatusOK)
	id := regexp.MustCompile(`(?m)^[0-9a-f-]{36}`).FindString(log)
	require.Equal(t, id+" is due now.\n", m.do("", "app", "retry", id))
	s.await("its delivery", func() bool { return strings.Contains(m.do("", "app", "deliveries", "--state=delivered"), "wiki") })
	require.Equal(t, "Deliveries that are due now: 0.\n", m.do("", "app", "retry", "--app=wiki"))

	require.Equal(t, "wiki is told no more.\n", m.do("", "app", "remove", "wiki"))
	require.NotContains(t, m.do("", "app", "list"), "wiki")
	require.NotContains(t, m.do("", "app", "deliveries"), "wiki")
}

func TestAppTest(t *testing.T) {
	m := newMachine(t)
	m.addUser("ada@example.com")
	w := newWiki(t)
	m.do("", "app", "add", "wiki", w.url, "--send=sub")
	m.env = append(m.env, "BASE_URL=https://login.example.com")

	require.Equal(t, "wiki took it: 200 OK (the issuer was https://login.example.com).\n", m.do("", "app", "test", "wiki"))

	require.Equal(t, "https://login.example.com", w.told()[0]["iss"])
	require.NotContains(t, w.told()[0], "sid")
	w.answers(http.StatusBadRequest)
	require.Contains(t, m.refuse("", "app", "test", "wiki"), "wiki did not take it: 400 Bad Request")
	m.env = append(m.env, "APPS_PUBLIC_ONLY=true")
	require.Contains(t, m.refuse("", "app", "test", "wiki"), "not a public address")
}

func TestAppRefusals(t *testing.T) {
	m := newMachine(t)
	m.addUser("ada@example.com")
	m.do("", "app", "add", "wiki", "https://wiki.example.com/signed-out")
	for _, c := range []struct {
		args   []string
		reason string
	}{
		{[]string{"add", "wiki", "https://wiki.example.com/"}, "there is an app wiki already"},
		{[]string{"add", "a wiki", "https://wiki.example.com/"}, "can't be the name of an app"},
		{[]string{"add", "wiki\x1b[2J", "https://wiki.example.com/"}, "can't be the name of an app"},
		{[]string{"add", "notes", "ftp://wiki.example.com/"}, "https:// or http://"},
		{[]string{"add", "notes", "https://wiki.example.com/", "--send=all"}, "--send"},
		{[]string{"remove", "notes"}, `there is no app "notes"`},
		{[]string{"test", "notes"}, `there is no app "notes"`},
		{[]string{"deliveries", "notes"}, `there is no app "notes"`},
		{[]string{"deliveries", "--limit=0"}, "--limit"},
		{[]string{"retry"}, "say which deliveries"},
		{[]string{"retry", "wiki"}, "not the id of a delivery"},
		{[]string{"retry", "3f0c5b1e-5a53-4a0c-9d6b-0c7f3a0b9f11"}, "there is no delivery"},
		{[]string{"retry", "--app=notes"}, `there is no app "notes"`},
	} {
		require.Contains(t, m.refuse("", append([]string{"app"}, c.args...)...), c.reason)
	}
	require.Equal(t, 1, strings.Count(m.do("", "app", "list"), "https://"))
}

func TestKeyCommands(t *testing.T) {
	m := newMachine(t)
	s := m.start()
	kid := func() string {
		found := regexp.MustCompile(`"kid":"([^"]+)"`).FindStringSubmatch(s.get("/auth/.well-known/jwks.json", "").body)
		require.NotNil(t, found)
		return found[1] // of the first, which signs
	}
	first := kid()
	require.Regexp(t, `(?m)^`+regexp.QuoteMeta(first)+` +\S+Z +yes +-$`, m.do("", "key", "list"))

	rotated := m.do("", "key", "rotate")

	require.Equal(t, kid()+" signs from now on.\n", rotated)
	require.NotEqual(t, first, kid())
	require.Regexp(t, `(?m)^`+regexp.QuoteMeta(first)+` +\S+Z +no +\S+Z$`, m.do("", "key", "list"))
	m.do("", "key", "rotate", "--revoke")
	require.Equal(t, 2, strings.Count(m.do("", "key", "list"), "\n"), "the head and one key")
}
