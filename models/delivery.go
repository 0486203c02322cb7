package models

import (
	"context"
	"fmt"
	"time"

	"github.com/gofrs/uuid/v5"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// Delivery is the duty to tell one app of the end of one session.
type Delivery struct {
	ID         uuid.UUID
	AppName    string
	App        App `gorm:"-"` // set by Claim
	SessionID  uuid.UUID
	IdentityID uuid.UUID
	Reason     Reason
	State      DeliveryState
	Attempts   int
	NextAt     time.Time // when it is due, while it is pending
	// LeasedUntil keeps others from attempting it while somebody does.
	LeasedUntil time.Time
	GiveUpAt    time.Time
	Status      int       // HTTP status of the last answer; 0 for none
	Note        string    // what came of the last attempt
	CreatedAt   time.Time // when the session's end was noticed
	UpdatedAt   time.Time
}

// DeliveryState is how far a delivery has come.
type DeliveryState string

// The states of a delivery.
const (
	Pending   DeliveryState = "pending"
	Delivered DeliveryState = "delivered"
	Refused   DeliveryState = "refused"  // by the app, for good
	GivenUp   DeliveryState = "given_up" // after a day of trying
)

// keepTrying is for how long a delivery is attempted.
const keepTrying = 24 * time.Hour

// Deliveries is the outbox: a delivery is written in the transaction that ends its session, and so
// is due if and only if the session has ended.
type Deliveries struct{ table }

// queueDeliveries writes a delivery for each of the sessions and each app.
func queueDeliveries(ctx context.Context, tx *gorm.DB, now time.Time, sessions []Session) error {
	apps, err := gorm.G[App](tx).Find(ctx)
	if err != nil || len(apps) == 0 {
		return err
	}
	queue := make([]Delivery, 0, len(sessions)*len(apps))
	for _, session := range sessions {
		for _, app := range apps {
			id, err := uuid.NewV4()
			if err != nil {
				return err
			}
			queue = append(queue, Delivery{ID: id, AppName: app.Name, SessionID: session.ID, IdentityID: session.IdentityID,
				Reason: session.EndReason, State: Pending,
				NextAt: now, LeasedUntil: now, GiveUpAt: now.Add(keepTrying), CreatedAt: now, UpdatedAt: now})
		}
	}
	return gorm.G[Delivery](tx).CreateInBatches(ctx, &queue, insertBatch)
}

const due = "state = 'pending' AND next_at <= ? AND leased_until <= ?"

// Due returns the names of the apps that have something to be told now. It looks at one delivery of
// each: an app that is down may have many thousands.
func (s Deliveries) Due(ctx context.Context) ([]string, error) {
	var names []string
	now := s.now()
	err := s.db.WithContext(ctx).Model(&App{}).
		Where("EXISTS (SELECT 1 FROM deliveries WHERE app_name = apps.name AND "+due+")", now, now).
		Order("name").Pluck("name", &names).Error
	if err != nil {
		return nil, fmt.Errorf("look for deliveries: %w", err)
	}
	return names, nil
}

// Backlog returns how many deliveries are pending, and for how long the first of them has been due:
// 0 if none is.
func (s Deliveries) Backlog(ctx context.Context) (pending int, late time.Duration, err error) {
	n, err := gorm.G[Delivery](s.db).Where("state = 'pending'").Count(ctx, "*")
	if err != nil {
		return 0, 0, fmt.Errorf("count deliveries: %w", err)
	}
	now := s.now()
	first, err := gorm.G[Delivery](s.db).Select("next_at").Where("state = 'pending' AND next_at <= ?", now).Order("next_at").Limit(1).Find(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("look for the oldest delivery: %w", err)
	}
	if len(first) > 0 {
		late = now.Sub(first[0].NextAt)
	}
	return int(n), late, s.file.check()
}

// Claim takes up to limit of an app's due deliveries, the longest due first, each as one more
// attempt. Nobody else gets them until the lease is over, when they are due again: whoever
// claims and dies loses nothing.
func (s Deliveries) Claim(ctx context.Context, app string, limit int, lease time.Duration) ([]Delivery, error) {
	var claimed []Delivery
	err := s.write(ctx, func(tx *gorm.DB) error {
		now := s.now()
		found, err := gorm.G[Delivery](tx, clause.Locking{Strength: clause.LockingStrengthUpdate, Options: clause.LockingOptionsSkipLocked}).
			Where("app_name = ? AND "+due, app, now, now).Order("next_at").Limit(limit).Find(ctx)
		if err != nil || len(found) == 0 {
			return err
		}
		to, err := gorm.G[App](tx).Where("name = ?", app).Take(ctx)
		if err != nil {
			return err
		}
		ids, until := make([]uuid.UUID, len(found)), now.Add(lease)
		for i := range found {
			ids[i] = found[i].ID
			found[i].Attempts++
			found[i].LeasedUntil, found[i].App = until, to
		}
		claimed = found
		_, err = gorm.G[Delivery](tx).Where("id IN ?", ids).
			Set(set("attempts", gorm.Expr("attempts + 1")), set("leased_until", until), set("updated_at", now)).Update(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("claim deliveries to %s: %w", app, err)
	}
	return claimed, nil
}

// Settle writes down what came of a claimed delivery: its State, NextAt, Status and Note. It does
// nothing if the delivery has been claimed anew since.
func (s Deliveries) Settle(ctx context.Context, d Delivery) error {
	_, err := s.update(ctx, func(tx *gorm.DB) (int, error) {
		return gorm.G[Delivery](tx).Where("id = ? AND state = 'pending' AND leased_until = ?", d.ID, d.LeasedUntil).
			Set(set("state", d.State), set("next_at", d.NextAt.UTC()), set("leased_until", s.now()), set("status", d.Status),
				set("note", d.Note), set("updated_at", s.now())).Update(ctx)
	})
	if err != nil {
		return fmt.Errorf("settle delivery %s: %w", d.ID, err)
	}
	return nil
}

// Release gives a claimed delivery back, as if it had not been attempted.
func (s Deliveries) Release(ctx context.Context, d Delivery) error {
	_, err := s.update(ctx, func(tx *gorm.DB) (int, error) {
		return gorm.G[Delivery](tx).Where("id = ? AND state = 'pending' AND leased_until = ?", d.ID, d.LeasedUntil).
			Set(set("attempts", d.Attempts-1), set("leased_until", s.now())).Update(ctx)
	})
	if err != nil {
		return fmt.Errorf("release delivery %s: %w", d.ID, err)
	}
	return nil
}

// OfSession returns what apps are, or were, to be told of a session's end, by the app's name.
func (s Deliveries) OfSession(ctx context.Context, session uuid.UUID) ([]Delivery, error) {
	found, err := gorm.G[Delivery](s.db).Where("session_id = ?", session).Order("app_name").Find(ctx)
	if err != nil {
		return nil, fmt.Errorf("find the deliveries of session %s: %w", session, err)
	}
	return found, nil
}

// Log returns the newest deliveries, to one app or with "" to all, and in one state or with "" in
// any.
func (s Deliveries) Log(ctx context.Context, app string, state DeliveryState, limit int) ([]Delivery, error) {
	found, err := gorm.G[Delivery](s.db).Where("(app_name = ? OR ?) AND (state = ? OR ?)", app, app == "", state, state == "").
		Order("created_at DESC, id").Limit(limit).Find(ctx)
	if err != nil {
		return nil, fmt.Errorf("list deliveries: %w", err)
	}
	return found, nil
}

// Retry makes one delivery due now, whatever came of it before. It returns ErrNotFound if there is
// none of that id.
func (s Deliveries) Retry(ctx context.Context, id uuid.UUID) error {
	n, err := s.retry(ctx, "id = ?", id)
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("retry delivery %s: %w", id, err)
	}
	return nil
}

// RetryAll makes all that an app has not accepted due now; it returns how many.
func (s Deliveries) RetryAll(ctx context.Context, app string) (int, error) {
	n, err := s.retry(ctx, "app_name = ? AND state <> 'delivered'", app)
	if err != nil {
		return 0, fmt.Errorf("retry deliveries to %s: %w", app, err)
	}
	return n, nil
}

// retry starts the day of trying anew, with its short pauses. What is being attempted right now is left alone.
func (s Deliveries) retry(ctx context.Context, which string, args ...any) (int, error) {
	now := s.now()
	return s.update(ctx, func(tx *gorm.DB) (int, error) {
		return gorm.G[Delivery](tx).Where(which, args...).
			Set(set("state", Pending), set("attempts", 0), set("next_at", now), set("give_up_at", now.Add(keepTrying)), set("updated_at", now)).Update(ctx)
	})
}

// Mend makes those deliveries due that will be later than any pause or lease lasts, since the clock has
// been set back after they were noted. It returns how many.
func (s Deliveries) Mend(ctx context.Context, pause, lease time.Duration) (int, error) {
	now := s.now()
	pause, lease = pause+clockSkew, lease+clockSkew
	const ahead = "state = 'pending' AND (next_at > ? OR leased_until > ?)"
	found, err := gorm.G[Delivery](s.db).Select("id").Where(ahead, now.Add(pause), now.Add(lease)).Limit(1).Find(ctx)
	n := 0
	if err == nil && len(found) > 0 {
		n, err = s.update(ctx, func(tx *gorm.DB) (int, error) {
			return gorm.G[Delivery](tx).Where(ahead, now.Add(pause), now.Add(lease)).
				Set(set("next_at", now), set("leased_until", now), set("updated_at", now)).Update(ctx)
		})
	}
	if err != nil {
		return 0, fmt.Errorf("mend deliveries: %w", err)
	}
	return n, nil
}

// Prune removes up to limit deliveries from before a time that are no longer pending; it returns
// how many.
func (s Deliveries) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	n, err := s.update(ctx, func(tx *gorm.DB) (int, error) {
		return gorm.G[Delivery](tx).Where(
			"id IN (SELECT id FROM deliveries WHERE created_at < ? AND state <> 'pending' LIMIT ?)", before.UTC(), limit).Delete(ctx)
	})
	if err != nil {
		return 0, fmt.Errorf("remove old deliveries: %w", err)
	}
	return n, nil
}
