package models

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// Secret is a key that all instances on one database share.
type Secret struct {
	Name      string
	Value     []byte
	CreatedAt time.Time
}

// The names of the secrets.
const (
	SecretSeal   = "seal"   // of what browsers carry for us
	SecretLogout = "logout" // of what makes logout tokens
	SecretSetup  = "setup"  // of what makes the first account; gone once there is one
)

// Secrets keeps the keys.
type Secrets struct{ table }

// Get returns the 32-byte key of that name, made on first use. Of several that make it at once,
// all return the same.
func (s Secrets) Get(ctx context.Context, name string) ([]byte, error) {
	secret := Secret{Name: name, Value: make([]byte, 32), CreatedAt: s.now()}
	if _, err := rand.Read(secret.Value); err != nil {
		return nil, fmt.Errorf("make the key %s: %w", name, err)
	}
	err := s.write(ctx, func(tx *gorm.DB) (err error) {
		if err = gorm.G[Secret](tx, clause.OnConflict{DoNothing: true}).Create(ctx, &secret); err == nil {
			secret, err = gorm.G[Secret](tx).Where("name = ?", name).Take(ctx)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("get the key %s: %w", name, err)
	}
	return secret.Value, nil
}
