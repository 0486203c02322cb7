package models_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSecurityEventIsTakenOnceAndInOrder(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.SecurityEvents.Add(t.Context(), nil))
	want := []string{}
	for i := range 60 {
		want = append(want, fmt.Sprint(i))
	}
	require.NoError(t, w.SecurityEvents.Add(t.Context(), want[:30]))
	require.NoError(t, w.SecurityEvents.Add(t.Context(), want[30:]))

	first, err := w.SecurityEvents.Take(t.Context(), 10)
	require.NoError(t, err)
	for i, event := range first {
		require.Equal(t, want[i], event.Entry)
		require.Equal(t, w.now, event.At)
	}
	var mu sync.Mutex
	got := want[:10:10]
	for _, err := range together(4, func(int) error {
		for {
			taken, err := w.SecurityEvents.Take(t.Context(), 7)
			if err != nil || len(taken) == 0 {
				return err
			}
			mu.Lock()
			for _, event := range taken {
				got = append(got, event.Entry)
			}
			mu.Unlock()
		}
	}) {
		require.NoError(t, err)
	}
	require.ElementsMatch(t, want, got)
}
