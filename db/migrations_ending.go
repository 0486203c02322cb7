package db

import (
	"crypto/sha256"
	"encoding/base32"
	"time"

	"github.com/go-gormigrate/gormigrate/v2"
	"github.com/gofrs/uuid/v5"
	"gorm.io/gorm"
)

// endingMigration has the end of any number of sessions take one small transaction: each session gets a
// number of its person's, and those below the person's floor have ended.
//
// The version before works beside this one, with these differences:
//   - It looks at the rows alone: a session below the floor signs its holder in there until it has been
//     swept, which is at once for the first ones, and then takes a few seconds for tens of thousands.
//   - A session that it starts has the number 0. Where the person has ended many with this version before, it
//     is below the floor: it is good there, but not here, and its person has to sign in once more.
//   - Its sessions count as begun before any of this version: a receipt ends them, and of more sessions than
//     the limit those of number 0 end all together, once there are as many others.
//   - A deleted account is there as a disabled one of the name "deleted …" until its row is removed.
//   - Where there is no account, it prints a setup link of its own, which is good there alone.
var endingMigration = &gormigrate.Migration{
	ID: "202611250004_ending",
	Migrate: func(tx *gorm.DB) error {
		type Identity struct {
			ID uuid.UUID `gorm:"type:uuid;primaryKey"`
		}
		type Sweep struct {
			IdentityID uuid.UUID `gorm:"type:uuid;primaryKey"`
			Identity   *Identity `gorm:"constraint:OnDelete:CASCADE"`
			Below      int64     `gorm:"primaryKey;autoIncrement:false"`
			Reason     string    `gorm:"not null"`
			At         time.Time `gorm:"not null;index"`
		}
		type SingleUseValue struct {
			Hash      []byte     `gorm:"primaryKey"`
			Purpose   string     `gorm:"not null;index:idx_single_use_values_lasting,where:expires_at IS NULL"`
			Payload   []byte     `gorm:"not null"`
			ExpiresAt *time.Time `gorm:"index"`
			CreatedAt time.Time  `gorm:"not null"`
		}
		timestamp, covered := "datetime", "expires_at, ended_at" // SQLite reads the row for a column that can only be NULL
		if tx.Name() == "postgres" {
			timestamp, covered = "timestamptz", "expires_at"
		}
		for _, statement := range []string{
			"ALTER TABLE identities ADD COLUMN session_floor bigint NOT NULL DEFAULT 0",
			"ALTER TABLE identities ADD COLUMN last_session_number bigint NOT NULL DEFAULT 0",
			"ALTER TABLE identities ADD COLUMN deleted_at " + timestamp,
			"ALTER TABLE sessions ADD COLUMN number bigint NOT NULL DEFAULT 0",
			// With the expiry, so that counting the active ones reads no rows.
			"CREATE INDEX idx_sessions_number ON sessions (identity_id, number, " + covered + ") WHERE ended_at IS NULL",
		} {
			if err := tx.Exec(statement).Error; err != nil {
				return err
			}
		}
		if err := tx.Migrator().CreateTable(&Sweep{}, &SingleUseValue{}); err != nil {
			return err
		}

		// A setup link that has been printed goes on working.
		type Secret struct {
			Name      string `gorm:"primaryKey"`
			Value     []byte
			CreatedAt time.Time
		}
		var secrets []Secret
		if err := tx.Where("name = 'setup'").Find(&secrets).Error; err != nil || len(secrets) == 0 {
			return err
		}
		token := base32.StdEncoding.EncodeToString(secrets[0].Value)[:26]
		hash := sha256.Sum256([]byte(token))
		setup := SingleUseValue{Hash: hash[:], Purpose: "setup", Payload: []byte(token), CreatedAt: secrets[0].CreatedAt}
		if err := tx.Create(&setup).Error; err != nil {
			return err
		}
		return tx.Delete(&secrets[0]).Error
	},
}
