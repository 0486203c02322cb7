package models_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/stretchr/testify/require"

	"latchkey/models"
)

func TestEmailNormalisation(t *testing.T) {
	for given, want := range map[string]string{
		"ada@example.com": "ada@example.com", " Ada@Example.COM\t": "ada@example.com", "ÄDA@Example.com": "äda@example.com",
		"ada+tag@example.com": "ada+tag@example.com", "": "",
	} {
		require.Equal(t, want, models.NormalizeEmail(given))
	}
	w := newWorld(t)
	ada := w.person("  Ada@Example.com ")
	require.Equal(t, "ada@example.com", ada.Email)

	found, err := w.Identities.ByEmail(t.Context(), "ADA@example.com")

	require.NoError(t, err)
	require.Equal(t, ada.ID, found.ID)
	_, err = w.Identities.ByEmail(t.Context(), "bob@example.com")
	require.ErrorIs(t, err, models.ErrNotFound)
}

func TestOneAccountAnAddress(t *testing.T) {
	w := newWorld(t)
	spellings := []string{"ada@example.com", "ADA@example.com", " ada@example.com", "Ada@Example.Com", "ada@EXAMPLE.com", "adA@example.com"}
	created := 0
	for _, err := range together(len(spellings), func(i int) error {
		_, err := w.Identities.Create(t.Context(), spellings[i], "", hash, false)
		return err
	}) {
		if err == nil {
			created++
			continue
		}
		require.ErrorIs(t, err, models.ErrTaken)
	}
	require.Equal(t, 1, created)
}

func TestOneFirstAccount(t *testing.T) {
	w := newWorld(t)
	exist, err := w.Identities.Exist(t.Context())
	require.NoError(t, err)
	require.False(t, exist)
	_, err = w.Identities.Create(t.Context(), "eve@example.com", "", hash, true)
	require.ErrorIs(t, err, models.ErrNotFirst, "nobody has the right to")
	_, err = w.Secrets.Get(t.Context(), models.SecretSetup)
	require.NoError(t, err)
	created := 0
	for _, err := range together(8, func(i int) error {
		_, err := w.Identities.Create(t.Context(), fmt.Sprintf("person%d@example.com", i), "", hash, true)
		return err
	}) {
		if err == nil {
			created++
			continue
		}
		require.ErrorIs(t, err, models.ErrNotFirst)
	}
	require.Equal(t, 1, created)
	people, err := w.Identities.List(t.Context())
	require.NoError(t, err)
	require.Len(t, people, 1)
}

func TestDisableEndsAllAndEnableRevivesNone(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.person("ada@example.com"), w.person("bob@example.com")
	adas, bobs := w.start(ada), w.start(bob)
	w.now = w.now.Add(time.Minute)

	require.NoError(t, w.Identities.Disable(t.Context(), ada.ID))

	ended := w.stored(adas)
	require.Equal(t, models.EndedByDisabling, ended.EndReason)
	require.False(t, ended.Identity.Active)
	require.True(t, w.now.Equal(ended.Identity.StateChangedAt))
	require.NoError(t, w.Identities.Enable(t.Context(), ada.ID))
	require.False(t, w.active(adas))
	require.True(t, w.active(bobs))
}

func TestDeleteLeavesNothing(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	session := w.start(ada)

	require.NoError(t, w.Identities.Delete(t.Context(), ada.ID))

	_, err := w.Sessions.ByToken(t.Context(), session.Token)
	require.ErrorIs(t, err, models.ErrNotFound)
	_, err = w.Identities.PasswordHash(t.Context(), ada.ID)
	require.ErrorIs(t, err, models.ErrNotFound)
}

func TestNobodyCannotBeChanged(t *testing.T) {
	w := newWorld(t)
	nobody := uuid.Must(uuid.NewV4())
	for name, err := range map[string]error{
		"disable": w.Identities.Disable(t.Context(), nobody),
		"enable":  w.Identities.Enable(t.Context(), nobody),
		"delete":  w.Identities.Delete(t.Context(), nobody),
		"rename":  w.Identities.Rename(t.Context(), nobody, "Bob"),
	} {
		require.ErrorIs(t, err, models.ErrNotFound, name)
	}
}

func TestPasswordChange(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.person("ada@example.com"), w.person("bob@example.com")
	kept, other, bobs := w.start(ada), w.start(ada), w.start(bob)

	ended, err := w.Identities.SetPassword(t.Context(), ada.ID, models.PasswordChange{Hash: "new", Old: hash, EndSessions: true, Keep: kept.ID})

	require.NoError(t, err)
	require.Equal(t, 1, ended)
	require.True(t, w.active(kept))
	require.True(t, w.active(bobs))
	require.Equal(t, models.EndedByPasswordChange, w.stored(other).EndReason)
	stored, err := w.Identities.PasswordHash(t.Context(), ada.ID)
	require.NoError(t, err)
	require.Equal(t, "new", stored)

	_, err = w.Identities.SetPassword(t.Context(), ada.ID, models.PasswordChange{Hash: "newer", Old: hash, EndSessions: true})

	require.ErrorIs(t, err, models.ErrChanged)
	require.True(t, w.active(kept), "nothing was ended")
}

func TestOfTwoPasswordChangesOneWins(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	won := 0
	for _, err := range together(4, func(i int) error {
		_, err := w.Identities.SetPassword(t.Context(), ada.ID, models.PasswordChange{Hash: fmt.Sprint("new", i), Old: hash})
		return err
	}) {
		if err == nil {
			won++
			continue
		}
		require.ErrorIs(t, err, models.ErrChanged)
	}
	require.Equal(t, 1, won)
}

func TestRehashDoesNotUndoAPasswordChange(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	require.NoError(t, w.Identities.RehashPassword(t.Context(), ada.ID, hash, "stronger"))
	_, err := w.Identities.SetPassword(t.Context(), ada.ID, models.PasswordChange{Hash: "new", Old: "stronger"})
	require.NoError(t, err)

	require.ErrorIs(t, w.Identities.RehashPassword(t.Context(), ada.ID, "stronger", "strongest of the old"), models.ErrChanged)

	stored, err := w.Identities.PasswordHash(t.Context(), ada.ID)
	require.NoError(t, err)
	require.Equal(t, "new", stored)
}
