package db_test

import (
	"bytes"
	"encoding/base32"
	"path/filepath"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/stretchr/testify/require"

	"latchkey/db"
	"latchkey/models"
	"latchkey/test/kit"
)

// oldDatabase returns the URL of a database as it was before a migration, that the statements are executed on.
func oldDatabase(t *testing.T, migration string, fill func(exec func(statement string, args ...any))) string {
	t.Helper()
	url := kit.DatabaseURL(t, filepath.Join(t.TempDir(), "latchkey.db"))
	old, err := db.OpenBefore(t.Context(), url, migration)
	require.NoError(t, err)
	fill(func(statement string, args ...any) {
		t.Helper()
		require.NoError(t, old.Query(t.Context()).Exec(statement, args...).Error)
	})
	require.NoError(t, old.Close())
	return url
}

func openStore(t *testing.T, url string, now time.Time) (*models.Store, *db.DB) {
	t.Helper()
	database, err := db.Open(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, database.Close()) })
	return models.New(database, func() time.Time { return now }), database
}

const (
	insertIdentity = `INSERT INTO identities (id, email, name, groups, active, state_changed_at, created_at, updated_at)
		VALUES (?, ?, '', 'staff', true, ?, ?, ?)`
	insertCredential = `INSERT INTO credentials (identity_id, method, hash, created_at, updated_at) VALUES (?, 'password', ?, ?, ?)`
	insertSession    = `INSERT INTO sessions (id, token_hash, identity_id, authenticated_at, confirmed_at, last_seen_at, expires_at, idle_seconds,
		latest_expires_at, remember, method, ip_address, user_agent, end_reason) VALUES (?, ?, ?, ?, ?, ?, ?, 3600, ?, false, 'password', '', '', '')`
)

var when = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

func TestAccountsOfTheVersionBefore(t *testing.T) {
	ada, jose, twin := uuid.Must(uuid.NewV4()), uuid.Must(uuid.NewV4()), uuid.Must(uuid.NewV4())
	bob := uuid.Must(uuid.NewV4())
	url := oldDatabase(t, "202611250003_identity", func(exec func(string, ...any)) {
		for id, email := range map[uuid.UUID]string{ada: "ada@example.com", jose: "jose\u0301@example.com",
			twin: "rene\u0301@example.com", bob: "ren\u00e9@example.com"} {
			exec(insertIdentity, id, email, when, when, when)
			exec(insertCredential, id, "hash of "+email, when, when)
		}
		exec(insertSession, uuid.Must(uuid.NewV4()), bytes.Repeat([]byte{1}, 32), ada, when, when, when, when.Add(time.Hour), when.Add(time.Hour))
	})

	store, _ := openStore(t, url, when)

	for login, id := range map[string]uuid.UUID{"ada@example.com": ada, "jos\u00e9@example.com": jose, "jose\u0301@example.com": jose, "ren\u00e9@example.com": bob} {
		found, err := store.Identities.ByLogin(t.Context(), login)
		require.NoError(t, err, login)
		require.Equal(t, id, found.ID, login)
		addresses, err := store.Identities.Addresses(t.Context(), id)
		require.NoError(t, err)
		require.Len(t, addresses, 1)
		require.Equal(t, found.Email, addresses[0].Value)
		require.True(t, addresses[0].Primary)
		require.Nil(t, addresses[0].VerifiedAt)
		require.True(t, addresses[0].CreatedAt.Equal(when))
	}
	people, err := store.Identities.List(t.Context())
	require.NoError(t, err)
	require.Len(t, people, 4, "those whose addresses differ in their form alone stay apart")
	ids := map[uuid.UUID]bool{}
	for _, person := range people {
		require.Equal(t, models.Groups{"staff"}, person.Groups)
		require.Empty(t, person.Username)
		found, err := store.Credentials.Of(t.Context(), person.ID, models.MethodPassword)
		require.NoError(t, err)
		require.Len(t, found, 1)
		require.Contains(t, found[0].Secret, "hash of ")
		require.Equal(t, 1, found[0].Version)
		require.False(t, ids[found[0].ID])
		ids[found[0].ID] = true
	}
	active, err := store.Sessions.AllActive(t.Context(), "ada@example.com")
	require.NoError(t, err)
	require.Len(t, active, 1)
	require.Equal(t, []models.Proof{{Method: models.MethodPassword, AAL: models.AAL1, At: when}}, active[0].Proved())
	require.True(t, active[0].Active(when), "nobody is signed out")
}

// During an upgrade the version before goes on writing.
func TestVersionBeforeWritesBesideThisOne(t *testing.T) {
	ada, bob := uuid.Must(uuid.NewV4()), uuid.Must(uuid.NewV4())
	url := oldDatabase(t, "202611250003_identity", func(exec func(string, ...any)) {
		exec(insertIdentity, ada, "ada@example.com", when, when, when)
		exec(insertCredential, ada, "hash", when, when)
	})
	store, database := openStore(t, url, when)
	exec := func(statement string, args ...any) {
		t.Helper()
		require.NoError(t, database.Query(t.Context()).Exec(statement, args...).Error)
	}

	exec(insertIdentity, bob, "bob@example.com", when, when, when)
	exec(insertCredential, bob, "hash", when, when)
	exec(insertSession, uuid.Must(uuid.NewV4()), bytes.Repeat([]byte{1}, 32), bob, when, when, when, when.Add(time.Hour), when.Add(time.Hour))
	exec("UPDATE credentials SET hash = 'another' WHERE identity_id = ? AND method = 'password'", ada)

	found, err := store.Identities.ByLogin(t.Context(), "bob@example.com")
	require.NoError(t, err)
	require.Equal(t, bob, found.ID)
	credentials, err := store.Credentials.Of(t.Context(), bob, models.MethodPassword)
	require.NoError(t, err)
	require.Len(t, credentials, 1)
	require.NotEqual(t, uuid.Nil, credentials[0].ID)
	active, err := store.Sessions.AllActive(t.Context(), "")
	require.NoError(t, err)
	require.Len(t, active, 1)
	require.True(t, active[0].Active(when))
	changed, err := store.Credentials.Of(t.Context(), ada, models.MethodPassword)
	require.NoError(t, err)
	require.Equal(t, "another", changed[0].Secret)
}

// A link that has been printed goes on working.
func TestSetupLinkOfTheVersionBefore(t *testing.T) {
	secret := bytes.Repeat([]byte{7}, 32)
	url := oldDatabase(t, "202611250004_ending", func(exec func(string, ...any)) {
		exec("INSERT INTO secrets (name, value, created_at) VALUES ('setup', ?, ?), ('seal', ?, ?)", secret, when, secret, when)
	})

	store, database := openStore(t, url, when)

	printed := base32.StdEncoding.EncodeToString(secret)[:26]
	token, err := store.Identities.SetupToken(t.Context())
	require.NoError(t, err)
	require.Equal(t, printed, token)
	var names []string
	require.NoError(t, database.Query(t.Context()).Table("secrets").Pluck("name", &names).Error)
	require.Equal(t, []string{"seal"}, names)
	_, _, err = store.Identities.Create(t.Context(), models.NewIdentity{Email: "ada@example.com",
		Credential: models.NewCredential{Method: models.MethodPassword, Secret: "hash"}, SetupToken: printed})
	require.NoError(t, err)
}

// The check of a database and of a backup migrates nothing.
func TestOlderSchemaCanBeInspected(t *testing.T) {
	ada := uuid.Must(uuid.NewV4())
	url := oldDatabase(t, "202611250002_keys", func(exec func(string, ...any)) {
		exec(insertIdentity, ada, "ada@example.com", when, when, when)
		exec(insertSession, uuid.Must(uuid.NewV4()), bytes.Repeat([]byte{1}, 32), ada, when, when, when, when.Add(time.Hour), when.Add(time.Hour))
	})
	reader, err := db.OpenReadOnly(t.Context(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, reader.Close()) }()

	contents, err := models.Inspect(t.Context(), reader, when)

	require.NoError(t, err)
	require.EqualValues(t, 1, contents.Accounts)
	require.EqualValues(t, 1, contents.ActiveSessions)
}
