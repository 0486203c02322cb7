package background_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/app/background"
)

func TestUsesDropWhatIsPendingOrRecent(t *testing.T) {
	uses := background.NewUses[string](slog.New(slog.DiscardHandler))
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	var written []string
	enqueue := func(name string) {
		uses.Enqueue(name, now, func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			written = append(written, name)
			return nil
		})
	}
	flush := func() []string { // what has been written since the last time
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		uses.Run(ctx)
		all := written
		written = nil
		return all
	}
	for range 3 {
		enqueue("ada")
		enqueue("bob")
	}
	require.ElementsMatch(t, []string{"ada", "bob"}, flush())

	now = now.Add(9 * time.Second)
	enqueue("ada")
	enqueue("eve")
	require.Equal(t, []string{"eve"}, flush(), "ada's is recent")

	now = now.Add(9 * time.Second)
	enqueue("eve")
	require.Empty(t, flush(), "eve's is recent, over a turn")

	now = now.Add(20 * time.Second)
	enqueue("ada")
	now = now.Add(-time.Hour) // the clock is set back
	enqueue("ada")
	require.Equal(t, []string{"ada"}, flush(), "one is pending")
	now = now.Add(time.Hour)
	enqueue("ada")
	require.Equal(t, []string{"ada"}, flush())
}

func TestUsesBeyondTheQueueAreLeftToTheNext(t *testing.T) {
	uses := background.NewUses[int](slog.New(slog.DiscardHandler))
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	written := map[int]int{}
	fill := func() {
		for key := range 1000 {
			uses.Enqueue(key, now, func(context.Context) error { written[key]++; return nil })
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		uses.Run(ctx)
	}
	for range 5 {
		fill()
	}
	require.Len(t, written, 1000)
	for key, times := range written {
		require.Equal(t, 1, times, key)
	}
}
