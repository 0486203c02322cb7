package models_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"latchkey/models"
)

// A statement that is kept for each length of a list takes memory on every connection, here and in a
// PostgreSQL server.
func TestListsOfAnyLengthTakeFewStatements(t *testing.T) {
	w := newWorldOn(t, "sqlite:"+filepath.Join(t.TempDir(), "latchkey.db"))
	prepared, ok := w.db.ConnPool.(*gorm.PreparedStmtDB)
	require.True(t, ok)
	ada := w.person("ada@example.com")
	require.NoError(t, w.Apps.Add(t.Context(), models.App{Name: "wiki", LogoutURL: "https://wiki.example.com/logout"}))
	const most = 40
	each := func(from int) {
		for n := from; n <= most; n++ {
			ids := make([]uuid.UUID, n)
			for i, session := range w.many(ada, n) {
				ids[i] = session.ID
			}
			found, err := w.Sessions.ByIDs(t.Context(), ids)
			require.NoError(t, err)
			require.Len(t, found, n)
			_, err = w.Sessions.EndAll(t.Context(), ada.ID)
			require.NoError(t, err)
			_, err = w.Sessions.Sweep(t.Context(), models.SweepBatch)
			require.NoError(t, err)
			claimed, err := w.Deliveries.Claim(t.Context(), "wiki", most, time.Hour)
			require.NoError(t, err)
			require.Len(t, claimed, n)
		}
	}
	each(most)
	before := len(prepared.Stmts.Keys())
	each(1)
	const filling = most // w.many inserts all at once
	require.Less(t, len(prepared.Stmts.Keys())-before, filling+30)
}
