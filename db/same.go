package db

import (
	"context"
	"errors"
	"os"
)

// Same reports whether two URLs name one database, also by different names. What it can't find out counts as
// different.
func Same(ctx context.Context, one, other string) (bool, error) {
	path, isFile := SQLitePath(one)
	otherPath, otherIsFile := SQLitePath(other)
	if isFile != otherIsFile {
		return false, nil
	}
	if isFile {
		info, err := os.Stat(path)
		otherInfo, otherErr := os.Stat(otherPath)
		return err == nil && otherErr == nil && os.SameFile(info, otherInfo), nil
	}
	id, err := postgresID(ctx, one)
	if err != nil {
		return false, err
	}
	otherID, err := postgresID(ctx, other)
	return id != "" && id == otherID, err
}

// postgresID returns what tells a database and schema from all others, on any server; "" if the server
// doesn't say.
func postgresID(ctx context.Context, url string) (id string, err error) {
	database, err := OpenReadOnly(ctx, url)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, database.Close()) }()
	_ = database.Query(ctx).Raw(`SELECT concat_ws(' ', system_identifier, (SELECT oid FROM pg_database WHERE datname = current_database()), current_schema())
		FROM pg_control_system()`).Scan(&id).Error // other databases that speak PostgreSQL's protocol may have no such function
	return id, nil
}
