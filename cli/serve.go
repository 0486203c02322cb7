package cli

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"latchkey/app"
	"latchkey/app/config"
	"latchkey/app/connlimit"
	"latchkey/app/tracing"
	"latchkey/app/web"
	"latchkey/cli/check"
	"latchkey/db"
)

type serveCmd struct{}

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

// Run serves until ctx is done, and then finishes the requests in progress.
func (serveCmd) Run(ctx context.Context, settings *config.Settings, options app.Options) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200) // the heap is small: half the collections cost two megabytes
	}
	limitMemory(options.Log)
	traces, err := tracing.FromEnvironment(ctx, version(), options.Log)
	if err != nil {
		return err
	}
	options.Traces = traces
	socket, err := systemdSocket()
	if err != nil {
		return err
	}
	if socket != nil {
		if settings, err = atSocket(settings, socket.Addr().String()); err != nil {
			return err
		}
	}
	return withDatabase(ctx, settings, db.Open, func(database *db.DB) error {
		for _, problem := range check.ExposedFiles(settings) {
			options.Log.Warn(problem)
		}
		latchkey, err := app.New(ctx, settings, database, options)
		if err != nil {
			return err
		}
		if os.Getenv("GOMAXPROCS") == "" {
			// As many goroutines hash passwords as there are cores. With no more threads than that, all
			// others would wait for Go to preempt them, after 10 ms each; the system's scheduler uses
			// shorter time slices and favours threads that have waited.
			runtime.GOMAXPROCS(2 * runtime.GOMAXPROCS(0))
		}
		listener := socket
		if listener == nil {
			if listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", settings.Address()); err != nil {
				return fmt.Errorf("%w; choose another address with LISTEN or PORT", err)
			}
		}
		if handler := latchkey.Metrics(); handler != nil {
			metrics, err := serveMetrics(ctx, settings, handler)
			if err != nil {
				return err
			}
			defer metrics.Close()
		}
		address, err := announce(ctx, settings, latchkey, listener)
		if err != nil {
			return err
		}
		err = serve(ctx, slog.Default(), settings, latchkey, listener, socket != nil, "STATUS=Latchkey is at "+address)
		flushing, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		traces.Shutdown(flushing)
		return err
	})
}

// atSocket returns the settings with the address of systemd's socket as LISTEN.
func atSocket(settings *config.Settings, address string) (*config.Settings, error) {
	if _, port, _ := net.SplitHostPort(settings.Address()); !strings.HasSuffix(address, ":"+port) {
		slog.Warn("systemd's socket is not at LISTEN: 'latchkey healthcheck' needs LISTEN="+address, slog.String("listen", settings.Address()))
	}
	moved := settings.Config
	moved.Listen = address
	return moved.Parse()
}

// serve answers requests until ctx is done, and then finishes those in progress. The socket of a shared
// listener stays open in another process: connections that arrive meanwhile wait for the next server.
func serve(ctx context.Context, log *slog.Logger, settings *config.Settings, latchkey *app.App, listener net.Listener, shared bool, status string) (err error) {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { latchkey.Run(background) })
	running.Go(func() { runWatchdog(background, log, latchkey.Alive) })

	connections, streams := shareDescriptors(maxDescriptors())
	latchkey.LimitStreams(streams)
	guard := connlimit.New(connectionLimits(settings, connections))
	server := &http.Server{
		Handler: latchkey,

		DisableGeneralOptionsHandler: true, // the app answers OPTIONS * like any other request

		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    web.MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ConnState:         guard.Track,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	notifySystemd(log, daemon.SdNotifyReady, status)
	select {
	case err = <-failed:
	case <-ctx.Done():
		log.Info("stopping")
		notifySystemd(log, daemon.SdNotifyStopping, "STATUS=Finishing requests in progress")
		latchkey.Drain()
		if shared {
			_ = listener.Close() // our copy of it
			<-failed             // from here on, the server knows all accepted connections
		}
		awaitConnections(guard)
		deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		err = server.Shutdown(deadline)
		cancel()
	}
	stop()
	running.Wait()
	return err
}

// awaitConnections waits up to drainTimeout for clients to close their connections, as answers ask them
// to by now. Idle connections are closed after that, as HTTP allows at any time.
func awaitConnections(guard *connlimit.Guard) {
	for deadline := time.Now().Add(drainTimeout); guard.Open() > 0 && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
}

// announce prints where the pages are and the setup link, if there is one: as sentences on a terminal, else as
// lines of JSON. It returns the former.
func announce(ctx context.Context, settings *config.Settings, latchkey *app.App, listener net.Listener) (string, error) {
	address := strings.TrimSuffix(settings.BaseURL, "/")
	if address == "" {
		address = "http://" + config.Reachable(listener.Addr().String())
	}
	setup, err := latchkey.SetupURL(ctx, address)
	if err != nil {
		return "", err
	}
	if isTerminal(os.Stderr) {
		fmt.Printf("Latchkey is at %s\n", address)
		if setup != "" {
			fmt.Printf("Make the first account: %s\n", setup)
		}
		return address, nil
	}
	log := newLogger(os.Stdout, "info") // JSON, like the rest of what a program reads, whatever LOG_LEVEL is
	log.Info("serving", slog.String("url", address))
	if setup != "" {
		log.Info("make the first account", slog.String("url", setup))
	}
	return address, nil
}
