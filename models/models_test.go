package models_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"latchkey/db"
	"latchkey/models"
	"latchkey/test/kit"
)

// world is a store on a database of its own, with a clock that the test sets.
type world struct {
	*models.Store
	t        testing.TB
	database *db.DB
	db       *gorm.DB // of database, for what the store doesn't do
	now      time.Time
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldOn(t, kit.DatabaseURL(t, filepath.Join(t.TempDir(), "latchkey.db")))
}

func newWorldOn(t testing.TB, dsn string) *world {
	t.Helper()
	database, err := db.Open(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, database.Close()) })
	w := &world{t: t, database: database, db: database.Query(context.Background()), now: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)}
	w.Store = models.New(database, func() time.Time { return w.now })
	return w
}

// hash stands for everybody's password here; nothing in this package hashes.
const hash = "hash of correct horse battery"

func (w *world) person(email string) models.Identity {
	w.t.Helper()
	identity, _, err := w.Identities.Create(w.t.Context(), account(email))
	require.NoError(w.t, err)
	return identity
}

// account describes an account whose password has that hash.
func account(email string) models.NewIdentity {
	return models.NewIdentity{Email: email, Credential: models.NewCredential{Method: models.MethodPassword, Secret: hash}}
}

// password returns the credential that is somebody's password.
func (w *world) password(person models.Identity) models.Credential {
	w.t.Helper()
	found, err := w.Credentials.Of(w.t.Context(), person.ID, models.MethodPassword)
	require.NoError(w.t, err)
	require.Len(w.t, found, 1)
	return found[0]
}

// proof is that somebody has just entered their password.
func (w *world) proof(person models.Identity) models.Proof {
	w.t.Helper()
	credential := w.password(person)
	return models.Proof{Method: credential.Method, AAL: models.AAL1, Credential: credential.ID, Version: credential.Version,
		At: w.now.UTC().Truncate(time.Microsecond)}
}

// setPassword is what an operator does; end is whether sessions end.
func (w *world) setPassword(person models.Identity, secret string, end bool) {
	w.t.Helper()
	_, err := w.Credentials.Replace(w.t.Context(), models.CredentialChange{Credential: w.password(person).ID, Secret: secret, EndSessions: end})
	require.NoError(w.t, err)
}

// signIn describes a sign-in that lasts a day, or an hour without use.
func (w *world) signIn(identity models.Identity) models.SignIn {
	w.t.Helper()
	return models.SignIn{Identity: identity, Proof: w.proof(identity), Lifetime: 24 * time.Hour, Idle: time.Hour,
		IPAddress: "203.0.113.7", UserAgent: "Firefox"}
}

func (w *world) start(identity models.Identity) models.Session {
	w.t.Helper()
	session, err := w.Sessions.Start(w.t.Context(), w.signIn(identity))
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

// many gives a person so many sessions, as Start stores them, begun one after another.
func (w *world) many(person models.Identity, n int) []models.Session {
	w.t.Helper()
	var before models.Identity
	require.NoError(w.t, w.db.Take(&before, "id = ?", person.ID).Error)
	sessions := make([]models.Session, n)
	at := w.now.UTC().Truncate(time.Microsecond)
	proofs := models.Proofs(w.proof(person).String())
	for i := range sessions {
		token := rand.Text()
		sum := sha256.Sum256([]byte(token))
		sessions[i] = models.Session{ID: uuid.Must(uuid.NewV4()), Token: token, TokenHash: sum[:], IdentityID: person.ID, Identity: &person,
			AuthenticatedAt: at, ConfirmedAt: at, LastSeenAt: at, ExpiresAt: at.Add(time.Hour), LatestExpiresAt: at.Add(24 * time.Hour), IdleSeconds: 3600,
			Method: models.MethodPassword, Proofs: proofs, AAL: models.AAL1, IPAddress: "203.0.113.7", UserAgent: "Firefox",
			Number: before.LastSessionNumber + int64(i) + 1}
		at = at.Add(time.Microsecond)
	}
	require.NoError(w.t, w.db.Omit("Identity").CreateInBatches(sessions, 500).Error)
	require.NoError(w.t, w.db.Exec("UPDATE identities SET last_session_number = last_session_number + ? WHERE id = ?", n, person.ID).Error)
	return sessions
}

// sweep does what is done in the background.
func (w *world) sweep() {
	w.t.Helper()
	for n := 1; n > 0; {
		var err error
		n, err = w.Sessions.Sweep(w.t.Context(), 200)
		require.NoError(w.t, err)
	}
}

// count counts the rows of a table, or of "TABLE WHERE …".
func (w *world) count(table string, args ...any) (n int) {
	w.t.Helper()
	require.NoError(w.t, w.db.Raw("SELECT count(*) FROM "+table, args...).Scan(&n).Error)
	return n
}

// refuse makes what is done to a table, "INSERT" or "DELETE", fail until the function that it returns is called.
func (w *world) refuse(what, table string) (accept func()) {
	w.t.Helper()
	exec := func(statement string) { require.NoError(w.t, w.db.Exec(statement).Error) }
	if w.db.Name() == "sqlite" {
		exec("CREATE TRIGGER refusal BEFORE " + what + " ON " + table + " BEGIN SELECT RAISE(ABORT, 'refused here'); END")
		return func() { exec("DROP TRIGGER refusal") }
	}
	exec("CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused here'; END $$")
	exec("CREATE TRIGGER refusal BEFORE " + what + " ON " + table + " FOR EACH ROW EXECUTE FUNCTION refuse()")
	return func() { exec("DROP TRIGGER refusal ON " + table) }
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

func TestPingFailsWithItsDatabase(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.Ping(t.Context()), "without any account too")
	require.NoError(t, w.db.Migrator().DropTable("identities"))
	require.Error(t, w.Ping(t.Context()))
}
