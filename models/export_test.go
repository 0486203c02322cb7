package models

import (
	"context"

	"latchkey/db"
)

// Use uses a value in a transaction of its own.
func (s SingleUse) Use(ctx context.Context, purpose Purpose, token string) (payload []byte, err error) {
	err = s.db.Write(ctx, func(tx *db.Tx) (err error) {
		payload, err = use(ctx, tx, purpose, token, s.now())
		return err
	})
	return payload, err
}
