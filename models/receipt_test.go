package models_test

import (
	"sync"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/stretchr/testify/require"

	"latchkey/models"
)

// signOut signs a session out and returns the token of the receipt.
func (w *world) signOut(session models.Session) string {
	w.t.Helper()
	token, err := w.Sessions.SignOut(w.t.Context(), &session, nil, true)
	require.NoError(w.t, err)
	require.Len(w.t, token, 26)
	return token
}

func (w *world) receipt(token string) models.Receipt {
	w.t.Helper()
	receipt, err := w.Sessions.Receipt(w.t.Context(), token)
	require.NoError(w.t, err)
	return receipt
}

func (w *world) older(receipt models.Receipt) int {
	w.t.Helper()
	n, err := w.Sessions.CountOlder(w.t.Context(), receipt)
	require.NoError(w.t, err)
	return n
}

func TestReceiptSaysWhatWasSignedOut(t *testing.T) {
	w := newWorld(t)
	session := w.start(w.person("ada@example.com"))
	w.now = w.now.Add(time.Minute)

	token := w.signOut(session)

	require.Equal(t, models.EndedByLogout, w.stored(session).EndReason)
	w.now = w.now.Add(time.Second)
	receipt := w.receipt(token)
	require.Equal(t, session.ID, receipt.Session.ID)
	require.Equal(t, "ada@example.com", receipt.Session.Identity.Email)
	require.True(t, receipt.At.Equal(w.now.Add(-time.Second)))
	require.False(t, receipt.Everywhere)
	require.Zero(t, receipt.Ended)
	require.Zero(t, w.older(receipt))
}

func TestSignOutWithoutAReceiptLeavesNone(t *testing.T) {
	w := newWorld(t)
	session := w.start(w.person("ada@example.com"))
	token, err := w.Sessions.SignOut(t.Context(), &session, nil, false)
	require.NoError(t, err)
	require.Empty(t, token)
	require.False(t, w.active(session))
	token, err = w.Sessions.EndEverywhere(t.Context(), &session, nil, false)
	require.NoError(t, err)
	require.Empty(t, token)
	require.Zero(t, w.count("single_use_values"))
	_, err = w.Sessions.Receipt(t.Context(), "")
	require.ErrorIs(t, err, models.ErrNotFound)
	_, err = w.Sessions.EndOlder(t.Context(), "")
	require.ErrorIs(t, err, models.ErrNotFound)
}

func TestSignOutOfWhatIsOverIsNoError(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	session := w.start(ada)
	w.signOut(session)
	require.Equal(t, session.ID, w.receipt(w.signOut(session)).Session.ID, "twice, as a double click does")
	require.Equal(t, 1, w.count("ends"))

	other := w.start(ada)
	require.NoError(t, w.Sessions.End(t.Context(), other.ID, models.EndedByOperator))
	token := w.signOut(other)
	require.Equal(t, models.EndedByOperator, w.stored(other).EndReason, "the first reason stands")
	_, err := w.Sessions.Receipt(t.Context(), token)
	require.ErrorIs(t, err, models.ErrNotFound, "it was no logout that ended it")

	require.NoError(t, w.Identities.Delete(t.Context(), ada.ID))
	token = w.signOut(other)
	_, err = w.Sessions.Receipt(t.Context(), token)
	require.ErrorIs(t, err, models.ErrNotFound)
}

func TestReceiptsThatAreNoLongerGood(t *testing.T) {
	for name, spoil := range map[string]func(w *world, person models.Identity) error{
		"expired":  func(w *world, _ models.Identity) error { w.now = w.now.Add(models.ReceiptLifetime); return nil },
		"disabled": func(w *world, ada models.Identity) error { return w.Identities.Disable(w.t.Context(), ada.ID) },
		"deleted":  func(w *world, ada models.Identity) error { return w.Identities.Delete(w.t.Context(), ada.ID) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ada := w.person("ada@example.com")
			session := w.start(ada)
			token := w.signOut(session)
			w.now = w.now.Add(time.Millisecond)
			require.NoError(t, spoil(w, ada))

			_, err := w.Sessions.Receipt(t.Context(), token)
			require.ErrorIs(t, err, models.ErrNotFound)
			_, err = w.Sessions.EndOlder(t.Context(), token)
			require.ErrorIs(t, err, models.ErrNotFound)
		})
	}
}

func TestReceiptEndsWhatBeganBeforeTheLogout(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.person("ada@example.com"), w.person("bob@example.com")
	expired := w.start(ada)
	w.now = w.now.Add(2 * time.Hour)
	before, here, bobs := w.start(ada), w.start(ada), w.start(bob)
	out := w.start(ada)
	require.NoError(t, w.Sessions.End(t.Context(), out.ID, models.EndedByPerson))
	token := w.signOut(here)
	at := w.now
	later := w.start(ada) // at the same instant, but after it
	w.now = w.now.Add(time.Minute)
	muchLater := w.start(ada)
	require.Equal(t, 1, w.older(w.receipt(token)), "neither what had expired nor what had ended is counted")

	again, err := w.Sessions.EndOlder(t.Context(), token)

	require.NoError(t, err)
	require.Equal(t, []bool{false, true, true, true}, []bool{w.active(before), w.active(later), w.active(muchLater), w.active(bobs)})
	require.Equal(t, models.EndedByPerson, w.stored(before).EndReason)
	require.Equal(t, models.Expired, w.stored(expired).EndReason)
	receipt := w.receipt(again)
	require.True(t, receipt.Everywhere)
	require.Equal(t, 1, receipt.Ended)
	require.True(t, receipt.At.Equal(at))
	require.Zero(t, w.older(receipt))
	for _, used := range []string{token, again} {
		_, err = w.Sessions.EndOlder(t.Context(), used)
		require.ErrorIs(t, err, models.ErrNotFound)
	}
	_, err = w.Sessions.Receipt(t.Context(), token)
	require.ErrorIs(t, err, models.ErrNotFound)
	require.True(t, w.receipt(again).Everywhere, "trying has not used it")
	w.now = at.Add(models.ReceiptLifetime)
	_, err = w.Sessions.Receipt(t.Context(), again)
	require.ErrorIs(t, err, models.ErrNotFound, "it is good no longer than the first one")
}

// A session that its person keeps when they end all others gets a new number, but began when it began.
func TestReceiptEndsWhatWasKeptSince(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	here, phone, tablet := w.start(ada), w.start(ada), w.start(ada)
	w.now = w.now.Add(time.Minute)
	token := w.signOut(here)
	w.now = w.now.Add(time.Minute)
	later := w.start(ada)
	_, err := w.replace(w.password(ada), "new", true, phone.ID)
	require.NoError(t, err)
	w.now = w.now.Add(time.Second)
	last := w.start(ada)
	require.Equal(t, 1, w.older(w.receipt(token)))

	again, err := w.Sessions.EndOlder(t.Context(), token)

	require.NoError(t, err)
	require.Equal(t, 1, w.receipt(again).Ended)
	require.Equal(t, []bool{false, true}, []bool{w.active(phone), w.active(last)})
	require.Equal(t, models.EndedByPerson, w.stored(phone).EndReason)
	require.Equal(t, models.EndedByPasswordChange, w.stored(tablet).EndReason)
	require.Equal(t, models.EndedByPasswordChange, w.stored(later).EndReason)
}

func TestReceiptUsedByManyAtOnceWorksOnce(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	here, other := w.start(ada), w.start(ada)
	token := w.signOut(here)
	worked := 0
	for _, err := range together(6, func(int) error {
		_, err := w.Sessions.EndOlder(t.Context(), token)
		return err
	}) {
		if err == nil {
			worked++
			continue
		}
		require.ErrorIs(t, err, models.ErrNotFound)
	}
	require.Equal(t, 1, worked)
	require.False(t, w.active(other))
	require.Equal(t, 1, w.count("single_use_values"), "the one that says so")
}

func TestReceiptStaysGoodIfNothingCouldBeEnded(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	here, other := w.start(ada), w.start(ada)
	token := w.signOut(here)
	accept := w.refuse("INSERT", "sweeps")
	_, err := w.Sessions.EndOlder(t.Context(), token)
	require.ErrorContains(t, err, "refused here")
	require.True(t, w.active(other))
	accept()

	_, err = w.Sessions.EndOlder(t.Context(), token)

	require.NoError(t, err)
	require.False(t, w.active(other))
}

func TestEndEverywhere(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.person("ada@example.com"), w.person("bob@example.com")
	expired := w.start(ada)
	w.now = w.now.Add(2 * time.Hour)
	here, there, bobs := w.start(ada), w.start(ada), w.start(bob)
	everywhere := func(session models.Session) models.Receipt {
		token, err := w.Sessions.EndEverywhere(t.Context(), &session, nil, true)
		require.NoError(t, err)
		return w.receipt(token)
	}

	receipt := everywhere(here)

	require.True(t, receipt.Everywhere)
	require.Equal(t, here.ID, receipt.Session.ID)
	require.Equal(t, 1, receipt.Ended, "neither this one nor what had expired is counted")
	for session, want := range map[string]models.Reason{
		here.Token: models.EndedByLogout, there.Token: models.EndedByPerson, expired.Token: models.Expired, bobs.Token: "",
	} {
		stored, err := w.Sessions.ByToken(t.Context(), session)
		require.NoError(t, err)
		require.Equal(t, want, stored.EndReason)
	}
	require.Zero(t, everywhere(here).Ended)
	foreign := here
	foreign.ID = bobs.ID
	_, err := w.Sessions.EndEverywhere(t.Context(), &foreign, nil, false)
	require.NoError(t, err)
	require.True(t, w.active(bobs), "nobody else's")
}

func TestSignOutBesideAnEndEverywhere(t *testing.T) {
	for range 5 {
		w := newWorld(t)
		ada := w.person("ada@example.com")
		sessions := []models.Session{w.start(ada), w.start(ada), w.start(ada), w.start(ada)}
		var mu sync.Mutex
		var tokens []string
		for _, err := range together(len(sessions), func(i int) (err error) {
			var token string
			if i%2 == 0 {
				token, err = w.Sessions.SignOut(t.Context(), &sessions[i], nil, true)
			} else {
				token, err = w.Sessions.EndEverywhere(t.Context(), &sessions[i], nil, true)
			}
			mu.Lock()
			defer mu.Unlock()
			tokens = append(tokens, token)
			return err
		}) {
			require.NoError(t, err)
		}
		w.sweep()

		require.Equal(t, len(sessions), w.inactive(sessions))
		require.Equal(t, len(sessions), w.count("ends"), "each ends once")
		good := 0
		for _, token := range tokens {
			if _, err := w.Sessions.Receipt(t.Context(), token); err == nil {
				good++
			}
		}
		require.Equal(t, w.count("ends WHERE reason = 'logout'"), good, "a receipt is good where it was a logout")
		require.Positive(t, good)
	}
}

func TestReceiptOfNobody(t *testing.T) {
	w := newWorld(t)
	token := w.signOut(models.Session{ID: uuid.Must(uuid.NewV4()), IdentityID: uuid.Must(uuid.NewV4())})
	_, err := w.Sessions.Receipt(t.Context(), token)
	require.ErrorIs(t, err, models.ErrNotFound)
	_, err = w.Sessions.EndOlder(t.Context(), token)
	require.ErrorIs(t, err, models.ErrNotFound)
}
