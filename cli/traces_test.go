package cli

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

// newCollector starts a collector of traces that counts the requests it gets.
func newCollector(t testing.TB) (url string, sent *atomic.Int64) {
	sent = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || len(body) == 0 {
			t.Error("nothing was sent")
		}
		sent.Add(1)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(server.Close)
	return server.URL, sent
}

func TestTracesAreSentBeforeTheEnd(t *testing.T) {
	url, sent := newCollector(t)
	m := kit.NewMachine(t)
	m.Env = append(m.Env, "OTEL_EXPORTER_OTLP_ENDPOINT="+url, "OTEL_BSP_SCHEDULE_DELAY=3600000")
	s := m.Start()
	require.Equal(t, http.StatusUnauthorized, s.Get("/auth/sessions/whoami", "").Status)
	require.Zero(t, sent.Load())
	s.Stop()
	require.Positive(t, sent.Load())
}

func TestNothingIsSentUnlessAskedFor(t *testing.T) {
	url, sent := newCollector(t)
	m := kit.NewMachine(t)
	m.Env = append(m.Env, "OTEL_EXPORTER_OTLP_ENDPOINT="+url, "OTEL_SDK_DISABLED=true", "OTEL_BSP_SCHEDULE_DELAY=1")
	s := m.Start()
	require.Equal(t, http.StatusUnauthorized, s.Get("/auth/sessions/whoami", "").Status)
	require.NotContains(t, s.Log(), "trace_id")
	s.Stop()
	require.Zero(t, sent.Load())
}

func TestUnreachableCollectorDelaysNobody(t *testing.T) {
	gone := httptest.NewServer(nil)
	url := gone.URL
	gone.Close()
	m := kit.NewMachine(t)
	m.Env = append(m.Env, "OTEL_EXPORTER_OTLP_ENDPOINT="+strings.Replace(url, "http://", "http://ada:SECRET@", 1), "OTEL_BSP_SCHEDULE_DELAY=1", "OTEL_BSP_MAX_QUEUE_SIZE=8")
	m.AddUser("ada@example.com")
	s := m.Start()
	const line = "traces can't be sent and are dropped"
	s.Await("the line in the log", func() bool { return strings.Contains(s.Log(), line) })
	for range 50 {
		require.Equal(t, http.StatusOK, s.Login("ada@example.com", kit.GoodPassword).Status)
	}
	s.Stop()
	require.Equal(t, 1, strings.Count(s.Log(), line), "said once")
	require.NotContains(t, s.Log(), "SECRET")
}

func TestTracesOverGRPCStopTheStart(t *testing.T) {
	m := kit.NewMachine(t)
	m.Env = append(m.Env, "LISTEN=localhost:0", "OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc")
	require.Contains(t, m.Refuse(""), "Latchkey only supports http/protobuf")
}
