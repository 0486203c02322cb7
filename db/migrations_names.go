package db

import (
	"github.com/go-gormigrate/gormigrate/v2"
	"github.com/mtibben/confusables"
	"gorm.io/gorm"
)

// namesMigration records who has given an address, and what addresses and usernames look like (UTS #39), so
// that no two accounts look alike. Those that do already stay as they are.
//
// The version before works beside this one: what it creates is compared with nothing until somebody changes
// it, and its addresses are of unknown origin.
var namesMigration = &gormigrate.Migration{
	ID: "202611250005_names",
	Migrate: func(tx *gorm.DB) error {
		for _, statement := range []string{
			"ALTER TABLE identities ADD COLUMN email_trust bigint NOT NULL DEFAULT 0",
			"ALTER TABLE identities ADD COLUMN username_skeleton text NOT NULL DEFAULT ''",
			"ALTER TABLE addresses ADD COLUMN skeleton text NOT NULL DEFAULT ''",
			"CREATE INDEX idx_identities_username_skeleton ON identities (username_skeleton) WHERE username_skeleton <> ''",
			"CREATE INDEX idx_addresses_skeleton ON addresses (skeleton)",
		} {
			if err := tx.Exec(statement).Error; err != nil {
				return err
			}
		}
		if err := addSkeletons(tx, "addresses", "value", "skeleton"); err != nil {
			return err
		}
		return addSkeletons(tx, "identities", "username", "username_skeleton")
	},
}

// addSkeletons fills in what the texts of a column look like.
func addSkeletons(tx *gorm.DB, table, text, skeleton string) error {
	var rows []struct{ ID, Text string }
	if err := tx.Table(table).Select("id, " + text + " AS text").Where(text + " <> ''").Find(&rows).Error; err != nil {
		return err
	}
	for _, row := range rows {
		if err := tx.Table(table).Where("id = ?", row.ID).Update(skeleton, confusables.Skeleton(row.Text)).Error; err != nil {
			return err
		}
	}
	return nil
}
