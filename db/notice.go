package db

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// notifyTimeout is how long sending a notification may take.
	notifyTimeout = time.Second
	// noticeTimeout is how long a notification may take to arrive.
	noticeTimeout = 5 * time.Second
)

// notify is not part of a transaction, since not every database that speaks PostgreSQL's protocol has NOTIFY.
func (e *postgresEngine) notify(ctx context.Context, channel string) { e.notifyWith(ctx, channel, "") }

func (e *postgresEngine) notifyWith(ctx context.Context, channel, payload string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), notifyTimeout)
	defer cancel()
	_, _ = e.pool.Exec(ctx, "SELECT pg_notify($1, $2)", channel, payload) // best effort: see DB.Notify
}

func (e *postgresEngine) listen(ctx context.Context, channel string, heard func()) error {
	if e.pooled {
		// The pooler would leave a connection that others use subscribed, and may warn of each notification.
		return fmt.Errorf("listen on %s: %w", channel, ErrNoNotices)
	}
	config := e.pool.Config().ConnConfig
	config.DialFunc = (&net.Dialer{Timeout: config.ConnectTimeout, KeepAlive: noticeTimeout}).DialContext // without withDeadline: it may be idle for days
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", channel, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // its error has been returned

	err = e.startListening(ctx, conn, channel)
	for err == nil {
		heard()
		_, err = conn.WaitForNotification(ctx)
	}
	return fmt.Errorf("listen on %s: %w", channel, err)
}

// startListening subscribes a connection to a channel and checks that a notification arrives: its own, since those of
// other instances may come from a subscription that a pooler has given to another client.
func (e *postgresEngine) startListening(ctx context.Context, conn *pgx.Conn, channel string) error {
	limited, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if _, err := conn.Exec(limited, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
		return err
	}
	probe := rand.Text()
	e.notifyWith(ctx, channel, probe)
	limited, cancel = context.WithTimeout(ctx, noticeTimeout)
	defer cancel()
	for {
		notice, err := conn.WaitForNotification(limited)
		switch {
		case err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
			return ErrNoNotices
		case err != nil || notice.Payload == probe:
			return err
		}
	}
}
