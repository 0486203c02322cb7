package db

import (
	"github.com/go-gormigrate/gormigrate/v2"
	"github.com/gofrs/uuid/v5"
	"gorm.io/gorm"
)

// tokensMigration keeps the hashes of tokens that a confirmation has replaced, so that a browser which never saw
// the new one can still end its session. It also finds a person's active sessions, newest first, without reading
// those that have ended. The version before replaces tokens without keeping them.
var tokensMigration = &gormigrate.Migration{
	ID: "202611250007_tokens",
	Migrate: func(tx *gorm.DB) error {
		type Session struct {
			ID uuid.UUID `gorm:"type:uuid;primaryKey"`
		}
		type ReplacedToken struct {
			TokenHash []byte    `gorm:"primaryKey"`
			SessionID uuid.UUID `gorm:"type:uuid;not null;index"`
			Session   *Session  `gorm:"constraint:OnDelete:CASCADE"`
		}
		if err := tx.Migrator().CreateTable(&ReplacedToken{}); err != nil {
			return err
		}
		return tx.Exec("CREATE INDEX idx_sessions_newest ON sessions (identity_id, authenticated_at, id) WHERE ended_at IS NULL").Error
	},
}
