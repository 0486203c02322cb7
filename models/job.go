package models

import (
	"context"
	"fmt"
	"time"

	"github.com/gofrs/uuid/v5"
	"gorm.io/gorm/clause"

	"latchkey/db"
)

// Job is the part that the rows of all queues have in common.
type Job struct {
	ID       uuid.UUID
	State    DeliveryState
	Attempts int
	NextAt   time.Time // when it is due, while it is pending
	// LeasedUntil is until when no other process may claim it.
	LeasedUntil time.Time
	GiveUpAt    time.Time // when it is no longer retried
	Status      int       // protocol status of the last response, such as 204 for HTTP; 0 for none
	Note        string    // result of the last attempt, for people
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// DeliveryState is the state of a job.
type DeliveryState string

// The states.
const (
	Pending   DeliveryState = "pending"
	Delivered DeliveryState = "delivered"
	Refused   DeliveryState = "refused"  // the recipient refused it permanently
	GivenUp   DeliveryState = "given_up" // keepTrying has passed
)

// keepTrying is how long a job is retried.
const keepTrying = 24 * time.Hour

// newJob returns a job that is due now.
func newJob(now time.Time) (Job, error) {
	id, err := uuid.NewV4()
	return Job{ID: id, State: Pending, NextAt: now, LeasedUntil: now, GiveUpAt: now.Add(keepTrying), CreatedAt: now, UpdatedAt: now}, err
}

// job gives claim access to the Job that a row embeds.
func (j *Job) job() *Job { return j }

// queue is a table whose rows embed Job. It uses plain SQL, since GORM's generic methods would be compiled
// for each table.
type queue struct {
	table
	name      string // of the table
	recipient string // the column with a row's recipient
}

const due = "state = 'pending' AND next_at <= ? AND leased_until <= ?"

// due returns the recipients that have rows due, sorted. It skips from recipient to recipient in the partial
// index on (recipient, next_at), since an unreachable recipient may have many thousands of pending rows.
func (q queue) due(ctx context.Context) ([]string, error) {
	var recipients []string
	now := q.now()
	err := q.db.Query(ctx).Raw(fmt.Sprintf(`WITH RECURSIVE pending(recipient) AS (
			SELECT min(%[2]s) FROM %[1]s WHERE state = 'pending'
			UNION ALL
			SELECT (SELECT min(%[2]s) FROM %[1]s WHERE state = 'pending' AND %[2]s > pending.recipient) FROM pending WHERE recipient IS NOT NULL
		)
		SELECT recipient FROM pending WHERE EXISTS (SELECT 1 FROM %[1]s WHERE %[2]s = pending.recipient AND %[3]s) ORDER BY recipient`,
		q.name, q.recipient, due), now, now).Scan(&recipients).Error
	if err != nil {
		return nil, fmt.Errorf("look for due %s: %w", q.name, err)
	}
	return recipients, nil
}

// backlog returns how many rows are pending, and how long the oldest has been due: 0 if none is due.
func (q queue) backlog(ctx context.Context) (pending int, late time.Duration, err error) {
	now := q.now()
	err = q.db.Query(ctx).Raw("SELECT count(*) FROM " + q.name + " WHERE state = 'pending'").Scan(&pending).Error
	if err != nil {
		return 0, 0, fmt.Errorf("count pending %s: %w", q.name, err)
	}
	var first []time.Time
	err = q.db.Query(ctx).Raw("SELECT next_at FROM "+q.name+" WHERE state = 'pending' AND next_at <= ? ORDER BY next_at LIMIT 1", now).Scan(&first).Error
	if err != nil {
		return 0, 0, fmt.Errorf("look for the oldest of %s: %w", q.name, err)
	}
	if len(first) > 0 {
		late = now.Sub(first[0])
	}
	return pending, late, nil
}

// claim leases up to limit of a recipient's due rows, oldest first, and counts an attempt for each. No other
// process can claim them until the lease expires. Then they are due again, so a crash loses nothing.
func claim[T any, row interface {
	*T
	job() *Job
}](ctx context.Context, q queue, recipient string, limit int, lease time.Duration) ([]T, error) {
	var claimed []T
	err := q.db.Write(ctx, func(tx *db.Tx) error {
		claimed = nil // in case this is a retry
		now := q.now()
		var found []T
		err := tx.WithContext(ctx).Clauses(clause.Locking{Strength: clause.LockingStrengthUpdate, Options: clause.LockingOptionsSkipLocked}).
			Where(q.recipient+" = ? AND "+due, recipient, now, now).Order("next_at").Limit(limit).Find(&found).Error
		if err != nil || len(found) == 0 {
			return err
		}
		ids, until := make([]uuid.UUID, len(found)), now.Add(lease)
		for i := range found {
			job := row(&found[i]).job()
			ids[i] = job.ID
			job.Attempts++
			job.LeasedUntil = until
		}
		claimed = found
		return tx.WithContext(ctx).Exec("UPDATE "+q.name+" SET attempts = attempts + 1, leased_until = ?, updated_at = ? WHERE id IN ?", until, now, padded(ids)).Error
	})
	if err != nil {
		return nil, fmt.Errorf("claim %s to %s: %w", q.name, recipient, err)
	}
	return claimed, nil
}

// stillClaimed matches a row that has not been claimed again since the job was.
const stillClaimed = " WHERE id = ? AND state = 'pending' AND leased_until = ?"

// settle stores the result of a claimed job: State, NextAt, Status and Note. It does nothing if the job has
// been claimed again since.
func (q queue) settle(ctx context.Context, j Job) error {
	now := q.now()
	_, err := q.exec(ctx, "UPDATE "+q.name+" SET state = ?, next_at = ?, leased_until = ?, status = ?, note = ?, updated_at = ?"+stillClaimed,
		j.State, j.NextAt.UTC(), now, j.Status, j.Note, now, j.ID, j.LeasedUntil)
	if err != nil {
		return fmt.Errorf("settle %s of %s: %w", j.ID, q.name, err)
	}
	return nil
}

// release returns a claimed job to the queue without counting the attempt.
func (q queue) release(ctx context.Context, j Job) error {
	_, err := q.exec(ctx, "UPDATE "+q.name+" SET attempts = ?, leased_until = ?"+stillClaimed, j.Attempts-1, q.now(), j.ID, j.LeasedUntil)
	if err != nil {
		return fmt.Errorf("release %s of %s: %w", j.ID, q.name, err)
	}
	return nil
}

// retry makes a row due now, whatever its state. It returns ErrNotFound if there is none with that id.
func (q queue) retry(ctx context.Context, id uuid.UUID) error {
	n, err := q.restart(ctx, "id = ?", id)
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("retry %s of %s: %w", id, q.name, err)
	}
	return nil
}

// retryAll makes all undelivered rows of a recipient due now and returns how many.
func (q queue) retryAll(ctx context.Context, recipient string) (int, error) {
	n, err := q.restart(ctx, q.recipient+" = ? AND state <> 'delivered'", recipient)
	if err != nil {
		return 0, fmt.Errorf("retry %s to %s: %w", q.name, recipient, err)
	}
	return n, nil
}

// restart makes rows due now and restarts the retry schedule. It keeps current leases, so that no row is
// attempted twice at the same time.
func (q queue) restart(ctx context.Context, which string, arg any) (int, error) {
	now := q.now()
	return q.exec(ctx, "UPDATE "+q.name+" SET state = ?, attempts = 0, next_at = ?, give_up_at = ?, updated_at = ? WHERE "+which,
		Pending, now, now.Add(keepTrying), now, arg)
}

// reschedule makes rows due now that lie further ahead than the longest pause or lease allows, which means
// that the clock was set back. It returns how many.
func (q queue) reschedule(ctx context.Context, pause, lease time.Duration) (int, error) {
	now := q.now()
	latest, longest := now.Add(pause+clockSkew), now.Add(lease+clockSkew)
	const ahead = " WHERE state = 'pending' AND (next_at > ? OR leased_until > ?)"
	var found, n int
	// Check first, since that takes no write lock.
	err := q.db.Query(ctx).Raw("SELECT 1 FROM "+q.name+ahead+" LIMIT 1", latest, longest).Scan(&found).Error
	if err == nil && found > 0 {
		n, err = q.exec(ctx, "UPDATE "+q.name+" SET next_at = ?, leased_until = ?, updated_at = ?"+ahead, now, now, now, latest, longest)
	}
	if err != nil {
		return 0, fmt.Errorf("reschedule %s: %w", q.name, err)
	}
	return n, nil
}

// prune removes up to limit settled rows created before a time and returns how many it removed.
func (q queue) prune(ctx context.Context, before time.Time, limit int) (int, error) {
	n, err := q.exec(ctx, fmt.Sprintf("DELETE FROM %[1]s WHERE id IN (SELECT id FROM %[1]s WHERE created_at < ? AND state <> 'pending' LIMIT ?)", q.name),
		before.UTC(), limit)
	if err != nil {
		return 0, fmt.Errorf("remove old %s: %w", q.name, err)
	}
	return n, nil
}

func (q queue) exec(ctx context.Context, statement string, args ...any) (int, error) {
	return q.update(ctx, func(tx *db.Tx) (int, error) {
		result := tx.WithContext(ctx).Exec(statement, args...)
		return int(result.RowsAffected), result.Error
	})
}
