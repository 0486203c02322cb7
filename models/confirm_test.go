package models_test

import (
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/stretchr/testify/require"

	"latchkey/models"
)

func TestConfirmedSessionHasANewTokenAlone(t *testing.T) {
	w := newWorld(t)
	before := w.start(w.person("ada@example.com"))
	w.now = w.now.Add(30 * time.Minute)

	now, err := w.Sessions.Confirm(t.Context(), before, w.proof(*before.Identity))

	require.NoError(t, err)
	require.Len(t, now.Token, 26)
	require.NotEqual(t, before.Token, now.Token)
	_, err = w.Sessions.ByToken(t.Context(), before.Token)
	require.ErrorIs(t, err, models.ErrNotFound)
	stored := w.stored(now)
	require.Equal(t, before.ID, stored.ID)
	require.True(t, stored.ConfirmedAt.Equal(w.now))
	require.True(t, stored.AuthenticatedAt.Equal(before.AuthenticatedAt), "it began when it began")
	require.True(t, stored.ExpiresAt.Equal(before.ExpiresAt) && stored.LatestExpiresAt.Equal(before.LatestExpiresAt), "and lasts no longer")
}

func TestConfirmRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *world, v models.Session) error
		want   error
	}{
		"ended": {func(w *world, v models.Session) error {
			return w.Sessions.End(w.t.Context(), v.ID, models.EndedByLogout)
		}, models.ErrNotFound},
		"ended with others": {func(w *world, v models.Session) error {
			_, err := w.Sessions.EndAll(w.t.Context(), v.IdentityID)
			return err
		}, models.ErrNotFound},
		"expired":  {func(w *world, _ models.Session) error { w.now = w.now.Add(time.Hour); return nil }, models.ErrNotFound},
		"disabled": {func(w *world, v models.Session) error { return w.Identities.Disable(w.t.Context(), v.IdentityID) }, models.ErrChanged},
		"deleted":  {func(w *world, v models.Session) error { return w.Identities.Delete(w.t.Context(), v.IdentityID) }, models.ErrChanged},
		"another password": {func(w *world, v models.Session) error {
			w.setPassword(*v.Identity, "another", false)
			return nil
		}, models.ErrChanged},
		"no password": {func(w *world, v models.Session) error {
			return w.Credentials.Remove(w.t.Context(), v.IdentityID, w.password(*v.Identity).ID)
		}, models.ErrChanged},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			session := w.start(w.person("ada@example.com"))
			proof := w.proof(*session.Identity)
			require.NoError(t, c.change(w, session))

			_, err := w.Sessions.Confirm(t.Context(), session, proof)

			require.ErrorIs(t, err, c.want)
		})
	}
}

func TestConfirmedByManyAtOnceHasOneToken(t *testing.T) {
	w := newWorld(t)
	session := w.start(w.person("ada@example.com"))
	proof := w.proof(*session.Identity)
	sessions := make([]models.Session, 6)
	for _, err := range together(len(sessions), func(i int) (err error) {
		sessions[i], err = w.Sessions.Confirm(t.Context(), session, proof)
		return err
	}) {
		require.NoError(t, err)
	}
	good := 0
	for _, confirmed := range sessions {
		if _, err := w.Sessions.ByToken(t.Context(), confirmed.Token); err == nil {
			good++
		}
	}
	require.Equal(t, 1, good)
}

func TestByID(t *testing.T) {
	w := newWorld(t)
	session := w.start(w.person("ada@example.com"))
	found, err := w.Sessions.ByID(t.Context(), session.ID)
	require.NoError(t, err)
	require.Equal(t, "ada@example.com", found.Identity.Email)
	require.Empty(t, found.Token)
	require.Equal(t, session.TokenHash, found.TokenHash)
	require.True(t, found.Active(w.now))
	require.NoError(t, w.Sessions.End(t.Context(), session.ID, models.EndedByLogout))
	found, err = w.Sessions.ByID(t.Context(), session.ID)
	require.NoError(t, err, "ended or not")
	require.False(t, found.Active(w.now))
	for _, id := range []uuid.UUID{uuid.Nil, uuid.Must(uuid.NewV4())} {
		_, err = w.Sessions.ByID(t.Context(), id)
		require.ErrorIs(t, err, models.ErrNotFound)
	}
}
