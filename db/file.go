package db

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// file is a SQLite file that was found at a path.
type file struct {
	path string
	info os.FileInfo
}

// find finds a file, or with os.O_CREATE makes one that its owner alone can read.
func find(path string, create int) (*file, error) {
	opened, err := os.OpenFile(path, create|os.O_RDWR, 0o600) // #nosec G304 -- the operator's choice
	if err != nil {
		return nil, err
	}
	info, err := opened.Stat()
	return &file{path, info}, errors.Join(err, opened.Close())
}

// lostError means that what is written now would be lost.
type lostError string

func (e lostError) Error() string { return string(e) }

// Unavailable is for models.Unavailable.
func (lostError) Unavailable() bool { return true }

// same returns an error unless the path still leads to the file.
func (f *file) same() error {
	now, err := os.Stat(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return lostError(fmt.Sprintf("the database %s has been removed while it was open: put it back, or restart Latchkey to begin with a new one", f.path))
	case err != nil:
		return lostError(fmt.Sprintf("the database can't be looked at: %v", err))
	case !os.SameFile(f.info, now):
		return lostError(fmt.Sprintf("the database %s has been replaced while it was open: restart Latchkey to use the new one, or put the old one back", f.path))
	}
	return nil
}

// inPlace is same for a file that a connection is open to, and has its log beside it.
func (f *file) inPlace() error {
	if err := f.same(); err != nil {
		return err
	}
	if _, err := os.Stat(f.path + "-wal"); err != nil {
		return lostError(fmt.Sprintf("the database's log %s-wal has been removed while it was open: restart Latchkey with SIGTERM, which saves what it held", f.path))
	}
	return nil
}

// connector keeps connections to another file out of the pool.
type connector struct {
	driver.Connector
	file *file
}

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, errors.Join(err, c.file.same()) // which may be why
	}
	if err := c.file.same(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}
