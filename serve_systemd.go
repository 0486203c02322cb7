package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// inherited returns the socket that systemd has opened for the program, which outlives it: who
// connects while one process follows another waits there. It returns nil where there is none.
func inherited() (net.Listener, error) {
	sockets, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("take the socket of systemd: %w", err)
	}
	if len(sockets) == 0 {
		return nil, nil
	}
	if len(sockets) > 1 {
		return nil, fmt.Errorf("systemd passes %d sockets: leave one ListenStream in latchkey.socket", len(sockets))
	}
	// Proxies are told from clients by their address, and a Unix socket has none.
	if _, ok := sockets[0].(*net.TCPListener); !ok {
		return nil, errors.New("systemd passes a socket that is not TCP: give latchkey.socket an address and a port, such as ListenStream=127.0.0.1:8080")
	}
	return sockets[0], nil
}

// tell tells systemd how the service is doing (sd_notify(3)). Where nobody wants to know it does nothing.
func tell(log *slog.Logger, states ...string) {
	if _, err := daemon.SdNotify(false, strings.Join(states, "\n")); err != nil {
		log.Warn("systemd could not be told", slog.Any("error", err))
	}
}

// watchdog tells systemd again and again that the service works, as long as it does, until ctx is
// done. systemd starts one anew that it has not heard of for WatchdogSec.
func watchdog(ctx context.Context, log *slog.Logger, works func(context.Context) error) {
	period, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("the watchdog of systemd is off", slog.Any("error", err))
	}
	if period <= 0 || err != nil {
		return
	}
	tick := time.NewTicker(period / 3)
	defer tick.Stop()
	for {
		if err := works(ctx); err == nil {
			tell(log, daemon.SdNotifyWatchdog)
		} else if ctx.Err() == nil {
			log.Error("not ready, so systemd is not told otherwise", slog.Any("error", err))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
