package db

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
)

// file is an open SQLite file. SQLite doesn't notice if the file is removed or replaced: it keeps using the
// open one, and all its writes are lost when the process exits.
type file struct {
	path string
	info os.FileInfo
	lost atomic.Pointer[error] // error of the last check; nil for none
}

// dirMode is that of directories which are made for a database.
const dirMode = 0o700

// findFile returns the file at path. If create is os.O_CREATE, it creates a missing one with mode 0600, and
// the directories that it lacks.
func findFile(path string, create int) (*file, error) {
	if create != 0 {
		if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
			return nil, err
		}
	}
	opened, err := os.OpenFile(path, create|os.O_RDWR, 0o600) // #nosec G304 -- the operator's choice
	if err != nil {
		return nil, err
	}
	info, err := opened.Stat()
	return &file{path: path, info: info}, errors.Join(err, opened.Close())
}

// lostError means that writes would be lost.
type lostError string

func (e lostError) Error() string { return string(e) }

// checkSame returns a lostError unless the file is still at its path.
func (f *file) checkSame() error {
	now, err := os.Stat(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return lostError(fmt.Sprintf("the database %s was removed while it was open: put it back, or restart Latchkey to start with a new one", f.path))
	case err != nil:
		return lostError(fmt.Sprintf("the database file can't be examined: %v", err))
	case !os.SameFile(f.info, now):
		return lostError(fmt.Sprintf("the database %s was replaced while it was open: restart Latchkey to use the new one, or put the old one back", f.path))
	}
	return nil
}

// check returns a lostError unless the file and its write-ahead log are still at their paths. It takes some
// microseconds.
func (f *file) check() error {
	err := f.checkSame()
	if err == nil {
		if _, missing := os.Stat(f.path + "-wal"); missing != nil {
			err = lostError(fmt.Sprintf("the database's log %s-wal was removed while it was open: restart Latchkey with SIGTERM, which saves its contents", f.path))
		}
	}
	if err == nil {
		f.lost.Store(nil)
		return nil
	}
	f.lost.Store(&err)
	return err
}

// lastCheck returns the error of the last check, for reads that are too frequent to check each time. Without
// it, a session that has ended in a replaced file would stay active in the open one.
func (f *file) lastCheck() error {
	if err := f.lost.Load(); err != nil {
		return *err
	}
	return nil
}

// connector refuses connections to a file that has replaced the open one.
type connector struct {
	driver.Connector
	file *file
}

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, errors.Join(err, c.file.checkSame()) // possibly the cause
	}
	if err := c.file.checkSame(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}
