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

func TestInspectFindsWhatIsThere(t *testing.T) {
	url := kit.DatabaseURL(t, filepath.Join(t.TempDir(), "latchkey.db"))
	w := newWorldOn(t, url)
	reader, err := db.OpenReadOnly(t.Context(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, reader.Close()) }()
	empty, err := models.Inspect(t.Context(), reader, w.now)
	require.NoError(t, err)
	require.Zero(t, empty.Accounts)
	require.Zero(t, empty.Newest)
	require.Empty(t, empty.Keys.Secrets)

	ada := w.person("ada@example.com")
	w.person("bob@example.com")
	w.start(ada)
	ended := w.start(ada)
	w.now = w.now.Add(time.Minute)
	require.NoError(t, w.Sessions.End(t.Context(), ended.ID, models.EndedByLogout))
	require.NoError(t, w.Apps.Add(t.Context(), models.App{Name: "wiki", LogoutURL: "https://wiki.example.com/logout", Send: models.SendBoth}))
	w.addKeys("first", "seal")

	found, err := models.Inspect(t.Context(), reader, w.now)
	require.NoError(t, err)
	require.EqualValues(t, 2, found.Accounts)
	require.EqualValues(t, 1, found.ActiveSessions)
	require.True(t, w.now.Equal(found.Newest), found.Newest)
	require.Len(t, found.Apps, 1)
	require.Equal(t, "https://wiki.example.com/logout", found.Apps[0].LogoutURL)
	require.Len(t, found.Keys.Secrets, 1)
	require.Equal(t, []byte{3, 4}, found.Keys.Secrets[0].Value)
	require.Len(t, found.Keys.Signing, 1)
	require.Equal(t, "first", found.Keys.Signing[0].ID)
}

func TestInspectCountsWhatIsThere(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.person("ada@example.com"), w.person("bob@example.com")
	w.many(ada, 300)
	w.start(bob)
	require.EqualValues(t, 301, w.inspect().ActiveSessions)
	_, err := w.Sessions.EndAll(t.Context(), ada.ID)
	require.NoError(t, err)
	require.EqualValues(t, 1, w.inspect().ActiveSessions, "those that are not swept have ended too")
	require.EqualValues(t, 2, w.inspect().Accounts)
	require.NoError(t, w.Identities.Delete(t.Context(), ada.ID))
	require.EqualValues(t, 1, w.inspect().Accounts)
	w.now = w.now.Add(2 * time.Hour)
	require.Zero(t, w.inspect().ActiveSessions)
}
