package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/db/pgtest"
)

func TestCopyingToPostgreSQLSignsNobodyOut(t *testing.T) {
	m := newSQLiteMachine(t)
	m.addUser("ada@example.com")
	s := m.start()
	kept, ended := s.signIn("ada@example.com"), s.signIn("ada@example.com")
	require.Equal(t, http.StatusNoContent, s.logout(ended).status)
	s.stop()
	target := pgtest.New(t)

	printed := m.do("", "copy", "--from="+m.dsn, "--to="+target)

	require.Regexp(t, `(?m)^identities +1$`, printed)
	require.Regexp(t, `(?m)^sessions +2$`, printed)
	m.env = append(m.env, "DATABASE_URL="+target)
	s = m.start()
	require.Empty(t, s.setup)
	require.Equal(t, http.StatusOK, s.whoami(kept))
	require.Equal(t, http.StatusUnauthorized, s.whoami(ended))
	require.Equal(t, http.StatusNoContent, s.logout(kept).status)
	require.Equal(t, http.StatusUnauthorized, s.whoami(kept))
	s.signIn("ada@example.com")

	require.Contains(t, m.refuse("", "copy", "--from="+m.dsn, "--to="+target), "the target is not empty; give a new database")
	require.Contains(t, m.refuse("", "copy", "--from=sqlite:no-such-file.db", "--to="+target), "--from: there is no database at ")
	m.refuse("", "copy", "--from="+m.dsn)
	secret := strings.Replace(target, "postgres@", "postgres:hunter2@", 1)
	require.NotContains(t, m.refuse("", "copy", "--from="+m.dsn, "--to="+strings.Replace(secret, "127.0.0.1:", "127.0.0.1:1", 1)), "hunter2")
}
