package models

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Secret is a key that all instances on one database share.
type Secret struct {
	// Name is the kind. A retired secret has a suffix after a colon.
	Name      string `gorm:"primaryKey"`
	Value     []byte
	CreatedAt time.Time
	RetiresAt *time.Time // when it stops being used; nil for the current one
	// Sealed is the id of the key outside the database that Value is sealed with, or "".
	Sealed string
}

// The kinds of secrets.
const (
	SecretSeal   = "seal"   // seals values that browsers carry
	SecretLogout = "logout" // makes logout tokens

	secretSetup = "setup" // from which the previous version makes the setup token
)

// Kind returns SecretSeal or SecretLogout.
func (s *Secret) Kind() string {
	kind, _, _ := strings.Cut(s.Name, ":")
	return kind
}

// Secrets stores the symmetric keys, which no app sees.
type Secrets struct{ table }

// List returns the secrets that have not retired, the current ones first.
func (s Secrets) List(ctx context.Context) ([]Secret, error) {
	secrets, err := readSecrets(s.db.Query(ctx), s.now())
	if err != nil {
		return nil, fmt.Errorf("list the secrets: %w", err)
	}
	return secrets, nil
}
