package models_test

import (
	"sync"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/stretchr/testify/require"

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
			instance := models.New(w.db, func() time.Time { return w.now })
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
	fill, empty := "CREATE TRIGGER brimful BEFORE INSERT ON deliveries BEGIN SELECT RAISE(ABORT, 'brimful'); END", "DROP TRIGGER brimful"
	if w.db.Name() == "postgres" {
		fill, empty = "ALTER TABLE deliveries ADD CONSTRAINT brimful CHECK (false) NOT VALID", "ALTER TABLE deliveries DROP CONSTRAINT brimful"
	}
	require.NoError(t, w.db.Exec(fill).Error)
	require.ErrorContains(t, w.Sessions.End(t.Context(), session.ID, models.EndedByLogout), "brimful")
	kept, err := w.Sessions.ByToken(t.Context(), session.Token)
	require.NoError(t, err)
	require.True(t, kept.Active(w.now))

	require.NoError(t, w.db.Exec(empty).Error)
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
		require.NoError(t, w.Deliveries.Settle(t.Context(), d))
	}

	n, err := w.Deliveries.Prune(t.Context(), w.now.Add(time.Hour), 100)

	require.NoError(t, err)
	require.Equal(t, 2, n)
	left, err := w.Deliveries.Log(t.Context(), "", models.Pending, 100)
	require.NoError(t, err)
	require.Len(t, left, 1)
}
