package models

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// Attempt counts the wrong passwords of one source or for one account.
type Attempt struct {
	Key      []byte // a hash: no address of anybody is kept in the clear
	Failures int
	RetryAt  time.Time
	ForgetAt time.Time
}

// Limit is how often one thing may go wrong.
type Limit struct {
	Key  string
	Free int           // failures before the first wait
	Most time.Duration // the longest wait
	// SparesFirst keeps this limit from holding up the first try of a source, so that whoever
	// keeps failing elsewhere does not keep everybody out.
	SparesFirst bool
}

// forgetAfter is how long failures are remembered after the first of them. Not after the last: in
// a network of many people somebody is always mistyping, and would bring them all to a halt.
const forgetAfter = 24 * time.Hour

// Attempts counts failures, and makes each one past the free ones wait twice as long as the one
// before, from a second up to the limit's most.
type Attempts struct{ table }

// errWait rolls back, so that who has to wait leaves no rows behind.
var errWait = errors.New("wait")

// Take counts an attempt against the limit of its source and all others, as if it had failed, so
// that attempts made side by side cannot outrun the count. While one of the limits waits it counts
// nothing and returns for how long.
func (s Attempts) Take(ctx context.Context, source Limit, others ...Limit) (wait time.Duration, err error) {
	limits := append([]Limit{source}, others...)
	// Who has to wait is told so without a turn to write, which others need.
	counts, err := s.counts(ctx, s.db, limits)
	if err == nil {
		wait = waitOf(counts, limits, s.now())
	}
	if err == nil && wait == 0 {
		err = s.write(ctx, func(tx *gorm.DB) error {
			wait, err = s.count(ctx, tx, limits)
			return err
		})
	}
	if err != nil && !errors.Is(err, errWait) {
		return 0, fmt.Errorf("count an attempt: %w", err)
	}
	return wait, nil
}

// count adds a failure to each limit, or returns errWait with the wait.
func (s Attempts) count(ctx context.Context, tx *gorm.DB, limits []Limit) (time.Duration, error) {
	now := s.now()
	rows := make([]Attempt, len(limits))
	for i, limit := range limits {
		rows[i] = Attempt{Key: hashKey(limit.Key), RetryAt: now, ForgetAt: now.Add(forgetAfter)}
	}
	// Rows are made first where there are none, so that on every database there is one to lock.
	err := gorm.G[Attempt](tx, clause.OnConflict{DoNothing: true}).CreateInBatches(ctx, &rows, len(rows))
	if err != nil {
		return 0, err
	}
	counts, err := s.counts(ctx, tx, limits, clause.Locking{Strength: clause.LockingStrengthUpdate})
	if err != nil {
		return 0, err
	}
	if wait := waitOf(counts, limits, now); wait > 0 {
		return wait, errWait
	}
	for i, limit := range limits {
		failures, forget := counts[i].Failures+1, now.Add(forgetAfter)
		if counts[i].Failures > 0 && counts[i].ForgetAt.Before(forget) {
			forget = counts[i].ForgetAt
		}
		_, err := gorm.G[Attempt](tx).Where("key = ?", hashKey(limit.Key)).Set(set("failures", failures),
			set("retry_at", now.Add(pause(failures-limit.Free, limit.Most))), set("forget_at", forget)).Update(ctx)
		if err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// counts returns what is counted for each limit, zero values where nothing is.
func (s Attempts) counts(ctx context.Context, db *gorm.DB, limits []Limit, lock ...clause.Expression) ([]Attempt, error) {
	keys := make([]string, len(limits))
	for i, limit := range limits {
		keys[i] = limit.Key
	}
	found, err := gorm.G[Attempt](db, lock...).Where("key IN ? AND forget_at > ?", hashKeys(keys), s.now()).Order("key").Find(ctx)
	if err != nil {
		return nil, err
	}
	counts := make([]Attempt, len(limits))
	for i, limit := range limits {
		for _, row := range found {
			if bytes.Equal(row.Key, hashKey(limit.Key)) {
				counts[i] = row
			}
		}
	}
	return counts, nil
}

// waitOf returns the longest of the waits; counts are those of the limits, the source's first.
func waitOf(counts []Attempt, limits []Limit, now time.Time) (wait time.Duration) {
	for i, limit := range limits {
		if counts[i].Failures <= limit.Free || limit.SparesFirst && counts[0].Failures == 0 {
			continue
		}
		wait = max(wait, left(counts[i].RetryAt.Sub(now), pause(counts[i].Failures-limit.Free, limit.Most)))
	}
	return wait
}

// clockSkew is how far apart the clocks of instances may be.
const clockSkew = time.Minute

// left is what is left of a wait. A clock that was set back must not lengthen it: where it seems longer
// than it was, it is as long as it was, and over where it seems longer by more than clocks differ.
func left(seeming, was time.Duration) time.Duration {
	if seeming > was+clockSkew {
		return 0
	}
	return min(seeming, was)
}

// pause is the wait after the nth failure past the free ones.
func pause(n int, most time.Duration) time.Duration {
	if n <= 0 {
		return 0
	}
	const doublings = 20 // past any limit's most; keeps the shift from overflowing
	return min(time.Second<<min(n-1, doublings), most)
}

// Succeeded takes back what Take counted: forgotten are cleared, taken back are less by one.
func (s Attempts) Succeeded(ctx context.Context, forgotten, takenBack []string) error {
	err := s.write(ctx, func(tx *gorm.DB) error {
		_, err := gorm.G[Attempt](tx).Where("key IN ? OR key IN ? AND failures <= 1", hashKeys(forgotten), hashKeys(takenBack)).Delete(ctx)
		if err != nil {
			return err
		}
		_, err = gorm.G[Attempt](tx).Where("key IN ?", hashKeys(takenBack)).
			Set(set("failures", gorm.Expr("failures - 1"))).Update(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("forget attempts: %w", err)
	}
	return nil
}

// Prune removes up to limit counts that are due to be forgotten; it returns how many.
func (s Attempts) Prune(ctx context.Context, limit int) (int, error) {
	n, err := s.update(ctx, func(tx *gorm.DB) (int, error) {
		return gorm.G[Attempt](tx).
			Where("key IN (SELECT key FROM attempts WHERE forget_at < ? LIMIT ?)", s.now(), limit).Delete(ctx)
	})
	if err != nil {
		return 0, fmt.Errorf("remove old attempts: %w", err)
	}
	return n, nil
}

func hashKey(key string) []byte {
	sum := sha256.Sum256([]byte(key))
	return sum[:]
}

func hashKeys(keys []string) [][]byte {
	hashes := make([][]byte, len(keys))
	for i, key := range keys {
		hashes[i] = hashKey(key)
	}
	return hashes
}
