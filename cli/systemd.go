package cli

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

// systemdSocket returns the socket that systemd has passed to the process (sd_listen_fds(3)), or nil if
// there is none. It outlives the process: new connections wait in it while the server restarts.
func systemdSocket() (net.Listener, error) {
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
	// A Unix socket has no addresses, by which proxies are told from clients.
	if _, ok := sockets[0].(*net.TCPListener); !ok {
		return nil, errors.New("systemd passes a socket that is not TCP: give latchkey.socket an address and a port, such as ListenStream=127.0.0.1:8080")
	}
	return sockets[0], nil
}

// notifySystemd sends the state of the service to systemd (sd_notify(3)), if that has started it.
func notifySystemd(log *slog.Logger, states ...string) {
	if _, err := daemon.SdNotify(false, strings.Join(states, "\n")); err != nil {
		log.Warn("notifying systemd failed", slog.Any("error", err))
	}
}

// runWatchdog notifies systemd, until ctx is done, as long as the server's handler answers, with or without a database.
// A restart wouldn't bring the database back, and would interrupt the 503s. systemd restarts a service that hasn't
// notified it for WatchdogSec.
func runWatchdog(ctx context.Context, log *slog.Logger, alive func(context.Context) error) {
	timeout, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("systemd's watchdog is off", slog.Any("error", err))
	}
	if timeout <= 0 || err != nil {
		return
	}
	tick := time.NewTicker(timeout / 3)
	defer tick.Stop()
	for {
		if err := alive(ctx); err == nil {
			notifySystemd(log, daemon.SdNotifyWatchdog)
		} else if ctx.Err() == nil {
			log.Error("handler does not answer; systemd's watchdog not notified", slog.Any("error", err))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
