package models

import (
	"context"
	"math/bits"

	"gorm.io/gorm"

	"latchkey/db"
)

// The databases keep a prepared statement for each text, on each connection, and the text of one with a list
// depends on the list's length. The functions here have few lengths.

// padded returns the values, of which the last is repeated until their number is a power of two: for IN.
func padded[T any](values []T) []T {
	n := len(values)
	if n == 0 {
		return values
	}
	full := make([]T, 1<<bits.Len(uint(n-1)))
	for i := range full {
		full[i] = values[min(i, n-1)]
	}
	return full
}

// insertBatch is the most rows that one INSERT of insertAll has. It keeps the number of variables within
// every database's limit.
const insertBatch = 256

// insertAll inserts rows, as many at once as the largest power of two allows.
func insertAll[T any](ctx context.Context, tx *db.Tx, rows []T) error {
	for len(rows) > 0 {
		batch := rows[:min(insertBatch, 1<<(bits.Len(uint(len(rows)))-1))]
		if err := gorm.G[T](tx.DB).CreateInBatches(ctx, &batch, len(batch)); err != nil {
			return err
		}
		rows = rows[len(batch):]
	}
	return nil
}
