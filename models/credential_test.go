package models_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/stretchr/testify/require"

	"latchkey/models"
)

// replace changes a password for somebody who has proved that they know the one of this version.
func (w *world) replace(c models.Credential, secret string, end bool, keep uuid.UUID) (int, error) {
	return w.Credentials.Replace(w.t.Context(), models.CredentialChange{Credential: c.ID, Version: c.Version, Secret: secret, EndSessions: end, Keep: keep})
}

func TestPasswordChange(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.person("ada@example.com"), w.person("bob@example.com")
	kept, other, bobs := w.start(ada), w.start(ada), w.start(bob)
	before := w.password(ada)
	w.now = w.now.Add(time.Minute)

	ended, err := w.replace(before, "new", true, kept.ID)

	require.NoError(t, err)
	require.Equal(t, 1, ended)
	require.True(t, w.active(kept))
	require.True(t, w.active(bobs))
	require.Equal(t, models.EndedByPasswordChange, w.stored(other).EndReason)
	after := w.password(ada)
	require.Equal(t, "new", after.Secret)
	require.Equal(t, before.Version+1, after.Version)
	require.True(t, after.UpdatedAt.Equal(w.now) && after.CreatedAt.Equal(before.CreatedAt))
	require.Equal(t, before.ID, after.ID)

	_, err = w.replace(before, "newer", true, uuid.Nil)

	require.ErrorIs(t, err, models.ErrChanged)
	require.True(t, w.active(kept), "nothing was ended")
	require.Equal(t, "new", w.password(ada).Secret)
	_, err = w.replace(models.Credential{ID: uuid.Must(uuid.NewV4())}, "newer", true, uuid.Nil)
	require.ErrorIs(t, err, models.ErrChanged)
}

func TestPasswordChangeThatEndsNothing(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	session := w.start(ada)
	ended, err := w.replace(w.password(ada), "new", false, uuid.Nil)
	require.NoError(t, err)
	require.Zero(t, ended)
	require.True(t, w.active(session))
}

func TestOperatorOverrulesAPasswordChange(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	session := w.start(ada)
	w.setPassword(ada, "new", false)
	w.setPassword(ada, "newer", true)
	require.Equal(t, "newer", w.password(ada).Secret)
	require.Equal(t, 3, w.password(ada).Version)
	require.False(t, w.active(session))
}

func TestOfTwoPasswordChangesOneWins(t *testing.T) {
	for name, end := range map[string]bool{"ends sessions": true, "ends none": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ada := w.person("ada@example.com")
			old := w.password(ada)
			won := 0
			for _, err := range together(4, func(i int) error {
				_, err := w.replace(old, fmt.Sprint("new", i), end, uuid.Nil)
				return err
			}) {
				if err == nil {
					won++
					continue
				}
				require.ErrorIs(t, err, models.ErrChanged)
			}
			require.Equal(t, 1, won)
			require.Equal(t, 2, w.password(ada).Version)
		})
	}
}

func TestRehashDoesNotUndoAPasswordChange(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	proof := w.proof(ada)
	require.NoError(t, w.Credentials.Rehash(t.Context(), w.password(ada), "stronger"))
	stronger := w.password(ada)
	require.Equal(t, "stronger", stronger.Secret)
	in := w.signIn(ada)
	in.Proof = proof
	_, err := w.Sessions.Start(t.Context(), in)
	require.NoError(t, err, "it is the same password")
	_, err = w.replace(stronger, "new", false, uuid.Nil)
	require.NoError(t, err)

	require.ErrorIs(t, w.Credentials.Rehash(t.Context(), stronger, "strongest of the old"), models.ErrChanged)

	require.Equal(t, "new", w.password(ada).Secret)
}

func TestManyCredentialsOfAPerson(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.person("ada@example.com"), w.person("bob@example.com")
	key := func(name string) models.Credential {
		w.now = w.now.Add(time.Second)
		c, err := w.Credentials.Add(t.Context(), ada.ID, models.NewCredential{Method: "passkey", Secret: "public key of " + name, Name: name})
		require.NoError(t, err)
		require.Equal(t, 1, c.Version)
		return c
	}
	phone, laptop := key("phone"), key("laptop")
	of := func(person models.Identity) (names []string) {
		found, err := w.Credentials.Of(t.Context(), person.ID, "passkey")
		require.NoError(t, err)
		for _, c := range found {
			require.Equal(t, person.ID, c.IdentityID)
			names = append(names, c.Name)
		}
		return names
	}
	require.Equal(t, []string{"phone", "laptop"}, of(ada))
	require.Empty(t, of(bob))
	require.Equal(t, hash, w.password(ada).Secret, "a password is another method")

	session := w.start(ada)
	w.now = w.now.Add(time.Minute)
	proof := models.Proof{Method: "passkey", AAL: models.AAL2, Credential: laptop.ID, Version: 1, At: w.now}
	confirmed, err := w.Sessions.Confirm(t.Context(), session, proof)
	require.NoError(t, err)
	found, err := w.Credentials.Of(t.Context(), ada.ID, "passkey")
	require.NoError(t, err)
	require.Nil(t, found[0].LastUsedAt)
	require.True(t, found[1].LastUsedAt.Equal(w.now))
	require.True(t, w.password(ada).LastUsedAt.Before(w.now))

	require.ErrorIs(t, w.Credentials.Remove(t.Context(), bob.ID, laptop.ID), models.ErrNotFound, "it is somebody else's")
	require.NoError(t, w.Credentials.Remove(t.Context(), ada.ID, laptop.ID))
	require.ErrorIs(t, w.Credentials.Remove(t.Context(), ada.ID, laptop.ID), models.ErrNotFound)
	require.Equal(t, []string{"phone"}, of(ada))
	require.True(t, w.active(confirmed), "what was proved with it goes on")
	_, err = w.Sessions.Confirm(t.Context(), confirmed, proof)
	require.ErrorIs(t, err, models.ErrChanged)
	in := w.signIn(bob)
	in.Proof = models.Proof{Method: "passkey", Credential: phone.ID, Version: 1}
	_, err = w.Sessions.Start(t.Context(), in)
	require.ErrorIs(t, err, models.ErrChanged, "nobody signs in with somebody else's")
}

func TestSessionRecordsHowItWasProved(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	key, err := w.Credentials.Add(t.Context(), ada.ID, models.NewCredential{Method: "passkey", Secret: "public key"})
	require.NoError(t, err)
	session := w.start(ada)
	password := w.proof(ada)
	stored := func(p models.Proof) models.Proof { p.Version = 0; return p } // which is not
	require.Equal(t, []models.Proof{stored(password)}, proved(w.stored(session)))
	require.Equal(t, models.AAL1, w.stored(session).AAL)

	w.now = w.now.Add(time.Minute)
	second := models.Proof{Method: "passkey", AAL: models.AAL2, Credential: key.ID, Version: 1, At: w.now}
	session, err = w.Sessions.Confirm(t.Context(), session, second)
	require.NoError(t, err)
	require.Equal(t, []models.Proof{stored(password), stored(second)}, proved(w.stored(session)))
	require.Equal(t, models.AAL2, w.stored(session).AAL)

	w.now = w.now.Add(time.Minute)
	again := w.proof(ada)
	session, err = w.Sessions.Confirm(t.Context(), session, again)
	require.NoError(t, err)
	require.Equal(t, []models.Proof{stored(second), stored(again)}, proved(w.stored(session)), "each credential once")
	require.Equal(t, models.AAL2, w.stored(session).AAL, "the highest")
}

func proved(session models.Session) []models.Proof { return session.Proved() }

// Of a session that the version before has started, the method and the time are known.
func TestSessionOfTheVersionBeforeWasProvedByItsMethod(t *testing.T) {
	w := newWorld(t)
	session := w.start(w.person("ada@example.com"))
	require.NoError(t, w.db.Exec("UPDATE sessions SET proofs = '', aal = 'aal1', number = 0").Error)
	found := w.stored(session)
	require.True(t, found.Active(w.now))
	require.Equal(t, []models.Proof{{Method: models.MethodPassword, AAL: models.AAL1, At: session.ConfirmedAt}}, found.Proved())
}

func TestProofsThatCannotBeReadAreLeftOut(t *testing.T) {
	for _, stored := range []models.Proofs{"", ",", "password", "a b c", "password aal1 x"} {
		require.Empty(t, stored.List(), "%q", stored)
	}
}

func TestCredentialOfADeletedAccountIsRefused(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	w.many(ada, 500) // more than are marked at once, so that the row stays until it is swept
	require.NoError(t, w.Identities.Delete(t.Context(), ada.ID))

	_, err := w.Credentials.Add(t.Context(), ada.ID, models.NewCredential{Method: "passkey", Secret: "public key"})

	require.ErrorIs(t, err, models.ErrNotFound)
}

func TestPasswordsAreCountedByTheirCosts(t *testing.T) {
	w := newWorld(t)
	counts, err := w.Credentials.PasswordCosts(t.Context())
	require.NoError(t, err)
	require.Empty(t, counts)
	for i, hash := range []string{
		"$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$a2V5+/",
		"$argon2id$v=19$m=19456,t=2,p=1$b3RoZXI$b3RoZXI",
		"$argon2id$v=19$m=8,t=1,p=1$c2FsdA$a2V5",
	} {
		_, _, err := w.Identities.Create(t.Context(), models.NewIdentity{Email: fmt.Sprintf("person%d@example.com", i),
			Credential: models.NewCredential{Method: models.MethodPassword, Secret: hash}})
		require.NoError(t, err)
	}
	counts, err = w.Credentials.PasswordCosts(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[string]int{"$argon2id$v=19$m=19456,t=2,p=1$": 2, "$argon2id$v=19$m=8,t=1,p=1$": 1}, counts)
}
