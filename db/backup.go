package db

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// Backup writes a consistent copy of the SQLite database at path to a new file with mode 0600. It returns an
// error if the file exists. The copy has a name that ends in ".partial" until it is complete, synced to disk
// and verified, at the end by check.
//
// VACUUM INTO is one long read: in WAL mode it blocks neither readers nor writers. SQLite's online backup is
// faster but also copies deleted data, and in steps, which it needs in order not to block writers, it starts
// over after each write of another process and never finishes on a busy server.
func Backup(ctx context.Context, path, file string, check func(*Reader) error) (err error) {
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fmt.Errorf("%s already exists: choose another name, since backups are never overwritten", file)
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

	source, err := openSQLiteFile(path)
	if err != nil {
		return err
	}
	_, err = source.ExecContext(ctx, "VACUUM INTO ?", partial.Name())
	if err := errors.Join(err, source.Close()); err != nil {
		return fmt.Errorf("make the backup of %s: %w", path, err)
	}
	if err := syncToDisk(partial.Name()); err != nil {
		return fmt.Errorf("make the backup: %w", err)
	}
	if err := verifyCopy(ctx, partial.Name(), check); err != nil {
		return fmt.Errorf("the backup failed verification and was removed: %w", err)
	}
	if err := renameNew(partial.Name(), file); err != nil {
		return fmt.Errorf("make the backup: %w", err)
	}
	if runtime.GOOS == "windows" { // which can't sync directories
		return nil
	}
	if err := syncToDisk(dir); err != nil {
		return fmt.Errorf("make the backup: %w", err)
	}
	return nil
}

// verifyCopy runs Verify and check on a copy.
func verifyCopy(ctx context.Context, file string, check func(*Reader) error) error {
	copied, err := OpenReadOnly(ctx, "sqlite:"+file)
	if err != nil {
		return err
	}
	err = Verify(ctx, copied)
	if err == nil {
		err = check(copied)
	}
	return errors.Join(err, copied.Close())
}

// renameNew renames a file. It returns an error that is fs.ErrExist if the new name is in use.
func renameNew(from, to string) error {
	err := os.Link(from, to)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err // from is removed by the caller
	}
	// The file system may have no hard links, like that of most USB sticks.
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fs.ErrExist, err)
	}
	return os.Rename(from, to)
}

// syncToDisk flushes a file or directory to disk.
func syncToDisk(path string) error {
	mode := os.O_RDWR // which Windows requires
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		mode = os.O_RDONLY
	}
	file, err := os.OpenFile(path, mode, 0) // #nosec G304 -- where the operator wants it
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
