package models

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"

	"latchkey/db"
)

// Contents summarizes a database for an operator.
type Contents struct {
	Accounts       int64
	ActiveSessions int64
	Newest         time.Time // time of the last use or end of a session; zero if there is none
	Keys           Keys      // empty if no server has used the database yet
	Apps           []App     // by name
}

// Inspect summarizes a database without migrating it. Its schema may be older than the program's, so only
// columns of the first schema are named, except where the newer tables are known to exist.
func Inspect(ctx context.Context, r *db.Reader, now time.Time) (Contents, error) {
	var c Contents
	from := r.Query(ctx)
	now = now.UTC()
	var err error
	account, active := "true", "ended_at IS NULL AND expires_at > ?"
	if from.Migrator().HasTable(&Sweep{}) {
		account, active = there, active+" AND "+aboveFloor
	}
	if c.Accounts, err = gorm.G[Identity](from).Where(account).Count(ctx, "id"); err != nil {
		return Contents{}, fmt.Errorf("count accounts: %w", err)
	}
	if c.ActiveSessions, err = gorm.G[Session](from).Where(active, now).Count(ctx, "id"); err != nil {
		return Contents{}, fmt.Errorf("count sessions: %w", err)
	}
	used, err := gorm.G[Session](from).Select("last_seen_at").Order("last_seen_at DESC").Limit(1).Find(ctx)
	if err != nil {
		return Contents{}, fmt.Errorf("find the newest session: %w", err)
	}
	for _, session := range used {
		c.Newest = session.LastSeenAt
	}
	ends, err := gorm.G[End](from).Select("at").Order("at DESC").Limit(1).Find(ctx)
	if err != nil {
		return Contents{}, fmt.Errorf("find the newest end: %w", err)
	}
	for _, end := range ends {
		if end.At.After(c.Newest) {
			c.Newest = end.At
		}
	}
	if c.Keys, err = readOldKeys(from, now); err != nil {
		return Contents{}, fmt.Errorf("read the keys: %w", err)
	}
	if c.Apps, err = gorm.G[App](from).Select("name", "logout_url", "send", "created_at").Order("name").Find(ctx); err != nil {
		return Contents{}, fmt.Errorf("list apps: %w", err)
	}
	return c, nil
}
