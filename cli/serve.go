package cli

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"

	"latchkey/app"
	"latchkey/app/config"
	"latchkey/app/outage"
	"latchkey/app/tracing"
	"latchkey/cli/check"
)

type serveCmd struct{}

// service is a run of the server, from the first try to open the database to the end.
type service struct {
	settings *config.Settings
	options  app.Options
	socket   net.Listener // from systemd; may be nil
	listener net.Listener // nil until listening
	server   *server      // nil until requests are answered
	serving  bool         // there is a database
	away     *outage.Log
}

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
	s := &service{settings: settings, options: options, socket: socket,
		away: outage.NewWarning(slog.Default(), "database unreachable; serving 503 until it is there", "database reached")}
	err = s.run(ctx)
	flushing, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	traces.Shutdown(flushing)
	return err
}

// serve answers requests until ctx is done, and then finishes those in progress.
func (s *service) serve(ctx context.Context, latchkey *app.App) error {
	s.serving = true
	s.away.Report(ctx, nil)
	for _, problem := range check.ExposedFiles(s.settings) {
		slog.Warn(problem)
	}
	if err := s.listen(ctx); err != nil {
		return err
	}
	if handler := latchkey.Metrics(); handler != nil {
		metrics, err := serveMetrics(ctx, s.settings, handler)
		if err != nil {
			return err
		}
		defer metrics.Close()
	}
	address, err := announce(ctx, s.settings, latchkey, s.listener)
	if err != nil {
		s.serving = false // the database may be gone again
		return err
	}
	if os.Getenv("GOMAXPROCS") == "" {
		// As many goroutines hash passwords as there are cores. With no more threads than that, all
		// others would wait for Go to preempt them, after 10 ms each; the system's scheduler uses
		// shorter time slices and favours threads that have waited.
		runtime.GOMAXPROCS(2 * runtime.GOMAXPROCS(0))
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { latchkey.Run(background) })
	_, streams := shareDescriptors(maxDescriptors())
	latchkey.LimitStreams(streams)
	if s.server == nil {
		s.server = startServer(ctx, s.settings, s.listener, s.socket != nil, latchkey)
	} else {
		s.server.answerBy(latchkey)
	}
	s.server.ready("Latchkey is at " + address)
	err = s.server.wait(ctx)
	stop()
	running.Wait()
	return err
}

// listen opens the listener, unless it is open.
func (s *service) listen(ctx context.Context) (err error) {
	switch {
	case s.listener != nil:
	case s.socket != nil:
		s.listener = s.socket
	default:
		if s.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", s.settings.Address()); err != nil {
			return fmt.Errorf("%w; choose another address with LISTEN or PORT", err)
		}
	}
	return nil
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

// announce prints the address and the setup link, if any: as sentences on a terminal, otherwise as lines of JSON. It
// returns the address.
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
