package cli

import (
	"net/http"
	"os"
	"path/filepath"
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

	require.Contains(t, m.Refuse("", "copy", "--from="+m.DatabaseURL, "--to="+target), "--to: the target is not empty; give a new database")
	require.Contains(t, m.Refuse("", "copy", "--from=sqlite:no-such-file.db", "--to="+target), "--from: there is no database at ")
	m.Refuse("", "copy", "--from="+m.DatabaseURL)
	secret := strings.Replace(target, "postgres@", "postgres:hunter2@", 1)
	require.NotContains(t, m.Refuse("", "copy", "--from="+m.DatabaseURL, "--to="+strings.Replace(secret, "127.0.0.1:", "127.0.0.1:1", 1)), "hunter2")
}

// By whatever name: nothing waits for its own lock, and nothing is changed.
func TestCopyOntoItselfIsRefused(t *testing.T) {
	m := kit.NewSQLiteMachine(t)
	m.AddUser("ada@example.com")
	require.NoError(t, os.Symlink(m.DatabaseFile(), filepath.Join(m.Dir, "symlink.db")))
	require.NoError(t, os.Link(m.DatabaseFile(), filepath.Join(m.Dir, "hardlink.db")))
	relative, err := filepath.Rel(m.Dir, m.DatabaseFile())
	require.NoError(t, err)
	for _, to := range []string{m.DatabaseFile(), relative, "./symlink.db", "hardlink.db"} {
		require.Contains(t, m.Refuse("", "copy", "--from="+m.DatabaseURL, "--to=sqlite:"+to), "--to: it is the same database as --from", to)
	}
	server := kit.StartPostgres(t)
	database := server.NewDatabase(t)
	m.Do("", "copy", "--from="+m.DatabaseURL, "--to="+database)
	for _, to := range []string{database, strings.Replace(database, "127.0.0.1", "localhost", 1), database + "&application_name=copy"} {
		require.Contains(t, m.Refuse("", "copy", "--from="+database, "--to="+to), "--to: it is the same database as --from", to)
	}
	require.Contains(t, m.Refuse("", "copy", "--from="+m.DatabaseURL, "--to="+database), "--to: the target is not empty")
	m.Do("", "copy", "--from="+database, "--to="+server.NewDatabase(t))
}
