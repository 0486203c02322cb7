package models

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// SigningKey is a key that signs what apps are told.
type SigningKey struct {
	ID         string // the kid
	PrivateKey []byte // PKCS #8
	CreatedAt  time.Time
	RetiresAt  *time.Time // nil for the one that signs; then it is no longer published
}

// SigningKeys keeps the keys.
type SigningKeys struct{ table }

// List returns the keys that are published, the one that signs first.
func (s SigningKeys) List(ctx context.Context) ([]SigningKey, error) {
	keys, err := gorm.G[SigningKey](s.db).Where("retires_at IS NULL OR retires_at > ?", s.now()).
		Order("retires_at IS NOT NULL, created_at DESC").Find(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the signing keys: %w", err)
	}
	return keys, nil
}

// Add makes a key the one that signs. The others stay published for the overlap, and are removed
// at once where it is 0. With onlyFirst it does nothing if there is a key already.
func (s SigningKeys) Add(ctx context.Context, id string, privateKey []byte, overlap time.Duration, onlyFirst bool) error {
	now := s.now()
	err := s.write(ctx, func(tx *gorm.DB) error {
		if err := s.alone(ctx, tx, "signing-keys"); err != nil {
			return err
		}
		if onlyFirst {
			n, err := gorm.G[SigningKey](tx).Count(ctx, "id")
			if err != nil || n > 0 {
				return err
			}
		}
		_, err := gorm.G[SigningKey](tx).Where("retires_at IS NULL").Set(set("retires_at", now.Add(overlap))).Update(ctx)
		if err == nil {
			_, err = gorm.G[SigningKey](tx).Where("retires_at <= ? OR ?", now, overlap == 0).Delete(ctx)
		}
		if err != nil {
			return err
		}
		return gorm.G[SigningKey](tx, clause.OnConflict{DoNothing: true}).
			Create(ctx, &SigningKey{ID: id, PrivateKey: privateKey, CreatedAt: now})
	})
	if err != nil {
		return fmt.Errorf("add a signing key: %w", err)
	}
	return nil
}
