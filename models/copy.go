package models

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"latchkey/db"
)

// ErrNotEmpty means that the target of a copy already contains data.
var ErrNotEmpty = errors.New("the target is not empty")

// Copied is how many rows of a table were copied.
type Copied struct {
	Table string
	Rows  int
}

// Copy copies the whole contents of one database to another, which may be of the other kind. It copies a
// consistent snapshot, all or nothing; a SQLite source can't be written to meanwhile. It returns
// ErrNotEmpty if the target contains data.
func Copy(ctx context.Context, from, to *db.DB) ([]Copied, error) {
	var all []Copied
	err := db.Copy(ctx, from, to, func(from, to *db.Tx) error {
		// In the order of their foreign keys.
		for _, table := range []struct {
			name string
			copy func(ctx context.Context, name string, from, to *db.Tx) (int, error)
		}{
			{"identities", copyTable[Identity]}, {"addresses", copyTable[Address]}, {"credentials", copyTable[Credential]}, {"sessions", copyTable[Session]}, {"sweeps", copyTable[Sweep]},
			{"failures", copyTable[Failure]}, {"ends", copyTable[End]}, {"apps", copyTable[App]},
			{"deliveries", copyTable[Delivery]}, {"attempts", copyTable[Attempt]},
			{"signing_keys", copyTable[SigningKey]}, {"secrets", copyTable[Secret]}, {"single_use_values", copyTable[SingleUseValue]},
		} {
			n, err := table.copy(ctx, table.name, from, to)
			if err != nil {
				return fmt.Errorf("copy %s: %w", table.name, err)
			}
			all = append(all, Copied{table.name, n})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// copyBatch is how many rows one INSERT has. It keeps the number of variables within every database's
// limit.
const copyBatch = 500

// copyTable copies a table and returns the number of rows.
func copyTable[T any](ctx context.Context, name string, from, to *db.Tx) (int, error) {
	there, err := gorm.G[T](to.DB).Count(ctx, "*")
	if err == nil && there > 0 {
		err = ErrNotEmpty
	}
	if err != nil {
		return 0, err
	}
	n, batch := 0, make([]T, 0, copyBatch)
	write := func() error {
		defer func() { n, batch = n+len(batch), batch[:0] }()
		// Ends get new sequence numbers, so that the target's sequence continues after them.
		return gorm.G[T](to.DB).Omit("Identity", "Seq").CreateInBatches(ctx, &batch, copyBatch)
	}
	rows, err := gorm.G[T](from.DB).Table(name).Rows(ctx)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		batch = append(batch, *new(T))
		if err := from.ScanRows(rows, &batch[len(batch)-1]); err != nil {
			return 0, err
		}
		if len(batch) == copyBatch {
			if err := write(); err != nil {
				return 0, err
			}
		}
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	if err := write(); err != nil {
		return 0, err
	}
	there, err = gorm.G[T](to.DB).Count(ctx, "*")
	if err == nil && int(there) != n {
		err = fmt.Errorf("read %d rows but wrote %d", n, there)
	}
	return n, err
}
