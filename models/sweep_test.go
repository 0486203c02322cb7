package models_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/stretchr/testify/require"

	"latchkey/models"
)

// inactive counts the sessions that sign nobody in.
func (w *world) inactive(sessions []models.Session) (n int) {
	w.t.Helper()
	for _, session := range sessions {
		if !w.active(session) {
			n++
		}
	}
	return n
}

// wayToEnd is one of those that end any number of sessions. do is given the first session of a person, who is
// using it, and how many active ones there are without it.
type wayToEnd struct {
	do        func(w *world, here models.Session, others int) error
	reason    models.Reason
	keeps     bool
	here      models.Reason // if another
	goneInEnd bool
}

var waysToEnd = map[string]wayToEnd{
	"others": {do: func(w *world, here models.Session, others int) error {
		n, err := w.Sessions.EndOthers(w.t.Context(), here.IdentityID, here.ID)
		require.Equal(w.t, others, n)
		return err
	}, reason: models.EndedByPerson, keeps: true},
	"everywhere": {do: func(w *world, here models.Session, others int) error {
		token, err := w.Sessions.EndEverywhere(w.t.Context(), &here, nil, true)
		require.NoError(w.t, err)
		receipt, err := w.Sessions.Receipt(w.t.Context(), token)
		require.True(w.t, receipt.Everywhere)
		require.Equal(w.t, others, receipt.Ended)
		return err
	}, reason: models.EndedByPerson, here: models.EndedByLogout},
	"receipt": {do: func(w *world, here models.Session, others int) error {
		token, err := w.Sessions.SignOut(w.t.Context(), &here, nil, true)
		require.NoError(w.t, err)
		token, err = w.Sessions.EndOlder(w.t.Context(), token)
		require.NoError(w.t, err)
		receipt, err := w.Sessions.Receipt(w.t.Context(), token)
		require.True(w.t, receipt.Everywhere)
		require.Equal(w.t, others, receipt.Ended)
		return err
	}, reason: models.EndedByPerson, here: models.EndedByLogout},
	"operator": {do: func(w *world, here models.Session, others int) error {
		n, err := w.Sessions.EndAll(w.t.Context(), here.IdentityID)
		require.Equal(w.t, others+1, n)
		return err
	}, reason: models.EndedByOperator},
	"password": {do: func(w *world, here models.Session, others int) error {
		n, err := w.replace(w.password(*here.Identity), "new", true, here.ID)
		require.Equal(w.t, others, n)
		return err
	}, reason: models.EndedByPasswordChange, keeps: true},
	"disabled": {do: func(w *world, here models.Session, _ int) error {
		return w.Identities.Disable(w.t.Context(), here.IdentityID)
	}, reason: models.EndedByDisabling},
	"disabled and enabled": {do: func(w *world, here models.Session, _ int) error {
		return errors.Join(w.Identities.Disable(w.t.Context(), here.IdentityID), w.Identities.Enable(w.t.Context(), here.IdentityID))
	}, reason: models.EndedByDisabling},
	"deleted": {do: func(w *world, here models.Session, _ int) error {
		return w.Identities.Delete(w.t.Context(), here.IdentityID)
	}, reason: models.EndedByDeletion, goneInEnd: true},
	"limit": {do: func(w *world, here models.Session, others int) error {
		in := w.signIn(*here.Identity)
		in.Limit = 1
		session, err := w.Sessions.Start(w.t.Context(), in)
		require.NoError(w.t, err)
		return w.Sessions.End(w.t.Context(), session.ID, models.EndedByLogout)
	}, reason: models.EndedByLimit},
}

// What has been ended is over when the call returns, however many sessions there are, and none of them is
// forgotten before streams and apps are notified of it.
func TestEndOfManyHoldsBeforeItIsSwept(t *testing.T) {
	const many = 500 // more than are marked before the call returns
	for name, way := range waysToEnd {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			for _, app := range []string{"wiki", "photos"} {
				require.NoError(t, w.Apps.Add(t.Context(), models.App{Name: app, LogoutURL: "https://app.example.com/", Send: models.SendBoth}))
			}
			ada, bob := w.person("ada@example.com"), w.person("bob@example.com")
			w.start(bob)
			expired := w.start(ada)
			w.now = w.now.Add(2 * time.Hour)
			bobs := w.start(bob)
			here := w.start(ada)
			others := w.many(ada, many)
			proof := w.proof(ada)
			w.now = w.now.Add(time.Minute)
			ended := w.now
			swept := 0
			w.OnSweep(func() { swept++ })

			require.NoError(t, way.do(w, here, many))

			require.Positive(t, swept, "the background is told that there is more to do")
			require.Equal(t, many, w.inactive(others))
			require.Equal(t, way.keeps, w.active(here))
			require.True(t, w.active(bobs))
			last := others[many-1]
			require.Zero(t, w.count("sessions WHERE id = ? AND ended_at IS NOT NULL", last.ID), "it hasn't been swept")
			w.now = w.now.Add(time.Second)
			require.NoError(t, w.Sessions.Seen(t.Context(), last, w.now))
			_, err := w.Sessions.Confirm(t.Context(), last, proof)
			require.Error(t, err)
			require.True(t, errors.Is(err, models.ErrNotFound) || errors.Is(err, models.ErrChanged), err)
			require.NoError(t, w.Sessions.End(t.Context(), last.ID, models.EndedByLogout))
			require.NoError(t, w.Sessions.EndOwn(t.Context(), ada.ID, last.ID))
			left := 0
			if way.keeps {
				left = 1
			}
			page, err := w.Sessions.Active(t.Context(), ada.ID, uuid.Nil, models.Position{}, 10)
			require.NoError(t, err)
			require.Equal(t, left, page.Total)
			require.Len(t, page.Sessions, left)
			all, err := w.Sessions.AllActive(t.Context(), "")
			require.NoError(t, err)
			require.Len(t, all, left+1)
			require.Equal(t, left+1, int(w.inspect().ActiveSessions))
			found, err := w.Sessions.ByIDs(t.Context(), []uuid.UUID{last.ID, bobs.ID})
			require.NoError(t, err)
			require.Len(t, found, 2)
			for _, session := range found {
				if session.ID == last.ID {
					require.Equal(t, way.reason, session.EndReason)
					require.True(t, session.EndedAt.Equal(ended))
				} else {
					require.Nil(t, session.EndedAt)
				}
			}
			pruned, err := w.Sessions.Prune(t.Context(), w.now.Add(time.Hour), 10000)
			require.NoError(t, err)
			w.now = w.now.Add(2 * time.Hour) // they would have expired by now
			_, err = w.Sessions.Expire(t.Context(), 10000)
			require.NoError(t, err)
			require.Zero(t, w.count("sessions WHERE id = ? AND ended_at IS NOT NULL", last.ID), "what ended it comes first")

			w.sweep()

			require.Zero(t, w.count("sweeps"))
			if way.goneInEnd {
				require.Zero(t, w.count("sessions WHERE identity_id = ?", ada.ID))
				require.Zero(t, w.count("identities WHERE id = ?", ada.ID))
			} else {
				stored := w.stored(last)
				require.Equal(t, way.reason, stored.EndReason)
				require.True(t, stored.EndedAt.Equal(ended) && stored.ExpiresAt.Equal(ended), "when it ended, not when it was swept")
			}
			ids := make([]uuid.UUID, 0, many)
			for i := range others {
				ids = append(ids, others[i].ID)
			}
			require.Equal(t, many, w.count("ends WHERE session_id IN ? AND reason = ?", ids, way.reason))
			require.Equal(t, 2*many, w.count("deliveries WHERE session_id IN ? AND reason = ?", ids, way.reason))
			require.Equal(t, 1, w.count("ends WHERE session_id = ? AND reason = ?", expired.ID, models.Expired))
			if way.here != "" {
				require.Equal(t, 1, w.count("ends WHERE session_id = ? AND reason = ?", here.ID, way.here))
			}
			require.LessOrEqual(t, pruned, 1, "no more than what had been signed out of")
			w.sweep()
			require.Equal(t, many, w.count("ends WHERE session_id IN ?", ids), "each once")
		})
	}
}

func (w *world) inspect() models.Contents {
	w.t.Helper()
	contents, err := models.Inspect(w.t.Context(), &w.database.Reader, w.now)
	require.NoError(w.t, err)
	return contents
}

func TestFewSessionsAreSweptBeforeTheAnswer(t *testing.T) {
	for name, way := range waysToEnd {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var told []models.Ended
			w.OnEnd(func(_ context.Context, ended models.Ended) { told = append(told, ended) })
			w.OnSweep(func() { t.Error("nothing is left to do") })
			busy := w.person("busy@example.com")
			w.many(busy, 1000)
			accept := w.refuse("INSERT", "ends")
			w.OnSweep(nil)
			_, err := w.Sessions.EndAll(t.Context(), busy.ID) // which waits to be swept, before Ada's
			require.NoError(t, err)
			accept()
			w.OnSweep(func() { t.Error("nothing is left to do") })
			ada := w.person("ada@example.com")
			here := w.start(ada)
			others := w.many(ada, 50)

			require.NoError(t, way.do(w, here, 50))

			if way.goneInEnd {
				require.Zero(t, w.count("identities WHERE id = ?", ada.ID))
			} else {
				for _, session := range others {
					require.Equal(t, way.reason, w.stored(session).EndReason)
				}
			}
			n := 0
			for _, ended := range told {
				n += ended.By(way.reason)
			}
			if way.reason == models.EndedByPerson || way.reason == models.EndedByPasswordChange {
				require.Equal(t, 50, n)
			} else {
				require.Equal(t, 51, n)
			}
		})
	}
}

// The process dies, or the database is out of reach, when the floor has been raised and nothing is marked yet.
func TestNothingIsLostBetweenTheFloorAndTheSweep(t *testing.T) {
	for name, way := range waysToEnd {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			require.NoError(t, w.Apps.Add(t.Context(), models.App{Name: "wiki", LogoutURL: "https://app.example.com/", Send: models.SendBoth}))
			ada := w.person("ada@example.com")
			here := w.start(ada)
			others := w.many(ada, 20)
			accept := w.refuse("DELETE", "sweeps")

			require.NoError(t, way.do(w, here, 20), "it is no error that nothing could be marked")

			require.Equal(t, 20, w.inactive(others))
			require.Zero(t, w.count("ends WHERE session_id = ?", others[0].ID))
			_, err := w.Sessions.Sweep(t.Context(), 200)
			require.ErrorContains(t, err, "refused here")
			accept()
			restarted := w.instance()
			for n := 1; n > 0; {
				n, err = restarted.Sessions.Sweep(t.Context(), 7)
				require.NoError(t, err)
			}

			for _, session := range others {
				require.Equal(t, 1, w.count("ends WHERE session_id = ? AND reason = ?", session.ID, way.reason))
				require.Equal(t, 1, w.count("deliveries WHERE session_id = ? AND reason = ?", session.ID, way.reason))
			}
			require.Zero(t, w.count("sweeps"))
			if way.goneInEnd {
				require.Zero(t, w.count("identities"))
			}
		})
	}
}

// instance returns another store on the same database.
func (w *world) instance() *models.Store {
	return models.New(w.database, func() time.Time { return w.now })
}

func TestSeveralInstancesSweepEachSessionOnce(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.Apps.Add(t.Context(), models.App{Name: "wiki", LogoutURL: "https://app.example.com/", Send: models.SendBoth}))
	ids := map[uuid.UUID]models.Reason{}
	for i := range 5 {
		person := w.person(fmt.Sprintf("person%d@example.com", i))
		for _, session := range w.many(person, 300) {
			ids[session.ID] = models.EndedByOperator
		}
	}
	ada := w.person("ada@example.com")
	accept := w.refuse("INSERT", "ends") // so that all is left to do
	_, err := w.Sessions.EndAll(t.Context(), uuid.Nil)
	require.NoError(t, err)
	for range 3 { // several sweeps of one person
		for _, session := range w.many(ada, 100) {
			ids[session.ID] = models.EndedByPerson
		}
		_, err := w.Sessions.EndOthers(t.Context(), ada.ID, uuid.Nil)
		require.NoError(t, err)
	}
	for _, session := range w.many(ada, 100) {
		ids[session.ID] = models.EndedByDisabling
	}
	require.NoError(t, w.Identities.Disable(t.Context(), ada.ID))
	require.Zero(t, w.count("ends"))
	accept()

	for _, err := range together(4, func(int) error {
		instance := w.instance()
		for idle := 0; idle < 3; {
			n, err := instance.Sessions.Sweep(t.Context(), 30)
			if err != nil {
				return err
			}
			if n > 0 {
				idle = 0
			} else {
				idle++ // others may be at it
			}
		}
		return nil
	}) {
		require.NoError(t, err)
	}
	w.sweep()

	var ends []models.End
	require.NoError(t, w.db.Find(&ends).Error)
	require.Len(t, ends, len(ids))
	for _, end := range ends {
		require.Equal(t, ids[end.SessionID], end.Reason, "the first reason stands")
		delete(ids, end.SessionID)
	}
	require.Empty(t, ids)
	require.Equal(t, len(ends), w.count("deliveries"))
	require.Zero(t, w.count("sweeps"))
}

// A person with very many sessions must not delay the sweep of everybody else's.
func TestSweepSharesItsBatches(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.person("ada@example.com"), w.person("bob@example.com")
	w.many(ada, 1000)
	bobs := w.many(bob, 300)
	_, err := w.Sessions.EndAll(t.Context(), ada.ID)
	require.NoError(t, err)
	w.now = w.now.Add(time.Second)
	_, err = w.Sessions.EndAll(t.Context(), bob.ID)
	require.NoError(t, err)
	for range 4 {
		_, err = w.Sessions.Sweep(t.Context(), 200)
		require.NoError(t, err)
	}
	require.Equal(t, models.EndedByOperator, w.stored(bobs[299]).EndReason)
	require.Positive(t, w.count("sweeps"))
}

func TestEveryonesSessionsEnd(t *testing.T) {
	w := newWorld(t)
	var all []models.Session
	for i := range 250 { // more than at once
		person := w.person(fmt.Sprintf("person%d@example.com", i))
		if i%3 > 0 { // some have none
			all = append(all, w.start(person))
		}
	}
	require.NoError(t, w.Sessions.End(t.Context(), all[0].ID, models.EndedByLogout))

	n, err := w.Sessions.EndAll(t.Context(), uuid.Nil)

	require.NoError(t, err)
	require.Equal(t, len(all)-1, n)
	require.Equal(t, len(all), w.inactive(all))
	w.sweep()
	require.Equal(t, len(all)-1, w.count("ends WHERE reason = 'operator'"))
	n, err = w.Sessions.EndAll(t.Context(), uuid.Nil)
	require.NoError(t, err)
	require.Zero(t, n)
	require.Zero(t, w.count("sweeps"))
}

func TestOldestSessionsBeyondTheLimitEnd(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.person("ada@example.com"), w.person("bob@example.com")
	bobs := w.start(bob)
	start := func(limit int) models.Session {
		w.now = w.now.Add(time.Second)
		in := w.signIn(ada)
		in.Limit = limit
		session, err := w.Sessions.Start(t.Context(), in)
		require.NoError(t, err)
		require.True(t, session.Active(w.now))
		return session
	}
	var all []models.Session
	active := func() (which []int) {
		for i := range all {
			if w.active(all[i]) {
				which = append(which, i)
			}
		}
		return which
	}
	for range 5 {
		all = append(all, start(0))
	}
	require.Equal(t, []int{0, 1, 2, 3, 4}, active(), "0 is for any number")
	all = append(all, start(6))
	require.Equal(t, []int{0, 1, 2, 3, 4, 5}, active(), "as many as may be")
	all = append(all, start(6))
	require.Equal(t, []int{1, 2, 3, 4, 5, 6}, active())
	require.Equal(t, models.EndedByLimit, w.stored(all[0]).EndReason)

	require.NoError(t, w.Sessions.End(t.Context(), all[3].ID, models.EndedByLogout))
	all = append(all, start(6))
	require.Equal(t, []int{1, 2, 4, 5, 6, 7}, active(), "what has ended takes no place")
	all = append(all, start(3))
	require.Equal(t, []int{6, 7, 8}, active())

	n, err := w.Sessions.EndOthers(t.Context(), ada.ID, all[7].ID)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	all = append(all, start(2), start(2))
	require.Equal(t, []int{9, 10}, active(), "the one that was kept is the oldest")

	in := w.signIn(ada)
	in.Limit, in.Replaces = 2, []uuid.UUID{all[10].ID}
	session, err := w.Sessions.Start(t.Context(), in)
	require.NoError(t, err)
	all = append(all, session)
	require.Equal(t, []int{9, 11}, active(), "the one that is replaced takes no place")

	w.now = w.now.Add(2 * time.Hour) // all have expired, and nobody has marked them
	all = append(all, start(2), start(2))
	require.Equal(t, []int{12, 13}, active())
	require.NotEqual(t, models.EndedByLimit, w.stored(all[9]).EndReason)
	all = append(all, start(1))
	require.Equal(t, []int{14}, active())
	require.Equal(t, models.Expired, w.stored(all[9]).EndReason)
	require.True(t, w.active(bobs) == false && w.stored(bobs).EndReason == "", "nobody else's")
}

func TestLimitHoldsForThoseWhoSignInAtOnce(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	in := w.signIn(ada)
	in.Limit = 3
	sessions := make([]models.Session, 12)
	for _, err := range together(len(sessions), func(i int) (err error) {
		sessions[i], err = w.Sessions.Start(t.Context(), in)
		return err
	}) {
		require.NoError(t, err)
	}
	require.Equal(t, len(sessions)-3, w.inactive(sessions))
	slices.SortFunc(sessions, func(x, y models.Session) int { return int(y.Number - x.Number) })
	require.Zero(t, w.inactive(sessions[:3]), "the last ones are left")
}

// The version before gives its sessions no number.
func TestSessionsOfTheVersionBefore(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	old := w.many(ada, 5)
	require.NoError(t, w.db.Exec("UPDATE sessions SET number = 0").Error)
	require.NoError(t, w.db.Exec("UPDATE identities SET last_session_number = 0").Error)
	require.Zero(t, w.inactive(old))
	w.now = w.now.Add(time.Minute)
	in := w.signIn(ada)
	in.Limit = 2
	for range 2 {
		_, err := w.Sessions.Start(t.Context(), in)
		require.NoError(t, err)
	}
	require.Equal(t, 5, w.inactive(old), "they end together")

	kept := w.many(ada, 1)[0]
	require.NoError(t, w.db.Exec("UPDATE sessions SET number = 0 WHERE id = ?", kept.ID).Error)
	require.False(t, w.active(kept), "started there, below the floor")
	found, err := w.Sessions.ByIDs(t.Context(), []uuid.UUID{kept.ID})
	require.NoError(t, err)
	require.NotNil(t, found[0].EndedAt)
	require.NotEmpty(t, found[0].EndReason)
	_, err = w.Sessions.EndOthers(t.Context(), ada.ID, kept.ID)
	require.NoError(t, err)
	require.False(t, w.active(kept), "it isn't revived")

	bob := w.person("bob@example.com")
	bobs := w.many(bob, 2)
	require.NoError(t, w.db.Exec("UPDATE sessions SET number = 0 WHERE identity_id = ?", bob.ID).Error)
	require.NoError(t, w.db.Exec("UPDATE identities SET last_session_number = 0 WHERE id = ?", bob.ID).Error)
	n, err := w.Sessions.EndOthers(t.Context(), bob.ID, bobs[1].ID)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, []bool{false, true}, []bool{w.active(bobs[0]), w.active(bobs[1])})
}

// What the version before has started below the floor still ends for apps and streams.
func TestSessionBelowTheFloorThatNoSweepWaitsForEnds(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	_, err := w.Sessions.EndOthers(t.Context(), ada.ID, uuid.Nil)
	require.NoError(t, err)
	old := w.many(ada, 2)
	require.NoError(t, w.db.Exec("UPDATE sessions SET number = 0").Error)
	require.NoError(t, w.Sessions.End(t.Context(), old[0].ID, models.EndedByLogout))
	require.Equal(t, models.EndedByLogout, w.stored(old[0]).EndReason)
	w.now = w.now.Add(2 * time.Hour)
	n, err := w.Sessions.Expire(t.Context(), 10)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, models.Expired, w.stored(old[1]).EndReason)
}

func TestEndOthersOfOneThatHasEndedRevivesNothing(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	sessions := w.many(ada, 300)
	_, err := w.Sessions.EndAll(t.Context(), ada.ID)
	require.NoError(t, err)
	for _, keep := range []models.Session{sessions[0], sessions[299]} { // swept, and not yet
		_, err := w.Sessions.Sweep(t.Context(), 100)
		require.NoError(t, err)
		n, err := w.Sessions.EndOthers(t.Context(), ada.ID, keep.ID)
		require.NoError(t, err)
		require.Zero(t, n)
		require.False(t, w.active(keep))
	}
	w.sweep()
	require.Equal(t, 300, w.count("ends WHERE reason = 'operator'"))
}

func TestEndOthersBesideSignIns(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada@example.com")
	kept := w.start(ada)
	in := w.signIn(ada)
	var mu sync.Mutex
	var started []models.Session
	var ended int
	for _, err := range together(8, func(i int) error {
		for range 5 {
			if i%2 == 0 {
				session, err := w.Sessions.Start(t.Context(), in)
				if err != nil {
					return err
				}
				mu.Lock()
				started = append(started, session)
				mu.Unlock()
				continue
			}
			n, err := w.Sessions.EndOthers(t.Context(), ada.ID, kept.ID)
			if err != nil {
				return err
			}
			mu.Lock()
			ended += n
			mu.Unlock()
		}
		return nil
	}) {
		require.NoError(t, err)
	}
	w.sweep()
	require.True(t, w.active(kept))
	inactive := w.inactive(started)
	require.Equal(t, inactive, ended, "each is counted once")
	require.Equal(t, inactive, w.count("ends"), "and there is a notice of each")
	after, err := w.Sessions.Start(t.Context(), in)
	require.NoError(t, err)
	require.True(t, w.active(after))
}
