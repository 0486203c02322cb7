package models

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"latchkey/db"
)

// Keys holds all stored keys that have not retired, in their stored form. Package keys creates, seals and
// opens them.
type Keys struct {
	Signing []SigningKey // the current ones first
	Secrets []Secret     // the current ones first
}

// Keys returns all keys.
func (s *Store) Keys(ctx context.Context) (Keys, error) {
	keys, err := readKeys(s.Secrets.db.Query(ctx), s.Secrets.now())
	if err != nil {
		return Keys{}, fmt.Errorf("read the keys: %w", err)
	}
	return keys, nil
}

// ChangeKeys replaces all keys by what change returns, in one transaction. Concurrent calls run one after
// the other, each on the result of the one before. It may call change more than once. It removes retired
// keys. If a key that change adds exists already, the existing one stays.
func (s *Store) ChangeKeys(ctx context.Context, change func(now time.Time, keys Keys) (Keys, error)) error {
	err := s.Secrets.db.Write(ctx, func(tx *db.Tx) error {
		// The previous version uses the same lock.
		if err := tx.Lock(ctx, "signing-keys"); err != nil {
			return err
		}
		now, from := s.Secrets.now(), tx.WithContext(ctx)
		before, err := readKeys(from, now)
		if err != nil {
			return err
		}
		after, err := change(now, before)
		if err != nil {
			return err
		}
		for _, table := range []any{&SigningKey{}, &Secret{}} {
			if err := from.Where("retires_at <= ?", now).Delete(table).Error; err != nil {
				return err
			}
		}
		if err := replace(from, before.Signing, after.Signing, func(k *SigningKey) string { return k.ID }); err != nil {
			return err
		}
		return replace(from, before.Secrets, after.Secrets, func(k *Secret) string { return k.Name })
	})
	if err != nil {
		return fmt.Errorf("change the keys: %w", err)
	}
	return nil
}

// replace changes the rows of a table from before to after.
func replace[T any](tx *gorm.DB, before, after []T, id func(*T) string) error {
	find := func(rows []T, wanted string) int {
		return slices.IndexFunc(rows, func(row T) bool { return id(&row) == wanted })
	}
	for i := range before {
		if find(after, id(&before[i])) >= 0 {
			continue
		}
		if err := tx.Delete(&before[i]).Error; err != nil {
			return err
		}
	}
	for i := range after {
		conflict := clause.OnConflict{DoNothing: true}
		if old := find(before, id(&after[i])); old >= 0 {
			if reflect.DeepEqual(before[old], after[i]) {
				continue
			}
			conflict = clause.OnConflict{UpdateAll: true}
		}
		if err := tx.Clauses(conflict).Create(&after[i]).Error; err != nil {
			return err
		}
	}
	return nil
}

func readKeys(from *gorm.DB, now time.Time) (keys Keys, err error) {
	if keys.Signing, err = readSigningKeys(from, now); err != nil {
		return Keys{}, err
	}
	keys.Secrets, err = readSecrets(from, now)
	return keys, err
}

// readOldKeys is readKeys for a database whose schema may be older than the program's.
func readOldKeys(from *gorm.DB, now time.Time) (Keys, error) {
	keys, err := readKeys(from.Select("*").Session(&gorm.Session{}), now)
	for i := range keys.Signing {
		keys.Signing[i].Algorithm = cmp.Or(keys.Signing[i].Algorithm, "ES256")
	}
	return keys, err
}

func readSigningKeys(from *gorm.DB, now time.Time) ([]SigningKey, error) {
	var keys []SigningKey
	err := from.Order("created_at DESC, id").Find(&keys).Error
	return inUse(keys, now, func(k *SigningKey) *time.Time { return k.RetiresAt }), err
}

func readSecrets(from *gorm.DB, now time.Time) ([]Secret, error) {
	var secrets []Secret
	err := from.Where("name <> ?", secretSetup).Order("created_at DESC, name").Find(&secrets).Error
	return inUse(secrets, now, func(s *Secret) *time.Time { return s.RetiresAt }), err
}

// inUse returns the keys that have not retired, the current ones first. It doesn't filter in SQL, since older
// schemas lack the column.
func inUse[T any](keys []T, now time.Time, retiresAt func(*T) *time.Time) []T {
	var current, retiring []T
	for i := range keys {
		switch at := retiresAt(&keys[i]); {
		case at == nil:
			current = append(current, keys[i])
		case at.After(now):
			retiring = append(retiring, keys[i])
		}
	}
	return append(current, retiring...)
}
