package models_test

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/stretchr/testify/require"

	"latchkey/models"
)

// fail notes a failed sign-in, now, from an address.
func (w *world) fail(person models.Identity, address string) {
	w.t.Helper()
	require.NoError(w.t, w.Activities.RecordFailure(w.t.Context(),
		models.Failure{IdentityID: person.ID, LastAt: w.now, IPAddress: address, UserAgent: "Firefox"}))
}

func (w *world) activities(person models.Identity, since time.Duration, limit int) []models.Activity {
	w.t.Helper()
	found, err := w.Activities.Of(w.t.Context(), person.ID, w.now.Add(-since), limit)
	require.NoError(w.t, err)
	return found
}

func TestFailuresInOnePlaceWithinAnHourAreOneEntry(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.person("ada@example.com"), w.person("bob@example.com")
	begin := w.now
	w.fail(ada, "203.0.113.7")
	w.now = begin.Add(time.Hour - time.Second)
	w.fail(ada, "203.0.113.7")
	w.fail(ada, "203.0.113.8")
	w.fail(bob, "203.0.113.7")
	w.now = begin.Add(time.Hour)
	w.fail(ada, "203.0.113.7")

	found := w.activities(ada, 24*time.Hour, 10)

	require.Len(t, found, 3)
	counts := map[string][]int{}
	for _, v := range found {
		require.Equal(t, models.SignInFailed, v.Kind)
		counts[v.IPAddress] = append(counts[v.IPAddress], v.Count)
	}
	require.Equal(t, map[string][]int{"203.0.113.7": {1, 2}, "203.0.113.8": {1}}, counts)
	require.True(t, found[0].At.Equal(w.now))
	require.True(t, found[2].At.Equal(begin.Add(time.Hour-time.Second)) || found[1].At.Equal(begin.Add(time.Hour-time.Second)), "of the last one")
}

func TestFailuresAtOnceAreAllCounted(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	require.NoError(t, errors.Join(together(20, func(int) error {
		return w.Activities.RecordFailure(t.Context(), models.Failure{IdentityID: ada.ID, LastAt: w.now, IPAddress: "203.0.113.7", UserAgent: "Firefox"})
	})...))
	found := w.activities(ada, time.Hour, 10)
	require.Len(t, found, 1)
	require.Equal(t, 20, found[0].Count)
}

func TestFailuresDoNotFillTheDatabase(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.person("ada@example.com"), w.person("bob@example.com")
	w.fail(bob, "203.0.113.7")
	many := make([]models.Failure, 200)
	for i := range many {
		many[i] = models.Failure{ID: uuid.Must(uuid.NewV4()), IdentityID: ada.ID, FirstAt: w.now, LastAt: w.now, Count: 1, IPAddress: strconv.Itoa(i)}
		w.now = w.now.Add(time.Second)
	}
	require.NoError(t, w.db.CreateInBatches(many, 100).Error)
	w.fail(ada, "203.0.113.7")
	w.now = w.now.Add(time.Second)
	w.fail(ada, "203.0.113.8")
	found := w.activities(ada, time.Hour, 1000)
	require.Len(t, found, 200)
	require.True(t, found[0].At.Equal(w.now), "the newest are kept")
	require.Equal(t, "2", found[199].IPAddress, "and the oldest are not")
	require.Len(t, w.activities(bob, time.Hour, 1000), 1)
}

func TestFailureOfNobodyIsNotFound(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	require.NoError(t, w.Identities.Delete(t.Context(), ada.ID))
	for _, id := range []uuid.UUID{uuid.Nil, ada.ID} {
		err := w.Activities.RecordFailure(t.Context(), models.Failure{IdentityID: id, LastAt: w.now})
		require.ErrorIs(t, err, models.ErrNotFound)
	}
}

func TestActivityIsNewestFirstAndWithinItsLimits(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.person("ada@example.com"), w.person("bob@example.com")
	begin := w.now
	first := w.start(ada)
	w.start(bob)
	w.now = begin.Add(time.Minute)
	w.fail(ada, "203.0.113.7")
	w.now = begin.Add(2 * time.Minute)
	require.NoError(t, w.Sessions.End(t.Context(), first.ID, models.EndedByLogout))
	w.now = begin.Add(3 * time.Minute)
	second := w.start(ada)
	w.now = begin.Add(2 * time.Hour) // past the hour that it lasts unused, and nobody has marked it yet

	found := w.activities(ada, 24*time.Hour, 10)

	kinds := make([]models.ActivityKind, len(found))
	for i := range found {
		kinds[i] = found[i].Kind
	}
	require.Equal(t, []models.ActivityKind{models.SessionEnded, models.SignedIn, models.SessionEnded, models.SignInFailed, models.SignedIn}, kinds)
	require.Equal(t, []models.Reason{models.Expired, models.EndedByLogout}, []models.Reason{found[0].Reason, found[2].Reason})
	require.True(t, found[0].At.Equal(second.ExpiresAt), "when it ran out")
	require.Equal(t, []uuid.UUID{second.ID, second.ID, first.ID, first.ID}, []uuid.UUID{found[0].SessionID, found[1].SessionID, found[2].SessionID, found[4].SessionID})
	require.Equal(t, found[:2], w.activities(ada, 24*time.Hour, 2))
	require.Len(t, w.activities(ada, 2*time.Hour-time.Minute, 10), 3, "since a time")

	_, err := w.Sessions.Expire(t.Context(), 10)
	require.NoError(t, err)
	require.Equal(t, found, w.activities(ada, 24*time.Hour, 10), "marking it changes nothing")
}

func TestPruneFailures(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	w.fail(ada, "203.0.113.7")
	w.fail(ada, "203.0.113.8")
	w.now = w.now.Add(2 * time.Hour)
	w.fail(ada, "203.0.113.9")
	for _, want := range []int{1, 1, 0} {
		n, err := w.Activities.PruneFailures(t.Context(), w.now.Add(-time.Hour), 1)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	require.Len(t, w.activities(ada, 24*time.Hour, 10), 1)
}
