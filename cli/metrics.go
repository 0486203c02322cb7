package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"latchkey/app/config"
)

// serveMetrics answers Prometheus on METRICS_LISTEN until the returned server is closed.
func serveMetrics(ctx context.Context, settings *config.Settings, metrics http.Handler) (*http.Server, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", settings.MetricsListen)
	if err != nil {
		return nil, fmt.Errorf("%w; choose another address with METRICS_LISTEN", err)
	}
	slog.Info("metrics", slog.String("url", "http://"+listener.Addr().String()+"/metrics"))
	if isExposed(listener.Addr()) {
		slog.Warn("METRICS_LISTEN is neither a loopback nor a private address: keep strangers from reaching it, who could read the metrics")
	}
	server := &http.Server{
		Handler:           requireLocalHost(metrics),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
	}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			slog.Error("metrics are no longer served", slog.Any("error", err))
		}
	}()
	return server, nil
}

// requireLocalHost refuses requests on loopback for any other host. Otherwise a stranger's page, in a
// browser on this machine, could read the answers after pointing its own name here (DNS rebinding).
func requireLocalHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		address, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
		if address != nil && address.IP.IsLoopback() && !config.LocalHost(r.Host) {
			http.Error(w, "Ask for localhost or an IP address.", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isExposed reports whether more than this machine and its network may reach an address.
func isExposed(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return !ok || !tcp.IP.IsLoopback() && !tcp.IP.IsPrivate() && !tcp.IP.IsLinkLocalUnicast()
}
