package cli

import (
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/gofrs/uuid/v5"
	"github.com/stretchr/testify/require"

	"latchkey/models"
	"latchkey/test/kit"
)

func TestSessionList(t *testing.T) {
	m := kit.NewMachine(t)
	m.AddUser("ada@example.com")
	m.AddUser("bob@example.com")
	s := m.Start()
	ended := s.SignIn("bob@example.com")
	s.SignIn("ada@example.com")
	s.SignIn("bob@example.com")
	s.Logout(ended)

	all, ofBob := m.Do("", "session", "list"), m.Do("", "session", "list", "--user=Bob@example.com")

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

// The name of a stranger's browser must not control the operator's terminal.
func TestSessionListIsSafeToPrint(t *testing.T) {
	m := kit.NewSQLiteMachine(t)
	m.AddUser("mallory@example.com")
	store := models.New(openDatabase(t, m), time.Now)
	mallory, err := store.Identities.ByEmail(t.Context(), "mallory@example.com")
	require.NoError(t, err)
	passwords, err := store.Credentials.Of(t.Context(), mallory.ID, models.MethodPassword)
	require.NoError(t, err)
	proof := models.Proof{Method: models.MethodPassword, AAL: models.AAL1, Credential: passwords[0].ID, Version: passwords[0].Version, At: time.Now()}
	for _, userAgent := range []string{
		"Evil\x1b]0;owned\x07/1.0", "Evil\x1b[2J (X11; Linux\x1b[31m x86_64)", "Evil\u009b2J/1.0", "Evil\u202egnorw/1.0",
		"Mozilla/5.0 (X11; Linux x86_64\x1b[2J) Firefox\x1b[2J/140.0\n00000000-0000-0000-0000-000000000000 root@example.com", "\xff\xfe\x9b2J",
	} {
		_, err := store.Sessions.Start(t.Context(), models.SignIn{Identity: mallory, Proof: proof,
			UserAgent: userAgent, IPAddress: "203.0.113.7", Lifetime: time.Hour, Idle: time.Hour})
		require.NoError(t, err)
	}

	listed := m.Do("", "session", "list")

	require.Equal(t, 7, strings.Count(listed, "\n"), listed)
	require.NotContains(t, listed, "root@example.com")
	for _, r := range listed {
		require.True(t, r == '\n' || unicode.IsPrint(r) && r != unicode.ReplacementChar, "%q", listed)
	}
}

func TestSessionEnd(t *testing.T) {
	m := kit.NewMachine(t)
	m.AddUser("ada@example.com")
	m.AddUser("bob@example.com")
	s := m.Start()
	ada, bob, bobToo := s.SignIn("ada@example.com"), s.SignIn("bob@example.com"), s.SignIn("bob@example.com")
	ids := sessionIDs(m.Do("", "session", "list", "--user=ada@example.com"))

	require.Equal(t, ids[0]+" has ended.\n", m.Do("", "session", "end", ids[0]))
	require.Equal(t, http.StatusUnauthorized, s.Whoami(ada))
	require.Equal(t, http.StatusOK, s.Whoami(bob))
	m.Do("", "session", "end", ids[0]) // ending it again is not an error

	require.Equal(t, "Sessions ended: 2.\n", m.Do("", "session", "end", "--user=bob@example.com"))
	require.Equal(t, http.StatusUnauthorized, s.Whoami(bob))
	require.Equal(t, http.StatusUnauthorized, s.Whoami(bobToo))

	ada, bob = s.SignIn("ada@example.com"), s.SignIn("bob@example.com")
	require.Equal(t, "Sessions ended: 2.\n", m.Do("", "session", "end", "--all"))
	require.Equal(t, http.StatusUnauthorized, s.Whoami(ada))
	require.Equal(t, http.StatusUnauthorized, s.Whoami(bob))
}

func TestSessionEndRefusals(t *testing.T) {
	m := kit.NewMachine(t)
	m.AddUser("ada@example.com")
	s := m.Start()
	ada := s.SignIn("ada@example.com")
	id := sessionIDs(m.Do("", "session", "list"))[0]

	for _, arguments := range [][]string{
		{}, {"--all", "--user=ada@example.com"}, {"--all", id}, {"--user=ada@example.com", id},
	} {
		require.Contains(t, m.Refuse("", append([]string{"session", "end"}, arguments...)...),
			"say which sessions to end: IDs, or --user ADDRESS, or --all")
	}
	require.Contains(t, m.Refuse("", "session", "end", "ada@example.com"), `"ada@example.com" is not the id of a session`)
	require.Contains(t, m.Refuse("", "session", "end", uuid.Must(uuid.NewV4()).String()), "there is no session")
	require.Equal(t, http.StatusOK, s.Whoami(ada), "nothing was ended")

	require.Contains(t, m.Refuse("", "session", "end", id, "nonsense"), `"nonsense" is not the id of a session`)
	require.Equal(t, http.StatusOK, s.Whoami(ada), "all or nothing")
}

func TestStreamHearsOfACommandOfTheOperator(t *testing.T) {
	m := kit.NewMachine(t)
	for command, reason := range map[string]string{"session end --user": "operator", "user disable": "disabled", "user delete": "deleted"} {
		address := strings.Fields(command)[1] + "@example.com"
		m.AddUser(address)
		s := m.Start()
		in := s.Stream(s.SignIn(address))

		m.Do("", append(strings.Fields(command), address)...)

		ended, err := in.ReadUntil("event: ended")
		require.NoError(t, err, command)
		require.Contains(t, ended, `"reason":"`+reason+`"`)
		s.Stop()
	}
}
