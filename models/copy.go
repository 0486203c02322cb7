package models

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"gorm.io/gorm"
)

// ErrNotEmpty means that there is something already where a copy was to go.
var ErrNotEmpty = errors.New("the target is not empty")

// Copied is how many rows of a table were copied.
type Copied struct {
	Table string
	Rows  int
}

// Copy copies all that is stored from one database to another, of either kind, which must be empty.
// Nobody can write to the one that is copied meanwhile. It copies all or nothing.
func Copy(ctx context.Context, from, to *gorm.DB) ([]Copied, error) {
	var all []Copied
	err := from.WithContext(ctx).Transaction(func(from *gorm.DB) error {
		return to.WithContext(ctx).Transaction(func(to *gorm.DB) error {
			// What others refer to comes first.
			for _, table := range []struct {
				name string
				copy func(ctx context.Context, name string, from, to *gorm.DB) (int, error)
			}{
				{"identities", copyTable[Identity]}, {"credentials", copyTable[Credential]}, {"sessions", copyTable[Session]},
				{"failures", copyTable[Failure]}, {"ends", copyTable[End]}, {"apps", copyTable[App]},
				{"deliveries", copyTable[Delivery]}, {"attempts", copyTable[Attempt]},
				{"signing_keys", copyTable[SigningKey]}, {"secrets", copyTable[Secret]},
			} {
				n, err := table.copy(ctx, table.name, from, to)
				if err != nil {
					return fmt.Errorf("copy %s: %w", table.name, err)
				}
				all = append(all, Copied{table.name, n})
			}
			return nil
		})
		// On SQLite a transaction that may write keeps all others from it; elsewhere this is what
		// shows all tables as they were at one time.
	}, &sql.TxOptions{Isolation: sql.LevelSerializable})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// copyBatch keeps one statement's variables within what every database takes.
const copyBatch = 500

// copyTable copies a table and returns how many rows it has.
func copyTable[T any](ctx context.Context, name string, from, to *gorm.DB) (int, error) {
	there, err := gorm.G[T](to).Count(ctx, "*")
	if err == nil && there > 0 {
		err = ErrNotEmpty
	}
	if err != nil {
		return 0, err
	}
	n, batch := 0, make([]T, 0, copyBatch)
	write := func() error {
		defer func() { n, batch = n+len(batch), batch[:0] }()
		// The numbers of ends are drawn anew, so that the next one follows them.
		return gorm.G[T](to).Omit("Identity", "Seq").CreateInBatches(ctx, &batch, copyBatch)
	}
	rows, err := gorm.G[T](from).Table(name).Rows(ctx)
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
	there, err = gorm.G[T](to).Count(ctx, "*")
	if err == nil && int(there) != n {
		err = fmt.Errorf("%d rows were read, and %d written", n, there)
	}
	return n, err
}
