package cli

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"

	"latchkey/models"
	"latchkey/test/kit"
)

func TestUserAdd(t *testing.T) {
	m := kit.NewMachine(t)
	s := m.Start("--registration=open")

	require.Equal(t, "ada@example.com can sign in now.\n", m.Do(kit.GoodPassword+"\n", "user", "add", "Ada@Example.com", "--name=Ada"))

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/auth/verify", nil)
	require.NoError(t, err)
	req.AddCookie(&http.Cookie{Name: "latchkey_session", Value: s.SignIn("ada@example.com")})
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, "ada@example.com", res.Header.Get("Remote-Email"), "an operator has set it")
	require.Regexp(t, `(?m)^ada@example\.com +Ada +active +\d{4}-\d\d-\d\d$`, m.Do("", "user", "list"))
}

func TestSignInWithAUsername(t *testing.T) {
	m := kit.NewMachine(t)
	s := m.Start()
	m.Do(kit.GoodPassword, "user", "add", "ada@example.com", "--username=ada_l", "--name=Ada")
	m.AddUser("bob@example.com")
	require.Regexp(t, `^ADDRESS +USERNAME +NAME +STATE +GROUPS +SINCE\n`, m.Do("", "user", "list"))
	require.Regexp(t, `(?m)^ada@example\.com +ada_l +Ada +active +\d{4}-\d\d-\d\d$`, m.Do("", "user", "list"))
	signsInAs := func(login string) string {
		a := s.Login(login, kit.GoodPassword)
		return a.Text("session", "identity", "traits", "email")
	}

	require.Equal(t, "ada@example.com", signsInAs("ada_l"))
	require.Equal(t, "ada@example.com", signsInAs("ada@example.com"), "the address still works")

	require.Equal(t, "bob@example.com is bob.9-x.\n", m.Do("", "user", "username", "Bob@example.com", "bob.9-x"))
	require.Equal(t, "bob@example.com", signsInAs("bob.9-x"))

	require.Equal(t, "ada@example.com is countess.\n", m.Do("", "user", "username", "ada@example.com", "countess"))
	require.Equal(t, "ada@example.com", signsInAs("countess"))
	require.Equal(t, http.StatusBadRequest, s.Login("ada_l", kit.GoodPassword).Status, "it has another one now")

	require.Equal(t, "bob@example.com is ada_l.\n", m.Do("", "user", "username", "bob@example.com", "ada_l"), "nobody has it any more")
	require.Equal(t, "bob@example.com", signsInAs("ada_l"))

	require.Equal(t, "ada@example.com has no username.\n", m.Do("", "user", "username", "ada@example.com"))
	require.Equal(t, http.StatusBadRequest, s.Login("countess", kit.GoodPassword).Status)
	require.Equal(t, http.StatusBadRequest, s.Login("", kit.GoodPassword).Status, "no username is not the username of those who have none")
	require.Equal(t, "ada@example.com", signsInAs("ada@example.com"))
}

func TestUsernameRefusals(t *testing.T) {
	m := kit.NewMachine(t)
	m.Do(kit.GoodPassword, "user", "add", "ada@example.com", "--username=ada")
	m.AddUser("bob@example.com")
	longest := strings.Repeat("a", 64)
	for _, name := range []string{"b", "Bob", "bob@example.com", "b b", "bøb", "bob\x1b[2J", "bob\n", longest + "a"} {
		require.Contains(t, m.Refuse("", "user", "username", "bob@example.com", name), "Use 2 to 64 lower-case ", "%q", name)
		require.Contains(t, m.Refuse(kit.GoodPassword, "user", "add", "eve@example.com", "--username="+name), "Use 2 to 64 lower-case ", "%q", name)
	}
	require.Contains(t, m.Refuse("", "user", "username", "bob@example.com", "ada"), "the username ada belongs to another account, or looks like one that does")
	require.Contains(t, m.Refuse(kit.GoodPassword, "user", "add", "eve@example.com", "--username=ada"), "the username ada belongs to another account, or looks like one that does")
	listed := m.Do("", "user", "list")
	require.Regexp(t, `(?m)^ada@example\.com +ada +active `, listed)
	require.Regexp(t, `(?m)^bob@example\.com +active `, listed, "nothing has changed")
	require.NotContains(t, listed, "eve@example.com", "nor was anybody added")

	m.Do("", "user", "username", "ada@example.com", "ada") // their own one again is not an error
	m.Do("", "user", "username", "bob@example.com", longest)
}

// Of several people who are given a username at once, one gets it.
func TestUsernameGivenTwiceAtOnce(t *testing.T) {
	m := kit.NewMachine(t)
	results := make([]kit.Result, 4)
	for i := range results {
		m.AddUser(fmt.Sprintf("person%d@example.com", i))
	}
	var all sync.WaitGroup
	for i := range results {
		all.Go(func() { results[i] = m.Run("", "user", "username", fmt.Sprintf("person%d@example.com", i), "root") })
	}
	all.Wait()

	won := 0
	for _, r := range results {
		if r.Code == 0 {
			won++
			continue
		}
		require.Contains(t, m.RequireRefused(r), "the username root belongs to another account")
	}
	require.Equal(t, 1, won)
	require.Equal(t, 1, strings.Count(m.Do("", "user", "list"), " root "))
}

func TestUserAddTakesTheLineAsItIs(t *testing.T) {
	m := kit.NewMachine(t)
	s := m.Start()
	for address, piped := range map[string]string{
		"unix@example.com":    "  two  spaces  \n",
		"windows@example.com": "  two  spaces  \r\n",
		"printf@example.com":  "  two  spaces  ",
		"more@example.com":    "  two  spaces  \nanother line\n",
	} {
		m.Do(piped, "user", "add", address)
		require.Equal(t, http.StatusOK, s.Login(address, "  two  spaces  ").Status, address)
	}
	longest := strings.Repeat("vast", 1024/4)
	m.Do(longest+"\r\n", "user", "add", "long@example.com")
	require.Equal(t, http.StatusOK, s.Login("long@example.com", longest).Status)
}

func TestUserAddRefusals(t *testing.T) {
	m := kit.NewMachine(t)
	m.AddUser("ada@example.com")
	for _, c := range []struct{ password, address, reason string }{
		{"", "bob@example.com", "Choose a password."},
		{"short", "bob@example.com", "has 5 characters, but needs at least 8"},
		{"password1", "bob@example.com", "too common and easy to guess"},
		{"hello bob@example.com", "bob@example.com", "contains part of your name, username or address"},
		{"latchkey rocks", "bob@example.com", "this site's name"},
		{strings.Repeat("vast", 1024/4) + "x", "bob@example.com", "too long"},
		{"bad \xff bytes", "bob@example.com", "bytes that aren't text"},
		{kit.GoodPassword, "bob", "isn't an email address"},
		{kit.GoodPassword, "bob@example.com\x1b[2J", "isn't an email address"},
		{kit.GoodPassword, "ADA@example.com", "already has an account"},
		{kit.GoodPassword, "аda@example.com", "looks like an address that has one"},
	} {
		require.Contains(t, m.Refuse(c.password+"\n", "user", "add", c.address), c.reason)
	}
	require.Contains(t, m.Refuse(kit.GoodPassword, "user", "add", "bob@example.com", "--name=Bob\x1b[2J"), "can't be shown")
	require.Equal(t, 1, strings.Count(m.Do("", "user", "list"), "@"), "nobody was added")
}

func TestDisabledIsOutAtOnce(t *testing.T) {
	m := kit.NewMachine(t)
	m.AddUser("ada@example.com")
	m.AddUser("bob@example.com")
	s := m.Start()
	ada, bob := s.SignIn("ada@example.com"), s.SignIn("bob@example.com")

	m.Do("", "user", "disable", "Ada@example.com")

	require.Equal(t, http.StatusUnauthorized, s.Whoami(ada))
	require.Equal(t, http.StatusOK, s.Whoami(bob))
	require.Equal(t, http.StatusBadRequest, s.Login("ada@example.com", kit.GoodPassword).Status)
	require.Regexp(t, `(?m)^ada@example\.com .* disabled `, m.Do("", "user", "list"))

	m.Do("", "user", "enable", "ada@example.com")

	require.Equal(t, http.StatusUnauthorized, s.Whoami(ada), "what has ended stays so")
	require.Equal(t, http.StatusOK, s.Whoami(s.SignIn("ada@example.com")))
}

func TestDeletedIsOutAtOnce(t *testing.T) {
	m := kit.NewMachine(t)
	m.AddUser("ada@example.com")
	s := m.Start()
	ada := s.SignIn("ada@example.com")

	m.Do("", "user", "delete", "ada@example.com") // without a terminal nothing is asked

	require.Equal(t, http.StatusUnauthorized, s.Whoami(ada))
	require.Equal(t, http.StatusBadRequest, s.Login("ada@example.com", kit.GoodPassword).Status)
	m.AddUser("ada@example.com")
	require.Equal(t, http.StatusUnauthorized, s.Whoami(ada), "it is another account of the same address")
}

func TestNewPasswordEndsSessions(t *testing.T) {
	m := kit.NewMachine(t)
	m.AddUser("ada@example.com")
	s := m.Start()
	ada := s.SignIn("ada@example.com")
	s.SignIn("ada@example.com")
	m.Refuse("short", "user", "password", "ada@example.com")
	require.Equal(t, http.StatusOK, s.Whoami(ada), "nothing has changed")

	require.Equal(t, "ada@example.com has a new password; sessions ended: 2.\n",
		m.Do("another good one", "user", "password", "ada@example.com"))

	require.Equal(t, http.StatusUnauthorized, s.Whoami(ada))
	require.Equal(t, http.StatusBadRequest, s.Login("ada@example.com", kit.GoodPassword).Status)
	require.Equal(t, http.StatusOK, s.Login("ada@example.com", "another good one").Status)
}

func TestGroups(t *testing.T) {
	m := kit.NewMachine(t)
	m.AddUser("ada@example.com")

	require.Equal(t, "ada@example.com is in staff.\n", m.Do("", "user", "group", "add", "Ada@example.com", "staff"))
	require.Equal(t, "ada@example.com is in editors, lab, staff.\n", m.Do("", "user", "group", "add", "ada@example.com", "lab", "editors", "staff", "lab"))
	require.Regexp(t, `(?m)^ada@example\.com +active +editors,lab,staff +\d{4}-\d\d-\d\d$`, m.Do("", "user", "list"))
	require.Equal(t, "ada@example.com is in editors.\n", m.Do("", "user", "group", "remove", "ada@example.com", "staff", "lab", "staff"))
	require.Equal(t, "ada@example.com is in no group.\n", m.Do("", "user", "group", "remove", "ada@example.com", "editors"))
}

func TestGroupRefusals(t *testing.T) {
	m := kit.NewMachine(t)
	m.AddUser("ada@example.com")
	m.Do("", "user", "group", "add", "ada@example.com", "staff")
	for _, name := range []string{"Staff", "a b", "a,b", "", "-a", "a\x1b[2J", strings.Repeat("a", 65)} {
		require.Contains(t, m.Refuse("", "user", "group", "add", "--", "ada@example.com", "lab", name), "can't be the name of a group")
	}
	require.Contains(t, m.Refuse("", "user", "group", "remove", "ada@example.com", "staff", "lab\x1b"), `ada@example.com is not in "lab\x1b"`)
	require.Contains(t, m.Refuse("", "user", "group", "add", "ada@example.com"), "<group>")
	require.Contains(t, m.Do("", "user", "list"), " staff ", "nothing has changed")
}

// Access to an app changes with the next request after the command.
func TestGroupsOpenAnAppAtOnce(t *testing.T) {
	m := kit.NewMachine(t)
	m.Env = append(m.Env, "ACCESS=wiki.example.com=staff", "TRUSTED_PROXIES=127.0.0.1,::1")
	m.AddUser("ada@example.com")
	s := m.Start()
	ada := s.SignIn("ada@example.com")
	verify := func() int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/auth/verify", nil)
		require.NoError(t, err)
		req.Header.Set("X-Forwarded-Host", "wiki.example.com")
		req.AddCookie(&http.Cookie{Name: "latchkey_session", Value: ada})
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		return res.StatusCode
	}

	require.Equal(t, http.StatusForbidden, verify())
	m.Do("", "user", "group", "add", "ada@example.com", "staff")
	require.Equal(t, http.StatusOK, verify())
	m.Do("", "user", "group", "remove", "ada@example.com", "staff")
	require.Equal(t, http.StatusForbidden, verify())
}

func TestUnknownPeople(t *testing.T) {
	m := kit.NewSQLiteMachine(t)
	require.Contains(t, m.Refuse("", "session", "end", "--all"), "there is no database at", "nothing is made of a wrong path")
	m.Do(kit.GoodPassword, "user", "add", "ada@example.com")
	for _, command := range [][]string{
		{"user", "disable", "bob@example.com"}, {"user", "enable", "bob@example.com"}, {"user", "delete", "bob@example.com"},
		{"user", "password", "bob@example.com"}, {"session", "end", "--user=bob@example.com"}, {"session", "list", "--user=bob@example.com"},
		{"user", "name", "bob@example.com", "Bob"}, {"user", "address", "bob@example.com", "eve@example.com"}, {"user", "activity", "bob@example.com"}, {"user", "username", "bob@example.com", "bob"}, {"user", "username", "bob@example.com"},
		{"user", "group", "add", "bob@example.com", "staff"}, {"user", "group", "remove", "bob@example.com", "staff"},
	} {
		require.Contains(t, m.Refuse(kit.GoodPassword, command...), "there is no account for bob@example.com; 'latchkey user list' lists them", command)
	}
}

func TestUserActivity(t *testing.T) {
	m := kit.NewMachine(t)
	m.AddUser("ada@example.com")
	m.AddUser("bob@example.com")
	s := m.Start()
	ada := s.SignIn("ada@example.com")
	s.SignIn("bob@example.com")
	s.Logout(ada)
	for range 2 {
		require.Equal(t, http.StatusBadRequest, s.Login("ada@example.com", "wrong password").Status)
	}
	listed := ""
	s.Await("the failures", func() bool {
		listed = m.Do("", "user", "activity", "Ada@example.com")
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
	require.Equal(t, 2, strings.Count(m.Do("", "user", "activity", "--limit=1", "ada@example.com"), "\n"))
	require.Contains(t, m.Refuse("", "user", "activity", "--limit=0", "ada@example.com"), "must be 1 or more")
}

func TestUserActivityIsSafeToPrint(t *testing.T) {
	m := kit.NewSQLiteMachine(t)
	m.AddUser("ada@example.com")
	store := models.New(openDatabase(t, m), time.Now)
	ada, err := store.Identities.ByEmail(t.Context(), "ada@example.com")
	require.NoError(t, err)
	for _, userAgent := range []string{"Evil\x1b]0;owned\x07/1.0", "Evil\u009b2J/1.0", "Evil\u202egnorw/1.0", "A\n2026-11-22T09:00:00Z  Signed in", "\xff\xfe\x9b2J"} {
		require.NoError(t, store.Activities.RecordFailure(t.Context(), models.Failure{IdentityID: ada.ID, LastAt: time.Now(),
			IPAddress: "203.0.113.7", UserAgent: userAgent}))
	}

	listed := m.Do("", "user", "activity", "ada@example.com")

	require.Equal(t, 6, strings.Count(listed, "\n"), listed)
	for _, r := range listed {
		require.True(t, r == '\n' || unicode.IsPrint(r) && r != unicode.ReplacementChar, "%q", listed)
	}
}

func TestNameAndAddressOfAnAccount(t *testing.T) {
	m := kit.NewMachine(t)
	m.AddUser("ada@example.com")
	m.AddUser("bob@example.com")
	s := m.Start()
	ada := s.SignIn("ada@example.com")

	require.Equal(t, "ada@example.com is now called Ada Lovelace.\n", m.Do("", "user", "name", "Ada@example.com", "Ada Lovelace"))
	require.Equal(t, "ada@example.com is now countess@example.com.\n", m.Do("", "user", "address", "ada@example.com", "Countess@Example.com"))

	require.Equal(t, http.StatusOK, s.Whoami(ada), "she stays signed in")
	s.SignIn("countess@example.com")
	require.Equal(t, http.StatusBadRequest, s.Login("ada@example.com", kit.GoodPassword).Status)
	require.Regexp(t, `(?m)^countess@example\.com +Ada Lovelace +active `, m.Do("", "user", "list"))
	m.AddUser("ada@example.com") // nobody has it any more

	require.Contains(t, m.Refuse("", "user", "address", "bob@example.com", "COUNTESS@example.com"), "countess@example.com already has an account")
	require.Contains(t, m.Refuse("", "user", "address", "bob@example.com", "countess"), "isn't an email address")
	require.Contains(t, m.Refuse("", "user", "name", "bob@example.com", "Bob\x1b[2J"), "can't be shown")
	require.Equal(t, "bob@example.com is now bob@example.com.\n", m.Do("", "user", "address", "bob@example.com", "bob@example.com"), "as set by the operator")
	require.Equal(t, "countess@example.com has no name now.\n", m.Do("", "user", "name", "countess@example.com"))
}

// What reads the output finds it empty; a person reads what to do.
func TestEmptyListsSayWhatToDo(t *testing.T) {
	m := kit.NewMachine(t)
	m.Start().Stop()
	for list, want := range map[string]string{
		"user list": "'latchkey user add ADDRESS' creates one", "session list": "Nobody is signed in.", "app list": "'latchkey app add NAME URL' adds one",
		"app deliveries": "There are none",
	} {
		r := m.Run("", strings.Fields(list)...)
		require.Zero(t, r.Code)
		require.Empty(t, r.Stdout, list)
		require.Contains(t, r.Stderr, want)
	}
}
