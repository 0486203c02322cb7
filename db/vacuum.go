package db

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// incrementalVacuum has SQLite keep track of what it needs to shrink a file in steps.
const incrementalVacuum = "auto_vacuum(INCREMENTAL)"

// minFreePages are left in the file, since it grows again soon: a page has 4 KiB.
const minFreePages = 256

// Shrink returns up to so many pages of a SQLite file that are free to the file system, as long as more than an
// eighth of the file is free. It returns how many: 0 when there is no more to do, on PostgreSQL, and for files
// that were made before Latchkey shrank them, until Vacuum has been called. It is one short write.
func (d *DB) Shrink(ctx context.Context, pages int) (freed int, err error) {
	if _, ok := d.engine.(*sqliteEngine); !ok {
		return 0, nil
	}
	var file struct{ Mode, Free, Total int }
	err = d.Query(ctx).Raw(`SELECT auto_vacuum AS mode, freelist_count AS free, page_count AS total
		FROM pragma_auto_vacuum, pragma_freelist_count, pragma_page_count`).Scan(&file).Error
	if err != nil {
		return 0, fmt.Errorf("count the free pages: %w", err)
	}
	const incremental = 2 // https://sqlite.org/pragma.html#pragma_auto_vacuum
	if file.Mode != incremental || file.Free <= max(minFreePages, file.Total/8) {
		return 0, nil
	}
	err = d.Write(ctx, func(tx *Tx) error {
		freed = 0
		rows, err := tx.WithContext(ctx).Raw(fmt.Sprintf("PRAGMA incremental_vacuum(%d)", pages)).Rows()
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() { // each step frees a page
			freed++
		}
		return rows.Err()
	})
	if err != nil {
		return 0, fmt.Errorf("shrink the database: %w", err)
	}
	return freed, nil
}

// ErrInUse means that another process has the database open.
var ErrInUse = errors.New("the database is in use")

// Vacuum rewrites a SQLite file without what is free in it, and has Shrink work on it from now on. It returns
// its size before and after in bytes. It takes as long as reading and writing the whole file, during which
// nobody else can use it: it returns ErrInUse if another process has it open for more than five seconds.
func Vacuum(ctx context.Context, path string) (before, after int64, err error) {
	failed := func(err error) (int64, int64, error) {
		if isLocked(err) {
			err = ErrInUse
		}
		return 0, 0, fmt.Errorf("shrink the database %s: %w", path, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return failed(err)
	}
	// With this locking mode, the first use of the file fails while another process has it open.
	conns, err := openSQLiteFile(path, "locking_mode(EXCLUSIVE)", incrementalVacuum)
	if err != nil {
		return failed(err)
	}
	for _, statement := range []string{"BEGIN EXCLUSIVE", "COMMIT", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"} {
		if _, err = conns.ExecContext(ctx, statement); err != nil {
			break
		}
	}
	if err := errors.Join(err, conns.Close()); err != nil {
		return failed(err)
	}
	shrunk, err := os.Stat(path)
	if err != nil {
		return failed(err)
	}
	return info.Size(), shrunk.Size(), nil
}
