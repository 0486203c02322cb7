package check

import (
	"context"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"latchkey/app/backchannel"
	"latchkey/app/config"
	"latchkey/app/keys"
	"latchkey/db"
	"latchkey/models"
)

// checkDatabase checks the database and what is in it. It returns the keys, which seal requests to
// route.HealthRequest, nil if no server has made one yet; known is false if the database can't be read.
func (r *report) checkDatabase(ctx context.Context, settings *config.Settings) (ring *keys.Ring, known bool) {
	path, isFile := db.SQLitePath(settings.DatabaseURL)
	if isFile && !r.checkFiles(path) {
		return nil, false
	}
	database, err := db.OpenReadOnly(ctx, settings.DatabaseURL)
	if err != nil && isFile {
		r.fail("database", "%v – is DATABASE_URL that of the server, and may you read it?", err)
		return nil, false
	}
	if err != nil {
		r.fail("database", "%v", err) // which says what to do
		return nil, false
	}
	defer database.Close()
	if isFile {
		if err := db.Verify(ctx, database); err != nil {
			r.fail("database", "%v – restore a backup: docs/backup.md", err)
			return nil, false
		}
	} else {
		r.checkPostgres(ctx, settings, database)
	}
	if !r.checkSchema(ctx, database) {
		return nil, false
	}
	contents, err := models.Inspect(ctx, database, time.Now())
	if err != nil {
		r.fail("database", "it can't be read: %v", err)
		return nil, false
	}
	r.ok("database", "intact: %s, %s", Plural(contents.Accounts, "account"), Plural(contents.ActiveSessions, "active session"))
	r.checkNewest(contents.Newest)
	ring, known = r.checkKeys(contents.Keys, settings)
	r.checkApps(ctx, settings, contents.Apps)
	return ring, known
}

// checkSchema compares the schema with that of this version, and reports whether there is one.
func (r *report) checkSchema(ctx context.Context, database *db.Reader) bool {
	schema, err := db.SchemaOf(ctx, database)
	switch {
	case err != nil:
		r.fail("schema", "%v", err)
		return false
	case schema.Latest == "":
		r.warn("schema", "the database is empty: the first start creates its tables")
		return false
	case len(schema.Unknown) > 0:
		r.warn("schema", "a newer version has been here (%s): fine during an upgrade – else use that version", schema.Latest)
	case len(schema.Missing) > 0:
		r.warn("schema", "the next start upgrades it (%s) – make a backup first", strings.Join(schema.Missing, ", "))
	default:
		r.ok("schema", "%s", schema.Latest)
	}
	return true
}

// checkNewest looks for entries that were written in the future.
func (r *report) checkNewest(newest time.Time) {
	ahead := time.Until(newest).Round(time.Second)
	if ahead >= clockFail {
		r.fail("clock", "the newest entry of the database is %s in the future – set the clock: timedatectl set-ntp true", ahead)
		return
	}
	r.ok("clock", "nothing in the database is in the future")
}

// checkKeys opens the keys, and returns them; nil if there are none. known is false if they can't be opened.
func (r *report) checkKeys(stored models.Keys, settings *config.Settings) (ring *keys.Ring, known bool) {
	ring, err := keys.Inspect(stored, settings.SecretKeys, time.Now)
	switch {
	case errors.Is(err, keys.ErrNoKeys):
		r.warn("keys", "there are none yet: the server creates them when it starts")
		return nil, true
	case err != nil:
		r.fail("keys", "%v", err)
		return nil, false
	}
	if err := ring.CheckSigning(stored.Signing); err != nil {
		r.fail("keys", "%v – create others: latchkey key rotate", err)
		return ring, true
	}
	if len(stored.Signing) == 0 || stored.Signing[0].RetiresAt != nil {
		r.fail("keys", "none of them signs – create others: latchkey key rotate")
		return ring, true
	}
	r.ok("keys", "%s signs logout notifications", stored.Signing[0].ID)
	return ring, true
}

// checkApps looks up the hosts of apps. Nothing is sent to them.
func (r *report) checkApps(ctx context.Context, settings *config.Settings, apps []models.App) {
	for _, a := range apps {
		u, err := url.Parse(a.LogoutURL)
		if err == nil {
			err = backchannel.CheckURL(a.LogoutURL)
		}
		if err != nil {
			r.fail("apps", "%s: %v – latchkey app remove %s, and add it again", a.Name, err, a.Name)
			continue
		}
		limited, cancel := context.WithTimeout(ctx, 10*time.Second)
		addresses, err := net.DefaultResolver.LookupNetIP(limited, "ip", u.Hostname())
		cancel()
		switch {
		case err != nil:
			r.fail("apps", "%s is notified at %s, and there is no such host (%v) – fix its DNS, or add the app again", a.Name, u.Host, err)
		case settings.AppsPublicOnly && !slices.ContainsFunc(addresses, backchannel.IsPublic):
			r.fail("apps", "%s is notified at %s, which has no public address, and APPS_PUBLIC_ONLY is set – unset that, or add the app again", a.Name, u.Host)
		default:
			r.ok("apps", "%s is notified at %s", a.Name, u.Host)
		}
	}
}
