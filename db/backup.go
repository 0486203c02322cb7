package db

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"gorm.io/gorm"
)

// Backup writes a copy of the SQLite database at path, as it is at one moment, into a new file that
// its owner alone can read. The file gets its name when it is whole, on the disk, and verified by
// check; until then it has another one, with ".partial" at its end.
//
// VACUUM INTO is one long read: in WAL mode readers and writers go on beside it. SQLite's online backup
// would copy more quickly, and with it what has been deleted; in steps, so that it holds nobody up, it
// begins anew with every write of another process, and never ends on a busy server.
func Backup(ctx context.Context, path, file string, check func(*gorm.DB) error) (err error) {
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fmt.Errorf("%s is there already: choose another name, since no backup is overwritten", file)
		}
		return err
	}
	dir, base := filepath.Split(file)
	if dir == "" {
		dir = "."
	}
	partial, err := os.CreateTemp(dir, base+".*.partial") // 0600
	if err != nil {
		return fmt.Errorf("make the backup: %w", err)
	}
	defer func() {
		if removal := os.Remove(partial.Name()); !errors.Is(removal, fs.ErrNotExist) {
			err = errors.Join(err, removal)
		}
	}()
	if err := partial.Close(); err != nil {
		return fmt.Errorf("make the backup: %w", err)
	}

	source, err := lookAtSQLite(path)
	if err != nil {
		return err
	}
	_, err = source.ExecContext(ctx, "VACUUM INTO ?", partial.Name())
	if err := errors.Join(err, source.Close()); err != nil {
		return fmt.Errorf("make the backup of %s: %w", path, err)
	}
	if err := sync(partial.Name()); err != nil {
		return fmt.Errorf("make the backup: %w", err)
	}
	if err := verified(ctx, partial.Name(), check); err != nil {
		return fmt.Errorf("the backup is of no use, and was removed: %w", err)
	}
	if err := nameAnew(partial.Name(), file); err != nil {
		return fmt.Errorf("make the backup: %w", err)
	}
	if runtime.GOOS == "windows" { // which can't
		return nil
	}
	if err := sync(dir); err != nil {
		return fmt.Errorf("make the backup: %w", err)
	}
	return nil
}

// verified checks a copy.
func verified(ctx context.Context, file string, check func(*gorm.DB) error) error {
	copied, err := Look(ctx, "sqlite:"+file)
	if err != nil {
		return err
	}
	err = Verify(ctx, copied)
	if err == nil {
		err = check(copied)
	}
	return errors.Join(err, Close(copied))
}

// nameAnew renames a file, but never onto another one.
func nameAnew(from, to string) error {
	err := os.Link(from, to)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err // from is removed by the caller
	}
	// A file system without hard links, such as that of most USB sticks.
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fs.ErrExist, err)
	}
	return os.Rename(from, to)
}

// sync returns when a file or directory is on the disk.
func sync(path string) error {
	mode := os.O_RDWR // which Windows asks for
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		mode = os.O_RDONLY
	}
	file, err := os.OpenFile(path, mode, 0) // #nosec G304 -- where the operator wants it
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
