package models_test

import (
	"strconv"
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
			_, err = w.Credentials.ReplaceAndConfirm(t.Context(), session, proof, "new", true)
			require.ErrorIs(t, err, c.want)
		})
	}
}

func TestOwnPasswordChangeConfirmsTheSession(t *testing.T) {
	for _, endOthers := range []bool{false, true} {
		t.Run(strconv.FormatBool(endOthers), func(t *testing.T) {
			w := newWorld(t)
			ada := w.person("ada@example.com")
			here, other := w.start(ada), w.start(ada)
			w.now = w.now.Add(time.Minute)

			confirmed, err := w.Credentials.ReplaceAndConfirm(t.Context(), here, w.proof(ada), "new", endOthers)

			require.NoError(t, err)
			require.True(t, w.active(confirmed))
			require.True(t, w.stored(confirmed).ConfirmedAt.Equal(w.now))
			require.Equal(t, w.stored(confirmed).Number, confirmed.Number)
			_, err = w.Sessions.ByToken(t.Context(), here.Token)
			require.ErrorIs(t, err, models.ErrNotFound)
			require.Equal(t, !endOthers, w.active(other))
			require.Equal(t, "new", w.password(ada).Secret)
			require.Equal(t, 2, w.password(ada).Version)
		})
	}
}

// Otherwise the browser would be signed out, by a token that it never got, or the new password good though the
// page says that it isn't.
func TestOwnPasswordChangeHappensWholeOrNotAtAll(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	ended, other := w.start(ada), w.start(ada)
	require.NoError(t, w.Sessions.End(t.Context(), ended.ID, models.EndedByLogout))
	before := w.password(ada)

	_, err := w.Credentials.ReplaceAndConfirm(t.Context(), ended, w.proof(ada), "new", true)

	require.ErrorIs(t, err, models.ErrNotFound)
	require.Equal(t, before, w.password(ada))
	require.True(t, w.active(other))

	stale := w.proof(ada)
	w.setPassword(ada, "newer", false)
	_, err = w.Credentials.ReplaceAndConfirm(t.Context(), other, stale, "new", true)
	require.ErrorIs(t, err, models.ErrChanged)
	require.True(t, w.active(other), "with the token that it has")
	require.Equal(t, "newer", w.password(ada).Secret)
}

// Each knows only the session as it was before both.
func TestConfirmationsAtOnceAreBothRecorded(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	key, err := w.Credentials.Add(t.Context(), ada.ID, models.NewCredential{Method: "passkey", Secret: "public key"})
	require.NoError(t, err)
	session := w.start(ada)
	_, err = w.Sessions.Confirm(t.Context(), session, models.Proof{Method: "passkey", AAL: models.AAL2, Credential: key.ID, Version: 1, At: w.now})
	require.NoError(t, err)

	confirmed, err := w.Sessions.Confirm(t.Context(), session, w.proof(ada))

	require.NoError(t, err)
	require.Len(t, proved(w.stored(confirmed)), 2)
	require.Equal(t, models.AAL2, w.stored(confirmed).AAL)
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
