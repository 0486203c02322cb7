package cli

import (
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/db"
	"latchkey/test/kit"
)

// openDatabase opens the database of a machine beside its server.
func openDatabase(t testing.TB, m *kit.Machine) *db.DB {
	t.Helper()
	database, err := db.Open(t.Context(), m.DatabaseURL)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, database.Close()) })
	return database
}
