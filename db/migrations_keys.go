package db

import (
	"time"

	"github.com/go-gormigrate/gormigrate/v2"
	"gorm.io/gorm"
)

// keysMigration lets signing keys have other algorithms than ES256, secrets retire, and both be sealed
// with a key outside the database. The version before reads the current secrets by the names they have.
var keysMigration = &gormigrate.Migration{
	ID: "202611250002_keys",
	Migrate: func(tx *gorm.DB) error {
		type SigningKey struct {
			Algorithm string `gorm:"not null;default:ES256"`
			Sealed    string `gorm:"not null;default:''"`
		}
		type Secret struct {
			RetiresAt *time.Time
			Sealed    string `gorm:"not null;default:''"`
		}
		for _, column := range []struct {
			table any
			name  string
		}{
			{&SigningKey{}, "Algorithm"}, {&SigningKey{}, "Sealed"}, {&Secret{}, "RetiresAt"}, {&Secret{}, "Sealed"},
		} {
			if err := tx.Migrator().AddColumn(column.table, column.name); err != nil {
				return err
			}
		}
		return nil
	},
}
