package models_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/models"
)

const purpose models.Purpose = "test"

func (w *world) issue(payload string, lifetime time.Duration) (token string) {
	w.t.Helper()
	token, err := w.SingleUse.Issue(w.t.Context(), purpose, []byte(payload), lifetime)
	require.NoError(w.t, err)
	return token
}

func TestSingleUseValueIsFoundUntilItIsUsed(t *testing.T) {
	w := newWorld(t)
	token, other := w.issue("for ada", time.Minute), w.issue("for bob", time.Minute)
	for range 2 {
		payload, err := w.SingleUse.Find(t.Context(), purpose, token)
		require.NoError(t, err)
		require.Equal(t, "for ada", string(payload))
	}

	payload, err := w.SingleUse.Use(t.Context(), purpose, token)

	require.NoError(t, err)
	require.Equal(t, "for ada", string(payload))
	_, err = w.SingleUse.Find(t.Context(), purpose, token)
	require.ErrorIs(t, err, models.ErrNotFound)
	_, err = w.SingleUse.Use(t.Context(), purpose, token)
	require.ErrorIs(t, err, models.ErrNotFound)
	_, err = w.SingleUse.Use(t.Context(), purpose, other)
	require.NoError(t, err)
}

func TestSingleUseTokenIsNotStored(t *testing.T) {
	w := newWorld(t)
	token := w.issue("", time.Minute)
	require.Len(t, token, 26)
	var rows []models.SingleUseValue
	require.NoError(t, w.db.Find(&rows).Error)
	require.Len(t, rows, 1)
	require.Len(t, rows[0].Hash, 32)
	require.NotContains(t, string(rows[0].Hash)+string(rows[0].Payload), token)
}

func TestForeignSingleUseTokens(t *testing.T) {
	w := newWorld(t)
	token := w.issue("for ada", time.Minute)
	for _, foreign := range []string{"", "x", strings.Repeat("A", 26), strings.ToLower(token), token[:25], token + "A", strings.Repeat("\x00", 26)} {
		_, err := w.SingleUse.Find(t.Context(), purpose, foreign)
		require.ErrorIs(t, err, models.ErrNotFound, "%q", foreign)
		_, err = w.SingleUse.Use(t.Context(), purpose, foreign)
		require.ErrorIs(t, err, models.ErrNotFound, "%q", foreign)
	}
	_, err := w.SingleUse.Find(t.Context(), "another", token)
	require.ErrorIs(t, err, models.ErrNotFound)
	_, err = w.SingleUse.Use(t.Context(), "another", token)
	require.ErrorIs(t, err, models.ErrNotFound)
	_, err = w.SingleUse.Use(t.Context(), purpose, token)
	require.NoError(t, err, "trying has not used it")
}

func TestSingleUseValueExpires(t *testing.T) {
	w := newWorld(t)
	token := w.issue("", time.Minute)
	begin := w.now
	usable := func() bool {
		_, err := w.SingleUse.Find(t.Context(), purpose, token)
		if err != nil {
			require.ErrorIs(t, err, models.ErrNotFound)
			_, err = w.SingleUse.Use(t.Context(), purpose, token)
			require.ErrorIs(t, err, models.ErrNotFound)
			return false
		}
		return true
	}
	w.now = begin.Add(time.Minute - time.Microsecond)
	require.True(t, usable())
	w.now = begin.Add(time.Minute)
	require.False(t, usable())
	w.now = begin.Add(-time.Minute)
	require.True(t, usable(), "clocks may differ")
	w.now = begin.AddDate(-1, 0, 0)
	require.False(t, usable(), "a clock that is set back doesn't make it last longer")
}

func TestSingleUseValueUsedByManyAtOnceIsUsedOnce(t *testing.T) {
	w := newWorld(t)
	token, used := w.issue("", time.Minute), 0
	for _, err := range together(8, func(int) error {
		_, err := w.SingleUse.Use(t.Context(), purpose, token)
		return err
	}) {
		if err == nil {
			used++
			continue
		}
		require.ErrorIs(t, err, models.ErrNotFound)
	}
	require.Equal(t, 1, used)
}

func TestSingleUseValuesArePruned(t *testing.T) {
	w := newWorld(t)
	_, err := w.Identities.SetupToken(t.Context()) // which never expires
	require.NoError(t, err)
	for range 3 {
		w.issue("", time.Minute)
	}
	w.now = w.now.Add(time.Minute)
	good := w.issue("", time.Minute)
	for _, want := range []int{2, 1, 0} {
		n, err := w.SingleUse.Prune(t.Context(), 2)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	_, err = w.SingleUse.Use(t.Context(), purpose, good)
	require.NoError(t, err)
	require.Equal(t, 1, w.count("single_use_values"))
}

func TestSetupTokenIsTheSameForAll(t *testing.T) {
	w := newWorld(t)
	tokens := make([]string, 8)
	for _, err := range together(len(tokens), func(i int) (err error) {
		instance := models.New(w.database, func() time.Time { return w.now })
		tokens[i], err = instance.Identities.SetupToken(t.Context())
		return err
	}) {
		require.NoError(t, err)
	}
	require.Len(t, tokens[0], 26)
	for _, token := range tokens {
		require.Equal(t, tokens[0], token)
	}
	w.now = w.now.AddDate(1, 0, 0)
	again, err := w.Identities.SetupToken(t.Context())
	require.NoError(t, err)
	require.Equal(t, tokens[0], again)
}

func TestOneFirstAccount(t *testing.T) {
	w := newWorld(t)
	exist, err := w.Identities.Exist(t.Context())
	require.NoError(t, err)
	require.False(t, exist)
	first := func(email, token string) error {
		in := account(email)
		in.SetupToken = token
		_, _, err := w.Identities.Create(t.Context(), in)
		return err
	}
	require.ErrorIs(t, first("eve@example.com", strings.Repeat("A", 26)), models.ErrNotFirst, "nobody has the right to")
	token, err := w.Identities.SetupToken(t.Context())
	require.NoError(t, err)
	for _, wrong := range []string{"A", strings.Repeat("A", 26), strings.ToLower(token), token + "A"} {
		require.ErrorIs(t, first("eve@example.com", wrong), models.ErrNotFirst)
	}
	receipt := w.issue("", time.Minute)
	require.ErrorIs(t, first("eve@example.com", receipt), models.ErrNotFirst, "for another purpose")
	created := 0
	for _, err := range together(8, func(i int) error {
		return first(string(rune('a'+i))+"@example.com", token)
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
	exist, err = w.Identities.Exist(t.Context())
	require.NoError(t, err)
	require.True(t, exist)
	token, err = w.Identities.SetupToken(t.Context())
	require.NoError(t, err)
	require.Empty(t, token)
}

func TestAnyAccountEndsTheSetupToken(t *testing.T) {
	w := newWorld(t)
	token, err := w.Identities.SetupToken(t.Context())
	require.NoError(t, err)
	ada := w.person("ada@example.com")
	in := account("eve@example.com")
	in.SetupToken = token
	_, _, err = w.Identities.Create(t.Context(), in)
	require.ErrorIs(t, err, models.ErrNotFirst)

	require.NoError(t, w.Identities.Delete(t.Context(), ada.ID))
	_, _, err = w.Identities.Create(t.Context(), in)
	require.ErrorIs(t, err, models.ErrNotFirst, "it stays used")
	another, err := w.Identities.SetupToken(t.Context())
	require.NoError(t, err)
	require.NotEqual(t, token, another)
	in.SetupToken = another
	_, _, err = w.Identities.Create(t.Context(), in)
	require.NoError(t, err)
}

func TestFailedFirstAccountLeavesTheSetupToken(t *testing.T) {
	w := newWorld(t)
	token, err := w.Identities.SetupToken(t.Context())
	require.NoError(t, err)
	in := account("ada@example.com")
	in.SetupToken = token
	accept := w.refuse("INSERT", "credentials")
	_, _, err = w.Identities.Create(t.Context(), in)
	require.ErrorContains(t, err, "refused here")
	accept()
	_, _, err = w.Identities.Create(t.Context(), in)
	require.NoError(t, err)
}
