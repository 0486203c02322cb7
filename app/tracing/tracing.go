// Package tracing sends traces of requests to an OpenTelemetry collector.
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

	"latchkey/app/outage"
)

// Tracer creates and sends spans. None of its methods but Shutdown waits for the collector: if it is too
// slow, spans are dropped.
//
// A span never contains what a client sent: no path, query, header or address, no values in statements,
// no error texts.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// FromEnvironment returns a Tracer configured by the OTEL_ variables, or nil if they don't enable one.
func FromEnvironment(ctx context.Context, version string, log *slog.Logger) (*Tracer, error) {
	if enabled, err := enabled(); err != nil || !enabled {
		return nil, err
	}
	otel.SetLogger(logr.Discard()) // it would log the values of variables, which may be secret
	otel.SetErrorHandler(errorHandler{outage.NewWarning(log, "tracing failed", "tracing works again")})
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT: %w", err)
	}
	attributes, err := resource.New(ctx, resource.WithAttributes(semconv.ServiceName("latchkey"), semconv.ServiceVersion(version)),
		resource.WithTelemetrySDK(), resource.WithFromEnv()) // the last one wins
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w; give it as NAME=VALUE, separated by commas", err)
	}
	provider := sdk.NewTracerProvider(sdk.WithBatcher(&sender{SpanExporter: exporter, outage: outage.NewWarning(log, "traces can't be sent and are dropped", "traces are sent again")}), sdk.WithResource(attributes))
	return &Tracer{provider: provider, tracer: provider.Tracer("latchkey")}, nil
}

// enabled reports whether the variables enable tracing. It reads those that the SDK ignores.
func enabled() (bool, error) {
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
		return false, fmt.Errorf("OTEL_TRACES_EXPORTER is %q: it must be otlp or none", exporter)
	}
	if chosen := cmp.Or(os.Getenv(protocol), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL")); chosen != "" && chosen != "http/protobuf" {
		return false, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q: Latchkey only supports http/protobuf, usually on port 4318", chosen)
	}
	// Don't show the value: it may contain a password.
	if u, err := url.Parse(to); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return false, fmt.Errorf("%s must be a URL, such as http://localhost:4318", name)
	}
	return true, nil
}

// sender logs when spans can't be sent, and when they can be sent again. Spans that can't be sent are
// dropped.
type sender struct {
	sdk.SpanExporter
	outage *outage.Log
}

// ExportSpans sends spans. The SDK never calls it concurrently.
func (s *sender) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	s.outage.Report(ctx, withoutURL(s.SpanExporter.ExportSpans(ctx, spans)))
	return nil
}

// withoutURL removes the URL from an error, since it may contain a password.
func withoutURL(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

// errorHandler logs the SDK's errors.
type errorHandler struct{ outage *outage.Log }

// Handle implements otel.ErrorHandler.
func (h errorHandler) Handle(err error) {
	h.outage.Report(context.Background(), withoutURL(err))
}

// Shutdown sends the remaining spans, until ctx is done. It does nothing on nil.
func (t *Tracer) Shutdown(ctx context.Context) {
	if t != nil {
		_ = t.provider.Shutdown(ctx) // errors have been logged
	}
}

// Request starts the span of a request, in the trace of parent if that is a valid traceparent header. end
// takes the route, "" for none, and the status of the response.
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

// Notice starts the span of a notification to an app. end takes the status of the response, 0 for none, and
// whether the notification was delivered.
func (t *Tracer) Notice(ctx context.Context, to string) (_ context.Context, end func(status int, delivered bool)) {
	if t == nil {
		return ctx, func(int, bool) {}
	}
	attributes := []attribute.KeyValue{semconv.HTTPRequestMethodPost}
	if u, err := url.Parse(to); err == nil { // only the host: the path may contain a secret
		attributes = append(attributes, semconv.ServerAddress(u.Hostname()))
		if port, err := strconv.Atoi(u.Port()); err == nil {
			attributes = append(attributes, semconv.ServerPort(port))
		}
	}
	ctx, span := t.tracer.Start(ctx, "POST", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes...))
	return ctx, func(status int, delivered bool) {
		answered(span, status, !delivered)
		span.End()
	}
}

// Now returns the time, for Past, or the zero time if t is nil.
func (t *Tracer) Now() time.Time {
	if t == nil {
		return time.Time{}
	}
	return time.Now()
}

// Past adds a span that has already ended to the span of ctx. It does nothing if there is none.
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

// Logger returns a logger that adds the trace id to each line.
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
