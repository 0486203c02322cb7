package models_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"latchkey/models"
	"latchkey/test/kit"
)

// amid runs other in a transaction of its own, has do begin before that is committed, and returns
// when both are over: do must wait for it, or the test says nothing.
func (w *world) amid(other func(tx *gorm.DB), do func() error) {
	w.t.Helper()
	tx := w.db.WithContext(w.t.Context()).Begin()
	require.NoError(w.t, tx.Error)
	other(tx)
	done := make(chan error, 1)
	go func() { done <- do() }()
	require.Eventually(w.t, func() bool {
		var waiting int
		err := w.db.Raw(`SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
			WHERE NOT granted AND pg_backend_pid() <> pid AND ? = ANY(pg_blocking_pids(pid))`, pid(w.t, tx)).Scan(&waiting).Error
		return err == nil && waiting > 0
	}, 30*time.Second, time.Millisecond)
	require.NoError(w.t, tx.Commit().Error)
	require.NoError(w.t, <-done)
}

func pid(t testing.TB, tx *gorm.DB) (pid int) {
	t.Helper()
	require.NoError(t, tx.Raw("SELECT pg_backend_pid()").Scan(&pid).Error)
	return pid
}

// begun is a session as Start stores it.
func begun(who models.Identity, at time.Time) models.Session {
	return models.Session{ID: uuid.Must(uuid.NewV4()), TokenHash: []byte(strings.Repeat("h", 32)), IdentityID: who.ID,
		AuthenticatedAt: at, ConfirmedAt: at, LastSeenAt: at, ExpiresAt: at.Add(time.Hour), LatestExpiresAt: at.Add(time.Hour),
		Method: models.MethodPassword}
}

// An instance whose clock is a little behind notes the use of a session while another ends it, as one
// that has just run out.
func TestEndIsExactBesideANoteOfUse(t *testing.T) {
	w := newWorldOn(t, kit.PostgresURL(t))
	session := w.start(w.person("ada@example.com"))
	w.now = w.now.Add(time.Hour)

	w.amid(func(tx *gorm.DB) {
		require.NoError(t, tx.Exec("UPDATE sessions SET expires_at = ? WHERE id = ?", w.now.Add(time.Hour), session.ID).Error)
	}, func() error { return w.Sessions.End(t.Context(), session.ID, models.EndedByLogout) })

	require.False(t, w.active(session))
	require.Equal(t, models.EndedByLogout, w.stored(session).EndReason)
}

func TestDeletionTellsOfASessionThatBeganMeanwhile(t *testing.T) {
	w := newWorldOn(t, kit.PostgresURL(t))
	ada := w.person("ada@example.com")
	began := begun(ada, w.now)

	w.amid(func(tx *gorm.DB) {
		require.NoError(t, tx.Omit("Identity").Create(&began).Error)
	}, func() error { return w.Identities.Delete(t.Context(), ada.ID) })

	ends, err := w.Ends.After(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Len(t, ends, 1)
	require.Equal(t, began.ID, ends[0].SessionID)
}

// began starts a session in a transaction, as Start does.
func (w *world) began(tx *gorm.DB, session *models.Session) {
	w.t.Helper()
	require.NoError(w.t, tx.Raw("UPDATE identities SET last_session_number = last_session_number + 1 WHERE id = ? RETURNING last_session_number",
		session.IdentityID).Scan(&session.Number).Error)
	require.NoError(w.t, tx.Omit("Identity").Create(session).Error)
}

// Each way to end many waits for a sign-in that is about to be committed, and then ends it too.
func TestEndOfManyEndsASessionThatBeganMeanwhile(t *testing.T) {
	for name, way := range waysToEnd {
		if name == "receipt" { // the logout was before that sign-in
			continue
		}
		t.Run(name, func(t *testing.T) {
			w := newWorldOn(t, kit.PostgresURL(t))
			ada := w.person("ada@example.com")
			here := w.start(ada)
			meanwhile := begun(ada, w.now)

			w.amid(func(tx *gorm.DB) { w.began(tx, &meanwhile) }, func() error { return way.do(w, here, 1) })

			require.Equal(t, 1, w.count("ends WHERE session_id = ? AND reason = ?", meanwhile.ID, way.reason))
		})
	}
}

func TestReceiptEndsNoSessionThatBeganMeanwhile(t *testing.T) {
	w := newWorldOn(t, kit.PostgresURL(t))
	ada := w.person("ada@example.com")
	here, other := w.start(ada), w.start(ada)
	token := w.signOut(here)
	meanwhile := begun(ada, w.now)

	w.amid(func(tx *gorm.DB) { w.began(tx, &meanwhile) }, func() error {
		_, err := w.Sessions.EndOlder(t.Context(), token)
		return err
	})

	require.False(t, w.active(other))
	found, err := w.Sessions.ByID(t.Context(), meanwhile.ID)
	require.NoError(t, err)
	require.True(t, found.Active(w.now))
}

// A sign-in that has verified a password, and is about to start the session, comes too late.
func TestChangedOrRemovedCredentialOutrunsASignIn(t *testing.T) {
	for name, change := range map[string]string{
		"changed":  "UPDATE credentials SET version = version + 1, hash = 'another' WHERE identity_id = ?",
		"removed":  "DELETE FROM credentials WHERE identity_id = ?",
		"disabled": "UPDATE identities SET active = false WHERE id = ?",
	} {
		for what, do := range map[string]func(w *world, session models.Session, in models.SignIn) error{
			"start": func(w *world, _ models.Session, in models.SignIn) error {
				_, err := w.Sessions.Start(t.Context(), in)
				return err
			},
			"confirm": func(w *world, session models.Session, in models.SignIn) error {
				_, err := w.Sessions.Confirm(t.Context(), session, in.Proof)
				return err
			},
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				w := newWorldOn(t, kit.PostgresURL(t))
				ada := w.person("ada@example.com")
				session, in := w.start(ada), w.signIn(ada)

				w.amid(func(tx *gorm.DB) { require.NoError(t, tx.Exec(change, ada.ID).Error) }, func() error {
					require.ErrorIs(t, do(w, session, in), models.ErrChanged)
					return nil
				})
			})
		}
	}
}

func TestConfirmIsRefusedBelowAFloorThatIsRaisedMeanwhile(t *testing.T) {
	w := newWorldOn(t, kit.PostgresURL(t))
	ada := w.person("ada@example.com")
	session := w.start(ada)
	proof := w.proof(ada)
	w.amid(func(tx *gorm.DB) {
		require.NoError(t, tx.Exec("UPDATE identities SET session_floor = 7, last_session_number = 7 WHERE id = ?", ada.ID).Error)
	}, func() error {
		_, err := w.Sessions.Confirm(t.Context(), session, proof)
		require.ErrorIs(t, err, models.ErrNotFound)
		return nil
	})
}

// The operator of the database may have changed how transactions are kept apart by default: with one
// snapshot for all of its statements, a change would not see the sign-in that it has waited for.
func TestPasswordChangeEndsASessionThatBeganMeanwhile(t *testing.T) {
	for _, isolation := range []string{"read committed", "repeatable read", "serializable"} {
		t.Run(isolation, func(t *testing.T) {
			w := newWorldOn(t, kit.PostgresURL(t)+"&default_transaction_isolation="+url.PathEscape(isolation))
			ada := w.person("ada@example.com")
			began := begun(ada, w.now)

			w.amid(func(tx *gorm.DB) {
				require.NoError(t, tx.Exec("SELECT 1 FROM credentials WHERE identity_id = ? FOR SHARE", ada.ID).Error)
				require.NoError(t, tx.Omit("Identity").Create(&began).Error)
			}, func() error {
				_, err := w.Credentials.Replace(t.Context(), models.CredentialChange{Credential: w.password(ada).ID, Secret: "another", EndSessions: true})
				return err
			})

			found, err := w.Sessions.ByID(t.Context(), began.ID)
			require.NoError(t, err)
			require.Equal(t, models.EndedByPasswordChange, found.EndReason)
		})
	}
}
