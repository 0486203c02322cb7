package models

import (
	"context"
	"fmt"
	"time"

	"github.com/gofrs/uuid/v5"
	"gorm.io/gorm"
)

// End is the word of a session's end, for those who wait for it. It is kept for a short time.
type End struct {
	Seq       int64 `gorm:"primaryKey"`
	SessionID uuid.UUID
	Reason    Reason
	At        time.Time
}

// Ends keeps the ends of the last while, whichever process made them.
type Ends struct{ table }

func noteEnds(ctx context.Context, tx *gorm.DB, now time.Time, why Reason, sessions []Session) error {
	ends := make([]End, len(sessions))
	for i := range sessions {
		ends[i] = End{SessionID: sessions[i].ID, Reason: why, At: now}
	}
	return gorm.G[End](tx).CreateInBatches(ctx, &ends, insertBatch)
}

// insertBatch keeps one statement's variables within what every database takes.
const insertBatch = 500

// Last returns the number of the latest end, 0 if none is known.
func (s Ends) Last(ctx context.Context) (int64, error) {
	last, err := gorm.G[End](s.db).Order("seq DESC").Limit(1).Find(ctx)
	if err != nil {
		return 0, fmt.Errorf("find the last end: %w", err)
	}
	if len(last) == 0 {
		return 0, nil
	}
	return last[0].Seq, nil
}

// After returns up to limit ends after a number, in order.
func (s Ends) After(ctx context.Context, seq int64, limit int) ([]End, error) {
	ends, err := gorm.G[End](s.db).Where("seq > ?", seq).Order("seq").Limit(limit).Find(ctx)
	if err != nil {
		return nil, fmt.Errorf("find ends: %w", err)
	}
	return ends, nil
}

// Prune removes up to limit ends from before a time; it returns how many.
func (s Ends) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	n, err := s.update(ctx, func(tx *gorm.DB) (int, error) {
		return gorm.G[End](tx).Where("seq IN (SELECT seq FROM ends WHERE at < ? LIMIT ?)", before.UTC(), limit).Delete(ctx)
	})
	if err != nil {
		return 0, fmt.Errorf("remove old ends: %w", err)
	}
	return n, nil
}
