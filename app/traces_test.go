package app_test

import (
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"latchkey/app"
	"latchkey/app/config"
	"latchkey/app/tracing"
	"latchkey/models"
)

// otlpReceiver is a collector. It keeps all that it is sent.
type otlpReceiver struct {
	t      testing.TB
	server *httptest.Server

	mu    sync.Mutex
	spans []*otlp.Span
	raw   strings.Builder // as JSON
}

func newOTLPReceiver(t testing.TB) *otlpReceiver {
	r := &otlpReceiver{t: t}
	r.server = httptest.NewServer(r)
	t.Cleanup(r.server.Close)
	return r
}

func (r *otlpReceiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var sent collector.ExportTraceServiceRequest
	body := io.Reader(req.Body)
	var err error
	if req.Header.Get("Content-Encoding") == "gzip" {
		body, err = gzip.NewReader(req.Body)
	}
	if err == nil {
		var raw []byte
		if raw, err = io.ReadAll(body); err == nil {
			err = proto.Unmarshal(raw, &sent)
		}
	}
	if err != nil || req.URL.Path != "/v1/traces" || req.Header.Get("Content-Type") != "application/x-protobuf" {
		r.t.Errorf("not OTLP: %s %s, %v", req.URL.Path, req.Header.Get("Content-Type"), err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.raw.WriteString(protojson.Format(&sent))
	for _, resource := range sent.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			r.spans = append(r.spans, scope.Spans...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// newTracedSite starts a site as main does, with these variables. flush sends the spans that there are.
func newTracedSite(t *testing.T, collector *otlpReceiver, configure ...func(*config.Config)) (s *site, flush func()) {
	t.Helper()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.server.URL)
	traces, err := tracing.FromEnvironment(t.Context(), "1.2.3", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.NotNil(t, traces)
	s = newSiteWith(t, app.Options{Traces: traces}, configure...)
	return s, func() {
		s.server.Close()
		s.stop()
		traces.Shutdown(t.Context())
	}
}

// named returns the spans of that name.
func (r *otlpReceiver) named(name string) (found []*otlp.Span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, span := range r.spans {
		if span.Name == name {
			found = append(found, span)
		}
	}
	return found
}

// within returns the names of the spans directly within one.
func (r *otlpReceiver) within(parent *otlp.Span) (names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, span := range r.spans {
		if string(span.ParentSpanId) == string(parent.SpanId) {
			require.Equal(r.t, parent.TraceId, span.TraceId)
			require.LessOrEqual(r.t, span.StartTimeUnixNano, span.EndTimeUnixNano)
			names = append(names, span.Name)
		}
	}
	return names
}

func attributes(span *otlp.Span) map[string]string {
	all := map[string]string{}
	for _, attribute := range span.Attributes {
		all[attribute.Key] = attribute.Value.GetStringValue()
		if attribute.Value.GetStringValue() == "" {
			raw, _ := protojson.Marshal(attribute.Value)
			var value map[string]any
			_ = json.Unmarshal(raw, &value)
			for _, v := range value {
				all[attribute.Key], _ = v.(string)
			}
		}
	}
	return all
}

func TestTracesOfASignInAndALogout(t *testing.T) {
	collector, wiki := newOTLPReceiver(t), newReceiver(t)
	var told http.Header
	wiki.answers(func(_ http.ResponseWriter, req *http.Request) { told = req.Header.Clone() })
	site, flush := newTracedSite(t, collector)
	site.addApp("wiki", wiki.url+"/HOOKSECRET?HOOKQUERY", models.SendBoth)
	ada := site.signUp("ada@example.com")
	secrets := []string{"ada@example.com", "ada%40example.com", goodPassword, url.QueryEscape(goodPassword), "wrongwrongwrong", "QUERYSECRET",
		"HEADERSECRET", "PATHSECRET", "HOOKSECRET", "HOOKQUERY", "example.com"}
	for _, name := range []string{"session", "flow", "device"} {
		require.NotEmpty(t, ada.cookie("latchkey_"+name))
		secrets = append(secrets, ada.cookie("latchkey_"+name))
	}
	logout := ada.logoutURL()
	secrets = append(secrets, logout[strings.Index(logout, "token=")+len("token="):])
	session, person := ada.session()
	site.visitor().submitLogin("ada@example.com", "wrongwrongwrong")
	ada.get("/auth/PATHSECRET?QUERYSECRET", with("User-Agent", "HEADERSECRET"), with("X-Request-Id", "HEADERSECRET"), with("Tracestate", "a=HEADERSECRET"))
	ada.send("BREW", "/auth/PATHSECRET", "")
	ada.open(logout)
	wiki.told(site, 0)
	eventually(t, func() bool { return site.deliveries("wiki")[0].State == models.Delivered }, "it was not told")
	require.NoError(t, site.db.Exec("ALTER TABLE sessions RENAME TO moved").Error)
	ada.get("/auth/sessions/whoami", with("X-Session-Token", strings.Repeat("A", 26))).requireError(http.StatusInternalServerError, "")
	flush()

	signIns := collector.named("POST /auth/self-service/login")
	require.Len(t, signIns, 2)
	right := slices.IndexFunc(signIns, func(s *otlp.Span) bool { return attributes(s)["http.response.status_code"] == "200" })
	require.GreaterOrEqual(t, right, 0)
	require.Equal(t, otlp.Span_SPAN_KIND_SERVER, signIns[right].Kind)
	require.Equal(t, map[string]string{"http.request.method": "POST", "http.route": "/auth/self-service/login", "url.scheme": "http",
		"network.protocol.version": "1.1", "http.response.status_code": "200"}, attributes(signIns[right]))
	for _, name := range []string{"SELECT identities", "SELECT credentials", "wait to hash", "hash password", "wait to write", "transaction", "INSERT sessions"} {
		require.Contains(t, collector.within(signIns[right]), name)
	}
	ends := collector.named("GET /auth/self-service/logout")
	require.Len(t, ends, 1)
	for _, name := range []string{"find session", "transaction", "UPDATE sessions", "INSERT ends", "INSERT deliveries"} {
		require.Contains(t, collector.within(ends[0]), name)
	}
	require.Len(t, collector.named("GET"), 1, "no route")
	require.Len(t, collector.named("HTTP"), 1, "no method")
	failed := collector.named("GET /auth/sessions/whoami")
	require.Equal(t, otlp.Status_STATUS_CODE_ERROR, failed[len(failed)-1].Status.Code)
	require.Empty(t, failed[len(failed)-1].Status.Message)
	notices := collector.named("POST")
	require.Len(t, notices, 1)
	require.Equal(t, otlp.Span_SPAN_KIND_CLIENT, notices[0].Kind)
	require.Equal(t, "200", attributes(notices[0])["http.response.status_code"])
	require.Equal(t, "127.0.0.1", attributes(notices[0])["server.address"])
	for name := range told {
		require.NotContains(t, []string{"Traceparent", "Tracestate", "Baggage"}, name, "nothing about us goes to apps")
	}

	raw := collector.raw.String()
	require.Contains(t, raw, `"latchkey"`)
	require.Contains(t, raw, "1.2.3")
	for _, secret := range append(secrets, session, person, wiki.tokens[0]) {
		require.NotContains(t, raw, secret)
	}
	for _, statement := range []string{"WHERE", "VALUES", " SET "} {
		require.NotContains(t, raw, statement)
	}

	trace := hex.EncodeToString(ends[0].TraceId)
	require.Regexp(t, `"path":"/auth/self-service/logout".*"trace_id":"`+trace+`"`, site.log.String())
	require.Regexp(t, `"level":"ERROR","msg":"request failed".*"trace_id":"`, site.log.String())
}

func TestTraceparentIsBelievedFromProxiesOnly(t *testing.T) {
	const theirs = "4bf92f3577b34da6a3ce929d0e0e4736"
	for _, proxy := range []string{"127.0.0.1", "192.0.2.1"} {
		collector := newOTLPReceiver(t)
		site, flush := newTracedSite(t, collector, func(c *config.Config) { c.TrustedProxies = []string{proxy} })
		site.visitor().get("/auth/health/alive", with("Traceparent", "00-"+theirs+"-00f067aa0ba902b7-01"), with("Tracestate", "a=b"), with("Baggage", "a=b"))
		flush()
		spans := collector.named("GET /auth/health/alive")
		require.Len(t, spans, 1)
		require.Equal(t, proxy == "127.0.0.1", hex.EncodeToString(spans[0].TraceId) == theirs, proxy)
		require.Empty(t, spans[0].TraceState)
	}
}

func TestTracesAsTheVariablesSay(t *testing.T) {
	collector := newOTLPReceiver(t)
	for _, c := range []struct {
		name     string
		env      map[string]string
		wanted   bool
		sentence string
	}{
		{"nothing", nil, false, ""},
		{"no endpoint", map[string]string{"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, false, ""},
		{"endpoint", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.server.URL}, true, ""},
		{"of traces", map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": collector.server.URL + "/v1/traces"}, true, ""},
		{"disabled", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.server.URL, "OTEL_SDK_DISABLED": "TRUE"}, false, ""},
		{"none", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.server.URL, "OTEL_TRACES_EXPORTER": "none"}, false, ""},
		{"zipkin", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.server.URL, "OTEL_TRACES_EXPORTER": "zipkin"}, false, "OTEL_TRACES_EXPORTER"},
		{"grpc", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.server.URL, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, false, "http/protobuf"},
		{"grpc for traces", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.server.URL, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, false, "http/protobuf"},
		{"no URL", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4317"}, false, "OTEL_EXPORTER_OTLP_ENDPOINT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			traces, err := tracing.FromEnvironment(t.Context(), "", slog.New(slog.DiscardHandler))
			if c.sentence != "" {
				require.ErrorContains(t, err, c.sentence)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.wanted, traces != nil)
			traces.Shutdown(t.Context())
		})
	}
}
