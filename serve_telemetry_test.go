package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

var metricsURL = regexp.MustCompile(`"msg":"metrics","url":"(http://[^"]+/metrics)"`)

func TestMetricsHaveAListenerOfTheirOwn(t *testing.T) {
	m := newMachine(t)
	m.env = append(m.env, "METRICS_LISTEN=localhost:0")
	s := m.start()
	found := metricsURL.FindStringSubmatch(s.logged())
	require.NotNil(t, found)

	got := s.get(found[1], "")
	require.Equal(t, http.StatusOK, got.status)
	require.Contains(t, got.body, "\nlatchkey_database_up 1\n")
	require.Equal(t, http.StatusNotFound, s.get("/metrics", "").status)
	require.Equal(t, http.StatusNotFound, s.get(strings.TrimSuffix(found[1], "/metrics")+"/auth/health/alive", "").status)
	require.NotContains(t, s.logged(), "METRICS_LISTEN is neither")
	s.stop()
	require.Error(t, s.get(found[1], "").err)
}

// A page that has its own name lead to this machine is not to read them in a browser here.
func TestMetricsOnLoopbackAreForLocalNamesAlone(t *testing.T) {
	m := newMachine(t)
	m.env = append(m.env, "METRICS_LISTEN=localhost:0")
	found := metricsURL.FindStringSubmatch(m.start().logged())
	require.NotNil(t, found)
	for host, status := range map[string]int{"evil.example": http.StatusMisdirectedRequest, "localhost.evil.example:9464": http.StatusMisdirectedRequest,
		"localhost:9464": http.StatusOK, "[::1]:9464": http.StatusOK} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, found[1], nil)
		require.NoError(t, err)
		req.Host = host
		res := do(req)
		require.Equal(t, status, res.status, host)
		require.Equal(t, status == http.StatusOK, strings.Contains(res.body, "latchkey_"), host)
	}
}

func TestMetricsForTheWholeWorldAreWarnedOf(t *testing.T) {
	m := newMachine(t)
	m.env = append(m.env, "METRICS_LISTEN=:0")
	require.Contains(t, m.start().logged(), "METRICS_LISTEN is neither a loopback nor a private address")
}

func TestMetricsAddressInUseStopsTheStart(t *testing.T) {
	taken := httptest.NewServer(nil)
	defer taken.Close()
	m := newMachine(t)
	m.env = append(m.env, "LISTEN=localhost:0", "METRICS_LISTEN="+taken.Listener.Addr().String())
	r := m.run("")
	require.NotZero(t, r.code)
	require.Empty(t, r.stdout)
	require.Contains(t, r.stderr, "address already in use; choose another address with METRICS_LISTEN")
}

// collecting returns a server that counts what it is sent.
func collecting(t testing.TB) (url string, sent *atomic.Int64) {
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
	url, sent := collecting(t)
	m := newMachine(t)
	m.env = append(m.env, "OTEL_EXPORTER_OTLP_ENDPOINT="+url, "OTEL_BSP_SCHEDULE_DELAY=3600000")
	s := m.start()
	require.Equal(t, http.StatusUnauthorized, s.get("/auth/sessions/whoami", "").status)
	require.Zero(t, sent.Load())
	s.stop()
	require.Positive(t, sent.Load())
}

func TestNothingIsSentUnlessAskedFor(t *testing.T) {
	url, sent := collecting(t)
	m := newMachine(t)
	m.env = append(m.env, "OTEL_EXPORTER_OTLP_ENDPOINT="+url, "OTEL_SDK_DISABLED=true", "OTEL_BSP_SCHEDULE_DELAY=1")
	s := m.start()
	require.Equal(t, http.StatusUnauthorized, s.get("/auth/sessions/whoami", "").status)
	require.NotContains(t, s.logged(), "trace_id")
	s.stop()
	require.Zero(t, sent.Load())
}

func TestACollectorThatIsAwayHoldsUpNobody(t *testing.T) {
	gone := httptest.NewServer(nil)
	url := gone.URL
	gone.Close()
	m := newMachine(t)
	m.env = append(m.env, "OTEL_EXPORTER_OTLP_ENDPOINT="+strings.Replace(url, "http://", "http://ada:SECRET@", 1), "OTEL_BSP_SCHEDULE_DELAY=1", "OTEL_BSP_MAX_QUEUE_SIZE=8")
	m.addUser("ada@example.com")
	s := m.start()
	const line = "traces can't be sent and are dropped"
	s.await("the line in the log", func() bool { return strings.Contains(s.logged(), line) })
	for range 100 {
		require.Equal(t, http.StatusOK, s.tryLogin("ada@example.com", goodPassword).status)
	}
	s.stop()
	require.Equal(t, 1, strings.Count(s.logged(), line), "said once")
	require.NotContains(t, s.logged(), "SECRET")
}

func TestTracesOverGRPCStopTheStart(t *testing.T) {
	m := newMachine(t)
	m.env = append(m.env, "LISTEN=localhost:0", "OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc")
	require.Contains(t, m.refuse(""), "Latchkey speaks http/protobuf")
}

// BenchmarkObserved compares whoami with metrics, and with traces of one request in a hundred, to
// whoami without, in one run on one database.
//
//	go test -run '^$' -bench Observed .
func BenchmarkObserved(b *testing.B) {
	plain := newSeeded(b, 10_000)
	plain.server = plain.machine.start()
	url, _ := collecting(b)
	measured, traced := *plain.machine, *plain.machine
	measured.env = append(slices.Clone(plain.env), "METRICS_LISTEN=localhost:0")
	traced.env = append(slices.Clone(plain.env), "OTEL_EXPORTER_OTLP_ENDPOINT="+url,
		"OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=0.01")
	withMetrics := strings.TrimPrefix(measured.start().url, "http://")
	withTraces := strings.TrimPrefix(traced.start().url, "http://")
	rates := inTurns(rounds,
		func() float64 { return plain.load(b, plain.address(), whoamiPath) },
		func() float64 { return plain.load(b, withMetrics, whoamiPath) },
		func() float64 { return plain.load(b, withTraces, whoamiPath) })
	b.ReportMetric(0, "ns/op") // means nothing here
	b.ReportMetric(medianRatio(rates[1], rates[0]), "metrics/plain")
	b.ReportMetric(medianRatio(rates[2], rates[0]), "traces/plain")
}
