package db

import (
	"time"

	"github.com/go-gormigrate/gormigrate/v2"
	"github.com/gofrs/uuid/v5"
	"gorm.io/gorm"
)

// eventsMigration adds the security events that commands leave for a server to log.
var eventsMigration = &gormigrate.Migration{
	ID: "202611250006_events",
	Migrate: func(tx *gorm.DB) error {
		type SecurityEvent struct {
			ID    uuid.UUID `gorm:"type:uuid;primaryKey"`
			At    time.Time `gorm:"not null"`
			Entry string    `gorm:"not null"`
		}
		return tx.Migrator().CreateTable(&SecurityEvent{})
	},
}
