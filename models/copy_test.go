package models_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/db"
	"latchkey/models"
	"latchkey/test/kit"
)

// Both ways, so that SQLite is the source once and the target once.
func TestCopyLosesNothing(t *testing.T) {
	open := func(dsn string) *db.DB {
		t.Helper()
		database, err := db.Open(t.Context(), dsn)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, database.Close()) })
		return database
	}
	w := newWorldOn(t, "sqlite:"+filepath.Join(t.TempDir(), "latchkey.db"))
	ada := w.person("ada@example.com")
	require.NoError(t, w.Identities.AddToGroup(t.Context(), ada.ID, "staff"))
	confirmed, err := w.Sessions.Confirm(t.Context(), w.start(ada), w.proof(ada)) // which replaces a token
	require.NoError(t, err)
	kept, ended := confirmed, w.start(ada)
	for range 600 { // more than a batch
		w.start(ada)
	}
	toldOf(t, w, "wiki", 2)
	require.NoError(t, w.Sessions.End(t.Context(), ended.ID, models.EndedByLogout))
	require.NoError(t, w.Activities.RecordFailure(t.Context(), models.Failure{IdentityID: ada.ID, LastAt: w.now, IPAddress: "203.0.113.7"}))
	_, err = w.Attempts.Take(t.Context(), models.Limit{Key: "x", Free: 5, Most: time.Minute})
	require.NoError(t, err)
	require.NoError(t, w.SecurityEvents.Add(t.Context(), []string{`{"event":"operator_act"}`}))
	w.addKeys("key", "logout")
	keys, err := w.Keys(t.Context())
	require.NoError(t, err)
	bob := w.person("bob@example.com")
	w.many(bob, 300) // more than are swept at once
	signedOut := w.start(ada)
	receipt, err := w.Sessions.SignOut(t.Context(), &signedOut, nil, true)
	require.NoError(t, err)
	_, err = w.Sessions.EndAll(t.Context(), bob.ID)
	require.NoError(t, err)

	postgres, back := open(kit.PostgresURL(t)), open("sqlite:"+filepath.Join(t.TempDir(), "back.db"))
	there, err := models.Copy(t.Context(), w.database, postgres, nil)
	require.NoError(t, err)
	again, err := models.Copy(t.Context(), postgres, back, nil)
	require.NoError(t, err)

	require.Equal(t, there, again)
	for _, table := range there {
		require.Positive(t, table.Rows, "%s has something to lose", table.Table)
	}
	for _, copied := range []*db.DB{postgres, back} {
		store := models.New(copied, func() time.Time { return w.now })
		found, err := store.Sessions.ByToken(t.Context(), kept.Token)
		require.NoError(t, err)
		require.Equal(t, w.stored(kept), found)
		found, err = store.Sessions.ByToken(t.Context(), ended.Token)
		require.NoError(t, err)
		require.Equal(t, w.stored(ended), found)
		same, err := store.Keys(t.Context())
		require.NoError(t, err)
		require.Equal(t, keys, same)
		deliveries, err := store.Deliveries.OfSession(t.Context(), ended.ID)
		require.NoError(t, err)
		want, err := w.Deliveries.OfSession(t.Context(), ended.ID)
		require.NoError(t, err)
		require.Equal(t, want, deliveries)
		held, err := store.Sessions.Receipt(t.Context(), receipt)
		require.NoError(t, err)
		require.Equal(t, signedOut.ID, held.Session.ID)
		n, err := store.Sessions.Sweep(t.Context(), 500)
		require.NoError(t, err)
		require.Equal(t, 300+1, n, "what was left to do is done there")
		last, err := store.Ends.Last(t.Context())
		require.NoError(t, err)
		require.NoError(t, store.Sessions.End(t.Context(), kept.ID, models.EndedByLogout))
		next, err := store.Ends.After(t.Context(), last, 10)
		require.NoError(t, err)
		require.Len(t, next, 1, "the numbers of ends go on")
	}

	_, err = models.Copy(t.Context(), w.database, postgres, nil)
	require.ErrorIs(t, err, models.ErrNotEmpty)
}

// It is compared row by row, and takes longer on the way than a request may.
func TestCopyOfManySessionsThereAndBack(t *testing.T) {
	file, dir := filepath.Join(t.TempDir(), "latchkey.db"), t.TempDir()
	w := newWorldOn(t, "sqlite:"+file)
	ada, bob := w.person("ada@example.com"), w.person("bob@example.com")
	w.start(ada)
	require.NoError(t, w.Sessions.End(t.Context(), w.start(bob).ID, models.EndedByLogout))
	require.NoError(t, w.db.Exec(`WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 50000)
		INSERT INTO sessions (id, token_hash, identity_id, authenticated_at, confirmed_at, last_seen_at, expires_at, idle_seconds,
			latest_expires_at, remember, method, ip_address, user_agent, ended_at, end_reason, number, proofs, aal)
		SELECT printf('%08x-0000-4000-8000-%012x', n, ended_at IS NULL), randomblob(32), identity_id, authenticated_at - n, confirmed_at + n, last_seen_at,
			expires_at + n, idle_seconds, latest_expires_at, n % 2, method, '2001:db8::' || n, 'ünï' || n, ended_at + n, end_reason, number + n, proofs, aal
		FROM sessions, i`).Error)
	there, err := db.OpenExisting(t.Context(), kit.PostgresURL(t))
	require.NoError(t, err)
	defer there.Close()
	var last models.CopyProgress
	copied, err := models.Copy(t.Context(), w.database, there, func(p models.CopyProgress) {
		require.Equal(t, last.Done+1, p.Done)
		last = p
	})
	require.NoError(t, err)
	require.Equal(t, last.Total, last.Done)
	require.Contains(t, copied, models.Copied{Table: "sessions", Rows: 100_002})

	back := filepath.Join(dir, "back.db")
	require.NoError(t, db.Create(t.Context(), "sqlite:"+back, func(d *db.DB) error {
		_, err := models.Copy(t.Context(), there, d, nil)
		return err
	}))

	conn, err := w.database.Pool().Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.ExecContext(t.Context(), "ATTACH ? AS back", back)
	require.NoError(t, err)
	for _, table := range copied {
		var different int
		require.NoError(t, conn.QueryRowContext(t.Context(), fmt.Sprintf(`SELECT
			(SELECT count(*) FROM (SELECT * FROM main.%[1]s EXCEPT SELECT * FROM back.%[1]s)) +
			(SELECT count(*) FROM (SELECT * FROM back.%[1]s EXCEPT SELECT * FROM main.%[1]s))`, table.Table)).Scan(&different))
		require.Zero(t, different, table.Table)
	}
	var tables int
	require.NoError(t, w.db.Raw("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT IN ('migrations', 'locks')").Scan(&tables).Error)
	require.Len(t, copied, tables, "a table that was added is copied too")
}

// A copy that fails leaves no file that a server could be started on.
func TestCopyThatFailsLeavesNothing(t *testing.T) {
	w := newWorldOn(t, "sqlite:"+filepath.Join(t.TempDir(), "latchkey.db"))
	w.person("ada@example.com")
	dir := t.TempDir()
	url := "sqlite:" + filepath.Join(dir, "new", "copy.db")
	ctx, cancel := context.WithCancel(t.Context())
	fill := func(d *db.DB) error {
		_, err := models.Copy(ctx, w.database, d, func(models.CopyProgress) { cancel() })
		return err
	}

	require.ErrorIs(t, db.Create(ctx, url, fill), context.Canceled)
	left, err := filepath.Glob(filepath.Join(dir, "new", "*"))
	require.NoError(t, err)
	require.Empty(t, left)

	ctx = t.Context()
	require.NoError(t, db.Create(ctx, url, fill), "again")
	require.ErrorContains(t, db.Create(ctx, url, fill), "already exists")
	left, err = filepath.Glob(filepath.Join(dir, "new", "*"))
	require.NoError(t, err)
	require.Len(t, left, 1)
}

// What only PostgreSQL needs, such as the rows that are locked, comes along and must fit everywhere.
func TestCopyFromPostgresAndBack(t *testing.T) {
	w := newWorldOn(t, kit.PostgresURL(t))
	w.person("ada@example.com")
	w.addKeys("key", "logout")
	file, back := newWorldOn(t, "sqlite:"+filepath.Join(t.TempDir(), "latchkey.db")), newWorldOn(t, kit.PostgresURL(t))

	there, err := models.Copy(t.Context(), w.database, file.database, nil)
	require.NoError(t, err)
	again, err := models.Copy(t.Context(), file.database, back.database, nil)

	require.NoError(t, err)
	require.Equal(t, there, again)
	back.addKeys("next", "seal")
}
