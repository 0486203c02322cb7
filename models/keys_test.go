package models_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"latchkey/db"
	"latchkey/models"
	"latchkey/test/kit"
)

// newKeyStore returns a store on a database of its own, and what reads and writes it past the store.
func newKeyStore(t *testing.T, now *time.Time) (*models.Store, *gorm.DB) {
	t.Helper()
	database, err := db.Open(t.Context(), kit.DatabaseURL(t, filepath.Join(t.TempDir(), "latchkey.db")))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, database.Close()) })
	return models.New(database, func() time.Time { return *now }), database.Query(t.Context())
}

// addKeys adds a signing key and a secret, beside those that are there.
func (w *world) addKeys(signing, secret string) {
	w.t.Helper()
	require.NoError(w.t, w.ChangeKeys(w.t.Context(), func(now time.Time, k models.Keys) (models.Keys, error) {
		k.Signing = append(k.Signing, models.SigningKey{ID: signing, Algorithm: "ES256", PrivateKey: []byte{1, 2}, CreatedAt: now})
		k.Secrets = append(k.Secrets, models.Secret{Name: secret, Value: []byte{3, 4}, CreatedAt: now})
		return k, nil
	}))
}

func TestKeysAreWhatTheLastChangeMadeOfThem(t *testing.T) {
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	store, _ := newKeyStore(t, &now)
	change := func(to models.Keys) models.Keys {
		t.Helper()
		require.NoError(t, store.ChangeKeys(t.Context(), func(time.Time, models.Keys) (models.Keys, error) { return to, nil }))
		keys, err := store.Keys(t.Context())
		require.NoError(t, err)
		return keys
	}
	later := now.Add(time.Hour)
	first := models.Keys{
		Signing: []models.SigningKey{{ID: "a", Algorithm: "ES256", PrivateKey: []byte{1}, CreatedAt: now}},
		Secrets: []models.Secret{{Name: "seal", Value: []byte{2}, CreatedAt: now}},
	}
	require.Equal(t, first, change(first))

	second := models.Keys{
		Signing: []models.SigningKey{{ID: "b", Algorithm: "RS256", PrivateKey: []byte{3}, CreatedAt: now, Sealed: "x"},
			{ID: "a", Algorithm: "ES256", PrivateKey: []byte{4}, CreatedAt: now, RetiresAt: &later, Sealed: "x"}},
		Secrets: []models.Secret{{Name: "seal", Value: []byte{5}, CreatedAt: now, Sealed: "x"},
			{Name: "seal:1", Value: []byte{6}, CreatedAt: now, RetiresAt: &later, Sealed: "x"}},
	}
	require.Equal(t, second, change(second), "the current ones come first")
	require.Equal(t, models.SecretSeal, second.Secrets[1].Kind())
	require.Equal(t, first, change(first))
}

func TestRetiredKeysAreNotFoundAndThenRemoved(t *testing.T) {
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	store, db := newKeyStore(t, &now)
	soon := now.Add(time.Hour)
	require.NoError(t, store.ChangeKeys(t.Context(), func(time.Time, models.Keys) (models.Keys, error) {
		return models.Keys{
			Signing: []models.SigningKey{{ID: "a", Algorithm: "ES256", PrivateKey: []byte{1}, CreatedAt: now, RetiresAt: &soon}},
			Secrets: []models.Secret{{Name: "seal:1", Value: []byte{2}, CreatedAt: now, RetiresAt: &soon}},
		}, nil
	}))
	now = soon

	signing, err := store.SigningKeys.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, signing)
	secrets, err := store.Secrets.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, secrets)
	require.NoError(t, store.ChangeKeys(t.Context(), func(_ time.Time, k models.Keys) (models.Keys, error) { return k, nil }))

	for _, table := range []string{"signing_keys", "secrets"} {
		var left int64
		require.NoError(t, db.Table(table).Count(&left).Error)
		require.Zero(t, left, table)
	}
}

func TestKeysThatSeveralChangeAtOnceAreAllThere(t *testing.T) {
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	store, _ := newKeyStore(t, &now)
	errs := make(chan error, 8)
	for i := range cap(errs) {
		go func() {
			errs <- store.ChangeKeys(t.Context(), func(now time.Time, k models.Keys) (models.Keys, error) {
				k.Secrets = append(k.Secrets, models.Secret{Name: "seal:" + string(rune('a'+i)), Value: []byte{byte(len(k.Secrets))}, CreatedAt: now})
				return k, nil
			})
		}()
	}
	for range cap(errs) {
		require.NoError(t, <-errs)
	}

	secrets, err := store.Secrets.List(t.Context())

	require.NoError(t, err)
	seen := map[byte]bool{}
	for _, secret := range secrets {
		seen[secret.Value[0]] = true
	}
	require.Len(t, seen, cap(errs), "each saw what those before it had done")
}

func TestKeysStayWhenTheirChangeFails(t *testing.T) {
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	store, _ := newKeyStore(t, &now)
	wrong := errors.New("wrong")

	err := store.ChangeKeys(t.Context(), func(time.Time, models.Keys) (models.Keys, error) {
		return models.Keys{Secrets: []models.Secret{{Name: "seal", Value: []byte{1}}}}, wrong
	})

	require.ErrorIs(t, err, wrong)
	keys, err := store.Keys(t.Context())
	require.NoError(t, err)
	require.Empty(t, keys.Secrets)
}

// The version before makes the secrets that it lacks without a lock.
func TestKeyThatTheVersionBeforeHasMadeStays(t *testing.T) {
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	store, db := newKeyStore(t, &now)

	require.NoError(t, store.ChangeKeys(t.Context(), func(_ time.Time, k models.Keys) (models.Keys, error) {
		if db.Name() == "sqlite" { // where it can't come in between
			return k, nil
		}
		return models.Keys{Secrets: []models.Secret{{Name: "seal", Value: []byte{2}, CreatedAt: now}}},
			db.Exec("INSERT INTO secrets (name, value, created_at) VALUES ('seal', ?, ?)", []byte{1}, now).Error
	}))

	if db.Name() != "sqlite" {
		secrets, err := store.Secrets.List(t.Context())
		require.NoError(t, err)
		require.Equal(t, []byte{1}, secrets[0].Value)
	}
}

func TestKeysOfAnOlderSchemaCanBeInspected(t *testing.T) {
	dsn := kit.DatabaseURL(t, filepath.Join(t.TempDir(), "latchkey.db"))
	database, err := db.Open(t.Context(), dsn)
	require.NoError(t, err)
	for _, statement := range []string{
		"ALTER TABLE secrets DROP COLUMN retires_at", "ALTER TABLE secrets DROP COLUMN sealed",
		"ALTER TABLE signing_keys DROP COLUMN algorithm", "ALTER TABLE signing_keys DROP COLUMN sealed",
	} {
		require.NoError(t, database.Query(t.Context()).Exec(statement).Error)
	}
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	require.NoError(t, database.Query(t.Context()).Exec("INSERT INTO secrets (name, value, created_at) VALUES ('seal', ?, ?), ('setup', ?, ?)", []byte{1}, now, []byte{1}, now).Error)
	require.NoError(t, database.Query(t.Context()).Exec("INSERT INTO signing_keys (id, private_key, created_at) VALUES ('a', ?, ?)", []byte{1}, now).Error)
	require.NoError(t, database.Close())
	reader, err := db.OpenReadOnly(t.Context(), dsn)
	require.NoError(t, err)
	defer reader.Close()

	contents, err := models.Inspect(t.Context(), reader, now)

	require.NoError(t, err)
	require.Len(t, contents.Keys.Signing, 1)
	require.Equal(t, "ES256", contents.Keys.Signing[0].Algorithm)
	require.Equal(t, []byte{1}, contents.Keys.Signing[0].PrivateKey)
	require.Len(t, contents.Keys.Secrets, 1)
	require.Equal(t, []byte{1}, contents.Keys.Secrets[0].Value)
	require.Empty(t, contents.Keys.Secrets[0].Sealed)
}
