package models

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gofrs/uuid/v5"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"latchkey/db"
)

// Failure counts the failed sign-ins to an account from one IP address and user agent within an hour.
type Failure struct {
	ID         uuid.UUID
	IdentityID uuid.UUID
	FirstAt    time.Time
	LastAt     time.Time
	Count      int
	IPAddress  string
	UserAgent  string
}

// Activity is something that happened to a person's account.
type Activity struct {
	At        time.Time
	Kind      ActivityKind
	Reason    Reason    // why the session ended; set for SessionEnded only
	SessionID uuid.UUID // set for SignedIn and SessionEnded only
	Count     int       // number of failures; 0 for other kinds
	IPAddress string    // where the session started, or where the failures came from
	UserAgent string
}

// ActivityKind is what an activity is.
type ActivityKind string

// The kinds of activities.
const (
	SignedIn     ActivityKind = "signed_in"
	SignInFailed ActivityKind = "failed"
	SessionEnded ActivityKind = "ended"
	// PasswordChanged is the last change of the password, by the person or by an operator. It has no place.
	PasswordChanged ActivityKind = "password_changed"
)

// Activities is the history of the accounts. Sign-ins and ends are read from the sessions themselves, and the last
// change of a password from the credential, so they can't disagree with them; failures have their own table.
type Activities struct{ table }

const (
	// failureSpan is the window in which failures from one place are counted as one entry.
	failureSpan = time.Hour
	// maxFailures is how many entries are kept per account, so that repeated failures can't fill the
	// database.
	maxFailures = 200
)

// RecordFailure records a failed sign-in to the account f.IdentityID at f.LastAt. It returns ErrNotFound
// if there is no such account.
func (s Activities) RecordFailure(ctx context.Context, f Failure) error {
	id, err := uuid.NewV4()
	if err != nil {
		return fmt.Errorf("record a failure: %w", err)
	}
	at := f.LastAt.UTC().Truncate(time.Microsecond)
	f.ID, f.FirstAt, f.LastAt, f.Count = id, at, at, 1
	err = s.db.Write(ctx, func(tx *db.Tx) error {
		// The account may have been deleted meanwhile. On PostgreSQL the lock makes concurrent writers
		// find, and count on, the entry that this one creates.
		_, err := gorm.G[Identity](tx.DB, clause.Locking{Strength: clause.LockingStrengthUpdate}).Where("id = ? AND "+there, f.IdentityID).Take(ctx)
		if err != nil {
			return err
		}
		n, err := gorm.G[Failure](tx.DB).Where("identity_id = ? AND ip_address = ? AND user_agent = ? AND first_at > ?",
			f.IdentityID, f.IPAddress, f.UserAgent, at.Add(-failureSpan)).
			Set(set("count", gorm.Expr("count + 1")), set("last_at", at)).Update(ctx)
		if err != nil || n > 0 {
			return err
		}
		if err := gorm.G[Failure](tx.DB).Create(ctx, &f); err != nil {
			return err
		}
		_, err = gorm.G[Failure](tx.DB).Where(`identity_id = ? AND id NOT IN
			(SELECT id FROM failures WHERE identity_id = ? ORDER BY last_at DESC LIMIT ?)`,
			f.IdentityID, f.IdentityID, maxFailures).Delete(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("record a failure: %w", notFound(err))
	}
	return nil
}

// Of returns up to limit activities of a person since a time, newest first.
func (s Activities) Of(ctx context.Context, person uuid.UUID, since time.Time, limit int) ([]Activity, error) {
	since = since.UTC()
	started, err := gorm.G[Session](s.db.Query(ctx)).Where("identity_id = ? AND authenticated_at > ?", person, since).
		Order("authenticated_at DESC").Limit(limit).Find(ctx)
	if err != nil {
		return nil, fmt.Errorf("list sign-ins: %w", err)
	}
	ended, err := gorm.G[Session](s.db.Query(ctx)).Where("identity_id = ? AND expires_at > ? AND expires_at <= ?", person, since, s.now()).
		Order("expires_at DESC").Limit(limit).Find(ctx)
	if err != nil {
		return nil, fmt.Errorf("list ends: %w", err)
	}
	failures, err := gorm.G[Failure](s.db.Query(ctx)).Where("identity_id = ? AND last_at > ?", person, since).
		Order("last_at DESC").Limit(limit).Find(ctx)
	if err != nil {
		return nil, fmt.Errorf("list failures: %w", err)
	}

	changed, err := gorm.G[Credential](s.db.Query(ctx)).Where("identity_id = ? AND method = ? AND version > 1 AND updated_at > ?", person, MethodPassword, since).
		Find(ctx)
	if err != nil {
		return nil, fmt.Errorf("list password changes: %w", err)
	}

	var all []Activity
	for _, v := range changed {
		all = append(all, Activity{At: v.UpdatedAt, Kind: PasswordChanged})
	}
	for _, v := range started {
		all = append(all, Activity{At: v.AuthenticatedAt, Kind: SignedIn, SessionID: v.ID, IPAddress: v.IPAddress, UserAgent: v.UserAgent})
	}
	for _, v := range ended {
		all = append(all, Activity{At: v.ExpiresAt, Kind: SessionEnded, Reason: cmp.Or(v.EndReason, Expired), SessionID: v.ID,
			IPAddress: v.IPAddress, UserAgent: v.UserAgent})
	}
	for _, v := range failures {
		all = append(all, Activity{At: v.LastAt, Kind: SignInFailed, Count: v.Count, IPAddress: v.IPAddress, UserAgent: v.UserAgent})
	}
	slices.SortStableFunc(all, func(x, y Activity) int { return y.At.Compare(x.At) })
	return all[:min(limit, len(all))], nil
}

// PruneFailures removes up to limit failures older than before and returns how many it removed.
func (s Activities) PruneFailures(ctx context.Context, before time.Time, limit int) (int, error) {
	n, err := s.update(ctx, func(tx *db.Tx) (int, error) {
		return gorm.G[Failure](tx.DB).Where("id IN (SELECT id FROM failures WHERE last_at < ? LIMIT ?)", before.UTC(), limit).Delete(ctx)
	})
	if err != nil {
		return 0, fmt.Errorf("remove old failures: %w", err)
	}
	return n, nil
}
