package models

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gofrs/uuid/v5"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"latchkey/db"
)

// Sweep says that the rows of a person's sessions below a number are still to be marked as ended, and that streams
// and apps are to be notified. The sessions have ended already: the sweep is written in the transaction that raises
// the floor.
type Sweep struct {
	IdentityID uuid.UUID
	Below      int64 // the floor it was written for; a person's sweeps have increasing floors
	Reason     Reason
	At         time.Time // when they ended
}

const (
	// aboveFloor matches sessions that no raised floor has ended. For the sessions of one person see activeOf.
	aboveFloor = "number >= (SELECT session_floor FROM identities WHERE identities.id = sessions.identity_id)"
	// notToBeSwept finds the sessions that can still end for another reason. Unlike aboveFloor it finds those that
	// the version before has started below the floor, which no sweep is for.
	notToBeSwept = "NOT EXISTS (SELECT 1 FROM sweeps WHERE sweeps.identity_id = sessions.identity_id AND sessions.number < sweeps.below)"
	// firstSweep finds the lowest sweep of each person, which comes first so that the first reason stands.
	firstSweep = "NOT EXISTS (SELECT 1 FROM sweeps AS earlier WHERE earlier.identity_id = sweeps.identity_id AND earlier.below < sweeps.below)"
)

// raiseFloor ends all sessions of a person but one, uuid.Nil for none, and returns how many were active. Except for
// counting them in an index, it takes the same time however many there are. The lock keeps others from starting
// sessions, or raising the floor, until the transaction is over. Call sweepFirst after the commit.
func raiseFloor(ctx context.Context, tx *db.Tx, now time.Time, why Reason, person, keep uuid.UUID) (ended int, err error) {
	identity, err := gorm.G[Identity](tx.DB, forUpdate).Select("session_floor", "last_session_number").Where("id = ?", person).Take(ctx)
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	floor := max(identity.LastSessionNumber, identity.SessionFloor) + 1
	_, err = gorm.G[Identity](tx.DB).Where("id = ?", person).
		Set(set("session_floor", floor), set("last_session_number", floor)).Update(ctx)
	if err == nil && keep != uuid.Nil { // unless an earlier floor has ended it
		_, err = gorm.G[Session](tx.DB).Where("id = ? AND identity_id = ? AND number >= ? AND ended_at IS NULL", keep, person, identity.SessionFloor).
			Set(set("number", floor)).Update(ctx)
	}
	if err != nil {
		return 0, err
	}
	return addSweep(ctx, tx, Sweep{IdentityID: person, Below: floor, Reason: why, At: now}, identity.SessionFloor)
}

// raiseFloorTo ends a person's sessions below the given number and returns how many were active. Otherwise
// it is like raiseFloor.
func raiseFloorTo(ctx context.Context, tx *db.Tx, now time.Time, why Reason, person uuid.UUID, floor int64) (ended int, err error) {
	identity, err := gorm.G[Identity](tx.DB, forUpdate).Select("session_floor").Where("id = ? AND session_floor < ?", person, floor).Take(ctx)
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return 0, nil
	}
	if err == nil {
		_, err = gorm.G[Identity](tx.DB).Where("id = ?", person).Set(set("session_floor", floor)).Update(ctx)
	}
	if err != nil {
		return 0, err
	}
	return addSweep(ctx, tx, Sweep{IdentityID: person, Below: floor, Reason: why, At: now}, identity.SessionFloor)
}

var (
	// forUpdate locks a row without blocking foreign key checks against it.
	forUpdate = clause.Locking{Strength: "NO KEY UPDATE"}
	// forShare keeps a row from being changed or deleted.
	forShare = clause.Locking{Strength: clause.LockingStrengthShare}
)

// addSweep writes a sweep and returns how many active sessions it ends. floor is the previous one.
func addSweep(ctx context.Context, tx *db.Tx, sweep Sweep, floor int64) (int, error) {
	if err := gorm.G[Sweep](tx.DB).Create(ctx, &sweep); err != nil {
		return 0, err
	}
	n, err := gorm.G[Session](tx.DB).Where("identity_id = ? AND number >= ? AND number < ? AND ended_at IS NULL AND expires_at > ?",
		sweep.IdentityID, floor, sweep.Below, sweep.At).Count(ctx, "*")
	return int(n), err
}

const (
	// SweepBatch is the limit for Sweep in the background. On SQLite nobody else can write during a batch.
	SweepBatch = 200
	// SweepPause lets others, including other processes, write between two batches.
	SweepPause = 10 * time.Millisecond
)

// firstBatch is how many sessions are marked before an answer that ends them is given. Most people have fewer.
const firstBatch = 200

// sweepFirst marks the sessions that a raised floor has just ended, if they are few. Whatever is left, or fails,
// is left to Sweep.
func (t table) sweepFirst(ctx context.Context, person uuid.UUID, ended int) {
	left, err := true, error(nil)
	if ended <= firstBatch {
		_, left, err = t.sweep(ctx, person, firstBatch)
	}
	if (err != nil || left) && *t.onSweep != nil {
		(*t.onSweep)()
	}
}

// Sweep marks up to limit of the sessions that raised floors have ended, with the reason and time of that,
// and leaves notices for streams and apps. Of a deleted account it then removes the sessions, and at
// last the row. It is safe to call it in several processes at once. It returns 0 when nothing is left to do
// for this one, and else how many rows it has dealt with.
func (s Sessions) Sweep(ctx context.Context, limit int) (int, error) {
	// Check first, since that takes no write lock.
	found, err := gorm.G[Sweep](s.db.Query(ctx)).Select("below").Limit(1).Find(ctx)
	n := 0
	if err == nil && len(found) > 0 {
		n, _, err = s.sweep(ctx, uuid.Nil, limit)
	}
	if err != nil {
		return 0, fmt.Errorf("sweep ended sessions: %w", err)
	}
	return n, nil
}

// sweepsAtOnce is the largest number of people whose sessions one transaction marks.
const sweepsAtOnce = 50

// sweep is Sweep for one person, or for everybody if person is uuid.Nil. It also reports whether sweeps are
// left.
func (t table) sweep(ctx context.Context, person uuid.UUID, limit int) (n int, left bool, err error) {
	_, err = t.ending(ctx, func(tx *db.Tx) (Ended, error) {
		n, left = 0, false
		due, err := gorm.G[Sweep](tx.DB, clause.Locking{Strength: clause.LockingStrengthUpdate, Options: clause.LockingOptionsSkipLocked}).
			Where("(identity_id = ? OR ?) AND "+firstSweep, person, person == uuid.Nil).Order("at").Limit(min(sweepsAtOnce, limit)).Find(ctx)
		if err != nil {
			return nil, err
		}
		var marked []Session
		for i, sweep := range due {
			// Each gets a share, so that a person with very many sessions delays nobody else's.
			sessions, removed, err := sweepOne(ctx, tx, sweep, max(1, (limit-n)/(len(due)-i)))
			if err != nil {
				return nil, err
			}
			marked = append(marked, sessions...)
			n += len(sessions) + removed
		}
		rest, err := gorm.G[Sweep](tx.DB).Select("below").Where("identity_id = ? OR ?", person, person == uuid.Nil).Limit(1).Find(ctx)
		if err != nil {
			return nil, err
		}
		left = len(rest) > 0
		return notifyOf(ctx, tx, t.now(), marked)
	})
	return n, left, err
}

// sweepOne marks up to limit sessions, and removes the sweep when none are left. It returns the sessions it
// marked and how many rows it removed.
func sweepOne(ctx context.Context, tx *db.Tx, sweep Sweep, limit int) (marked []Session, removed int, err error) {
	const below = "identity_id = ? AND number < ? AND ended_at IS NULL"
	marked, err = markEnded(ctx, tx, sweep.At, sweep.Reason, "id IN (SELECT id FROM sessions WHERE "+below+" ORDER BY number LIMIT ?)",
		sweep.IdentityID, sweep.Below, limit)
	if err != nil {
		return nil, 0, err
	}
	left, err := gorm.G[Session](tx.DB).Select("id").Where(below, sweep.IdentityID, sweep.Below).Limit(1).Find(ctx)
	if err != nil || len(left) > 0 {
		return marked, 0, err
	}
	if sweep.Reason == EndedByDeletion {
		removed, err = removeDeleted(ctx, tx, sweep.IdentityID, limit-len(marked))
		return marked, removed, err
	}
	removed, err = gorm.G[Sweep](tx.DB).Where("identity_id = ? AND below = ?", sweep.IdentityID, sweep.Below).Delete(ctx)
	return marked, removed, err
}

// removeDeleted removes up to limit sessions of a deleted account, all of which have ended. When none are
// left it removes the account, and with it the sweep (ON DELETE CASCADE).
func removeDeleted(ctx context.Context, tx *db.Tx, person uuid.UUID, limit int) (removed int, err error) {
	removed, err = gorm.G[Session](tx.DB).Where("id IN (SELECT id FROM sessions WHERE identity_id = ? LIMIT ?)", person, limit).Delete(ctx)
	if err != nil || removed >= limit {
		return removed, err
	}
	n, err := gorm.G[Identity](tx.DB).Where("id = ?", person).Delete(ctx)
	return removed + n, err
}
