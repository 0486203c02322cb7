package models

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gofrs/uuid/v5"
	"gorm.io/gorm"

	"latchkey/db"
)

// SecurityEvent is an event that a command has left for a server to log.
type SecurityEvent struct {
	ID    uuid.UUID
	At    time.Time
	Entry string // JSON
}

// SecurityEvents stores the events until a server has logged them.
type SecurityEvents struct{ table }

// Add stores entries.
func (s SecurityEvents) Add(ctx context.Context, entries []string) error {
	if len(entries) == 0 {
		return nil
	}
	rows := make([]SecurityEvent, len(entries))
	for i, entry := range entries {
		id, err := uuid.NewV7() // in the order of their times
		if err != nil {
			return fmt.Errorf("store security events: %w", err)
		}
		rows[i] = SecurityEvent{ID: id, At: s.now(), Entry: entry}
	}
	err := s.db.Write(ctx, func(tx *db.Tx) error { return insertAll(ctx, tx, rows) })
	if err != nil {
		return fmt.Errorf("store security events: %w", err)
	}
	return nil
}

// Take removes up to limit events and returns them, in order. Each is returned to one caller.
func (s SecurityEvents) Take(ctx context.Context, limit int) (taken []SecurityEvent, err error) {
	// Check first, since that takes no write lock.
	found, err := gorm.G[SecurityEvent](s.db.Query(ctx)).Select("id").Limit(1).Find(ctx)
	if err == nil && len(found) > 0 {
		err = s.db.Write(ctx, func(tx *db.Tx) error {
			taken = nil
			return tx.WithContext(ctx).Raw(`DELETE FROM security_events WHERE id IN (SELECT id FROM security_events ORDER BY id LIMIT ?)
				RETURNING id, at, entry`, limit).Scan(&taken).Error
		})
	}
	if err != nil {
		return nil, fmt.Errorf("take security events: %w", err)
	}
	slices.SortFunc(taken, func(a, b SecurityEvent) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return taken, nil
}

// Prune removes up to limit events that were stored before a time and returns how many it removed.
func (s SecurityEvents) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	n, err := s.update(ctx, func(tx *db.Tx) (int, error) {
		return gorm.G[SecurityEvent](tx.DB).Where("id IN (SELECT id FROM security_events WHERE at < ? LIMIT ?)", before.UTC(), limit).Delete(ctx)
	})
	if err != nil {
		return 0, fmt.Errorf("remove old security events: %w", err)
	}
	return n, nil
}
