package models

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"latchkey/db"
)

// ErrNotEmpty means that the target of a copy already contains data.
var ErrNotEmpty = errors.New("the target is not empty")

// Copied is how many rows of a table were copied.
type Copied struct {
	Table string
	Rows  int
}

// CopyProgress says how far a copy has come.
type CopyProgress struct {
	Table       string // the one that is being copied
	Done, Total int    // rows of all tables
}

// tableCopy copies one table.
type tableCopy struct {
	name  string
	count func(ctx context.Context, from *db.Tx) (int64, error)
	copy  func(ctx context.Context, name string, from *db.Tx, to *db.Target, copied func()) (int, error)
}

func copies[T any](name string) tableCopy {
	return tableCopy{name, func(ctx context.Context, from *db.Tx) (int64, error) { return gorm.G[T](from.DB).Count(ctx, "*") }, copyTable[T]}
}

// tablesToCopy are all tables with data, in the order of their foreign keys.
var tablesToCopy = []tableCopy{
	copies[Identity]("identities"), copies[Address]("addresses"), copies[Credential]("credentials"),
	copies[Session]("sessions"), copies[ReplacedToken]("replaced_tokens"), copies[Sweep]("sweeps"), copies[Failure]("failures"), copies[End]("ends"),
	copies[App]("apps"), copies[Delivery]("deliveries"), copies[Attempt]("attempts"),
	copies[SigningKey]("signing_keys"), copies[Secret]("secrets"), copies[SingleUseValue]("single_use_values"),
	copies[SecurityEvent]("security_events"),
}

// Copy copies the whole contents of one database to another, which may be of the other kind. It copies a
// consistent snapshot, all or nothing; a SQLite source can't be written to meanwhile. It returns
// ErrNotEmpty if the target contains data. progress is called for each row; it may be nil.
func Copy(ctx context.Context, from, to *db.DB, progress func(CopyProgress)) ([]Copied, error) {
	if progress == nil {
		progress = func(CopyProgress) {}
	}
	var all []Copied
	err := db.Copy(ctx, from, to, func(from *db.Tx, to *db.Target) error {
		var at CopyProgress
		for _, table := range tablesToCopy {
			n, err := table.count(ctx, from)
			if err != nil {
				return fmt.Errorf("count %s: %w", table.name, err)
			}
			at.Total += int(n)
		}
		for _, table := range tablesToCopy {
			at.Table = table.name
			n, err := table.copy(ctx, table.name, from, to, func() {
				at.Done++
				progress(at)
			})
			if errors.Is(err, ErrNotEmpty) {
				return err
			}
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

// numbered are the columns that the target fills in itself, so that its sequence continues after them.
var numbered = []string{"seq"}

// copyTable copies a table and returns the number of rows. It calls copied after each.
func copyTable[T any](ctx context.Context, name string, from *db.Tx, to *db.Target, copied func()) (int, error) {
	there, err := gorm.G[T](to.DB).Count(ctx, "*")
	if err == nil && there > 0 {
		err = ErrNotEmpty
	}
	if err != nil {
		return 0, err
	}
	table, err := schema.Parse(new(T), &sync.Map{}, to.NamingStrategy)
	if err != nil {
		return 0, err
	}
	columns := slices.DeleteFunc(slices.Clone(table.DBNames), func(column string) bool { return slices.Contains(numbered, column) })
	read := gorm.G[T](from.DB).Table(name).Scopes().Select(strings.Join(columns, ", "))
	if len(columns) < len(table.DBNames) {
		read = read.Order(numbered[0])
	}
	rows, err := read.Rows(ctx)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var row T
	into, values := make([]any, len(columns)), make([]any, len(columns))
	for i, column := range columns {
		into[i] = table.FieldsByDBName[column].ReflectValueOf(ctx, reflect.ValueOf(&row).Elem()).Addr().Interface()
	}
	n, err := to.Insert(ctx, name, columns, func() ([]any, error) {
		if !rows.Next() {
			return nil, rows.Err()
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		for i, column := range columns {
			values[i], _ = table.FieldsByDBName[column].ValueOf(ctx, reflect.ValueOf(&row).Elem())
		}
		copied()
		return values, nil
	})
	if err != nil {
		return 0, err
	}
	there, err = gorm.G[T](to.DB).Count(ctx, "*")
	if err == nil && there != n {
		err = fmt.Errorf("read %d rows but wrote %d", n, there)
	}
	return int(n), err
}
