package metrics_test

import (
	"context"
	"database/sql"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"latchkey/app/metrics"
	"latchkey/app/password"
)

func newMetrics(t testing.TB, backlog func(context.Context) (int, time.Duration, error)) *metrics.Metrics {
	t.Helper()
	pool, err := sql.Open("sqlite", "file:"+t.TempDir()+"/x.db")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	m := metrics.New(metrics.Sources{Pool: pool, Hashing: password.NewHasher(password.Params{}).Load, Streams: func() int { return 3 },
		Connections: func() (int, int, int) { return 1, 2, 8 }, Backlog: backlog,
		Reasons: []string{"logout"}, Outcomes: []string{"delivered"}})
	m.Route(http.MethodGet, "/auth/sessions/whoami")
	return m
}

func scrape(t testing.TB, m *metrics.Metrics) string {
	t.Helper()
	answer := httptest.NewRecorder()
	m.Handler(slog.New(slog.DiscardHandler)).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, answer.Code)
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return string(body)
}

func nothingToDo(context.Context) (int, time.Duration, error) { return 0, 0, nil }

func TestAStrangerMakesNoSeries(t *testing.T) {
	m := newMetrics(t, nothingToDo)
	m.Request(http.MethodGet, "/auth/sessions/whoami", 200, time.Millisecond)
	m.Request(http.MethodGet, "", 404, time.Millisecond)
	m.Request("BREW", "", 404, time.Millisecond)
	m.Request(http.MethodGet, "/evil", 99, time.Millisecond)
	before := strings.Count(scrape(t, m), "\n")

	for _, method := range []string{http.MethodGet, "BREW", "BREW1", "\xff", ""} {
		for _, route := range []string{"", "/evil", "/evil2", "\xff"} {
			for _, status := range []int{404, 99, -1, 600, 70000} {
				m.Request(method, route, status, time.Millisecond)
			}
		}
	}
	// One for each of the two methods with a status that no handler sends, which counts as a 500.
	m.Request("BREW", "", 500, time.Millisecond)

	after := scrape(t, m)
	require.Equal(t, before+1, strings.Count(after, "\n"))
	require.NotContains(t, after, "evil")
	require.NotContains(t, after, "BREW")
	require.Contains(t, after, `latchkey_http_requests_total{code="200",method="GET",route="/auth/sessions/whoami"} 1`)
}

func TestAFailingDatabaseDoesNotFailTheScrape(t *testing.T) {
	m := newMetrics(t, func(ctx context.Context) (int, time.Duration, error) {
		_, bounded := ctx.Deadline()
		require.True(t, bounded)
		return 0, 0, sql.ErrConnDone
	})
	text := scrape(t, m)
	require.Contains(t, text, "\nlatchkey_database_up 0\n")
	require.NotContains(t, text, "latchkey_outbox_pending")
	require.NotContains(t, text, "latchkey_outbox_oldest_due_seconds")
	require.Contains(t, text, "\nlatchkey_event_streams 3\n")
}

func TestNobodyWantsMetrics(t *testing.T) {
	var m *metrics.Metrics
	m.SessionStarted()
	m.SessionsEnded("logout", 1)
	m.SignIn(metrics.OK)
	m.Registered()
	m.Attempted("delivered")
	m.Hashed(password.Hashing{})
}

// BenchmarkRequest is what counting adds to a request.
func BenchmarkRequest(b *testing.B) {
	m := newMetrics(b, nothingToDo)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.Request(http.MethodGet, "/auth/sessions/whoami", 200, time.Millisecond)
		}
	})
}
