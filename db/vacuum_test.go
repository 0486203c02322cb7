package db_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/db"
)

// fillAndEmpty has a file of some megabytes with nothing in most of it.
func fillAndEmpty(t *testing.T, d *db.DB) {
	t.Helper()
	require.NoError(t, d.Query(t.Context()).Exec(`WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 2000)
		INSERT INTO secrets (name, value, created_at) SELECT 'filler' || n, randomblob(4000), 0 FROM i`).Error)
	require.NoError(t, d.Query(t.Context()).Exec("DELETE FROM secrets WHERE name LIKE 'filler%'").Error)
}

func sizeAfterCheckpoint(t *testing.T, d *db.DB, path string) int64 {
	t.Helper()
	require.NoError(t, d.Query(t.Context()).Exec("PRAGMA wal_checkpoint(TRUNCATE)").Error)
	info, err := os.Stat(path)
	require.NoError(t, err)
	return info.Size()
}

func TestFileShrinksInSteps(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "latchkey.db")
	d := open(t, path)
	fillAndEmpty(t, d)
	before := sizeAfterCheckpoint(t, d, path)
	require.Greater(t, before, int64(8_000_000))

	steps := 0
	for {
		n, err := d.Shrink(t.Context(), 100)
		require.NoError(t, err)
		require.LessOrEqual(t, n, 100)
		if n == 0 {
			break
		}
		steps++
	}

	require.Greater(t, steps, 10)
	require.Less(t, sizeAfterCheckpoint(t, d, path), int64(2_000_000))
	require.NoError(t, db.Verify(t.Context(), &d.Reader))
}

// A file of an earlier version has to be rewritten once, by which nobody may be held up.
func TestVacuumOfAnOlderFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "latchkey.db")
	old, err := db.Open(t.Context(), "sqlite:"+path)
	require.NoError(t, err)
	require.NoError(t, old.Close())
	require.NoError(t, db.Rewrite(t.Context(), path, "auto_vacuum(NONE)"))
	d, err := db.Open(t.Context(), "sqlite:"+path)
	require.NoError(t, err)
	fillAndEmpty(t, d)
	n, err := d.Shrink(t.Context(), 100)
	require.NoError(t, err)
	require.Zero(t, n, "it can't")

	_, _, err = db.Vacuum(t.Context(), path)
	require.ErrorIs(t, err, db.ErrInUse)
	require.NoError(t, d.Close())
	before, after, err := db.Vacuum(t.Context(), path)
	require.NoError(t, err)
	require.Greater(t, before, int64(8_000_000))
	require.Less(t, after, int64(500_000))

	d = open(t, path)
	fillAndEmpty(t, d)
	n, err = d.Shrink(t.Context(), 100)
	require.NoError(t, err)
	require.Equal(t, 100, n)
	require.NoError(t, db.Verify(t.Context(), &d.Reader))
}
