package cli

import (
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

func TestVacuum(t *testing.T) {
	m := kit.NewSQLiteMachine(t)
	m.AddUser("ada@example.com")
	s := m.Start()
	require.Contains(t, m.Refuse("", "vacuum"), "is in use: stop Latchkey first")
	s.Stop()

	require.Regexp(t, `latchkey\.db has shrunk to \d+ KiB from \d+ KiB\.`, m.Do("", "vacuum"))

	m.Start().SignIn("ada@example.com")
	m.Env = append(m.Env, "DATABASE_URL=postgres://127.0.0.1:1/latchkey")
	require.Contains(t, m.Refuse("", "vacuum"), "autovacuum")
}
