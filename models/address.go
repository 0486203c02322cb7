package models

import (
	"context"
	"fmt"

	"github.com/gofrs/uuid/v5"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"latchkey/db"
)

// SetAddress changes a person's primary address, for an operator: it is trusted as SetByOperator. Sessions go on.
// It returns ErrTaken if another account has the address or one that looks the same, and ErrNotFound if there is
// no such person.
func (s Identities) SetAddress(ctx context.Context, id uuid.UUID, email string) error {
	email, now := NormalizeEmail(email), s.now()
	addressID, err := uuid.NewV4()
	if err != nil {
		return fmt.Errorf("set the address of identity %s: %w", id, err)
	}
	err = s.db.Write(ctx, func(tx *db.Tx) error {
		address := Address{ID: addressID, IdentityID: id, Value: email, Skeleton: skeleton(email), Primary: true, CreatedAt: now}
		if err := s.checkFree(ctx, tx, Identity{ID: id}, address); err != nil {
			return err
		}
		n, err := gorm.G[Identity](tx.DB).Where("id = ? AND "+there, id).Set(set("email", email), set("email_trust", SetByOperator), set("updated_at", now)).Update(ctx)
		if err == nil && n == 0 {
			err = ErrNotFound
		}
		if err != nil {
			return err
		}
		// The old primary address and, if the new one was a second one, that row.
		if _, err := gorm.G[Address](tx.DB).Where("identity_id = ? AND (is_primary OR value = ?)", id, email).Delete(ctx); err != nil {
			return err
		}
		result := gorm.WithResult()
		err = gorm.G[Address](tx.DB, result, clause.OnConflict{DoNothing: true}).Create(ctx, &address)
		if err == nil && result.RowsAffected == 0 {
			err = ErrTaken
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("set the address of identity %s: %w", id, err)
	}
	return nil
}
