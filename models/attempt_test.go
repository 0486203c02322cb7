package models_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"latchkey/models"
)

func (w *world) take(source models.Limit, others ...models.Limit) time.Duration {
	w.t.Helper()
	wait, err := w.Attempts.Take(w.t.Context(), source, others...)
	require.NoError(w.t, err)
	return wait
}

func TestWaitsDoubleUpToTheMost(t *testing.T) {
	w := newWorld(t)
	limit := models.Limit{Key: "ada", Free: 3, Most: 10 * time.Second}
	for range limit.Free {
		require.Zero(t, w.take(limit))
	}
	for _, want := range []time.Duration{1, 2, 4, 8, 10, 10} {
		require.Zero(t, w.take(limit), "the one after which there is a wait")
		require.Equal(t, want*time.Second, w.take(limit))
		w.now = w.now.Add(want*time.Second - time.Millisecond)
		require.Equal(t, time.Millisecond, w.take(limit), "asking does not lengthen it")
		w.now = w.now.Add(time.Millisecond)
	}
}

func TestWaitOfManyFailuresDoesNotOverflow(t *testing.T) {
	w := newWorld(t)
	limit := models.Limit{Key: "ada", Free: 0, Most: time.Minute}
	for range 200 {
		require.Zero(t, w.take(limit))
		w.now = w.now.Add(time.Minute)
	}
	require.Zero(t, w.take(limit))
	require.Equal(t, time.Minute, w.take(limit))
}

func TestFailuresAreForgottenAfterADay(t *testing.T) {
	w := newWorld(t)
	limit := models.Limit{Key: "ada", Free: 0, Most: 48 * time.Hour}
	for range 30 { // with a wait that would be longer than a day
		w.take(limit)
		w.now = w.now.Add(time.Second)
	}
	w.now = w.now.Add(24 * time.Hour)
	require.Zero(t, w.take(limit))
	require.Equal(t, time.Second, w.take(limit), "it begins anew")
}

// Of many people behind one address somebody is always mistyping.
func TestFailuresOfABusyNetworkAreForgottenToo(t *testing.T) {
	w := newWorld(t)
	network := models.Limit{Key: "network", Free: 50, Most: time.Minute}
	for range 30 * 24 { // hours
		require.Zero(t, w.take(network))
		for range 3 {
			require.Zero(t, w.take(network))
			require.NoError(t, w.Attempts.Succeeded(t.Context(), nil, []string{"network"}))
		}
		w.now = w.now.Add(time.Hour)
	}
}

// A clock that was wrong for a while must not keep anybody out for longer than the limit says.
func TestClockSetBackLengthensNoWait(t *testing.T) {
	w := newWorld(t)
	limit := models.Limit{Key: "ada", Free: 0, Most: time.Minute}
	w.now = w.now.AddDate(10, 0, 0)
	require.Zero(t, w.take(limit))
	w.now = w.now.AddDate(-10, 0, 0)

	require.LessOrEqual(t, w.take(limit), limit.Most)
}

func TestParallelTriesDoNotOutrunTheCount(t *testing.T) {
	w := newWorld(t)
	limit := models.Limit{Key: "ada", Free: 5, Most: time.Minute}
	var passed atomic.Int64
	for _, err := range together(40, func(int) error {
		wait, err := w.Attempts.Take(t.Context(), limit, models.Limit{Key: "network", Free: 100, Most: time.Minute})
		if err == nil && wait == 0 {
			passed.Add(1)
		}
		return err
	}) {
		require.NoError(t, err)
	}
	require.EqualValues(t, limit.Free+1, passed.Load())
}

func TestWhoWaitsForOneLimitCountsForNone(t *testing.T) {
	w := newWorld(t)
	network := models.Limit{Key: "network", Free: 3, Most: time.Minute}
	ada, bob := models.Limit{Key: "ada", Free: 0, Most: time.Minute}, models.Limit{Key: "bob", Free: 9, Most: time.Minute}
	require.Zero(t, w.take(network, ada))
	for range 20 {
		require.NotZero(t, w.take(network, ada))
	}
	for range 3 {
		require.Zero(t, w.take(network, bob), "the network has tries left")
	}
	require.NotZero(t, w.take(network, bob))
}

func TestOthersOnlyLengthenTheWaitsOfASourceThatFailsItself(t *testing.T) {
	w := newWorld(t)
	account := models.Limit{Key: "account", Free: 3, Most: 4 * time.Minute, Slows: time.Minute}
	source := func(name string) models.Limit { return models.Limit{Key: name, Free: 2, Most: 8 * time.Second} }
	for _, botnet := range []string{"a", "b", "c", "d"} {
		require.Zero(t, w.take(source(botnet), account))
	}

	for range 3 {
		require.Zero(t, w.take(source("ada"), account), "whatever others have done, her first failures are free")
	}
	for _, minutes := range []time.Duration{1, 2, 4, 4} {
		for i := range 5 {
			w.take(source(fmt.Sprint("another", minutes, i)), account)
			require.Equal(t, minutes*time.Minute, w.take(source("ada"), account), "others don't renew her wait")
		}
		w.now = w.now.Add(minutes * time.Minute)
		require.Zero(t, w.take(source("ada"), account))
	}
}

func TestWaitsAreShortUntilManyHaveFailed(t *testing.T) {
	w := newWorld(t)
	account := models.Limit{Key: "account", Free: 3, Most: time.Hour, Slows: time.Minute}
	source := models.Limit{Key: "ada", Free: 1, Most: time.Minute}
	require.Zero(t, w.take(source, account))
	require.Zero(t, w.take(source, account))
	require.Equal(t, time.Second, w.take(source, account))
}

func TestWhatIsTakenBackLeavesNoRows(t *testing.T) {
	w := newWorld(t)
	w.take(models.Limit{Key: "source"}, models.Limit{Key: "network"})
	require.NoError(t, w.Attempts.Succeeded(t.Context(), nil, []string{"source", "network"}))
	left, err := gorm.G[models.Attempt](w.db).Count(t.Context(), "key")
	require.NoError(t, err)
	require.Zero(t, left)
}

func TestSuccessTakesBack(t *testing.T) {
	w := newWorld(t)
	network := models.Limit{Key: "network", Free: 2, Most: time.Minute}
	account := models.Limit{Key: "account", Free: 2, Most: time.Minute}
	w.take(network, account)
	for range 20 {
		require.Zero(t, w.take(network, account), "the network has one failure only, and the account none")
		require.NoError(t, w.Attempts.Succeeded(t.Context(), []string{"account"}, []string{"network"}))
	}
	w.take(network, account)
	w.take(network, account)
	require.Equal(t, time.Second, w.take(network), "the one failure has not been forgotten")
}

func TestSuccessOfNothing(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.Attempts.Succeeded(t.Context(), nil, nil))
	require.NoError(t, w.Attempts.Succeeded(t.Context(), []string{"nobody"}, []string{"nobody else"}))
}

func TestAttemptsArePruned(t *testing.T) {
	w := newWorld(t)
	for _, key := range []string{"a", "b", "c"} {
		w.take(models.Limit{Key: key})
	}
	w.now = w.now.Add(24*time.Hour + time.Second)
	w.take(models.Limit{Key: "ada@example.com"})
	var batches []int
	for range 3 {
		n, err := w.Attempts.Prune(t.Context(), 2)
		require.NoError(t, err)
		batches = append(batches, n)
	}
	require.Equal(t, []int{2, 1, 0}, batches)
	left, err := gorm.G[models.Attempt](w.db).Find(t.Context())
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.NotContains(t, string(left[0].Key), "ada", "keys are hashed")
}
