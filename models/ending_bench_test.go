package models_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/models"
)

// BenchmarkEndOfManySessions ends the 100,000 sessions of one person, of which three apps are to be told, in
// each of the ways. It reports how long the call takes (end-ms), how long all is swept (sweep-s), and how long
// another person's sign-in takes meanwhile at most (sign-in-ms). Run it with -benchtime 1x.
func BenchmarkEndOfManySessions(b *testing.B) {
	for _, name := range []string{"everywhere", "password", "disabled", "operator", "deleted"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				endMany(b, waysToEnd[name], 100_000)
			}
		})
	}
}

func endMany(b *testing.B, way wayToEnd, many int) {
	b.StopTimer()
	w := newWorld(b)
	for i := range 3 {
		require.NoError(b, w.Apps.Add(b.Context(), models.App{Name: fmt.Sprint("app", i), LogoutURL: "https://app.example.com/", Send: models.SendBoth}))
	}
	ada, bob := w.person("ada@example.com"), w.person("bob@example.com")
	here, bobs := w.start(ada), w.signIn(bob)
	others := w.many(ada, many)

	// Somebody else signs in again and again, beside the sweep that the background does.
	begun := make(chan struct{})
	done := make(chan struct{})
	var slowest time.Duration
	signIns := 0
	var beside sync.WaitGroup
	w.OnSweep(sync.OnceFunc(func() { close(begun) }))
	beside.Go(func() {
		for {
			start := time.Now()
			_, err := w.Sessions.Start(b.Context(), bobs)
			require.NoError(b, err)
			slowest = max(slowest, time.Since(start))
			signIns++
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	b.StartTimer()
	start := time.Now()
	require.NoError(b, way.do(w, here, many))
	ended := time.Since(start)
	last := others[many-1]
	require.False(b, w.active(last), "a stale token is refused right after")
	<-begun
	start = time.Now()
	var slowestBatch time.Duration
	for n := 1; n > 0; {
		var err error
		batch := time.Now()
		n, err = w.Sessions.Sweep(b.Context(), models.SweepBatch)
		require.NoError(b, err)
		slowestBatch = max(slowestBatch, time.Since(batch))
		time.Sleep(models.SweepPause)
	}
	swept := time.Since(start)
	close(done)
	beside.Wait()
	b.StopTimer()
	defer b.StartTimer()

	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(ended), "end-ms")
	b.ReportMetric(swept.Seconds(), "sweep-s")
	b.ReportMetric(ms(slowestBatch), "batch-ms")
	b.ReportMetric(ms(slowest), "sign-in-ms")
	b.ReportMetric(float64(signIns)/swept.Seconds(), "sign-ins/s")
	total := w.count("ends")
	require.GreaterOrEqual(b, total, many)
	require.LessOrEqual(b, total, many+1)
	require.Equal(b, 3*total, w.count("deliveries"))
}
