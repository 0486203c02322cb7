package models_test

import (
	"strings"
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
		_, _, err := w.Identities.Create(t.Context(), account(spellings[i]))
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
	left, err := w.Credentials.Of(t.Context(), ada.ID, models.MethodPassword)
	require.NoError(t, err)
	require.Empty(t, left)
	for _, table := range []string{"identities", "addresses", "credentials", "sessions", "sweeps"} {
		require.Zero(t, w.count(table), table)
	}
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

func TestAddressesAreComparedInOneForm(t *testing.T) {
	w := newWorld(t)
	const composed, decomposed = "jos\u00e9@example.com", "jose\u0301@example.com"
	require.Equal(t, composed, models.NormalizeEmail(" JOSE\u0301@Example.com"))
	jose := w.person(decomposed)
	require.Equal(t, composed, jose.Email)

	_, _, err := w.Identities.Create(t.Context(), account(composed))
	require.ErrorIs(t, err, models.ErrTaken)
	for _, spelling := range []string{composed, decomposed} {
		found, err := w.Identities.ByLogin(t.Context(), spelling)
		require.NoError(t, err)
		require.Equal(t, jose.ID, found.ID)
	}
}

func TestAddressesOfAPerson(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.person("ada@example.com"), w.person("bob@example.com")
	second := models.Address{ID: uuid.Must(uuid.NewV4()), IdentityID: ada.ID, Value: "a.lovelace@example.com", VerifiedAt: &w.now, CreatedAt: w.now}
	require.NoError(t, w.db.Create(&second).Error)

	found, err := w.Identities.Addresses(t.Context(), ada.ID)

	require.NoError(t, err)
	require.Len(t, found, 2)
	require.Equal(t, "ada@example.com", found[0].Value, "the primary one first")
	require.True(t, found[0].Primary)
	require.Nil(t, found[0].VerifiedAt)
	require.Equal(t, "a.lovelace@example.com", found[1].Value)
	require.True(t, found[1].VerifiedAt.Equal(w.now))
	by, err := w.Identities.ByEmail(t.Context(), "A.Lovelace@example.com")
	require.NoError(t, err)
	require.Equal(t, ada.ID, by.ID)
	_, _, err = w.Identities.Create(t.Context(), account("a.lovelace@example.com"))
	require.ErrorIs(t, err, models.ErrTaken, "be it not the primary one")
	require.NoError(t, w.Identities.Delete(t.Context(), ada.ID))
	w.person("a.lovelace@example.com")
	others, err := w.Identities.Addresses(t.Context(), bob.ID)
	require.NoError(t, err)
	require.Len(t, others, 1)
}

func TestUsernames(t *testing.T) {
	w := newWorld(t)
	in := account("ada@example.com")
	in.Username = "ada"
	ada, _, err := w.Identities.Create(t.Context(), in)
	require.NoError(t, err)
	bob, eve := w.person("bob@example.com"), w.person("eve@example.com") // who have none
	byLogin := func(login string) uuid.UUID {
		found, err := w.Identities.ByLogin(t.Context(), login)
		if err != nil {
			require.ErrorIs(t, err, models.ErrNotFound)
		}
		return found.ID
	}
	for _, login := range []string{"ada", " ADA ", "ada@example.com"} {
		require.Equal(t, ada.ID, byLogin(login), login)
	}
	for _, login := range []string{"", " ", "bob", "ad", "ada\x00", "ada@", "@"} {
		require.Equal(t, uuid.Nil, byLogin(login), "%q", login)
	}

	in = account("other@example.com")
	in.Username = "ada"
	_, _, err = w.Identities.Create(t.Context(), in)
	require.ErrorIs(t, err, models.ErrUsernameTaken)
	require.Equal(t, uuid.Nil, byLogin("other@example.com"), "nothing is left of it")
	in.Email = "ada@example.com"
	_, _, err = w.Identities.Create(t.Context(), in)
	require.ErrorIs(t, err, models.ErrTaken, "the address is the first that is said")

	require.ErrorIs(t, w.Identities.SetUsername(t.Context(), bob.ID, "ada"), models.ErrUsernameTaken)
	require.NoError(t, w.Identities.SetUsername(t.Context(), ada.ID, "ada"), "it is hers")
	require.NoError(t, w.Identities.SetUsername(t.Context(), ada.ID, ""))
	require.Equal(t, uuid.Nil, byLogin("ada"))
	require.NoError(t, w.Identities.SetUsername(t.Context(), bob.ID, "ada"))
	require.Equal(t, bob.ID, byLogin("ada"))
	require.NoError(t, w.Identities.SetUsername(t.Context(), eve.ID, ""), "any number of people have none")
	session := w.start(bob)
	require.Equal(t, "ada", w.stored(session).Identity.Username)
	require.NoError(t, w.Identities.Delete(t.Context(), bob.ID))
	require.NoError(t, w.Identities.SetUsername(t.Context(), eve.ID, "ada"), "it is free again")
	require.ErrorIs(t, w.Identities.SetUsername(t.Context(), bob.ID, "bob"), models.ErrNotFound)
}

func TestOfManyWhoWantAUsernameOneGetsIt(t *testing.T) {
	w := newWorld(t)
	people := make([]models.Identity, 6)
	for i := range people {
		people[i] = w.person(string(rune('a'+i)) + "@example.com")
	}
	got := 0
	for _, err := range together(len(people), func(i int) error { return w.Identities.SetUsername(t.Context(), people[i].ID, "ada") }) {
		if err == nil {
			got++
			continue
		}
		require.ErrorIs(t, err, models.ErrUsernameTaken)
	}
	require.Equal(t, 1, got)
}

func TestUsernameRules(t *testing.T) {
	for _, name := range []string{"ad", "ada", "a.b_c-d", "42", "--", strings.Repeat("a", 64)} {
		require.NoError(t, models.CheckUsername(name), name)
	}
	for _, name := range []string{"", "a", "Ada", "ad a", "ada@example.com", "ädä", "ada\n", "a/b", "ada\x00", strings.Repeat("a", 65)} {
		require.ErrorContains(t, models.CheckUsername(name), "2 to 64 lower-case letters", "%q", name)
	}
}

func TestDeletedAccountIsNotThere(t *testing.T) {
	w := newWorld(t)
	in := account("ada@example.com")
	in.Username = "ada"
	ada, _, err := w.Identities.Create(t.Context(), in)
	require.NoError(t, err)
	w.many(ada, 300)

	require.NoError(t, w.Identities.Delete(t.Context(), ada.ID))

	require.Equal(t, 1, w.count("identities"), "until all is swept")
	for _, login := range []string{"ada@example.com", "ada", "deleted " + ada.ID.String()} {
		_, err := w.Identities.ByLogin(t.Context(), login)
		require.ErrorIs(t, err, models.ErrNotFound, login)
		_, err = w.Identities.ByEmail(t.Context(), login)
		require.ErrorIs(t, err, models.ErrNotFound, login)
	}
	list, err := w.Identities.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, list)
	exist, err := w.Identities.Exist(t.Context())
	require.NoError(t, err)
	require.False(t, exist)
	for name, err := range map[string]error{
		"disable": w.Identities.Disable(t.Context(), ada.ID), "enable": w.Identities.Enable(t.Context(), ada.ID),
		"delete": w.Identities.Delete(t.Context(), ada.ID), "rename": w.Identities.Rename(t.Context(), ada.ID, "Ada"),
		"username": w.Identities.SetUsername(t.Context(), ada.ID, "ada"), "group": w.Identities.AddToGroup(t.Context(), ada.ID, "staff"),
	} {
		require.ErrorIs(t, err, models.ErrNotFound, name)
	}
	again, _, err := w.Identities.Create(t.Context(), in)
	require.NoError(t, err, "address and username are free")
	session := w.start(again)

	w.sweep()

	require.Equal(t, 1, w.count("identities"))
	require.Equal(t, 1, w.count("sessions"))
	require.Equal(t, 300, w.count("ends WHERE reason = 'deleted'"))
	require.True(t, w.active(session))
}
