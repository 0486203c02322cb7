package db_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/db"
	"latchkey/test/kit"
)

// The smallest hosted servers take fewer connections than the pools of a few instances want.
func TestPoolThatCannotGrowSharesTheConnectionsItHas(t *testing.T) {
	server := kit.StartPostgres(t, "-c", "max_connections=7", "-c", "superuser_reserved_connections=3", "-c", "max_wal_senders=0")
	server.Exec(t, "CREATE ROLE latchkey LOGIN")
	server.Exec(t, "CREATE DATABASE latchkey OWNER latchkey")
	url := strings.Replace(server.URL("latchkey"), "postgres@", "latchkey@", 1) + "&pool_max_conns=30"
	database := openPostgres(t, url)
	var refusals atomic.Int64
	database.OnCrowded(func(error) { refusals.Add(1) })

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var clients sync.WaitGroup
	for i := range 40 {
		clients.Go(func() {
			for round := range 25 {
				name, found := fmt.Sprintf("%d-%d", i, round), ""
				err := database.Write(ctx, func(tx *db.Tx) error { return tx.Lock(ctx, name) })
				if err == nil {
					err = database.ReadRow(ctx, "SELECT name FROM locks WHERE name = convert_from($1, 'UTF8')", []byte(name), &found)
				}
				if err == nil {
					err = database.Ping(ctx)
				}
				if err != nil || found != name {
					t.Errorf("%s: found %q, %v", name, found, err)
					return
				}
			}
		})
	}
	clients.Wait()

	require.Positive(t, refusals.Load(), "the server was asked for more")
	require.Less(t, refusals.Load(), int64(100), "and then left alone")
	now := database.Connections()
	require.LessOrEqual(t, now.Limit, 4)
	require.Equal(t, now.Limit, now.Idle)

	server.Exec(t, "ALTER ROLE latchkey CONNECTION LIMIT 0")
	server.Exec(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'latchkey'")
	var err error
	require.Eventually(t, func() bool { // there is none to wait for
		err = database.Ping(ctx)
		return err != nil && strings.Contains(err.Error(), "too many connections")
	}, 30*time.Second, time.Millisecond, "other errors are those of lost connections")
	require.True(t, db.Unavailable(err))
}
