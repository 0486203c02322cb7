package models

import (
	"context"
	"fmt"
	"time"
)

// SigningKey is a private key that signs tokens for apps.
type SigningKey struct {
	ID         string // the kid
	Algorithm  string // such as ES256
	PrivateKey []byte // PKCS #8
	CreatedAt  time.Time
	RetiresAt  *time.Time // when it stops being published; nil for the one that signs
	// Sealed is the id of the key outside the database that PrivateKey is sealed with, or "".
	Sealed string
}

// SigningKeys stores the signing keys.
type SigningKeys struct{ table }

// List returns the published keys, the current ones first.
func (s SigningKeys) List(ctx context.Context) ([]SigningKey, error) {
	keys, err := readSigningKeys(s.db.Query(ctx), s.now())
	if err != nil {
		return nil, fmt.Errorf("list the signing keys: %w", err)
	}
	return keys, nil
}
