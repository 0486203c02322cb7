package password

import (
	"context"
	"math"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// order fills a queue, has each of the turns wait in it one after the other, and returns in which order their turns
// came and who lost their place.
func order(t *testing.T, q *queue, waiting []Turn) (served, evicted []Turn) {
	t.Helper()
	leave, err := q.enter(t.Context(), 1)
	require.NoError(t, err)
	for _, turn := range waiting {
		go func() {
			leave, err := q.enter(WithTurn(t.Context(), turn), 1)
			if err != nil {
				evicted = append(evicted, turn)
				return
			}
			served = append(served, turn)
			leave()
		}()
		synctest.Wait()
	}
	leave()
	synctest.Wait()
	require.Zero(t, q.load().Running+q.load().Waiting, "everybody left")
	require.Empty(t, q.waiting.groups)
	return served, evicted
}

func of(kind, network, account string) Turn { return Turn{kind, network, account} }

func TestNetworksAndTheirAccountsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		served, evicted := order(t, &queue{slots: 1, places: 20, budget: 100}, []Turn{
			of("new", "flood", "a"), of("new", "flood", "a"), of("new", "flood", "a"), of("new", "flood", "b"),
			of("new", "office", "ada"), of("new", "home", "bob"), of("known", "flood", "carol"), of("known", "flood", "carol")})
		require.Empty(t, evicted)
		require.Equal(t, []Turn{
			of("new", "flood", "a"), of("known", "flood", "carol"), of("new", "office", "ada"), of("known", "flood", "carol"),
			of("new", "home", "bob"), of("new", "flood", "b"), of("new", "flood", "a"), of("new", "flood", "a")}, served)
	})
}

func TestWhoHasMostInAFullQueueMakesRoom(t *testing.T) {
	flood, other := of("new", "flood", "a"), of("new", "flood", "b")
	synctest.Test(t, func(t *testing.T) {
		served, evicted := order(t, &queue{slots: 1, places: 4, budget: 100}, []Turn{
			flood, flood, flood, flood,
			flood, // has no place
			other, // gets one: somebody else behind the same address
			of("new", "office", "ada"), of("new", "home", "bob"), of("new", "hotel", "carol"),
			other, // has none: nobody has more than one now
		})
		require.Equal(t, []Turn{flood, flood, flood, flood, flood, other}, evicted)
		require.Equal(t, []Turn{other, of("new", "office", "ada"), of("new", "home", "bob"), of("new", "hotel", "carol")}, served)
	})
}

func TestAnotherNetworkIsServedThoughOneFillsTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHasher(cheap)
		release := fill(t, h)
		h.queue.took = 200 * time.Millisecond
		flood := WithTurn(t.Context(), Turn{Network: "flood", Account: "a"})
		refused := 0
		for range 2 * runtime.GOMAXPROCS(0) * waitingPerCore {
			if h.Busy(flood) {
				refused++
			}
			go func() { _ = h.VerifyNoAccount(flood, "correct horse battery", 0) }()
			synctest.Wait()
		}
		require.Positive(t, refused)

		another := WithTurn(t.Context(), Turn{Network: "another"})
		require.False(t, h.Busy(another))
		result := make(chan error, 1)
		go func() { result <- h.VerifyNoAccount(another, "correct horse battery", 0) }()
		synctest.Wait()
		release()
		require.NoError(t, <-result)
	})
}

func TestHashesThatRunTogetherFitIntoTheMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{slots: 4, places: 4, budget: 100}
		leave, err := q.enter(t.Context(), 60)
		require.NoError(t, err)
		leaveLarge := make(chan func(), 1)
		go func() {
			leave, err := q.enter(t.Context(), 1000)
			require.NoError(t, err)
			leaveLarge <- leave
		}()
		synctest.Wait()
		small := make(chan error, 1)
		go func() { _, err := q.enter(t.Context(), 10); small <- err }()
		synctest.Wait()
		require.Equal(t, 2, q.load().Waiting, "the small one doesn't overtake")
		leave()
		synctest.Wait()
		require.Equal(t, Load{Running: 1, MaxRunning: 4, Waiting: 1, MaxWaiting: 4}, q.load(), "alone, one may need any amount")
		(<-leaveLarge)()
		require.NoError(t, <-small)
	})
}

func TestOneThatGivesUpLetsSmallerOnesThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{slots: 4, places: 4, budget: 100}
		_, err := q.enter(t.Context(), 60)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		small := make(chan error, 1)
		go func() { _, _ = q.enter(ctx, 1000) }()
		synctest.Wait()
		go func() { _, err := q.enter(t.Context(), 10); small <- err }()
		synctest.Wait()
		cancel()
		require.NoError(t, <-small)
	})
}

func TestMemoryForHashesFollowsTheLimit(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		limit int64
		kib   int64
	}{{math.MaxInt64, (math.MaxInt64 - otherMemory) / 2 >> 10}, {128 * mib, 44 << 10}, {64 * mib, 12 << 10}, {otherMemory, 0}, {1, 0}} {
		require.Equal(t, c.kib, memoryBudget(c.limit))
	}
}
