package models

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"latchkey/db"
)

// Attempt counts the failures under one key, such as a network or an account.
type Attempt struct {
	Key      []byte // SHA-256 of Limit.Key, so that no address is stored in the clear
	Failures int
	RetryAt  time.Time
	ForgetAt time.Time
}

// Limit says how many failures are allowed under a key.
type Limit struct {
	Key  string
	Free int           // failures before the first wait
	Most time.Duration // the longest wait
	// Slows, if not zero, makes this a limit that keeps nobody waiting by itself. Past Free, the waits of a
	// source that has used up its own free failures begin at Slows instead of a second, and grow up to Most.
	// So what others do can make somebody's waits longer, but can't begin or renew one.
	Slows time.Duration
}

// forgetAfter is how long failures are remembered, from the first one. Counting from the last would
// never reset a large network, where somebody is always mistyping, and would block all of it.
const forgetAfter = 24 * time.Hour

// Attempts counts failures. Each failure past Limit.Free doubles the wait before the next attempt, from
// one second up to Limit.Most; see also Limit.Slows.
type Attempts struct{ table }

// errWait rolls the transaction back, so that a refused attempt leaves no rows behind.
var errWait = errors.New("wait")

// Take counts an attempt as a failure against the limit of its source and all others. It does so before
// the outcome is known, so that concurrent attempts can't exceed the limits; see Succeeded. If any of
// the limits requires a wait, Take counts nothing and returns the time left.
func (s Attempts) Take(ctx context.Context, source Limit, others ...Limit) (wait time.Duration, err error) {
	limits := append([]Limit{source}, others...)
	// Refuse without taking the write lock if possible.
	counts, err := s.counts(ctx, s.db.Query(ctx), limits)
	if err == nil {
		wait = waitOf(counts, limits, s.now())
	}
	if err == nil && wait == 0 {
		err = s.db.Write(ctx, func(tx *db.Tx) error {
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
func (s Attempts) count(ctx context.Context, tx *db.Tx, limits []Limit) (time.Duration, error) {
	now := s.now()
	keys := make([]string, len(limits))
	for i, limit := range limits {
		keys[i] = limit.Key
	}
	if err := s.lock(ctx, tx, keys); err != nil {
		return 0, err
	}
	counts, err := s.counts(ctx, tx.DB, limits)
	if err != nil {
		return 0, err
	}
	if wait := waitOf(counts, limits, now); wait > 0 {
		return wait, errWait
	}
	for i := range counts {
		counts[i].Failures++
	}
	for i, limit := range limits {
		forget := now.Add(forgetAfter)
		if counts[i].Failures > 1 && counts[i].ForgetAt.Before(forget) {
			forget = counts[i].ForgetAt
		}
		wait := pause(counts[i].Failures-limit.Free, time.Second, limit.Most)
		if i == 0 {
			wait = max(wait, slowed(counts, limits))
		}
		_, err := gorm.G[Attempt](tx.DB).Where("key = ?", hashKey(limit.Key)).Set(set("failures", counts[i].Failures),
			set("retry_at", now.Add(wait)), set("forget_at", forget)).Update(ctx)
		if err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// lock locks the counts of the keys, and creates the missing ones. All transactions lock them in the same order:
// otherwise concurrent attempts would deadlock on PostgreSQL, which resolves that only after a second. Selecting
// the rows for update isn't enough, because it skips those that have been deleted and created again meanwhile.
func (s Attempts) lock(ctx context.Context, tx *db.Tx, keys []string) error {
	now := s.now()
	rows := make([]Attempt, len(keys))
	for i, key := range keys {
		rows[i] = Attempt{Key: hashKey(key), RetryAt: now, ForgetAt: now.Add(forgetAfter)}
	}
	slices.SortFunc(rows, func(x, y Attempt) int { return bytes.Compare(x.Key, y.Key) })
	rows = slices.CompactFunc(rows, func(x, y Attempt) bool { return bytes.Equal(x.Key, y.Key) })
	keep := clause.OnConflict{Columns: []clause.Column{{Name: "key"}}, DoUpdates: clause.AssignmentColumns([]string{"key"})}
	return gorm.G[Attempt](tx.DB, keep).CreateInBatches(ctx, &rows, len(rows))
}

// counts returns the stored count for each limit, or the zero value if there is none.
func (s Attempts) counts(ctx context.Context, from *gorm.DB, limits []Limit) ([]Attempt, error) {
	keys := make([]string, len(limits))
	for i, limit := range limits {
		keys[i] = limit.Key
	}
	found, err := gorm.G[Attempt](from).Where("key IN ? AND forget_at > ?", hashKeys(keys), s.now()).Find(ctx)
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

// slowed returns the wait that the limits which slow others down impose on the source, the first of limits.
func slowed(counts []Attempt, limits []Limit) (wait time.Duration) {
	for i, limit := range limits {
		if limit.Slows > 0 && counts[i].Failures > limit.Free {
			wait = max(wait, pause(counts[0].Failures-limits[0].Free, limit.Slows, limit.Most))
		}
	}
	return wait
}

// waitOf returns the longest wait that the limits require. counts and limits correspond; the source's
// limit comes first.
func waitOf(counts []Attempt, limits []Limit, now time.Time) (wait time.Duration) {
	for i, limit := range limits {
		if limit.Slows > 0 || counts[i].Failures <= limit.Free {
			continue
		}
		total := pause(counts[i].Failures-limit.Free, time.Second, limit.Most)
		if i == 0 {
			total = max(total, slowed(counts, limits))
		}
		wait = max(wait, remaining(counts[i].RetryAt.Sub(now), total))
	}
	return wait
}

// clockSkew is how far apart the clocks of instances may be.
const clockSkew = time.Minute

// remaining returns what is left of a wait of the given length. If the clock was set back, left exceeds
// total: then the wait is capped at total, or dropped if the difference exceeds clockSkew.
func remaining(left, total time.Duration) time.Duration {
	if left > total+clockSkew {
		return 0
	}
	return min(left, total)
}

// pause is the wait after the nth failure past the free ones.
func pause(n int, first, most time.Duration) time.Duration {
	if n <= 0 {
		return 0
	}
	const doublings = 20 // beyond every Limit.Most; keeps the shift from overflowing
	return min(first<<min(n-1, doublings), most)
}

// Succeeded undoes what Take counted: it clears the counts of the forgotten keys, and lowers those of
// the takenBack keys by one.
func (s Attempts) Succeeded(ctx context.Context, forgotten, takenBack []string) error {
	err := s.db.Write(ctx, func(tx *db.Tx) error {
		if err := s.lock(ctx, tx, slices.Concat(forgotten, takenBack)); err != nil {
			return err
		}
		_, err := gorm.G[Attempt](tx.DB).Where("key IN ? OR key IN ? AND failures <= 1", hashKeys(forgotten), hashKeys(takenBack)).Delete(ctx)
		if err != nil {
			return err
		}
		_, err = gorm.G[Attempt](tx.DB).Where("key IN ?", hashKeys(takenBack)).
			Set(set("failures", gorm.Expr("failures - 1"))).Update(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("forget attempts: %w", err)
	}
	return nil
}

// Prune removes up to limit expired counts and returns how many it removed.
func (s Attempts) Prune(ctx context.Context, limit int) (int, error) {
	n, err := s.update(ctx, func(tx *db.Tx) (int, error) {
		return gorm.G[Attempt](tx.DB).
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
