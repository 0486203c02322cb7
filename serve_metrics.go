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
		Handler:           metrics,
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

// open reports whether more than this machine and its network may reach an address.
func open(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return !ok || !tcp.IP.IsLoopback() && !tcp.IP.IsPrivate() && !tcp.IP.IsLinkLocalUnicast()
}
