package test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// BenchmarkObserved compares whoami with metrics, and with traces of one request in a hundred, to
// whoami without, in one run on one database.
//
//	go test -run '^$' -bench Observed ./test
func BenchmarkObserved(b *testing.B) {
	plain := newSeeded(b, 10_000)
	plain.server = plain.Start()
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			b.Error(err)
		}
	}))
	b.Cleanup(collector.Close)
	measured, traced := *plain.Machine, *plain.Machine
	measured.Env = append(slices.Clone(plain.Env), "METRICS_LISTEN=localhost:0")
	traced.Env = append(slices.Clone(plain.Env), "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL,
		"OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=0.01")
	withMetrics := strings.TrimPrefix(measured.Start().URL, "http://")
	withTraces := strings.TrimPrefix(traced.Start().URL, "http://")
	rates := alternate(*rounds,
		func() float64 { return plain.load(b, plain.address(), whoamiPath) },
		func() float64 { return plain.load(b, withMetrics, whoamiPath) },
		func() float64 { return plain.load(b, withTraces, whoamiPath) })
	b.ReportMetric(0, "ns/op") // meaningless here
	b.ReportMetric(medianRatio(rates[1], rates[0]), "metrics/plain")
	b.ReportMetric(medianRatio(rates[2], rates[0]), "traces/plain")
}
