package db

import "context"

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
