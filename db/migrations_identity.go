package db

import (
	"fmt"
	"time"

	"github.com/go-gormigrate/gormigrate/v2"
	"github.com/gofrs/uuid/v5"
	"golang.org/x/text/unicode/norm"
	"gorm.io/gorm"
)

// identityMigration lets a person have any number of credentials and addresses, and a username. The
// secret of a credential stays in the column "hash", and the primary address on the identity too: the
// version before works beside this one.
var identityMigration = &gormigrate.Migration{
	ID: "202611250003_identity",
	Migrate: func(tx *gorm.DB) error {
		statements := []string{
			`ALTER TABLE identities ADD COLUMN username TEXT NOT NULL DEFAULT ''`,
			`CREATE UNIQUE INDEX idx_identities_username ON identities (username) WHERE username <> ''`,
			`ALTER TABLE sessions ADD COLUMN proofs TEXT NOT NULL DEFAULT ''`,
			`ALTER TABLE sessions ADD COLUMN aal TEXT NOT NULL DEFAULT 'aal1'`,
		}
		if tx.Name() == "sqlite" {
			statements = append(statements,
				`CREATE TABLE credentials_new (
					id TEXT NOT NULL PRIMARY KEY DEFAULT (lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2)
						|| '-a' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))),
					identity_id TEXT NOT NULL REFERENCES identities (id) ON DELETE CASCADE,
					method TEXT NOT NULL, hash TEXT NOT NULL, name TEXT NOT NULL DEFAULT '', version INTEGER NOT NULL DEFAULT 1,
					created_at DATETIME NOT NULL, updated_at DATETIME NOT NULL, last_used_at DATETIME) WITHOUT ROWID`,
				`INSERT INTO credentials_new (identity_id, method, hash, created_at, updated_at)
					SELECT identity_id, method, hash, created_at, updated_at FROM credentials`,
				`DROP TABLE credentials`,
				`ALTER TABLE credentials_new RENAME TO credentials`)
		} else {
			statements = append(statements,
				`ALTER TABLE credentials ADD COLUMN id uuid NOT NULL DEFAULT gen_random_uuid(), ADD COLUMN name text NOT NULL DEFAULT '',
					ADD COLUMN version bigint NOT NULL DEFAULT 1, ADD COLUMN last_used_at timestamptz`,
				`ALTER TABLE credentials DROP CONSTRAINT credentials_pkey, ADD PRIMARY KEY (id)`)
		}
		statements = append(statements, `CREATE INDEX idx_credentials_person ON credentials (identity_id, method)`)
		for _, statement := range statements {
			if err := tx.Exec(statement).Error; err != nil {
				return err
			}
		}
		return makeAddresses(tx)
	},
}

// makeAddresses makes an address of each identity's, in Unicode's normal form C. An operator gave it, or
// its person did before addresses could be verified: nobody has verified it.
func makeAddresses(tx *gorm.DB) error {
	type Identity struct {
		ID        uuid.UUID `gorm:"type:uuid;primaryKey"`
		Email     string
		CreatedAt time.Time
	}
	type Address struct {
		ID         uuid.UUID `gorm:"type:uuid;primaryKey"`
		IdentityID uuid.UUID `gorm:"type:uuid;not null;index"`
		Identity   *Identity `gorm:"constraint:OnDelete:CASCADE"`
		Value      string    `gorm:"not null;uniqueIndex"`
		VerifiedAt *time.Time
		Primary    bool      `gorm:"column:is_primary;not null"`
		CreatedAt  time.Time `gorm:"not null"`
	}
	if err := tx.Migrator().CreateTable(&Address{}); err != nil {
		return err
	}
	var all []Identity
	if err := tx.Find(&all).Error; err != nil {
		return err
	}
	taken := map[string]bool{}
	for i := range all {
		taken[all[i].Email] = true
	}
	addresses := make([]Address, len(all))
	for i, identity := range all {
		value := norm.NFC.String(identity.Email)
		if value != identity.Email && !taken[value] { // else two accounts differ in their form alone: both stay as they are
			taken[value] = true
			if err := tx.Model(&Identity{}).Where("id = ?", identity.ID).Update("email", value).Error; err != nil {
				return err
			}
		} else {
			value = identity.Email
		}
		id, err := uuid.NewV4()
		if err != nil {
			return fmt.Errorf("make an address: %w", err)
		}
		addresses[i] = Address{ID: id, IdentityID: identity.ID, Value: value, Primary: true, CreatedAt: identity.CreatedAt}
	}
	return tx.Omit("Identity").CreateInBatches(&addresses, 500).Error
}
