package db

import (
	"context"
	"errors"
)

// OpenBefore opens a database as the version before a migration did.
func OpenBefore(ctx context.Context, url, migration string) (*DB, error) {
	all := migrations
	defer func() { migrations = all }()
	for i := range all {
		if all[i].ID == migration {
			migrations = all[:i]
		}
	}
	return Open(ctx, url)
}

// Rewrite writes a SQLite file anew with a pragma.
func Rewrite(ctx context.Context, path, pragma string) error {
	conns, err := openSQLiteFile(path, pragma)
	if err != nil {
		return err
	}
	_, err = conns.ExecContext(ctx, "VACUUM")
	return errors.Join(err, conns.Close())
}

// Away reports whether a server that can't be connected to, for this reason, may be there later.
func Away(err error) bool { return isAway(err) }
