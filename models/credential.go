package models

import (
	"context"
	"fmt"
	"time"

	"github.com/gofrs/uuid/v5"
	"gorm.io/gorm"
)

// MethodPassword is the method of a credential, and of the session that it began.
const MethodPassword = "password"

// Credential is what a person proves their identity with.
type Credential struct {
	IdentityID uuid.UUID
	Method     string
	Hash       string // a PHC string
	CreatedAt  time.Time
	UpdatedAt  time.Time
}

// PasswordHash returns what the person's password must match.
func (s Identities) PasswordHash(ctx context.Context, id uuid.UUID) (string, error) {
	credential, err := gorm.G[Credential](s.db).Where("identity_id = ? AND method = ?", id, MethodPassword).Take(ctx)
	if err != nil {
		return "", fmt.Errorf("find the password of identity %s: %w", id, notFound(err))
	}
	return credential.Hash, nil
}

// RehashPassword replaces the hash of an unchanged password by a stronger one. It returns
// ErrChanged if the hash is no longer old.
func (s Identities) RehashPassword(ctx context.Context, id uuid.UUID, old, stronger string) error {
	n, err := s.update(ctx, func(tx *gorm.DB) (int, error) {
		return gorm.G[Credential](tx).Where("identity_id = ? AND method = ? AND hash = ?", id, MethodPassword, old).
			Set(set("hash", stronger)).Update(ctx)
	})
	if err == nil && n == 0 {
		err = ErrChanged
	}
	if err != nil {
		return fmt.Errorf("rehash the password of identity %s: %w", id, err)
	}
	return nil
}

// PasswordChange says what SetPassword does besides.
type PasswordChange struct {
	Hash string
	// Old is the hash that the person's old password was verified against: if it is no longer the
	// one stored, the change fails with ErrChanged. Empty for an operator, who overrules.
	Old string
	// EndSessions ends the person's sessions, all but Keep.
	EndSessions bool
	Keep        uuid.UUID
}

// SetPassword changes a password and returns how many sessions that ended.
func (s Identities) SetPassword(ctx context.Context, id uuid.UUID, change PasswordChange) (int, error) {
	now := s.now()
	ended, err := s.ending(ctx, func(tx *gorm.DB) (Ended, error) {
		credential := gorm.G[Credential](tx).Where("identity_id = ? AND method = ?", id, MethodPassword)
		if change.Old != "" {
			credential = credential.Where("hash = ?", change.Old)
		}
		n, err := credential.Set(set("hash", change.Hash), set("updated_at", now)).Update(ctx)
		if err == nil && n == 0 {
			err = ErrChanged
		}
		if err != nil || !change.EndSessions {
			return nil, err
		}
		return end(ctx, tx, now, EndedByPasswordChange, "identity_id = ? AND id <> ?", id, change.Keep)
	})
	if err != nil {
		return 0, fmt.Errorf("change the password of identity %s: %w", id, err)
	}
	return ended[EndedByPasswordChange], nil
}
