package test

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/db"
	"latchkey/test/kit"
)

// TestMain turns the test binary into another program if an environment variable says so.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv(bareAddress) != "":
		serveBare(os.Getenv(bareAddress))
	case os.Getenv(soakVariable) != "":
		serveSoak()
	default:
		os.Exit(m.Run())
	}
}

// person returns the address of a person.
func person(i int) string { return fmt.Sprintf("person%d@example.com", i) }

// openDatabase opens the database of a machine beside its server.
func openDatabase(t testing.TB, m *kit.Machine) *db.DB {
	t.Helper()
	database, err := db.Open(t.Context(), m.DatabaseURL)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, database.Close()) })
	return database
}
