package db

import (
	"time"

	"github.com/go-gormigrate/gormigrate/v2"
	"github.com/gofrs/uuid/v5"
	"gorm.io/gorm"
)

// migrate applies the missing migrations in one transaction, so that of several processes that open a new
// database, one creates the tables.
func migrate(db *gorm.DB) error {
	options := *gormigrate.DefaultOptions
	options.UseTransaction = db.Name() == "sqlite" // for PostgreSQL there is one already, with a lock
	return gormigrate.New(db, &options, migrations).Migrate()
}

// migrations are applied in order, once each. A migration that has been released never changes:
// it has its own copy of the tables, independent of package models.
//
// During an upgrade the old version runs on the new schema: so migrations only add, and new columns have
// defaults. What is no longer used is removed one version later.
var migrations = []*gormigrate.Migration{
	{
		ID: "202611220001_initial",
		Migrate: func(tx *gorm.DB) error {
			type Identity struct {
				ID             uuid.UUID `gorm:"type:uuid;primaryKey"`
				Email          string    `gorm:"not null;uniqueIndex"`
				Name           string    `gorm:"not null"`
				Groups         string    `gorm:"not null"`
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
				ConfirmedAt     time.Time `gorm:"not null"`
				LastSeenAt      time.Time `gorm:"not null"`
				ExpiresAt       time.Time `gorm:"not null;index;index:idx_sessions_unended,where:ended_at IS NULL"`
				IdleSeconds     int64     `gorm:"not null"`
				LatestExpiresAt time.Time `gorm:"not null"`
				Remember        bool      `gorm:"not null"`
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
			type End struct {
				Seq       int64     `gorm:"primaryKey;autoIncrement"`
				SessionID uuid.UUID `gorm:"type:uuid;not null"`
				Reason    string    `gorm:"not null"`
				At        time.Time `gorm:"not null;index"`
			}
			type Failure struct {
				ID         uuid.UUID `gorm:"type:uuid;primaryKey"`
				IdentityID uuid.UUID `gorm:"type:uuid;not null;index:,composite:person,priority:1"`
				Identity   *Identity `gorm:"constraint:OnDelete:CASCADE"`
				FirstAt    time.Time `gorm:"not null"`
				LastAt     time.Time `gorm:"not null;index;index:,composite:person,priority:2"`
				Count      int       `gorm:"not null"`
				IPAddress  string    `gorm:"not null"`
				UserAgent  string    `gorm:"not null"`
			}
			type App struct {
				Name      string    `gorm:"primaryKey"`
				LogoutURL string    `gorm:"not null"`
				Send      string    `gorm:"not null"`
				CreatedAt time.Time `gorm:"not null"`
			}
			type Delivery struct {
				ID          uuid.UUID `gorm:"type:uuid;primaryKey"`
				AppName     string    `gorm:"not null;index:idx_deliveries_pending,where:state = 'pending',priority:1"`
				App         *App      `gorm:"foreignKey:AppName;constraint:OnDelete:CASCADE"`
				SessionID   uuid.UUID `gorm:"type:uuid;not null;index"`
				IdentityID  uuid.UUID `gorm:"type:uuid;not null"`
				Reason      string    `gorm:"not null"`
				State       string    `gorm:"not null"`
				Attempts    int       `gorm:"not null"`
				NextAt      time.Time `gorm:"not null;index:idx_deliveries_pending,where:state = 'pending',priority:2"`
				LeasedUntil time.Time `gorm:"not null"`
				GiveUpAt    time.Time `gorm:"not null"`
				Status      int       `gorm:"not null"`
				Note        string    `gorm:"not null"`
				CreatedAt   time.Time `gorm:"not null;index"`
				UpdatedAt   time.Time `gorm:"not null"`
			}
			type SigningKey struct {
				ID         string    `gorm:"primaryKey"`
				PrivateKey []byte    `gorm:"not null"`
				CreatedAt  time.Time `gorm:"not null"`
				RetiresAt  *time.Time
			}
			type Secret struct {
				Name      string    `gorm:"primaryKey"`
				Value     []byte    `gorm:"not null"`
				CreatedAt time.Time `gorm:"not null"`
			}
			// In SQLite a row that is found by its key can lie with it, which saves a second search. The
			// others are found in other ways.
			clustered := tx.Migrator()
			if tx.Name() == "sqlite" {
				clustered = tx.Set("gorm:table_options", "WITHOUT ROWID").Migrator()
			}
			if err := clustered.CreateTable(&Identity{}, &Credential{}, &Attempt{}, &Secret{}, &App{}, &SigningKey{}); err != nil {
				return err
			}
			return tx.Migrator().CreateTable(&Session{}, &End{}, &Failure{}, &Delivery{})
		},
	},
	{
		ID: "202611250001_locks",
		Migrate: func(tx *gorm.DB) error {
			type Lock struct {
				Name     string    `gorm:"primaryKey"`
				LockedAt time.Time `gorm:"not null"`
			}
			return tx.Migrator().CreateTable(&Lock{})
		},
	},
	keysMigration,
	identityMigration,
	endingMigration,
	namesMigration,
	eventsMigration,
	tokensMigration,
}
