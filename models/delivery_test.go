package models_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"latchkey/models"
)

// toldOf registers an app and ends so many sessions.
func toldOf(t *testing.T, w *world, app string, sessions int) {
	t.Helper()
	require.NoError(t, w.Apps.Add(t.Context(), models.App{Name: app, LogoutURL: "https://app.example.com/", Send: models.SendBoth}))
	ada := w.person(app + "@example.com")
	for range sessions {
		w.start(ada)
	}
	n, err := w.Sessions.EndAll(t.Context(), ada.ID)
	require.NoError(t, err)
	require.Equal(t, sessions, n)
}

func TestDeliveryIsClaimedOnce(t *testing.T) {
	w := newWorld(t)
	toldOf(t, w, "wiki", 40)
	var mu sync.Mutex
	claimed := map[uuid.UUID]int{}
	var working sync.WaitGroup
	for range 4 {
		working.Go(func() {
			instance := models.New(w.database, func() time.Time { return w.now })
			for {
				got, err := instance.Deliveries.Claim(t.Context(), "wiki", 3, time.Minute)
				if err != nil {
					t.Error(err)
				}
				if err != nil || len(got) == 0 {
					return
				}
				mu.Lock()
				for _, d := range got {
					claimed[d.ID]++
				}
				mu.Unlock()
			}
		})
	}
	working.Wait()

	require.Len(t, claimed, 40)
	for id, times := range claimed {
		require.Equal(t, 1, times, id)
	}
}

// A transaction that is run again may find less than the run before, which counts no more.
func TestClaimThatIsRunAgainReturnsOnlyWhatItHasClaimed(t *testing.T) {
	w := newWorld(t)
	toldOf(t, w, "wiki", 3)
	failed := false
	require.NoError(t, w.db.Callback().Raw().Before("gorm:raw").Register("test:fail", func(tx *gorm.DB) {
		if strings.Contains(tx.Statement.SQL.String(), "UPDATE deliveries") && !failed {
			failed = true
			w.now = w.now.Add(-time.Hour) // stands for: somebody else has claimed them meanwhile
			_ = tx.AddError(&pgconn.PgError{Code: "40001"})
		}
	}))

	claimed, err := w.Deliveries.Claim(t.Context(), "wiki", 3, time.Minute)

	require.NoError(t, err)
	require.True(t, failed)
	require.Empty(t, claimed)
	var leased int64
	require.NoError(t, w.db.Table("deliveries").Where("attempts > 0").Count(&leased).Error)
	require.Zero(t, leased)
	w.now = w.now.Add(time.Hour)
	claimed, err = w.Deliveries.Claim(t.Context(), "wiki", 3, time.Minute)
	require.NoError(t, err)
	require.Len(t, claimed, 3)
}

func TestAppsThatAreDue(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.Apps.Add(t.Context(), models.App{Name: "mail", LogoutURL: "https://mail.example.com/", Send: models.SendBoth}))
	toldOf(t, w, "wiki", 3) // and so is mail
	due := func() []string {
		names, err := w.Deliveries.Due(t.Context())
		require.NoError(t, err)
		return names
	}
	require.Equal(t, []string{"mail", "wiki"}, due(), "each once")

	for left := range 3 {
		require.Contains(t, due(), "wiki", "after %d", left)
		claimed, err := w.Deliveries.Claim(t.Context(), "wiki", 1, time.Minute)
		require.NoError(t, err)
		require.Len(t, claimed, 1)
	}

	require.Equal(t, []string{"mail"}, due(), "what is leased is not due")
	w.now = w.now.Add(time.Minute)
	require.Equal(t, []string{"mail", "wiki"}, due())
}

func TestDeliveryIsWrittenIfAndOnlyIfTheEndIs(t *testing.T) {
	w := newWorld(t)
	toldOf(t, w, "wiki", 2)
	bob := w.person("bob@example.com")
	session := w.start(bob)

	// The same transaction: what keeps the delivery from being written keeps the session.
	accept := w.refuse("INSERT", "deliveries")
	require.ErrorContains(t, w.Sessions.End(t.Context(), session.ID, models.EndedByLogout), "refused here")
	kept, err := w.Sessions.ByToken(t.Context(), session.Token)
	require.NoError(t, err)
	require.True(t, kept.Active(w.now))

	accept()
	require.NoError(t, w.Sessions.End(t.Context(), session.ID, models.EndedByLogout))
	require.NoError(t, w.Sessions.End(t.Context(), session.ID, models.EndedByOperator))
	told, err := w.Deliveries.OfSession(t.Context(), session.ID)
	require.NoError(t, err)
	require.Len(t, told, 1, "a session ends once")
	require.Equal(t, models.EndedByLogout, told[0].Reason)
	require.Equal(t, bob.ID, told[0].IdentityID)
}

func TestOldDeliveriesAreRemovedUnlessTheyWait(t *testing.T) {
	w := newWorld(t)
	toldOf(t, w, "wiki", 3)
	claimed, err := w.Deliveries.Claim(t.Context(), "wiki", 2, time.Minute)
	require.NoError(t, err)
	for _, d := range claimed {
		d.State = models.Delivered
		require.NoError(t, w.Deliveries.Settle(t.Context(), d.Job))
	}

	n, err := w.Deliveries.Prune(t.Context(), w.now.Add(time.Hour), 100)

	require.NoError(t, err)
	require.Equal(t, 2, n)
	left, err := w.Deliveries.Log(t.Context(), "", models.Pending, 100)
	require.NoError(t, err)
	require.Len(t, left, 1)
}
