package models_test

import (
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
	kept, ended := w.start(ada), w.start(ada)
	for range 600 { // more than a batch
		w.start(ada)
	}
	toldOf(t, w, "wiki", 2)
	require.NoError(t, w.Sessions.End(t.Context(), ended.ID, models.EndedByLogout))
	require.NoError(t, w.Activities.RecordFailure(t.Context(), models.Failure{IdentityID: ada.ID, LastAt: w.now, IPAddress: "203.0.113.7"}))
	_, err := w.Attempts.Take(t.Context(), models.Limit{Key: "x", Free: 5, Most: time.Minute})
	require.NoError(t, err)
	w.addKeys("key", "logout")
	keys, err := w.Keys(t.Context())
	require.NoError(t, err)
	bob := w.person("bob@example.com")
	w.many(bob, 300) // more than are swept at once
	signedOut := w.start(ada)
	receipt, err := w.Sessions.SignOut(t.Context(), &signedOut, true)
	require.NoError(t, err)
	_, err = w.Sessions.EndAll(t.Context(), bob.ID)
	require.NoError(t, err)

	postgres, back := open(kit.PostgresURL(t)), open("sqlite:"+filepath.Join(t.TempDir(), "back.db"))
	there, err := models.Copy(t.Context(), w.database, postgres)
	require.NoError(t, err)
	again, err := models.Copy(t.Context(), postgres, back)
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

	_, err = models.Copy(t.Context(), w.database, postgres)
	require.ErrorIs(t, err, models.ErrNotEmpty)
}

// What only PostgreSQL needs, such as the rows that are locked, comes along and must fit everywhere.
func TestCopyFromPostgresAndBack(t *testing.T) {
	w := newWorldOn(t, kit.PostgresURL(t))
	w.person("ada@example.com")
	w.addKeys("key", "logout")
	file, back := newWorldOn(t, "sqlite:"+filepath.Join(t.TempDir(), "latchkey.db")), newWorldOn(t, kit.PostgresURL(t))

	there, err := models.Copy(t.Context(), w.database, file.database)
	require.NoError(t, err)
	again, err := models.Copy(t.Context(), file.database, back.database)

	require.NoError(t, err)
	require.Equal(t, there, again)
	back.addKeys("next", "seal")
}
