package models_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/stretchr/testify/require"

	"latchkey/models"
)

func (w *world) toEnd(tokens ...string) map[string]models.Session {
	w.t.Helper()
	found, err := w.Sessions.ToEnd(w.t.Context(), tokens)
	require.NoError(w.t, err)
	return found
}

func TestReplacedTokenIsOnlyGoodForEndingItsSession(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	first := w.start(ada)
	second, err := w.Sessions.Confirm(t.Context(), first, w.proof(ada))
	require.NoError(t, err)
	third, err := w.Sessions.Confirm(t.Context(), first, w.proof(ada)) // by who still has the first
	require.NoError(t, err)
	bobs := w.start(w.person("bob@example.com"))

	for _, old := range []string{first.Token, second.Token} {
		_, err := w.Sessions.ByToken(t.Context(), old)
		require.ErrorIs(t, err, models.ErrNotFound)
	}
	signsIn, err := w.Sessions.ByTokens(t.Context(), []string{first.Token, second.Token, third.Token, bobs.Token, "x"})
	require.NoError(t, err)
	require.Len(t, signsIn, 2)
	found := w.toEnd(first.Token, second.Token, third.Token, bobs.Token, strings.Repeat("A", 26), "", "x")

	require.Len(t, found, 4)
	for _, token := range []string{first.Token, second.Token, third.Token} {
		require.Equal(t, first.ID, found[token].ID)
		require.Equal(t, ada.ID, found[token].Identity.ID)
	}
	require.Empty(t, found[second.Token].Token)
	require.Equal(t, third.Token, found[third.Token].Token)
	require.Equal(t, bobs.ID, found[bobs.Token].ID)
}

func TestReplacedTokensAreRemovedWithTheirSession(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	session := w.start(ada)
	_, err := w.Sessions.Confirm(t.Context(), session, w.proof(ada))
	require.NoError(t, err)
	require.NoError(t, w.Sessions.End(t.Context(), session.ID, models.EndedByLogout))
	require.NotNil(t, w.toEnd(session.Token)[session.Token].EndedAt)

	n, err := w.Sessions.Prune(t.Context(), w.now.Add(time.Hour), 10)

	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Zero(t, w.count("replaced_tokens"))
}

// Whoever signs out with the token that the browser has had, while a confirmation replaces it, is signed out.
func TestSignOutBesideAConfirmation(t *testing.T) {
	for range 12 {
		w := newWorld(t)
		ada := w.person("ada@example.com")
		session := w.start(ada)

		for _, err := range together(2, func(i int) error {
			if i == 0 {
				_, err := w.Sessions.Confirm(t.Context(), session, w.proof(ada))
				if err != nil {
					require.ErrorIs(t, err, models.ErrNotFound, "it has ended")
				}
				return nil
			}
			found, err := w.Sessions.ToEnd(t.Context(), []string{session.Token})
			if err != nil {
				return err
			}
			require.Contains(t, found, session.Token, "at no instant is the token unknown")
			ended := found[session.Token]
			_, err = w.Sessions.SignOut(t.Context(), &ended, nil, false)
			return err
		}) {
			require.NoError(t, err)
		}

		found, err := w.Sessions.ByID(t.Context(), session.ID)
		require.NoError(t, err)
		require.False(t, found.Active(w.now))
	}
}

func TestSignOutOfAllThatAClientHad(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.person("ada@example.com"), w.person("bob@example.com")
	here, elsewhere, planted := w.start(ada), w.start(ada), w.start(bob)

	_, err := w.Sessions.SignOut(t.Context(), &here, []uuid.UUID{planted.ID}, true)

	require.NoError(t, err)
	require.False(t, w.active(here))
	require.False(t, w.active(planted))
	require.True(t, w.active(elsewhere))

	again, also := w.start(ada), w.start(bob)
	_, err = w.Sessions.EndEverywhere(t.Context(), &again, []uuid.UUID{also.ID}, false)
	require.NoError(t, err)
	for _, session := range []models.Session{again, also, elsewhere} {
		require.False(t, w.active(session))
	}
}
