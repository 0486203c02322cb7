package models

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"gorm.io/gorm"

	"latchkey/db"
)

// SingleUseValue is a right that can be used once, with its token.
type SingleUseValue struct {
	Hash      []byte // SHA-256 of the token
	Purpose   Purpose
	Payload   []byte
	ExpiresAt *time.Time // nil for never
	CreatedAt time.Time
}

// Purpose is what a single-use value permits. A token is valid for its purpose only.
type Purpose string

const (
	purposeSetup   Purpose = "setup"   // permits creating the first account; the payload is the token
	purposeReceipt Purpose = "receipt" // permits ending other sessions after a logout
)

// SingleUse stores the values until they are used or expire.
type SingleUse struct{ table }

// Issue stores a value and returns its token.
func (s SingleUse) Issue(ctx context.Context, purpose Purpose, payload []byte, lifetime time.Duration) (token string, err error) {
	err = s.db.Write(ctx, func(tx *db.Tx) (err error) {
		now := s.now()
		token, err = issue(ctx, tx, purpose, payload, now, now.Add(lifetime))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("issue a %s: %w", purpose, err)
	}
	return token, nil
}

// issue is Issue within a transaction.
func issue(ctx context.Context, tx *db.Tx, purpose Purpose, payload []byte, now, expiresAt time.Time) (token string, err error) {
	token = rand.Text()
	return token, gorm.G[SingleUseValue](tx.DB).Create(ctx,
		&SingleUseValue{Hash: hashToken(token), Purpose: purpose, Payload: payload, ExpiresAt: &expiresAt, CreatedAt: now})
}

// usable matches a value that has not expired. A clock that has been set back doesn't extend its life: a value
// from the future is not valid.
const usable = "hash = ? AND purpose = ? AND (expires_at IS NULL OR expires_at > ? AND created_at <= ?)"

func usableArgs(purpose Purpose, token string, now time.Time) []any {
	return []any{hashToken(token), purpose, now, now.Add(clockSkew)}
}

// Find returns the payload of a value without using it. It returns ErrNotFound if the token is unknown, has
// another purpose, has been used, or has expired.
func (s SingleUse) Find(ctx context.Context, purpose Purpose, token string) ([]byte, error) {
	if len(token) != tokenLength {
		return nil, ErrNotFound
	}
	value, err := gorm.G[SingleUseValue](s.db.Query(ctx)).Where(usable, usableArgs(purpose, token, s.now())...).Take(ctx)
	if err != nil {
		return nil, fmt.Errorf("find a %s: %w", purpose, notFound(err))
	}
	return value.Payload, nil
}

// use removes a value within the transaction that it permits, and returns its payload. It returns ErrNotFound
// under the same conditions as Find. Of several concurrent calls one succeeds; the others wait for its commit.
func use(ctx context.Context, tx *db.Tx, purpose Purpose, token string, now time.Time) ([]byte, error) {
	if len(token) != tokenLength {
		return nil, ErrNotFound
	}
	var used []SingleUseValue
	err := tx.WithContext(ctx).Raw("DELETE FROM single_use_values WHERE "+usable+" RETURNING payload", usableArgs(purpose, token, now)...).Scan(&used).Error
	if err != nil {
		return nil, err
	}
	if len(used) == 0 {
		return nil, ErrNotFound
	}
	return used[0].Payload, nil
}

// Prune removes up to limit expired values and returns how many it removed.
func (s SingleUse) Prune(ctx context.Context, limit int) (int, error) {
	n, err := s.update(ctx, func(tx *db.Tx) (int, error) {
		return gorm.G[SingleUseValue](tx.DB).
			Where("hash IN (SELECT hash FROM single_use_values WHERE expires_at <= ? LIMIT ?)", s.now(), limit).Delete(ctx)
	})
	if err != nil {
		return 0, fmt.Errorf("remove single-use values: %w", err)
	}
	return n, nil
}
