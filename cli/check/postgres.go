package check

import (
	"context"
	"time"

	"latchkey/app/config"
	"latchkey/db"
)

// oldestSupportedPostgres is the oldest major version that still gets fixes.
const oldestSupportedPostgres = 14

// checkPostgres checks the settings of a PostgreSQL server.
func (r *report) checkPostgres(ctx context.Context, settings *config.Settings, database *db.Reader) {
	var server struct {
		Version           int
		Replica           bool
		SynchronousCommit string
		Fsync             string
		MaxConnections    int
		Reserved          int // connections that only a superuser may open
		Now               time.Time
	}
	before := time.Now()
	err := database.Query(ctx).Raw(`SELECT current_setting('server_version_num')::int / 10000 AS version,
		pg_is_in_recovery() AS replica, current_setting('synchronous_commit') AS synchronous_commit, current_setting('fsync') AS fsync,
		current_setting('max_connections')::int AS max_connections, current_setting('superuser_reserved_connections')::int AS reserved,
		clock_timestamp() AS now`).Scan(&server).Error
	if err != nil {
		r.warn("server", "its settings can't be read: %v", err)
		return
	}
	failures := r.failures
	if server.Replica {
		r.fail("server", "it is a replica, which accepts no writes – name the primary in DATABASE_URL")
	}
	if server.SynchronousCommit == "off" || server.Fsync == "off" {
		r.fail("server", "a power cut undoes what was answered, sign-outs too (synchronous_commit=%s, fsync=%s) – set both to on", server.SynchronousCommit, server.Fsync)
	}
	if server.Version < oldestSupportedPostgres {
		r.warn("server", "PostgreSQL %d is no longer supported – upgrade it", server.Version)
	}
	if r.failures == failures {
		r.ok("server", "PostgreSQL %d, commits survive a power cut", server.Version)
	}
	r.checkClock("the database", server.Now, before)
	r.checkConnections(settings, server.MaxConnections-server.Reserved)
}

// checkConnections compares the connections that a server allows with those that an instance opens.
func (r *report) checkConnections(settings *config.Settings, allowed int) {
	opens, err := db.PoolSize(settings.DatabaseURL)
	if err != nil {
		return // DATABASE_URL has been parsed before
	}
	opens += 2 // one listens for ends, one migrates
	if opens > allowed {
		r.fail("connections", "an instance opens up to %d and the server allows %d – set pool_max_conns in DATABASE_URL or raise max_connections", opens, allowed)
	} else {
		r.ok("connections", "an instance opens up to %d of %d: there is room for %s", opens, allowed, Plural(int64(allowed/opens), "instance"))
	}
}
