package main

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
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"gorm.io/gorm"

	"latchkey/app"
	"latchkey/app/tracing"
	"latchkey/db"
)

type serveCmd struct{}

const (
	// maxHeaderBytes is more than any header may have, so that one that is too long gets an answer
	// of ours; net/http would cut the connection.
	maxHeaderBytes = 1<<20 + 128<<10
	// shutdownTimeout and drainTimeout are less than the 30 seconds that hosts wait before they kill.
	shutdownTimeout = 25 * time.Second
	// flushTimeout is for the traces that are left, and fits into what is left of those 30 seconds.
	flushTimeout = 3 * time.Second
	// drainTimeout is how long a client that keeps its connection may take for its next request, to
	// be told in the answer to let go. New clients may be waiting for the next process meanwhile.
	drainTimeout = time.Second
)

// Run serves until it is told to stop, and then finishes what is under way.
func (serveCmd) Run(ctx context.Context, config *app.Config) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200) // the heap is small: half the collections cost two megabytes
	}
	traces, err := tracing.FromEnvironment(ctx, version(), config.Log)
	if err != nil {
		return err
	}
	config.Traces = traces
	socket, err := inherited()
	if err != nil {
		return err
	}
	if socket != nil {
		listenAt(config, socket.Addr().String())
	}
	return withDatabase(ctx, config, db.Open, func(database *gorm.DB) error {
		latchkey, err := app.New(*config, database)
		if err != nil {
			return err
		}
		if os.Getenv("GOMAXPROCS") == "" {
			// As many hash as there are cores. With no more threads than that, all others would wait
			// for Go to take a core from them, 10 ms each time; the system's scheduler shares the cores
			// in shorter turns, and who has waited goes first.
			runtime.GOMAXPROCS(2 * runtime.GOMAXPROCS(0))
		}
		listener := socket
		if listener == nil {
			if listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", config.Address()); err != nil {
				return fmt.Errorf("%w; choose another address with LISTEN or PORT", err)
			}
		}
		if handler := latchkey.Metrics(); handler != nil {
			metrics, err := serveMetrics(ctx, config, handler)
			if err != nil {
				return err
			}
			defer metrics.Close()
		}
		address, err := announce(ctx, config, latchkey, listener)
		if err != nil {
			return err
		}
		err = serve(ctx, config.Log, latchkey, listener, socket != nil, "STATUS=Latchkey is at "+address)
		flushing, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		traces.Shutdown(flushing)
		return err
	})
}

// listenAt has the settings say where the socket of systemd is.
func listenAt(config *app.Config, at string) {
	if _, port, _ := net.SplitHostPort(config.Address()); !strings.HasSuffix(at, ":"+port) {
		config.Log.Warn("the socket of systemd is not where LISTEN says: 'latchkey healthcheck' needs LISTEN="+at, slog.String("listen", config.Address()))
	}
	config.Listen = at
}

// serve answers requests until ctx is done, and then finishes those that are under way. A listener
// that is lasting stays open elsewhere: who connects to it meanwhile is the next process's.
func serve(ctx context.Context, log *slog.Logger, latchkey *app.App, listener net.Listener, lasting bool, status string) (err error) {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { latchkey.Run(background) })
	running.Go(func() { watchdog(background, log, latchkey.Ready) })

	var open atomic.Int64
	server := &http.Server{
		Handler: latchkey,

		DisableGeneralOptionsHandler: true, // OPTIONS * is answered like all else

		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ConnState:         counting(&open),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	tell(log, daemon.SdNotifyReady, status)
	select {
	case err = <-failed:
	case <-ctx.Done():
		log.Info("stopping")
		tell(log, daemon.SdNotifyStopping, "STATUS=Finishing what is under way")
		latchkey.Drain()
		if lasting {
			_ = listener.Close() // of our copy; systemd has its own
			<-failed             // all that was accepted is known to the server now
		}
		drained(&open)
		deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		err = server.Shutdown(deadline)
		cancel()
	}
	stop()
	running.Wait()
	return err
}

// counting keeps the number of connections that the server has.
func counting(open *atomic.Int64) func(net.Conn, http.ConnState) {
	return func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		}
	}
}

// drained waits until all clients have let go of their connections, as every answer asks them to by
// now. Those that ask nothing meanwhile lose theirs: in HTTP that may happen at any time.
func drained(open *atomic.Int64) {
	for deadline := time.Now().Add(drainTimeout); open.Load() > 0 && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
}

// announce prints where to go, and returns it.
func announce(ctx context.Context, config *app.Config, latchkey *app.App, listener net.Listener) (string, error) {
	address := strings.TrimSuffix(config.BaseURL, "/")
	if address == "" {
		address = "http://" + app.Reachable(listener.Addr().String())
	}
	setup, err := latchkey.SetupURL(ctx, address)
	if err != nil {
		return "", err
	}
	fmt.Printf("Latchkey is at %s\n", address)
	if setup != "" {
		fmt.Printf("Make the first account: %s\n", setup)
	}
	return address, nil
}
