package db_test

import (
	"context"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"latchkey/db"
	"latchkey/test/kit"
)

func openPostgres(t *testing.T, url string) *db.DB {
	t.Helper()
	database, err := db.Open(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, database.Close()) })
	return database
}

// Behind some poolers a client gets the notices of others, but not always its own.
func TestNoticeOfAnotherInstanceIsNotTakenForTheProbe(t *testing.T) {
	url := kit.PostgresURL(t) + ",pg_catalog"
	database := openPostgres(t, url)
	require.NoError(t, database.Query(t.Context()).Exec("CREATE FUNCTION pg_notify(text, text) RETURNS void LANGUAGE sql AS ''").Error)
	ctx, cancel := context.WithCancel(t.Context())
	var others sync.WaitGroup
	others.Go(func() {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(t.Context())
		for err == nil {
			_, err = conn.Exec(ctx, "SELECT pg_catalog.pg_notify('probed', ''), pg_sleep(0.01)")
		}
	})
	defer others.Wait()
	defer cancel()

	err := database.Listen(t.Context(), "probed", func() { t.Error("a notice was heard") })

	require.ErrorIs(t, err, db.ErrNoNotices)
}

func TestPoolerIsNotAskedForNotices(t *testing.T) {
	server := kit.StartPostgres(t, "-c", "log_statement=all")
	url, _ := server.Bouncer(t, "postgres")
	database := openPostgres(t, url)

	err := database.Listen(t.Context(), "ends", func() { t.Error("a notice was heard") })

	require.ErrorIs(t, err, db.ErrNoNotices)
	database.Notify(t.Context(), "ends")
	require.NoError(t, database.Close())
	server.Stop(t)
	require.Contains(t, server.Log(), "pg_notify")
	require.NotContains(t, server.Log(), "LISTEN")
	require.NotContains(t, server.Log(), "ERROR")
}
