package db

import (
	"time"

	"github.com/go-gormigrate/gormigrate/v2"
	"github.com/gofrs/uuid/v5"
	"gorm.io/gorm"
)

// migrate applies what is missing of the migrations, all in one transaction: of several processes
// that open a new database at once, one makes its tables.
func migrate(db *gorm.DB) error {
	options := *gormigrate.DefaultOptions
	options.UseTransaction = true
	return gormigrate.New(db, &options, migrations).Migrate()
}

// migrations are applied in order, once each. A migration that has been released never changes:
// it keeps its own copy of the tables as they were, whatever becomes of package models.
var migrations = []*gormigrate.Migration{
	{
		ID: "202611220001_initial",
		Migrate: func(tx *gorm.DB) error {
			type Identity struct {
				ID             uuid.UUID `gorm:"type:uuid;primaryKey"`
				Email          string    `gorm:"not null;uniqueIndex"`
				Name           string    `gorm:"not null"`
				Active         bool      `gorm:"not null"`
				StateChangedAt time.Time `gorm:"not null"`
				CreatedAt      time.Time `gorm:"not null"`
				UpdatedAt      time.Time `gorm:"not null"`
			}
			type Credential struct {
				IdentityID uuid.UUID `gorm:"type:uuid;primaryKey"`
				Identity   *Identity `gorm:"constraint:OnDelete:CASCADE"`
				Method     string    `gorm:"primaryKey"`
				Hash       string    `gorm:"not null"`
				CreatedAt  time.Time `gorm:"not null"`
				UpdatedAt  time.Time `gorm:"not null"`
			}
			type Session struct {
				ID              uuid.UUID `gorm:"type:uuid;primaryKey"`
				TokenHash       []byte    `gorm:"not null;uniqueIndex"`
				IdentityID      uuid.UUID `gorm:"type:uuid;not null;index:,composite:person,priority:1"`
				Identity        *Identity `gorm:"constraint:OnDelete:CASCADE"`
				AuthenticatedAt time.Time `gorm:"not null;index:,composite:person,priority:2"`
				LastSeenAt      time.Time `gorm:"not null"`
				ExpiresAt       time.Time `gorm:"not null;index"`
				IdleSeconds     int64     `gorm:"not null"`
				LatestExpiresAt time.Time `gorm:"not null"`
				Method          string    `gorm:"not null"`
				IPAddress       string    `gorm:"not null"`
				UserAgent       string    `gorm:"not null"`
				EndedAt         *time.Time
				EndReason       string `gorm:"not null"`
			}
			type Attempt struct {
				Key      []byte    `gorm:"primaryKey"`
				Failures int       `gorm:"not null"`
				RetryAt  time.Time `gorm:"not null"`
				ForgetAt time.Time `gorm:"not null;index"`
			}
			type Secret struct {
				Name      string    `gorm:"primaryKey"`
				Value     []byte    `gorm:"not null"`
				CreatedAt time.Time `gorm:"not null"`
			}
			// A row that is found by its key lies with it, which saves a second search. Sessions are
			// found in other ways.
			clustered := tx.Set("gorm:table_options", "WITHOUT ROWID").Migrator()
			if err := clustered.CreateTable(&Identity{}, &Credential{}, &Attempt{}, &Secret{}); err != nil {
				return err
			}
			return tx.Migrator().CreateTable(&Session{})
		},
	},
}
