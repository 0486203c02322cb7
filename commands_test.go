package main

import (
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/gofrs/uuid/v5"
	"github.com/stretchr/testify/require"

	"latchkey/models"
)

func TestUserAdd(t *testing.T) {
	m := newMachine(t)
	s := m.start()

	require.Equal(t, "ada@example.com can sign in now.\n", m.do(goodPassword+"\n", "user", "add", "Ada@Example.com", "--name=Ada"))

	s.signIn("ada@example.com")
	require.Regexp(t, `(?m)^ada@example\.com +Ada +active +\d{4}-\d\d-\d\d$`, m.do("", "user", "list"))
}

func TestUserAddTakesTheLineAsItIs(t *testing.T) {
	m := newMachine(t)
	s := m.start()
	for address, piped := range map[string]string{
		"unix@example.com":    "  two  spaces  \n",
		"windows@example.com": "  two  spaces  \r\n",
		"printf@example.com":  "  two  spaces  ",
		"more@example.com":    "  two  spaces  \nanother line\n",
	} {
		m.do(piped, "user", "add", address)
		require.Equal(t, http.StatusOK, s.tryLogin(address, "  two  spaces  ").status, address)
	}
	longest := strings.Repeat("vast", 1024/4)
	m.do(longest+"\r\n", "user", "add", "long@example.com")
	require.Equal(t, http.StatusOK, s.tryLogin("long@example.com", longest).status)
}

func TestUserAddRefusals(t *testing.T) {
	m := newMachine(t)
	m.addUser("ada@example.com")
	for _, c := range []struct{ password, address, reason string }{
		{"", "bob@example.com", "has 0 of at least 8 characters"},
		{"short", "bob@example.com", "has 5 of at least 8 characters"},
		{"password1", "bob@example.com", "one of the most used"},
		{"hello bob@example.com", "bob@example.com", "contains a part of your name or address"},
		{"latchkey rocks", "bob@example.com", "this site's name"},
		{strings.Repeat("vast", 1024/4) + "x", "bob@example.com", "too long"},
		{"bad \xff bytes", "bob@example.com", "bytes that are no text"},
		{goodPassword, "bob", "not an email address"},
		{goodPassword, "bob@example.com\x1b[2J", "not an email address"},
		{goodPassword, "ADA@example.com", "has an account already"},
	} {
		require.Contains(t, m.refuse(c.password+"\n", "user", "add", c.address), c.reason)
	}
	require.Contains(t, m.refuse(goodPassword, "user", "add", "bob@example.com", "--name=Bob\x1b[2J"), "can't be shown")
	require.Equal(t, 1, strings.Count(m.do("", "user", "list"), "@"), "nobody was added")
}

func TestDisabledIsOutAtOnce(t *testing.T) {
	m := newMachine(t)
	m.addUser("ada@example.com")
	m.addUser("bob@example.com")
	s := m.start()
	ada, bob := s.signIn("ada@example.com"), s.signIn("bob@example.com")

	m.do("", "user", "disable", "Ada@example.com")

	require.Equal(t, http.StatusUnauthorized, s.whoami(ada))
	require.Equal(t, http.StatusOK, s.whoami(bob))
	require.Equal(t, http.StatusBadRequest, s.tryLogin("ada@example.com", goodPassword).status)
	require.Regexp(t, `(?m)^ada@example\.com .* disabled `, m.do("", "user", "list"))

	m.do("", "user", "enable", "ada@example.com")

	require.Equal(t, http.StatusUnauthorized, s.whoami(ada), "what has ended stays so")
	require.Equal(t, http.StatusOK, s.whoami(s.signIn("ada@example.com")))
}

func TestDeletedIsOutAtOnce(t *testing.T) {
	m := newMachine(t)
	m.addUser("ada@example.com")
	s := m.start()
	ada := s.signIn("ada@example.com")

	m.do("", "user", "delete", "ada@example.com")

	require.Equal(t, http.StatusUnauthorized, s.whoami(ada))
	require.Equal(t, http.StatusBadRequest, s.tryLogin("ada@example.com", goodPassword).status)
	m.addUser("ada@example.com")
	require.Equal(t, http.StatusUnauthorized, s.whoami(ada), "it is another account of the same address")
}

func TestNewPasswordEndsSessions(t *testing.T) {
	m := newMachine(t)
	m.addUser("ada@example.com")
	s := m.start()
	ada := s.signIn("ada@example.com")
	s.signIn("ada@example.com")
	m.refuse("short", "user", "password", "ada@example.com")
	require.Equal(t, http.StatusOK, s.whoami(ada), "nothing has changed")

	require.Equal(t, "ada@example.com has a new password; sessions ended: 2.\n",
		m.do("another good one", "user", "password", "ada@example.com"))

	require.Equal(t, http.StatusUnauthorized, s.whoami(ada))
	require.Equal(t, http.StatusBadRequest, s.tryLogin("ada@example.com", goodPassword).status)
	require.Equal(t, http.StatusOK, s.tryLogin("ada@example.com", "another good one").status)
}

func TestGroups(t *testing.T) {
	m := newMachine(t)
	m.addUser("ada@example.com")

	require.Equal(t, "ada@example.com is in staff.\n", m.do("", "user", "group", "add", "Ada@example.com", "staff"))
	require.Equal(t, "ada@example.com is in editors, lab, staff.\n", m.do("", "user", "group", "add", "ada@example.com", "lab", "editors", "staff", "lab"))
	require.Regexp(t, `(?m)^ada@example\.com +active +editors,lab,staff +\d{4}-\d\d-\d\d$`, m.do("", "user", "list"))
	require.Equal(t, "ada@example.com is in editors.\n", m.do("", "user", "group", "remove", "ada@example.com", "staff", "lab", "staff"))
	require.Equal(t, "ada@example.com is in no group.\n", m.do("", "user", "group", "remove", "ada@example.com", "editors"))
}

func TestGroupRefusals(t *testing.T) {
	m := newMachine(t)
	m.addUser("ada@example.com")
	m.do("", "user", "group", "add", "ada@example.com", "staff")
	for _, name := range []string{"Staff", "a b", "a,b", "", "-a", "a\x1b[2J", strings.Repeat("a", 65)} {
		require.Contains(t, m.refuse("", "user", "group", "add", "--", "ada@example.com", "lab", name), "can't be a group")
	}
	require.Contains(t, m.refuse("", "user", "group", "remove", "ada@example.com", "staff", "lab\x1b"), `ada@example.com is not in "lab\x1b"`)
	require.Contains(t, m.refuse("", "user", "group", "add", "ada@example.com"), "<group>")
	require.Contains(t, m.do("", "user", "list"), " staff ", "nothing has changed")
}

// Who may use an app follows the commands from the next request on.
func TestGroupsOpenAnAppAtOnce(t *testing.T) {
	m := newMachine(t)
	m.env = append(m.env, "ACCESS=wiki.example.com=staff", "TRUSTED_PROXIES=127.0.0.1,::1")
	m.addUser("ada@example.com")
	s := m.start()
	ada := s.signIn("ada@example.com")
	verify := func() int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/auth/verify", nil)
		require.NoError(t, err)
		req.Header.Set("X-Forwarded-Host", "wiki.example.com")
		req.AddCookie(&http.Cookie{Name: "latchkey_session", Value: ada})
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		return res.StatusCode
	}

	require.Equal(t, http.StatusForbidden, verify())
	m.do("", "user", "group", "add", "ada@example.com", "staff")
	require.Equal(t, http.StatusOK, verify())
	m.do("", "user", "group", "remove", "ada@example.com", "staff")
	require.Equal(t, http.StatusForbidden, verify())
}

func TestUnknownPeople(t *testing.T) {
	m := newSQLiteMachine(t)
	require.Contains(t, m.refuse("", "session", "end", "--all"), "there is no database at", "nothing is made of a wrong path")
	m.do(goodPassword, "user", "add", "ada@example.com")
	for _, command := range [][]string{
		{"user", "disable", "bob@example.com"}, {"user", "enable", "bob@example.com"}, {"user", "delete", "bob@example.com"},
		{"user", "password", "bob@example.com"}, {"session", "end", "--user=bob@example.com"}, {"session", "list", "--user=bob@example.com"},
		{"user", "activity", "bob@example.com"},
		{"user", "group", "add", "bob@example.com", "staff"}, {"user", "group", "remove", "bob@example.com", "staff"},
	} {
		require.Contains(t, m.refuse(goodPassword, command...), "there is no account for bob@example.com; 'latchkey user list' lists them", command)
	}
}

func TestSessionList(t *testing.T) {
	m := newMachine(t)
	m.addUser("ada@example.com")
	m.addUser("bob@example.com")
	s := m.start()
	ended := s.signIn("bob@example.com")
	s.signIn("ada@example.com")
	s.signIn("bob@example.com")
	s.logout(ended)

	all, ofBob := m.do("", "session", "list"), m.do("", "session", "list", "--user=Bob@example.com")

	require.Regexp(t, `^ID +ADDRESS +DEVICE +FROM +SIGNED IN +LAST SEEN\n`, all)
	require.Regexp(t, `(?m)^[0-9a-f-]{36} +ada@example\.com +Go-http-client +(127\.0\.0\.1|::1) +\S+Z +\S+Z$`, all)
	require.Len(t, sessionIDs(all), 2)
	require.Len(t, sessionIDs(ofBob), 1)
}

// sessionIDs returns the first column of 'session list'.
func sessionIDs(listed string) (ids []string) {
	for line := range strings.Lines(listed) {
		if id := strings.Fields(line)[0]; id != "ID" {
			ids = append(ids, id)
		}
	}
	return ids
}

// What a stranger calls their browser must not steer the operator's terminal.
func TestSessionListIsSafeToPrint(t *testing.T) {
	m := newSQLiteMachine(t)
	m.addUser("mallory@example.com")
	store := models.New(m.open(), time.Now)
	mallory, err := store.Identities.ByEmail(t.Context(), "mallory@example.com")
	require.NoError(t, err)
	hash, err := store.Identities.PasswordHash(t.Context(), mallory.ID)
	require.NoError(t, err)
	for _, userAgent := range []string{
		"Evil\x1b]0;owned\x07/1.0", "Evil\x1b[2J (X11; Linux\x1b[31m x86_64)", "Evil\u009b2J/1.0", "Evil\u202egnorw/1.0",
		"Mozilla/5.0 (X11; Linux x86_64\x1b[2J) Firefox\x1b[2J/140.0\n00000000-0000-0000-0000-000000000000 root@example.com", "\xff\xfe\x9b2J",
	} {
		_, err := store.Sessions.Start(t.Context(), models.SignIn{Identity: mallory, PasswordHash: hash,
			UserAgent: userAgent, IPAddress: "203.0.113.7", Lifetime: time.Hour, Idle: time.Hour})
		require.NoError(t, err)
	}

	listed := m.do("", "session", "list")

	require.Equal(t, 7, strings.Count(listed, "\n"), listed)
	require.NotContains(t, listed, "root@example.com")
	for _, r := range listed {
		require.True(t, r == '\n' || unicode.IsPrint(r) && r != unicode.ReplacementChar, "%q", listed)
	}
}

func TestUserActivity(t *testing.T) {
	m := newMachine(t)
	m.addUser("ada@example.com")
	m.addUser("bob@example.com")
	require.Equal(t, "TIME  WHAT  DEVICE  FROM\n", m.do("", "user", "activity", "ada@example.com"))
	s := m.start()
	ada := s.signIn("ada@example.com")
	s.signIn("bob@example.com")
	s.logout(ada)
	for range 2 {
		require.Equal(t, http.StatusBadRequest, s.tryLogin("ada@example.com", "wrong password").status)
	}
	listed := ""
	s.await("the failures", func() bool {
		listed = m.do("", "user", "activity", "Ada@example.com")
		return strings.Contains(listed, "2 failed")
	})

	lines := strings.Split(strings.TrimSpace(listed), "\n")
	require.Len(t, lines, 4)
	for i, want := range []string{"TIME +WHAT +DEVICE +FROM", "2 failed sign-ins", "Signed out", "Signed in"} {
		if i > 0 {
			want = `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ +` + want + ` +Go-http-client +(127\.0\.0\.1|::1)`
		}
		require.Regexp(t, "^"+want+"$", lines[i])
	}
	require.Equal(t, 2, strings.Count(m.do("", "user", "activity", "--limit=1", "ada@example.com"), "\n"))
	require.Contains(t, m.refuse("", "user", "activity", "--limit=0", "ada@example.com"), "must be 1 or more")
}

func TestUserActivityIsSafeToPrint(t *testing.T) {
	m := newSQLiteMachine(t)
	m.addUser("ada@example.com")
	store := models.New(m.open(), time.Now)
	ada, err := store.Identities.ByEmail(t.Context(), "ada@example.com")
	require.NoError(t, err)
	for _, userAgent := range []string{"Evil\x1b]0;owned\x07/1.0", "Evil\u009b2J/1.0", "Evil\u202egnorw/1.0", "A\n2026-11-22T09:00:00Z  Signed in", "\xff\xfe\x9b2J"} {
		require.NoError(t, store.Activities.NoteFailure(t.Context(), models.Failure{IdentityID: ada.ID, LastAt: time.Now(),
			IPAddress: "203.0.113.7", UserAgent: userAgent}))
	}

	listed := m.do("", "user", "activity", "ada@example.com")

	require.Equal(t, 6, strings.Count(listed, "\n"), listed)
	for _, r := range listed {
		require.True(t, r == '\n' || unicode.IsPrint(r) && r != unicode.ReplacementChar, "%q", listed)
	}
}

func TestSessionEnd(t *testing.T) {
	m := newMachine(t)
	m.addUser("ada@example.com")
	m.addUser("bob@example.com")
	s := m.start()
	ada, bob, bobToo := s.signIn("ada@example.com"), s.signIn("bob@example.com"), s.signIn("bob@example.com")
	ids := sessionIDs(m.do("", "session", "list", "--user=ada@example.com"))

	require.Equal(t, ids[0]+" has ended.\n", m.do("", "session", "end", ids[0]))
	require.Equal(t, http.StatusUnauthorized, s.whoami(ada))
	require.Equal(t, http.StatusOK, s.whoami(bob))
	m.do("", "session", "end", ids[0]) // it has ended, which is what was asked for

	require.Equal(t, "Sessions ended: 2.\n", m.do("", "session", "end", "--user=bob@example.com"))
	require.Equal(t, http.StatusUnauthorized, s.whoami(bob))
	require.Equal(t, http.StatusUnauthorized, s.whoami(bobToo))

	ada, bob = s.signIn("ada@example.com"), s.signIn("bob@example.com")
	require.Equal(t, "Sessions ended: 2.\n", m.do("", "session", "end", "--all"))
	require.Equal(t, http.StatusUnauthorized, s.whoami(ada))
	require.Equal(t, http.StatusUnauthorized, s.whoami(bob))
}

func TestSessionEndRefusals(t *testing.T) {
	m := newMachine(t)
	m.addUser("ada@example.com")
	s := m.start()
	ada := s.signIn("ada@example.com")
	id := sessionIDs(m.do("", "session", "list"))[0]

	for _, arguments := range [][]string{
		{}, {"--all", "--user=ada@example.com"}, {"--all", id}, {"--user=ada@example.com", id},
	} {
		require.Contains(t, m.refuse("", append([]string{"session", "end"}, arguments...)...),
			"say which sessions to end: ids, or --user ADDRESS, or --all")
	}
	require.Contains(t, m.refuse("", "session", "end", "ada@example.com"), `"ada@example.com" is not the id of a session`)
	require.Contains(t, m.refuse("", "session", "end", uuid.Must(uuid.NewV4()).String()), "there is no session")
	require.Equal(t, http.StatusOK, s.whoami(ada), "nothing was ended")

	require.Contains(t, m.refuse("", "session", "end", id, "nonsense"), `"nonsense" is not the id of a session`)
	require.Equal(t, http.StatusOK, s.whoami(ada), "all or nothing")
}

func TestHealthcheck(t *testing.T) {
	m := newMachine(t)
	port := freePort(t)
	m.env = append(m.env, "LISTEN=", "PORT="+port)
	require.Contains(t, m.refuse("", "healthcheck"), "not ready")
	s := m.start()
	require.Equal(t, "ready\n", m.do("", "healthcheck"))
	s.stop()
	require.Contains(t, m.refuse("", "healthcheck"), "not ready")
}

func TestHealthcheckOfAFailingDatabase(t *testing.T) {
	m := newMachine(t)
	m.env = append(m.env, "LISTEN=", "PORT="+freePort(t))
	m.start()
	require.NoError(t, m.open().Migrator().DropTable("identities"))
	require.Contains(t, m.refuse("", "healthcheck"), "503 Service Unavailable")
}

func TestVersion(t *testing.T) {
	noted := ""
	if info, err := os.Stat(".git"); err == nil && info.IsDir() { // Go does not look into a worktree
		noted = ` of commit [0-9a-f]{40}( with changes since)? at \d{4}-\d\d-\d\dT\S+Z`
	}
	require.Regexp(t, `^latchkey \S+`+noted+`, go1\.\d+\S*\n$`, newMachine(t).do("", "version"))
}

func TestVersionOfAnyBuild(t *testing.T) {
	noted := []debug.BuildSetting{{Key: "vcs.revision", Value: "0123abcd"}, {Key: "vcs.time", Value: "2026-11-22T20:25:58Z"}, {Key: "vcs.modified", Value: "false"}}
	info := &debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Version: "v1.2.3"}, Settings: noted}
	require.Equal(t, "latchkey v1.2.3 of commit 0123abcd at 2026-11-22T20:25:58Z, go1.26.8", describeBuild(info))
	noted[2].Value = "true"
	require.Equal(t, "latchkey v1.2.3 of commit 0123abcd with changes since at 2026-11-22T20:25:58Z, go1.26.8", describeBuild(info))
	require.Equal(t, "latchkey (devel), go1.26.8", describeBuild(&debug.BuildInfo{GoVersion: "go1.26.8"}))
}
