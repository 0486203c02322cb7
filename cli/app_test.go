package cli

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

func TestAppCommands(t *testing.T) {
	m := kit.NewMachine(t)
	m.AddUser("ada@example.com")
	s, w := m.Start(), kit.NewReceiver(t)
	require.Contains(t, m.Do("", "app", "add", "wiki", w.URL), "wiki will be notified of every session that ends")
	require.Regexp(t, `(?m)^wiki +`+regexp.QuoteMeta(w.URL)+` +both +\d{4}-\d\d-\d\d$`, m.Do("", "app", "list"))

	w.SetStatus(http.StatusServiceUnavailable)
	m.Do("", "session", "end", "--user=ada@example.com") // there is none to be notified of
	token := s.SignIn("ada@example.com")
	m.Do("", "session", "end", "--user=ada@example.com") // in another process than the server
	s.Await("a first attempt", func() bool { return len(w.Tokens()) > 0 })
	s.Await("its note", func() bool { return strings.Contains(m.Run("", "app", "deliveries", "wiki").Stdout, "503") })
	log := m.Do("", "app", "deliveries")
	require.Regexp(t, `(?m)^[0-9a-f-]{36} +wiki +[0-9a-f-]{36} +operator +\S+Z +pending +\d +\S+Z +503 Service Unavailable$`, log)
	require.NotContains(t, log, token)
	require.Empty(t, m.Run("", "app", "deliveries", "--state=delivered").Stdout)

	w.SetStatus(http.StatusOK)
	id := regexp.MustCompile(`(?m)^[0-9a-f-]{36}`).FindString(log)
	require.Equal(t, id+" is due now.\n", m.Do("", "app", "retry", id))
	s.Await("its delivery", func() bool {
		return strings.Contains(m.Run("", "app", "deliveries", "--state=delivered").Stdout, "wiki")
	})
	require.Equal(t, "Deliveries that are due now: 0.\n", m.Do("", "app", "retry", "--app=wiki"))

	require.Equal(t, "wiki is no longer notified.\n", m.Do("", "app", "remove", "wiki"))
	require.NotContains(t, m.Run("", "app", "list").Stdout, "wiki")
	require.NotContains(t, m.Run("", "app", "deliveries").Stdout, "wiki")
}

func TestAppTest(t *testing.T) {
	m := kit.NewMachine(t)
	m.AddUser("ada@example.com")
	w := kit.NewReceiver(t)
	m.Do("", "app", "add", "wiki", w.URL, "--send=sub")
	m.Env = append(m.Env, "BASE_URL=https://login.example.com")

	require.Equal(t, "wiki accepted it: 200 OK (issuer https://login.example.com).\n", m.Do("", "app", "test", "wiki"))

	require.Equal(t, "https://login.example.com", w.Tokens()[0]["iss"])
	require.NotContains(t, w.Tokens()[0], "sid")
	w.SetStatus(http.StatusBadRequest)
	require.Contains(t, m.Refuse("", "app", "test", "wiki"), "wiki did not accept it: 400 Bad Request")
	m.Env = append(m.Env, "APPS_PUBLIC_ONLY=true")
	require.Contains(t, m.Refuse("", "app", "test", "wiki"), "isn't a public address")
}

func TestAppRefusals(t *testing.T) {
	m := kit.NewMachine(t)
	m.AddUser("ada@example.com")
	m.Do("", "app", "add", "wiki", "https://wiki.example.com/signed-out")
	for _, c := range []struct {
		args   []string
		reason string
	}{
		{[]string{"add", "wiki", "https://wiki.example.com/"}, "there already is an app wiki"},
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
		require.Contains(t, m.Refuse("", append([]string{"app"}, c.args...)...), c.reason)
	}
	require.Equal(t, 1, strings.Count(m.Do("", "app", "list"), "https://"))
}
