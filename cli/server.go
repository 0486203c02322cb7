package cli

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"latchkey/app/config"
	"latchkey/app/connlimit"
	"latchkey/app/web"
)

const (
	// drainTimeout is how long a client that keeps its connection open may take for its next request,
	// whose answer asks it to close the connection.
	drainTimeout = time.Second
	// shutdownTimeout is how long requests in progress may take. With drainTimeout and flushTimeout it
	// stays under the 30 seconds after which hosts kill a process.
	shutdownTimeout = 25 * time.Second
	// flushTimeout is for sending the remaining traces.
	flushTimeout = 3 * time.Second
)

// answerer answers the requests of a server: an app.Waiting as long as there is no database, then an app.App.
type answerer interface {
	http.Handler
	// Alive returns an error if requests are no longer answered.
	Alive(ctx context.Context) error
	// Drain has every response ask the client to close the connection.
	Drain()
}

// server answers the requests that arrive at a listener. It tells systemd that it lives until it is stopped.
type server struct {
	log      *slog.Logger
	listener net.Listener
	shared   bool // the socket stays open in another process: connections that arrive after the end wait for the next server
	by       atomic.Pointer[answerer]
	http     *http.Server
	guard    *connlimit.Guard
	failed   chan error // receives the error that ended serving

	stopWatchdog context.CancelFunc
	running      sync.WaitGroup
}

// startServer starts a server whose requests by answers. Stop it with stop.
func startServer(ctx context.Context, settings *config.Settings, listener net.Listener, shared bool, by answerer) *server {
	connections, _ := shareDescriptors(maxDescriptors())
	s := &server{log: slog.Default(), listener: listener, shared: shared, failed: make(chan error, 1),
		guard: connlimit.New(connectionLimits(settings, connections))}
	s.answerBy(by)
	s.http = &http.Server{
		Handler: s,

		DisableGeneralOptionsHandler: true, // the app answers OPTIONS * like any other request

		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    web.MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		ConnState:         s.guard.Track,
	}
	go func() { s.failed <- s.http.Serve(listener) }()
	var watched context.Context
	watched, s.stopWatchdog = context.WithCancel(context.WithoutCancel(ctx))
	s.running.Go(func() {
		runWatchdog(watched, s.log, func(ctx context.Context) error { return s.answerer().Alive(ctx) })
	})
	return s
}

// answerBy makes another answerer answer all further requests.
func (s *server) answerBy(by answerer) { s.by.Store(&by) }

func (s *server) answerer() answerer { return *s.by.Load() }

// ServeHTTP implements http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.answerer().ServeHTTP(w, r) }

// ready tells systemd that requests are answered, with a status.
func (s *server) ready(status string) { notifySystemd(s.log, daemon.SdNotifyReady, "STATUS="+status) }

// wait waits until ctx is done, and then stops the server. It returns earlier, with an error, if that fails.
func (s *server) wait(ctx context.Context) error {
	select {
	case err := <-s.failed:
		s.stopWatchdog()
		s.running.Wait()
		return err
	case <-ctx.Done():
		return s.stop(ctx)
	}
}

// stop finishes the requests in progress.
func (s *server) stop(ctx context.Context) error {
	s.log.Info("stopping")
	notifySystemd(s.log, daemon.SdNotifyStopping, "STATUS=Finishing requests in progress")
	s.answerer().Drain()
	if s.shared {
		_ = s.listener.Close() // our copy of it
		<-s.failed             // from here on, the server knows all accepted connections
	}
	awaitConnections(s.guard)
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := s.http.Shutdown(deadline)
	s.stopWatchdog()
	s.running.Wait()
	return err
}

// awaitConnections waits up to drainTimeout for clients to close their connections, as responses now ask them to.
// Idle connections are closed after that, which HTTP allows at any time.
func awaitConnections(guard *connlimit.Guard) {
	for deadline := time.Now().Add(drainTimeout); guard.Open() > 0 && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
}
