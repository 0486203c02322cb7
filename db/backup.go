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
// error if the file exists. The copy gets its name when it is complete, synced to disk and verified, at the end
// by check.
//
// VACUUM INTO is one long read: in WAL mode it blocks neither readers nor writers. SQLite's online backup is
// faster but also copies deleted data, and in steps, which it needs in order not to block writers, it starts
// over after each write of another process and never finishes on a busy server.
func Backup(ctx context.Context, path, file string, check func(*Reader) error) error {
	return writeNew(file, func(partial string) error {
		source, err := openSQLiteFile(path)
		if err != nil {
			return err
		}
		_, err = source.ExecContext(ctx, "VACUUM INTO ?", partial)
		if err := errors.Join(err, source.Close()); err != nil {
			return fmt.Errorf("make the backup of %s: %w", path, err)
		}
		if err := verifyCopy(ctx, partial, check); err != nil {
			return fmt.Errorf("the backup failed verification and was removed: %w", err)
		}
		return nil
	})
}

// Create makes a new database and has fill write its contents. A SQLite file must not exist yet, and gets its
// name when fill has returned nil: until then nobody can start on half of it. Of a PostgreSQL database whose
// fill fails, empty tables may be left. Only ctx limits how long a statement takes.
func Create(ctx context.Context, url string, fill func(*DB) error) error {
	path, ok := SQLitePath(url)
	if !ok {
		d, err := openPostgres(ctx, url, nil)
		if err != nil {
			return err
		}
		return errors.Join(fill(d), d.Close())
	}
	if err := checkPath(path); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return err
	}
	return writeNew(path, func(partial string) error {
		d, err := openSQLite(ctx, partial, false)
		if err != nil {
			return err
		}
		return errors.Join(fill(d), d.Close()) // which leaves one file, without a write-ahead log
	})
}

// writeNew has write fill a new file with mode 0600. The file has a name that ends in ".partial" until write
// has returned nil and its contents are on disk; if it fails, nothing is left.
func writeNew(file string, write func(partial string) error) (err error) {
	failed := func(err error) error { return fmt.Errorf("write %s: %w", file, err) }
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fmt.Errorf("%s already exists: choose another name, since nothing is ever overwritten", file)
		}
		return err
	}
	dir, base := filepath.Split(file)
	if dir == "" {
		dir = "."
	}
	partial, err := os.CreateTemp(dir, base+".*.partial") // 0600
	if err != nil {
		return failed(err)
	}
	defer func() {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if removal := os.Remove(partial.Name() + suffix); !errors.Is(removal, fs.ErrNotExist) {
				err = errors.Join(err, removal)
			}
		}
	}()
	if err := partial.Close(); err != nil {
		return failed(err)
	}
	if err := write(partial.Name()); err != nil {
		return err
	}
	if err := syncToDisk(partial.Name()); err != nil {
		return failed(err)
	}
	if err := renameNew(partial.Name(), file); err != nil {
		return failed(err)
	}
	if runtime.GOOS == "windows" { // which can't sync directories
		return nil
	}
	if err := syncToDisk(dir); err != nil {
		return failed(err)
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
