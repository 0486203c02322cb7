package models_test

import (
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"latchkey/db"
	"latchkey/db/pgtest"
	"latchkey/models"
)

// world is a store on a database of its own, with a clock that the test sets.
type world struct {
	*models.Store
	t   *testing.T
	db  *gorm.DB
	now time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOn(t, pgtest.DSN(t, filepath.Join(t.TempDir(), "latchkey.db")))
}

func newWorldOn(t *testing.T, dsn string) *world {
	t.Helper()
	database, err := db.Open(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close(database)) })
	w := &world{t: t, db: database, now: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)}
	w.Store = models.New(database, func() time.Time { return w.now })
	return w
}

// hash stands for everybody's password here; nothing in this package hashes.
const hash = "hash of correct horse battery"

func (w *world) person(email string) models.Identity {
	w.t.Helper()
	identity, err := w.Identities.Create(w.t.Context(), email, "", hash, false)
	require.NoError(w.t, err)
	return identity
}

// signIn describes a sign-in that lasts a day, or an hour without use.
func signIn(identity models.Identity) models.SignIn {
	return models.SignIn{Identity: identity, PasswordHash: hash, Lifetime: 24 * time.Hour, Idle: time.Hour,
		IPAddress: "203.0.113.7", UserAgent: "Firefox"}
}

func (w *world) start(identity models.Identity) models.Session {
	w.t.Helper()
	session, err := w.Sessions.Start(w.t.Context(), signIn(identity))
	require.NoError(w.t, err)
	return session
}

// stored returns what is stored of a session.
func (w *world) stored(session models.Session) models.Session {
	w.t.Helper()
	found, err := w.Sessions.ByToken(w.t.Context(), session.Token)
	require.NoError(w.t, err)
	return found
}

func (w *world) active(session models.Session) bool {
	w.t.Helper()
	found := w.stored(session)
	return found.Active(w.now)
}

// together calls do n times at once and returns its errors.
func together(n int, do func(i int) error) []error {
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { errs[i] = do(i) })
	}
	all.Wait()
	return errs
}

func TestTimesAreStoredToTheMicrosecondInUTC(t *testing.T) {
	w := newWorld(t)
	w.now = time.Date(2026, 11, 22, 10, 0, 0, 123456789, time.FixedZone("CET", 3600))

	started := w.start(w.person("ada@example.com"))

	want := time.Date(2026, 11, 22, 9, 0, 0, 123456000, time.UTC)
	require.Equal(t, want, started.AuthenticatedAt)
	found := w.stored(started)
	require.True(t, want.Equal(found.AuthenticatedAt), found.AuthenticatedAt)
	require.Equal(t, 0, offset(found.AuthenticatedAt))
	require.Equal(t, 0, offset(found.Identity.CreatedAt))
}

func offset(t time.Time) int {
	_, seconds := t.Zone()
	return seconds
}

func TestSecretIsTheSameForAll(t *testing.T) {
	w := newWorld(t)
	keys := make([][]byte, 8)
	for _, err := range together(len(keys), func(i int) (err error) {
		keys[i], err = w.Secrets.Get(t.Context(), "seal")
		return err
	}) {
		require.NoError(t, err)
	}
	require.Len(t, keys[0], 32)
	for _, key := range keys {
		require.Equal(t, keys[0], key)
	}
	other, err := w.Secrets.Get(t.Context(), "other")
	require.NoError(t, err)
	require.NotEqual(t, keys[0], other)
}

func TestPingFailsWithItsDatabase(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.Ping(t.Context()), "without any account too")
	require.NoError(t, w.db.Migrator().DropTable("identities"))
	require.Error(t, w.Ping(t.Context()))
}
