// Package tracing tells an OpenTelemetry collector what requests spend their time with.
package tracing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// Tracer makes spans and sends them. Its methods may be called on nil, and then do nothing. None of
// them waits for the collector: where it is too slow, spans are dropped.
//
// A span never has what somebody sent: no path, query, header or address, no values of a statement,
// no text of an error.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// FromEnvironment returns a Tracer as the OTEL_ variables ask for, or nil if they ask for none.
func FromEnvironment(ctx context.Context, version string, log *slog.Logger) (*Tracer, error) {
	if wanted, err := wanted(); err != nil || !wanted {
		return nil, err
	}
	otel.SetLogger(logr.Discard()) // it would repeat the values of variables, which may be secret
	otel.SetErrorHandler(&complaints{log: log})
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT: %w", err)
	}
	who, err := resource.New(ctx, resource.WithAttributes(semconv.ServiceName("latchkey"), semconv.ServiceVersion(version)),
		resource.WithTelemetrySDK(), resource.WithFromEnv()) // the last one wins
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w; give it as NAME=VALUE, separated by commas", err)
	}
	provider := sdk.NewTracerProvider(sdk.WithBatcher(&sender{SpanExporter: exporter, log: log}), sdk.WithResource(who))
	return &Tracer{provider: provider, tracer: provider.Tracer("latchkey")}, nil
}

// wanted reads what the SDK leaves to its users.
func wanted() (bool, error) {
	const endpoint, protocol = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
	to, name := os.Getenv(endpoint), endpoint
	if to == "" {
		name = "OTEL_EXPORTER_OTLP_ENDPOINT"
		to = os.Getenv(name)
	}
	exporter := os.Getenv("OTEL_TRACES_EXPORTER")
	if to == "" || exporter == "none" || strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return false, nil
	}
	if exporter != "" && exporter != "otlp" {
		return false, fmt.Errorf("OTEL_TRACES_EXPORTER is %q: otlp and none are possible", exporter)
	}
	if spoken := cmp.Or(os.Getenv(protocol), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL")); spoken != "" && spoken != "http/protobuf" {
		return false, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q: Latchkey speaks http/protobuf, to the port that collectors have for it (4318)", spoken)
	}
	// Not the value: it may hold a password.
	if u, err := url.Parse(to); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return false, fmt.Errorf("%s must be a URL, such as http://localhost:4318", name)
	}
	return true, nil
}

// sender logs when spans can't be sent, and when they can be again: not each of them.
type sender struct {
	sdk.SpanExporter
	log    *slog.Logger
	failed bool
}

// ExportSpans sends spans. The SDK calls it once at a time.
func (s *sender) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := s.SpanExporter.ExportSpans(ctx, spans)
	switch {
	case err != nil && !s.failed:
		s.log.Warn("traces can't be sent and are dropped", slog.Any("error", withoutURL(err)))
	case err == nil && s.failed:
		s.log.Info("traces are sent again")
	}
	s.failed = err != nil
	return nil
}

// withoutURL leaves out where it was sent to, which may hold a password.
func withoutURL(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

// complaints logs what the SDK has to say, but not again and again.
type complaints struct {
	log  *slog.Logger
	last atomic.Pointer[string]
}

// Handle implements otel.ErrorHandler.
func (c *complaints) Handle(err error) {
	text := withoutURL(err).Error()
	if last := c.last.Swap(&text); last == nil || *last != text {
		c.log.Warn("tracing", slog.String("error", text))
	}
}

// Shutdown sends what is left, until ctx is done.
func (t *Tracer) Shutdown(ctx context.Context) {
	if t != nil {
		_ = t.provider.Shutdown(ctx) // its trouble has been logged
	}
}

// Request begins the span of a request, as a part of the trace that parent names, if that is a
// traceparent header. end takes its route, "" for none, and the status of the answer.
func (t *Tracer) Request(r *http.Request, scheme, parent string) (ctx context.Context, end func(route string, status int)) {
	ctx = propagation.TraceContext{}.Extract(r.Context(), propagation.MapCarrier{"traceparent": parent})
	name, method := r.Method, semconv.HTTPRequestMethodKey.String(r.Method)
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete, http.MethodOptions, http.MethodPut, http.MethodPatch:
	default:
		name, method = "HTTP", semconv.HTTPRequestMethodOther
	}
	ctx, span := t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		method, semconv.URLScheme(scheme), semconv.NetworkProtocolVersion(strconv.Itoa(r.ProtoMajor)+"."+strconv.Itoa(r.ProtoMinor))))
	return ctx, func(route string, status int) {
		if route != "" {
			span.SetName(name + " " + route)
			span.SetAttributes(semconv.HTTPRoute(route))
		}
		answered(span, status, status >= http.StatusInternalServerError)
		span.End()
	}
}

func answered(span trace.Span, status int, failed bool) {
	kind := "no answer"
	if status > 0 {
		kind = strconv.Itoa(status)
		span.SetAttributes(semconv.HTTPResponseStatusCode(status))
	}
	if failed {
		span.SetAttributes(semconv.ErrorTypeKey.String(kind))
		span.SetStatus(codes.Error, "")
	}
}

// Notice begins the span of a post to an app. end takes the status of its answer, 0 for none, and
// whether the app was told.
func (t *Tracer) Notice(ctx context.Context, to string) (_ context.Context, end func(status int, told bool)) {
	if t == nil {
		return ctx, func(int, bool) {}
	}
	attributes := []attribute.KeyValue{semconv.HTTPRequestMethodPost}
	if u, err := url.Parse(to); err == nil { // the host: its path may hold a secret
		attributes = append(attributes, semconv.ServerAddress(u.Hostname()))
		if port, err := strconv.Atoi(u.Port()); err == nil {
			attributes = append(attributes, semconv.ServerPort(port))
		}
	}
	ctx, span := t.tracer.Start(ctx, "POST", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes...))
	return ctx, func(status int, told bool) {
		answered(span, status, !told)
		span.End()
	}
}

// Now returns the time, for Past. It costs nothing where nothing is traced.
func (t *Tracer) Now() time.Time {
	if t == nil {
		return time.Time{}
	}
	return time.Now()
}

// Past adds what has been done within the span of ctx, and when. It does nothing where there is none.
func (t *Tracer) Past(ctx context.Context, name string, from, to time.Time, failed bool, attributes ...attribute.KeyValue) {
	if t == nil || !trace.SpanFromContext(ctx).IsRecording() {
		return
	}
	_, span := t.tracer.Start(ctx, name, trace.WithTimestamp(from), trace.WithAttributes(attributes...))
	if failed {
		span.SetStatus(codes.Error, "")
	}
	span.End(trace.WithTimestamp(to))
}

// Logger returns a logger whose lines have the id of the trace that they belong to.
func Logger(log *slog.Logger) *slog.Logger { return slog.New(handler{log.Handler()}) }

type handler struct{ slog.Handler }

func (h handler) Handle(ctx context.Context, line slog.Record) error {
	if span := trace.SpanContextFromContext(ctx); span.IsSampled() {
		line.AddAttrs(slog.String("trace_id", span.TraceID().String()))
	}
	return h.Handler.Handle(ctx, line)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs)}
}
func (h handler) WithGroup(name string) slog.Handler { return handler{h.Handler.WithGroup(name)} }
