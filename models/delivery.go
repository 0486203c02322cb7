package models

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gofrs/uuid/v5"
	"gorm.io/gorm"

	"latchkey/db"
)

// Delivery is a notification of one app about the end of one session. CreatedAt is when the end was
// recorded.
type Delivery struct {
	Job
	AppName    string
	App        App `gorm:"-"` // set by Claim
	SessionID  uuid.UUID
	IdentityID uuid.UUID
	Reason     Reason
}

// Deliveries is the queue of logout notifications. A delivery is written in the transaction that marks its
// session as ended, so there is one if and only if the session is marked.
type Deliveries struct{ table }

func (s Deliveries) queue() queue {
	return queue{table: s.table, name: "deliveries", recipient: "app_name"}
}

// queueDeliveries writes a delivery for each pair of session and app.
func queueDeliveries(ctx context.Context, tx *db.Tx, now time.Time, sessions []Session) error {
	apps, err := gorm.G[App](tx.DB).Find(ctx)
	if err != nil || len(apps) == 0 {
		return err
	}
	rows := make([]Delivery, 0, len(sessions)*len(apps))
	for _, session := range sessions {
		for _, app := range apps {
			job, err := newJob(now)
			if err != nil {
				return err
			}
			rows = append(rows, Delivery{Job: job, AppName: app.Name, SessionID: session.ID, IdentityID: session.IdentityID, Reason: session.EndReason})
		}
	}
	return insertAll(ctx, tx, rows)
}

// Due returns the names of the apps that have deliveries due now.
func (s Deliveries) Due(ctx context.Context) ([]string, error) { return s.queue().due(ctx) }

// Backlog returns how many deliveries are pending, and how long the oldest has been due: 0 if none is due.
func (s Deliveries) Backlog(ctx context.Context) (pending int, late time.Duration, err error) {
	if pending, late, err = s.queue().backlog(ctx); err != nil {
		return 0, 0, err
	}
	return pending, late, s.db.Ping(ctx)
}

// Claim leases up to limit of an app's due deliveries, oldest first, and counts an attempt for each. No
// other process can claim them until the lease expires. Then they are due again, so a crash loses nothing.
func (s Deliveries) Claim(ctx context.Context, app string, limit int, lease time.Duration) ([]Delivery, error) {
	to, err := gorm.G[App](s.db.Query(ctx)).Where("name = ?", app).Take(ctx)
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return nil, nil // removed together with its deliveries
	}
	if err != nil {
		return nil, fmt.Errorf("claim deliveries to %s: %w", app, err)
	}
	claimed, err := claim[Delivery](ctx, s.queue(), app, limit, lease)
	for i := range claimed {
		claimed[i].App = to
	}
	return claimed, err
}

// Settle stores the result of a claimed delivery: State, NextAt, Status and Note. It does nothing if the
// delivery has been claimed again since.
func (s Deliveries) Settle(ctx context.Context, d Job) error { return s.queue().settle(ctx, d) }

// Release returns a claimed delivery to the queue without counting the attempt.
func (s Deliveries) Release(ctx context.Context, d Job) error { return s.queue().release(ctx, d) }

// OfSession returns the deliveries about a session's end, sorted by app name.
func (s Deliveries) OfSession(ctx context.Context, session uuid.UUID) ([]Delivery, error) {
	found, err := gorm.G[Delivery](s.db.Query(ctx)).Where("session_id = ?", session).Order("app_name").Find(ctx)
	if err != nil {
		return nil, fmt.Errorf("find the deliveries of session %s: %w", session, err)
	}
	return found, nil
}

// Log returns up to limit deliveries, newest first. An empty app or state matches any.
func (s Deliveries) Log(ctx context.Context, app string, state DeliveryState, limit int) ([]Delivery, error) {
	found, err := gorm.G[Delivery](s.db.Query(ctx)).Where("(app_name = ? OR ?) AND (state = ? OR ?)", app, app == "", state, state == "").
		Order("created_at DESC, id").Limit(limit).Find(ctx)
	if err != nil {
		return nil, fmt.Errorf("list deliveries: %w", err)
	}
	return found, nil
}

// Retry makes a delivery due now, whatever its state. It returns ErrNotFound if there is none with that id.
func (s Deliveries) Retry(ctx context.Context, id uuid.UUID) error { return s.queue().retry(ctx, id) }

// RetryAll makes all undelivered deliveries of an app due now and returns how many.
func (s Deliveries) RetryAll(ctx context.Context, app string) (int, error) {
	return s.queue().retryAll(ctx, app)
}

// Reschedule makes deliveries due now that lie further ahead than the longest pause or lease allows, which
// means that the clock was set back. It returns how many.
func (s Deliveries) Reschedule(ctx context.Context, pause, lease time.Duration) (int, error) {
	return s.queue().reschedule(ctx, pause, lease)
}

// Prune removes up to limit settled deliveries created before a time and returns how many it removed.
func (s Deliveries) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	return s.queue().prune(ctx, before, limit)
}
