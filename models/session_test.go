package models_test

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/stretchr/testify/require"

	"latchkey/models"
)

func TestTokenIsNotStored(t *testing.T) {
	w := newWorld(t)
	session := w.start(w.person("ada@example.com"))
	require.Len(t, session.Token, 26)

	var rows []map[string]any
	require.NoError(t, w.db.Table("sessions").Find(&rows).Error)

	require.Len(t, rows, 1)
	for column, value := range rows[0] {
		if bytes, ok := value.([]byte); ok {
			value = string(bytes)
		}
		require.NotEqual(t, session.Token, value, column)
	}
}

func TestForeignTokens(t *testing.T) {
	w := newWorld(t)
	session := w.start(w.person("ada@example.com"))
	for _, token := range []string{"", "x", strings.Repeat("A", 26), strings.ToLower(session.Token), session.Token + " ",
		session.Token[:25], strings.Repeat("\x00", 26), strings.Repeat("A", 1<<20), "'; DROP TABLE sessions --"} {
		_, err := w.Sessions.ByToken(t.Context(), token)
		require.ErrorIs(t, err, models.ErrNotFound, "%.40q", token)
	}
	require.True(t, w.active(session))
}

// A sign-in that has verified the old password must not get past its change.
func TestNoSessionForWhoHasChangedMeanwhile(t *testing.T) {
	for name, change := range map[string]func(w *world, ada models.Identity) error{
		"disabled": func(w *world, ada models.Identity) error { return w.Identities.Disable(t.Context(), ada.ID) },
		"deleted":  func(w *world, ada models.Identity) error { return w.Identities.Delete(t.Context(), ada.ID) },
		"another password": func(w *world, ada models.Identity) error {
			w.setPassword(ada, "another", false)
			return nil
		},
		"no password": func(w *world, ada models.Identity) error {
			return w.Credentials.Remove(t.Context(), ada.ID, w.password(ada).ID)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ada := w.person("ada@example.com")
			verified := w.signIn(ada)
			verified.Replaces = []uuid.UUID{w.start(ada).ID}
			require.NoError(t, change(w, ada))

			_, err := w.Sessions.Start(t.Context(), verified)

			require.ErrorIs(t, err, models.ErrChanged)
		})
	}
}

func TestStartReplacesTheSessionBefore(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	before, elsewhere := w.start(ada), w.start(ada)
	in := w.signIn(ada)
	in.Replaces = []uuid.UUID{before.ID}

	now, err := w.Sessions.Start(t.Context(), in)

	require.NoError(t, err)
	require.NotEqual(t, before.Token, now.Token)
	require.Equal(t, models.EndedByNewLogin, w.stored(before).EndReason)
	require.True(t, w.active(elsewhere))
	require.True(t, w.active(now))
}

func TestEndTwice(t *testing.T) {
	w := newWorld(t)
	session := w.start(w.person("ada@example.com"))
	first := w.now
	require.NoError(t, w.Sessions.End(t.Context(), session.ID, models.EndedByLogout))
	w.now = w.now.Add(time.Minute)

	require.NoError(t, w.Sessions.End(t.Context(), session.ID, models.EndedByOperator))

	ended := w.stored(session)
	require.Equal(t, models.EndedByLogout, ended.EndReason, "the first reason stands")
	require.True(t, first.Equal(*ended.EndedAt))
	require.False(t, ended.Active(w.now))
	require.False(t, ended.Active(first), "nor for a clock that is behind")
	require.ErrorIs(t, w.Sessions.End(t.Context(), uuid.Must(uuid.NewV4()), models.EndedByLogout), models.ErrNotFound)
}

func TestEndedAtOnceByManyEndsOnce(t *testing.T) {
	w := newWorld(t)
	session := w.start(w.person("ada@example.com"))
	reasons := []models.Reason{models.EndedByLogout, models.EndedByOperator, models.EndedByPerson, models.EndedByNewLogin}
	err := errors.Join(together(len(reasons), func(i int) error { return w.Sessions.End(t.Context(), session.ID, reasons[i]) })...)
	require.NoError(t, err)
	require.Contains(t, reasons, w.stored(session).EndReason)
}

func TestEndOwnIsForOnesOwn(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.person("ada@example.com"), w.person("bob@example.com")
	session := w.start(ada)
	require.ErrorIs(t, w.Sessions.EndOwn(t.Context(), bob.ID, session.ID), models.ErrNotFound)
	require.True(t, w.active(session))
	require.NoError(t, w.Sessions.EndOwn(t.Context(), ada.ID, session.ID))
	require.False(t, w.active(session))
}

func TestEndOthersAndAll(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.person("ada@example.com"), w.person("bob@example.com")
	expired := w.start(ada)
	w.now = w.now.Add(2 * time.Hour)
	this, other, bobs := w.start(ada), w.start(ada), w.start(bob)

	n, err := w.Sessions.EndOthers(t.Context(), ada.ID, this.ID)
	require.NoError(t, err)
	require.Equal(t, 1, n, "what had expired is not counted")
	require.Equal(t, models.Expired, w.stored(expired).EndReason)
	require.Equal(t, []bool{true, false, true}, []bool{w.active(this), w.active(other), w.active(bobs)})

	n, err = w.Sessions.EndAll(t.Context(), ada.ID)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, []bool{false, true}, []bool{w.active(this), w.active(bobs)})

	w.start(ada)
	n, err = w.Sessions.EndAll(t.Context(), uuid.Nil)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.False(t, w.active(bobs))
}

func TestPagesOfSessionsBegunAtOneInstant(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.person("ada@example.com"), w.person("bob@example.com")
	want := map[uuid.UUID]bool{}
	for i := range 7 {
		if i == 5 {
			w.now = w.now.Add(time.Minute)
		}
		want[w.start(ada).ID] = true
	}
	this := w.start(ada)
	w.start(bob)
	require.NoError(t, w.Sessions.End(t.Context(), w.start(ada).ID, models.EndedByLogout))

	var pages []int
	var listed []models.Session
	for after := (models.Position{}); ; {
		page, err := w.Sessions.Active(t.Context(), ada.ID, this.ID, after, 3)
		require.NoError(t, err)
		require.Equal(t, 7, page.Total)
		pages, listed = append(pages, len(page.Sessions)), append(listed, page.Sessions...)
		if !page.More {
			break
		}
		last := page.Sessions[len(page.Sessions)-1]
		after = models.Position{AuthenticatedAt: last.AuthenticatedAt, ID: last.ID}
	}

	require.Equal(t, []int{3, 3, 1}, pages)
	require.True(t, slices.IsSortedFunc(listed, func(a, b models.Session) int { return b.AuthenticatedAt.Compare(a.AuthenticatedAt) }))
	for _, session := range listed {
		require.True(t, want[session.ID], "not twice, and nobody else's")
		delete(want, session.ID)
	}
	require.Empty(t, want)
}

// seen notes a session's use at a time.
func (w *world) seen(session models.Session, at time.Time) error {
	return w.Sessions.Seen(w.t.Context(), session, at)
}

// The note of the last use may wait in line behind the logout, and the idle time run out meanwhile.
func TestEndOfASessionThatHasJustExpiredStands(t *testing.T) {
	for about, end := range map[string]func(*world, models.Session) error{
		"logout": func(w *world, s models.Session) error {
			return w.Sessions.End(w.t.Context(), s.ID, models.EndedByLogout)
		},
		"elsewhere": func(w *world, s models.Session) error { return w.Sessions.EndOwn(w.t.Context(), s.IdentityID, s.ID) },
		"disabled": func(w *world, s models.Session) error {
			return cmp.Or(w.Identities.Disable(w.t.Context(), s.IdentityID), w.Identities.Enable(w.t.Context(), s.IdentityID))
		},
	} {
		t.Run(about, func(t *testing.T) {
			w := newWorld(t)
			session := w.start(w.person("ada@example.com"))
			used := session.ExpiresAt.Add(-time.Second)
			w.now = session.ExpiresAt.Add(time.Second)

			require.NoError(t, end(w, session))
			require.NoError(t, w.seen(session, used))

			require.False(t, w.active(session))
			w.now = used // the clock was wrong
			require.NoError(t, w.seen(session, used.Add(time.Millisecond)))
			require.False(t, w.active(session))
		})
	}
}

func TestUseMovesTheEndUpToTheLatest(t *testing.T) {
	w := newWorld(t)
	session := w.start(w.person("ada@example.com"))
	begin := w.now
	use := func() {
		require.NoError(t, w.seen(w.stored(session), w.now))
	}

	w.now = begin.Add(30 * time.Minute)
	use()
	require.True(t, w.stored(session).ExpiresAt.Equal(begin.Add(90*time.Minute)))

	for w.now.Before(begin.Add(24*time.Hour - 30*time.Minute)) {
		w.now = w.now.Add(30 * time.Minute)
		use()
		require.True(t, w.active(session))
	}
	require.True(t, w.stored(session).ExpiresAt.Equal(begin.Add(24*time.Hour)), "not past the latest")

	w.now = begin.Add(24 * time.Hour)
	use()
	require.False(t, w.active(session))
}

func TestSeenNeverRevives(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	ended, expired := w.start(ada), w.start(ada)
	noted := w.stored(ended) // as it was when it was in use
	w.now = w.now.Add(time.Minute)
	require.NoError(t, w.Sessions.End(t.Context(), ended.ID, models.EndedByLogout))

	require.NoError(t, w.seen(noted, w.now.Add(-time.Second)), "noted late")
	require.NoError(t, w.seen(noted, w.now.Add(time.Second)))
	w.now = w.now.Add(time.Hour)
	require.NoError(t, w.seen(w.stored(expired), w.now))

	require.False(t, w.active(ended))
	require.False(t, w.active(expired))
}

func TestSeenNeverGoesBack(t *testing.T) {
	w := newWorld(t)
	session := w.start(w.person("ada@example.com"))
	early := w.now.Add(5 * time.Minute)
	late := early.Add(10 * time.Minute)

	require.NoError(t, w.seen(session, late))
	require.NoError(t, w.seen(session, early))

	require.True(t, late.Equal(w.stored(session).LastSeenAt))
}

// Several instances may see the same use of a session, or uses shortly after one another.
func TestSeenIsWrittenOnceByThoseWhoHaveReadTheSame(t *testing.T) {
	w := newWorld(t)
	session := w.start(w.person("ada@example.com"))
	first := w.now.Add(5 * time.Minute)

	require.NoError(t, w.seen(session, first))
	require.NoError(t, w.seen(session, first.Add(time.Second)))
	require.True(t, first.Equal(w.stored(session).LastSeenAt))

	require.NoError(t, w.seen(w.stored(session), first.Add(time.Second)))
	require.True(t, first.Add(time.Second).Equal(w.stored(session).LastSeenAt))
}

func TestPruneInBatches(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	for range 5 {
		w.start(ada)
	}
	logout := w.start(ada)
	require.NoError(t, w.Sessions.End(t.Context(), logout.ID, models.EndedByLogout))
	w.now = w.now.Add(2 * time.Hour)
	recent := w.start(ada)
	n, err := w.Sessions.Prune(t.Context(), w.now, 10)
	require.NoError(t, err)
	require.Equal(t, 1, n, "of the others nobody has been told")
	n, err = w.Sessions.Expire(t.Context(), 10)
	require.NoError(t, err)
	require.Equal(t, 5, n)

	var batches []int
	for {
		n, err := w.Sessions.Prune(t.Context(), w.now.Add(-30*time.Minute), 4)
		require.NoError(t, err)
		if n == 0 {
			break
		}
		batches = append(batches, n)
	}

	require.Equal(t, []int{4, 1}, batches)
	require.True(t, w.active(recent))
	_, err = w.Sessions.ByToken(t.Context(), logout.Token)
	require.ErrorIs(t, err, models.ErrNotFound)
}

// A short retention, or a long stop, must not remove a session before its apps are told that it expired.
func TestPruneLeavesWhatNobodyHasBeenToldOf(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.Apps.Add(t.Context(), models.App{Name: "wiki", LogoutURL: "https://app.example.com/", Send: models.SendBoth}))
	session := w.start(w.person("ada@example.com"))
	w.now = w.now.Add(2 * time.Hour)

	pruned, err := w.Sessions.Prune(t.Context(), w.now, 10)
	require.NoError(t, err)
	expired, err := w.Sessions.Expire(t.Context(), 10)
	require.NoError(t, err)

	require.Zero(t, pruned)
	require.Equal(t, 1, expired)
	told, err := w.Deliveries.OfSession(t.Context(), session.ID)
	require.NoError(t, err)
	require.Len(t, told, 1)
	pruned, err = w.Sessions.Prune(t.Context(), w.now, 10)
	require.NoError(t, err)
	require.Equal(t, 1, pruned)
}

func TestAllActiveNewestFirst(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.person("ada@example.com"), w.person("bob@example.com")
	w.start(ada)
	w.now = w.now.Add(time.Minute)
	w.start(bob)
	require.NoError(t, w.Sessions.End(t.Context(), w.start(bob).ID, models.EndedByLogout))

	list := func(email string) (emails []string) {
		sessions, err := w.Sessions.AllActive(t.Context(), email)
		require.NoError(t, err)
		for _, s := range sessions {
			emails = append(emails, s.Identity.Email)
		}
		return emails
	}

	require.Equal(t, []string{"bob@example.com", "ada@example.com"}, list(""))
	require.Equal(t, []string{"ada@example.com"}, list("ada@example.com"))
}
