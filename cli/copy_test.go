package cli

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

func TestCopyingToPostgreSQLSignsNobodyOut(t *testing.T) {
	m := kit.NewSQLiteMachine(t)
	m.AddUser("ada@example.com")
	s := m.Start()
	kept, ended := s.SignIn("ada@example.com"), s.SignIn("ada@example.com")
	require.Equal(t, http.StatusNoContent, s.Logout(ended).Status)
	s.Stop()
	target := kit.PostgresURL(t)

	printed := m.Do("", "copy", "--from="+m.DatabaseURL, "--to="+target)

	require.Regexp(t, `(?m)^identities +1$`, printed)
	require.Regexp(t, `(?m)^sessions +2$`, printed)
	m.Env = append(m.Env, "DATABASE_URL="+target)
	s = m.Start()
	require.Empty(t, s.Setup)
	require.Equal(t, http.StatusOK, s.Whoami(kept))
	require.Equal(t, http.StatusUnauthorized, s.Whoami(ended))
	require.Equal(t, http.StatusNoContent, s.Logout(kept).Status)
	require.Equal(t, http.StatusUnauthorized, s.Whoami(kept))
	s.SignIn("ada@example.com")

	require.Contains(t, m.Refuse("", "copy", "--from="+m.DatabaseURL, "--to="+target), "the target is not empty; give a new database")
	require.Contains(t, m.Refuse("", "copy", "--from=sqlite:no-such-file.db", "--to="+target), "--from: there is no database at ")
	m.Refuse("", "copy", "--from="+m.DatabaseURL)
	secret := strings.Replace(target, "postgres@", "postgres:hunter2@", 1)
	require.NotContains(t, m.Refuse("", "copy", "--from="+m.DatabaseURL, "--to="+strings.Replace(secret, "127.0.0.1:", "127.0.0.1:1", 1)), "hunter2")
}
