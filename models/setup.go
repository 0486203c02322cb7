package models

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"latchkey/db"
)

// SetupToken returns the token that permits creating the first account, creating it if necessary. All
// instances return the same one. It returns "" if there is an account.
func (s Identities) SetupToken(ctx context.Context) (token string, err error) {
	token, err = setupToken(ctx, s.db.Query(ctx))
	if err == nil && token == "" {
		err = s.db.Write(ctx, func(tx *db.Tx) (err error) {
			token, err = makeSetupToken(ctx, tx, s.now())
			return err
		})
	}
	if err != nil {
		return "", fmt.Errorf("get the setup token: %w", err)
	}
	return token, nil
}

// setupValue matches the setup token, which never expires.
const setupValue = "purpose = ? AND expires_at IS NULL"

func setupToken(ctx context.Context, from *gorm.DB) (string, error) {
	found, err := gorm.G[SingleUseValue](from).Where(setupValue, purposeSetup).Limit(1).Find(ctx)
	if err != nil || len(found) == 0 {
		return "", err
	}
	return string(found[0].Payload), nil
}

// makeSetupToken creates the token, unless there is one or there is an account.
func makeSetupToken(ctx context.Context, tx *db.Tx, now time.Time) (string, error) {
	first, err := lockFirst(ctx, tx)
	if err != nil || !first {
		return "", err
	}
	token, err := setupToken(ctx, tx.WithContext(ctx))
	if err != nil || token != "" {
		return token, err
	}
	token = rand.Text()
	return token, gorm.G[SingleUseValue](tx.DB).Create(ctx,
		&SingleUseValue{Hash: hashToken(token), Purpose: purposeSetup, Payload: []byte(token), CreatedAt: now})
}

// lockFirst reports whether there is no account. If so, it prevents others from creating the first one, or its
// token, until the transaction ends.
func lockFirst(ctx context.Context, tx *db.Tx) (bool, error) {
	exist, err := anyIdentity(ctx, tx.WithContext(ctx))
	if err != nil || exist {
		return false, err
	}
	if err := tx.Lock(ctx, "first-account"); err != nil {
		return false, err
	}
	exist, err = anyIdentity(ctx, tx.WithContext(ctx))
	return !exist, err
}

// spendSetupToken removes the right to make the first account, in the transaction that makes an account. It
// returns ErrNotFirst if a token is given that isn't, or is no longer, that right.
func spendSetupToken(ctx context.Context, tx *db.Tx, token string, now time.Time) error {
	first, err := lockFirst(ctx, tx)
	if err != nil {
		return err
	}
	if token != "" {
		if !first {
			return ErrNotFirst
		}
		if _, err := use(ctx, tx, purposeSetup, token, now); errors.Is(err, ErrNotFound) {
			return ErrNotFirst
		} else if err != nil {
			return err
		}
	}
	_, err = gorm.G[SingleUseValue](tx.DB).Where(setupValue, purposeSetup).Delete(ctx)
	return err
}
