// Package metrics exports metrics for Prometheus.
package metrics

import (
	"context"
	"database/sql"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"latchkey/app/password"
)

// Result is the result of a sign-in.
type Result string

// The results of a sign-in.
const (
	OK               Result = "ok"
	WrongCredentials Result = "wrong_credentials"
	Throttled        Result = "throttled"
	Disabled         Result = "disabled"
	Busy             Result = "busy"
	Canceled         Result = "canceled" // the client has disconnected
	Error            Result = "error"
)

// Sources are read when the metrics are scraped, and give the values of labels.
type Sources struct {
	Pool    *sql.DB
	Hashing func() password.Load
	Streams func() int
	// Connections counts the connections to the database, of all pools; Pool doesn't include those of the
	// direct pool to PostgreSQL.
	Connections func() (inUse, idle, limit int)
	// Backlog returns how many deliveries are pending, and how long the oldest has been due.
	Backlog func(context.Context) (pending int, late time.Duration, err error)

	Reasons, Outcomes []string // of ends of sessions, of attempts to notify an app
}

// Metrics counts events. Except for Handler, Route and Request, its methods do nothing on nil.
type Metrics struct {
	registry  *prometheus.Registry
	requests  *prometheus.CounterVec
	took      *prometheus.HistogramVec
	endpoints map[endpointKey]*atomic.Pointer[endpoint] // only Route adds to it

	started, registered, refused prometheus.Counter
	ended, signIns, attempts     *prometheus.CounterVec
	hashing                      prometheus.Histogram
}

// endpoint has the series of one method of one route, from its first request on: finding them by
// their labels takes longer than counting.
type endpoint struct {
	took  prometheus.Observer
	codes [500]atomic.Pointer[prometheus.Counter] // from 100 on
}

type endpointKey struct{ method, route string }

// Clients choose method and path, but must not be able to create series.
const (
	unknownRoute = "unknown"
	otherMethod  = "other"
)

var knownMethods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete, http.MethodOptions, http.MethodPut, http.MethodPatch}

// durations are histogram buckets in seconds, from the fastest whoami to longer than anybody waits.
var durations = []float64{.0001, .0003, .001, .003, .01, .03, .1, .3, 1, 3, 10}

// New returns Metrics with their own registry.
func New(from Sources) *Metrics {
	m := &Metrics{
		registry:  prometheus.NewRegistry(),
		endpoints: map[endpointKey]*atomic.Pointer[endpoint]{},
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "latchkey_http_requests_total",
			Help: "Requests answered."}, []string{"route", "method", "code"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "latchkey_http_request_duration_seconds", Buckets: durations,
			Help: "Time from a request's header to the end of its answer; an event stream is counted until it starts."}, []string{"route", "method"}),
		started: counter("latchkey_sessions_started_total", "Sessions started."),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "latchkey_sessions_ended_total",
			Help: "Sessions ended by this process. Those ended by a command such as 'latchkey session end' aren't counted."}, []string{"reason"}),
		signIns: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "latchkey_sign_ins_total",
			Help: "Sign-in forms submitted with an address and a password, by result."}, []string{"result"}),
		registered: counter("latchkey_registrations_total", "Accounts created by registration. Those of 'latchkey user add' aren't counted."),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "latchkey_outbox_attempts_total",
			Help: "Attempts to notify an app that a session ended, by result."}, []string{"result"}),
		refused: counter("latchkey_password_hashes_refused_total", "Password hashes rejected because too many were waiting, or this one waited too long."),
		hashing: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "latchkey_password_hash_duration_seconds", Buckets: durations,
			Help: "Time to hash a password, excluding queueing."}),
	}
	for vector, values := range map[*prometheus.CounterVec][]string{m.ended: from.Reasons, m.attempts: from.Outcomes,
		m.signIns: {string(OK), string(WrongCredentials), string(Throttled), string(Disabled), string(Busy), string(Canceled), string(Error)}} {
		for _, value := range values {
			vector.WithLabelValues(value) // a rate needs an initial zero
		}
	}
	for _, method := range append(knownMethods, otherMethod) {
		m.Route(method, unknownRoute)
	}
	m.registry.MustRegister(m.requests, m.took, m.started, m.ended, m.signIns, m.registered, m.attempts, m.refused, m.hashing,
		buildInfo(), &state{from: from},
		collectors.NewDBStatsCollector(from.Pool, "latchkey"), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

func buildInfo() prometheus.Collector {
	labels := prometheus.Labels{"version": "(devel)", "revision": "", "goversion": ""}
	if info, ok := debug.ReadBuildInfo(); ok {
		labels["goversion"] = info.GoVersion
		if info.Main.Version != "" {
			labels["version"] = info.Main.Version
		}
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				labels["revision"] = setting.Value
			}
		}
	}
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "latchkey_build_info", ConstLabels: labels,
		Help: "Always 1; its labels say what is running."}, func() float64 { return 1 })
}

// maxScrapes is the maximum number of concurrent scrapes.
const maxScrapes = 4

// Handler answers with all metrics, in the formats of Prometheus. Metrics that fail are left out.
func (m *Metrics) Handler(log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxScrapes,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelError),
	})
}

// Route registers a route. Call it before any of its requests.
func (m *Metrics) Route(method, route string) {
	m.endpoints[endpointKey{method, route}] = new(atomic.Pointer[endpoint])
}

// Request counts a request, whose route is "" if there is none.
func (m *Metrics) Request(method, route string, status int, took time.Duration) {
	key := endpointKey{method, route}
	place := m.endpoints[key]
	if place == nil {
		if key.route = unknownRoute; m.endpoints[key] == nil {
			key.method = otherMethod
		}
		place = m.endpoints[key]
	}
	e := place.Load()
	if e == nil { // concurrent calls create the same series, so either one will do
		e = &endpoint{took: m.took.WithLabelValues(key.route, key.method)}
		place.CompareAndSwap(nil, e)
	}
	e.took.Observe(took.Seconds())
	if status < 100 || status >= 100+len(e.codes) {
		status = http.StatusInternalServerError // none of our handlers sends such a status
	}
	answered := e.codes[status-100].Load()
	if answered == nil {
		counter := m.requests.WithLabelValues(key.route, key.method, strconv.Itoa(status))
		answered = &counter
		e.codes[status-100].Store(answered)
	}
	(*answered).Inc()
}

// SessionStarted counts a session that has started.
func (m *Metrics) SessionStarted() {
	if m != nil {
		m.started.Inc()
	}
}

// SessionsEnded counts sessions that have ended for a reason.
func (m *Metrics) SessionsEnded(reason string, n int) {
	if m != nil {
		m.ended.WithLabelValues(reason).Add(float64(n))
	}
}

// SignIn counts a sign-in.
func (m *Metrics) SignIn(result Result) {
	if m != nil {
		m.signIns.WithLabelValues(string(result)).Inc()
	}
}

// Registered counts an account created by registration.
func (m *Metrics) Registered() {
	if m != nil {
		m.registered.Inc()
	}
}

// Attempted counts an attempt to notify an app.
func (m *Metrics) Attempted(outcome string) {
	if m != nil {
		m.attempts.WithLabelValues(outcome).Inc()
	}
}

// Hashed counts a password hash.
func (m *Metrics) Hashed(h password.Hashing) {
	switch {
	case m == nil:
	case h.Refused:
		m.refused.Inc()
	case !h.Began.IsZero():
		m.hashing.Observe(h.Ended.Sub(h.Began).Seconds())
	}
}

// state collects the metrics that are read at each scrape.
type state struct{ from Sources }

var (
	hashes           = gauge("latchkey_password_hashes", "Password hashes running and waiting.", "state")
	hashesLimit      = gauge("latchkey_password_hashes_limit", "Maximum number of password hashes running and waiting.", "state")
	streams          = gauge("latchkey_event_streams", "Open event streams.")
	connections      = gauge("latchkey_database_connections", "Connections to the database.", "state")
	connectionsLimit = gauge("latchkey_database_connections_limit", "Maximum number of connections to the database.")

	databaseUp = gauge("latchkey_database_up", "1 if the database responds, else 0.")
	pending    = gauge("latchkey_outbox_pending", "Pending deliveries to apps.")
	oldestDue  = gauge("latchkey_outbox_oldest_due_seconds", "How long the oldest due delivery has been due; 0 if none is.")
)

func gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (s *state) Describe(all chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{hashes, hashesLimit, streams, connections, connectionsLimit, databaseUp, pending, oldestDue} {
		all <- desc
	}
}

// backlogTimeout is how long a scrape waits for the database.
const backlogTimeout = 2 * time.Second

// Collect implements prometheus.Collector.
func (s *state) Collect(all chan<- prometheus.Metric) {
	is := func(desc *prometheus.Desc, value float64, labels ...string) {
		all <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	load := s.from.Hashing()
	is(hashes, float64(load.Running), "running")
	is(hashes, float64(load.Waiting), "waiting")
	is(hashesLimit, float64(load.MaxRunning), "running")
	is(hashesLimit, float64(load.MaxWaiting), "waiting")
	is(streams, float64(s.from.Streams()))
	inUse, idle, limit := s.from.Connections()
	is(connections, float64(inUse), "in_use")
	is(connections, float64(idle), "idle")
	is(connectionsLimit, float64(limit))

	ctx, cancel := context.WithTimeout(context.Background(), backlogTimeout)
	defer cancel()
	n, late, err := s.from.Backlog(ctx)
	if err != nil { // /auth/health/ready logs why
		is(databaseUp, 0)
		return
	}
	is(databaseUp, 1)
	is(pending, float64(n))
	is(oldestDue, late.Seconds())
}
