package models_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"latchkey/db"
	"latchkey/db/pgtest"
	"latchkey/models"
)

// Both ways, so that SQLite is the source once and the target once.
func TestCopyLosesNothing(t *testing.T) {
	open := func(dsn string) *gorm.DB {
		t.Helper()
		database, err := db.Open(t.Context(), dsn)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close(database)) })
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
	require.NoError(t, w.Activities.NoteFailure(t.Context(), models.Failure{IdentityID: ada.ID, LastAt: w.now, IPAddress: "203.0.113.7"}))
	_, err := w.Attempts.Take(t.Context(), models.Limit{Key: "x", Free: 5, Most: time.Minute})
	require.NoError(t, err)
	require.NoError(t, w.SigningKeys.Add(t.Context(), "key", []byte{1, 2}, 0, true))
	secret, err := w.Secrets.Get(t.Context(), "logout")
	require.NoError(t, err)

	postgres, back := open(pgtest.New(t)), open("sqlite:"+filepath.Join(t.TempDir(), "back.db"))
	there, err := models.Copy(t.Context(), w.db, postgres)
	require.NoError(t, err)
	again, err := models.Copy(t.Context(), postgres, back)
	require.NoError(t, err)

	require.Equal(t, there, again)
	for _, table := range there {
		require.Positive(t, table.Rows, "%s has something to lose", table.Table)
	}
	for _, copied := range []*gorm.DB{postgres, back} {
		store := models.New(copied, func() time.Time { return w.now })
		found, err := store.Sessions.ByToken(t.Context(), kept.Token)
		require.NoError(t, err)
		require.Equal(t, w.stored(kept), found)
		found, err = store.Sessions.ByToken(t.Context(), ended.Token)
		require.NoError(t, err)
		require.Equal(t, w.stored(ended), found)
		same, err := store.Secrets.Get(t.Context(), "logout")
		require.NoError(t, err)
		require.Equal(t, secret, same)
		deliveries, err := store.Deliveries.OfSession(t.Context(), ended.ID)
		require.NoError(t, err)
		want, err := w.Deliveries.OfSession(t.Context(), ended.ID)
		require.NoError(t, err)
		require.Equal(t, want, deliveries)
		last, err := store.Ends.Last(t.Context())
		require.NoError(t, err)
		require.NoError(t, store.Sessions.End(t.Context(), kept.ID, models.EndedByLogout))
		next, err := store.Ends.After(t.Context(), last, 10)
		require.NoError(t, err)
		require.Len(t, next, 1, "the numbers of ends go on")
	}

	_, err = models.Copy(t.Context(), w.db, postgres)
	require.ErrorIs(t, err, models.ErrNotEmpty)
}

// What only PostgreSQL needs, such as the rows that are locked, comes along and must fit everywhere.
func TestCopyFromPostgresAndBack(t *testing.T) {
	w := newWorldOn(t, pgtest.New(t))
	w.person("ada@example.com")
	require.NoError(t, w.SigningKeys.Add(t.Context(), "key", []byte{1, 2}, 0, true))
	file, back := newWorldOn(t, "sqlite:"+filepath.Join(t.TempDir(), "latchkey.db")), newWorldOn(t, pgtest.New(t))

	there, err := models.Copy(t.Context(), w.db, file.db)
	require.NoError(t, err)
	again, err := models.Copy(t.Context(), file.db, back.db)

	require.NoError(t, err)
	require.Equal(t, there, again)
	require.NoError(t, back.SigningKeys.Add(t.Context(), "next", []byte{3}, time.Hour, false))
}
