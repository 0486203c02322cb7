package db_test

import (
	"crypto/sha256"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"latchkey/db"
	"latchkey/models"
	"latchkey/test/kit"
)

const sessionQuery = `SELECT s.id, s.authenticated_at, s.confirmed_at, s.last_seen_at, s.expires_at, s.idle_seconds,
	s.latest_expires_at, s.remember, s.method, s.ip_address, s.user_agent, s.ended_at, s.end_reason,
	i.id, i.email, i.name, i.groups, i.active, i.state_changed_at, i.created_at, i.updated_at
	FROM sessions s JOIN identities i ON i.id = s.identity_id WHERE s.token_hash = $1`

// columns are where those of sessionQuery go; groups is for a column that has a type of its own.
func columns(s *models.Session, groups *string) []any {
	return []any{&s.ID, &s.AuthenticatedAt, &s.ConfirmedAt, &s.LastSeenAt, &s.ExpiresAt, &s.IdleSeconds,
		&s.LatestExpiresAt, &s.Remember, &s.Method, &s.IPAddress, &s.UserAgent, &s.EndedAt, (*string)(&s.EndReason),
		&s.Identity.ID, &s.Identity.Email, &s.Identity.Name, groups, &s.Identity.Active,
		&s.Identity.StateChangedAt, &s.Identity.CreatedAt, &s.Identity.UpdatedAt}
}

// BenchmarkReadRow reads one of 1,000 sessions by its token, as each request of each app does.
func BenchmarkReadRow(b *testing.B) {
	database, hash := sessions(b)
	b.Run("ReadRow", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			session, groups := models.Session{Identity: new(models.Identity)}, ""
			require.NoError(b, database.ReadRow(b.Context(), sessionQuery, hash, columns(&session, &groups)...))
		}
	})
	b.Run("ReadRow parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				session, groups := models.Session{Identity: new(models.Identity)}, ""
				require.NoError(b, database.ReadRow(b.Context(), sessionQuery, hash, columns(&session, &groups)...))
			}
		})
	})
	b.Run("database-sql", func(b *testing.B) {
		b.ReportAllocs()
		statement, err := database.Pool().PrepareContext(b.Context(), sessionQuery)
		require.NoError(b, err)
		defer statement.Close()
		for b.Loop() {
			session, groups := models.Session{Identity: new(models.Identity)}, ""
			require.NoError(b, statement.QueryRowContext(b.Context(), hash).Scan(columns(&session, &groups)...))
		}
	})
	b.Run("gorm", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, err := gorm.G[models.Session](database.Query(b.Context())).
				Joins(clause.Has("Identity"), nil).Where("token_hash = ?", hash).Take(b.Context())
			require.NoError(b, err)
		}
	})
}

// sessions makes a database of 1,000 sessions, and returns the hash of one's token.
func sessions(b *testing.B) (*db.DB, []byte) {
	b.Helper()
	database, err := db.Open(b.Context(), kit.DatabaseURL(b, filepath.Join(b.TempDir(), "latchkey.db")))
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, database.Close()) })
	store := models.New(database, time.Now)
	ada, credential, err := store.Identities.Create(b.Context(), models.NewIdentity{Email: "ada@example.com", Name: "Ada Lovelace",
		Credential: models.NewCredential{Method: models.MethodPassword, Secret: "hash"}})
	require.NoError(b, err)
	proof := models.Proof{Method: models.MethodPassword, AAL: models.AAL1, Credential: credential.ID, Version: credential.Version, At: time.Now()}
	var last models.Session
	for range 1000 {
		last, err = store.Sessions.Start(b.Context(), models.SignIn{Identity: ada, Proof: proof, Limit: 1000, Lifetime: 24 * time.Hour, Idle: time.Hour,
			IPAddress: "203.0.113.7", UserAgent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"})
		require.NoError(b, err)
	}
	hash := sha256.Sum256([]byte(last.Token))
	return database, hash[:]
}
