package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"latchkey/app"
)

// serveMetrics answers Prometheus on METRICS_LISTEN, until what it returns is closed.
func serveMetrics(ctx context.Context, config *app.Config, metrics http.Handler) (*http.Server, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", config.MetricsListen)
	if err != nil {
		return nil, fmt.Errorf("%w; choose another address with METRICS_LISTEN", err)
	}
	config.Log.Info("metrics", slog.String("url", "http://"+listener.Addr().String()+"/metrics"))
	if open(listener.Addr()) {
		config.Log.Warn("METRICS_LISTEN is neither a loopback nor a private address: keep strangers from it, who could read the metrics")
	}
	server := &http.Server{
		Handler:           forLocalHosts(metrics),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(config.Log.Handler(), slog.LevelWarn),
	}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			config.Log.Error("no more metrics", slog.Any("error", err))
		}
	}()
	return server, nil
}

// forLocalHosts refuses requests on loopback for any other name: a page of a stranger, in a browser on
// this machine, can have its own name lead here (DNS rebinding), and would read the answers.
func forLocalHosts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
		if at != nil && at.IP.IsLoopback() && !app.LocalHost(r.Host) {
			http.Error(w, "Ask for localhost or an IP address.", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// open reports whether more than this machine and its network may reach an address.
func open(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return !ok || !tcp.IP.IsLoopback() && !tcp.IP.IsPrivate() && !tcp.IP.IsLinkLocalUnicast()
}
