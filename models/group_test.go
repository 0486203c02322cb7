package models_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/stretchr/testify/require"

	"latchkey/models"
)

// groups returns what the account itself and a session of it say; they must agree.
func (w *world) groups(session models.Session) []string {
	w.t.Helper()
	account, err := w.Identities.ByEmail(w.t.Context(), session.Identity.Email)
	require.NoError(w.t, err)
	found := w.stored(session)
	require.Equal(w.t, account.Groups, found.Identity.Groups)
	return account.Groups
}

func TestGroupsComeWithTheSession(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.person("ada@example.com"), w.person("bob@example.com")
	session, other := w.start(ada), w.start(bob)
	require.Empty(t, w.groups(session))

	for _, group := range []string{"staff", "editors", "staff", "lab-2"} {
		require.NoError(t, w.Identities.AddToGroup(t.Context(), ada.ID, group))
	}
	require.Equal(t, []string{"editors", "lab-2", "staff"}, w.groups(session), "sorted, each once")
	require.Empty(t, w.groups(other))

	require.NoError(t, w.Identities.RemoveFromGroup(t.Context(), ada.ID, "editors"))
	require.Equal(t, []string{"lab-2", "staff"}, w.groups(session))
	require.ErrorIs(t, w.Identities.RemoveFromGroup(t.Context(), ada.ID, "editors"), models.ErrNotFound)
	require.ErrorIs(t, w.Identities.RemoveFromGroup(t.Context(), ada.ID, "staf"), models.ErrNotFound)
	require.Equal(t, []string{"lab-2", "staff"}, w.groups(session))

	require.NoError(t, w.Identities.RemoveFromGroup(t.Context(), ada.ID, "staff"))
	require.NoError(t, w.Identities.RemoveFromGroup(t.Context(), ada.ID, "lab-2"))
	require.Empty(t, w.groups(session), "the last one too")
	require.ErrorIs(t, w.Identities.RemoveFromGroup(t.Context(), ada.ID, ""), models.ErrNotFound)
}

func TestGroupsOfNobody(t *testing.T) {
	w := newWorld(t)
	nobody := uuid.Must(uuid.NewV4())
	require.ErrorIs(t, w.Identities.AddToGroup(t.Context(), nobody, "staff"), models.ErrNotFound)
	require.ErrorIs(t, w.Identities.RemoveFromGroup(t.Context(), nobody, "staff"), models.ErrNotFound)
}

func TestNoGroupIsLostWhereManyAreAddedAtOnce(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	session := w.start(ada)
	for _, err := range together(16, func(i int) error {
		return w.Identities.AddToGroup(t.Context(), ada.ID, fmt.Sprintf("group-%02d", i))
	}) {
		require.NoError(t, err)
	}
	require.Len(t, w.groups(session), 16)
}

func TestAChangeOfGroupsIsAChangeOfTheAccount(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	w.now = w.now.Add(time.Hour)
	require.NoError(t, w.Identities.AddToGroup(t.Context(), ada.ID, "staff"))
	changed, err := w.Identities.ByEmail(t.Context(), "ada@example.com")
	require.NoError(t, err)
	require.Equal(t, w.now, changed.UpdatedAt)
}

func TestGroupNames(t *testing.T) {
	for _, name := range []string{"a", "staff", "2", "lab-2", "a.b_c", strings.Repeat("a", 64)} {
		require.NoError(t, models.CheckGroup(name), name)
	}
	for _, name := range []string{"", "Staff", " a", "a b", "a,b", "-a", ".a", "_a", "é", "a\n", "a=b", "*", "a/b", strings.Repeat("a", 65)} {
		require.ErrorContains(t, models.CheckGroup(name), "can't be the name of a group", name)
	}
}
