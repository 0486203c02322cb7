package db_test

import (
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
)

// The text of a statement with a list depends on the list's length: kept for ever, there would be a
// statement for each length and connection.
func TestPreparedStatementsAreBounded(t *testing.T) {
	database := open(t, filepath.Join(t.TempDir(), "latchkey.db"))
	prepared, ok := database.Query(t.Context()).ConnPool.(*gorm.PreparedStmtDB)
	require.True(t, ok)
	const lengths = 500
	names := make([]string, lengths)
	each := func() {
		for n := 1; n <= lengths; n++ {
			var found int64
			if err := database.Query(t.Context()).Table("secrets").Where("name IN ?", names[:n]).Count(&found).Error; err != nil {
				t.Error(err)
			}
		}
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(each)
	}
	all.Wait()
	require.LessOrEqual(t, len(prepared.Stmts.Keys()), lengths/2)
}
