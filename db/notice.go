package db

import (
	"context"
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
func (e *postgresEngine) notify(ctx context.Context, channel string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), notifyTimeout)
	defer cancel()
	_, _ = e.pool.Exec(ctx, "SELECT pg_notify($1, '')", channel) // best effort: see DB.Notify
}

func (e *postgresEngine) listen(ctx context.Context, channel string, heard func()) error {
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

// startListening subscribes a connection to a channel and checks that a notification arrives.
func (e *postgresEngine) startListening(ctx context.Context, conn *pgx.Conn, channel string) error {
	limited, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if _, err := conn.Exec(limited, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
		return err
	}
	e.notify(ctx, channel)
	limited, cancel = context.WithTimeout(ctx, noticeTimeout)
	defer cancel()
	_, err := conn.WaitForNotification(limited)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return ErrNoNotices
	}
	return err
}
