package db_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/db"
	"latchkey/test/kit"
)

// An operator reads these at the first start. Whoever looks into a log must not learn a password by them.
func TestPostgresThatCannotBeUsedSaysWhatToDo(t *testing.T) {
	server := kit.StartPostgres(t)
	server.Exec(t, "CREATE ROLE latchkey LOGIN PASSWORD 'not that one'")
	server.Stop(t)
	rules := "host all latchkey 127.0.0.1/32 scram-sha-256\nhost all postgres 127.0.0.1/32 trust\n"
	require.NoError(t, os.WriteFile(filepath.Join(server.Dir, "pg_hba.conf"), []byte(rules), 0o600))
	require.NoError(t, server.Run())
	closed, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	at := fmt.Sprintf("127.0.0.1:%d", server.Port)

	for dsn, want := range map[string]string{
		"postgres://latchkey:S3cret@" + at + "/postgres":                         "open the database postgres on 127.0.0.1: the server rejected the password of latchkey",
		"postgres://stranger:S3cret@" + at + "/postgres":                         "the server does not let stranger in (no pg_hba.conf entry",
		"postgres://postgres:S3cret@" + at + "/nothing":                          "CREATE DATABASE nothing OWNER postgres",
		"postgres://postgres:S3cret@" + at + "/postgres?sslmode=verify-full":     "the server has no TLS",
		"postgres://postgres:S3cret@" + closed.Addr().String() + "/postgres":     "nothing listens on port",
		"postgres://latchkey:a@S3cret@" + at + "/postgres":                       "%40 for @",
		"postgres://latchkey:123/S3cret@" + at + "/postgres":                     "%2F for /",
		"postgres://latchkey:S3cret@" + at + "/postgres?sslmode=sometimes":       "sslmode is invalid",
		"postgres://postgres:S3cret@" + at + "," + closed.Addr().String() + "/x": `database "x" does not exist`,
	} {
		t.Run(want, func(t *testing.T) {
			_, err := db.Open(t.Context(), dsn)
			require.ErrorContains(t, err, want)
			require.NotContains(t, err.Error(), "S3cret")
			require.NotContains(t, err.Error(), "\n")
			require.Equal(t, strings.HasPrefix(want, "nothing listens"), db.Unavailable(err), "the others are wrong settings")

			_, err = db.OpenReadOnly(t.Context(), dsn)
			require.ErrorContains(t, err, want)
			require.NotContains(t, err.Error(), "S3cret")
		})
	}
}

// What a command asks may take longer than anybody would wait for a page.
func TestCommandsWaitForSlowStatements(t *testing.T) {
	t.Parallel()
	url := kit.PostgresURL(t)
	for name, c := range map[string]struct {
		open     func(context.Context, string) (*db.DB, error)
		answered bool
	}{"server": {db.Open, false}, "command": {db.OpenExisting, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database, err := c.open(t.Context(), url)
			require.NoError(t, err)
			defer database.Close()
			err = database.Query(t.Context()).Exec("SELECT pg_sleep(5.2)").Error
			require.Equal(t, c.answered, err == nil, "%v", err)
		})
	}
}
