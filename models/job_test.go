package models

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"latchkey/db"
	"latchkey/test/kit"
)

// letter is a row of a queue that is not Deliveries.
type letter struct {
	Job
	Address string
	Text    string
}

// letters is a queue of them, on a database of its own, with a clock that the test sets.
type letters struct {
	queue
	t    *testing.T
	gorm *gorm.DB
	at   time.Time
}

func newLetters(t *testing.T) *letters {
	t.Helper()
	database, err := db.Open(t.Context(), kit.DatabaseURL(t, filepath.Join(t.TempDir(), "latchkey.db")))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, database.Close()) })
	l := &letters{t: t, gorm: database.Query(t.Context()), at: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)}
	require.NoError(t, l.gorm.AutoMigrate(&letter{}))
	l.queue = queue{table: table{db: database, now: func() time.Time { return l.at }}, name: "letters", recipient: "address"}
	return l
}

func (l *letters) write(address string, n int) {
	l.t.Helper()
	for range n {
		job, err := newJob(l.at)
		require.NoError(l.t, err)
		require.NoError(l.t, l.gorm.Create(&letter{Job: job, Address: address, Text: "hello"}).Error)
	}
}

func (l *letters) claim(address string, limit int) []letter {
	l.t.Helper()
	claimed, err := claim[letter](l.t.Context(), l.queue, address, limit, time.Minute)
	require.NoError(l.t, err)
	return claimed
}

func (l *letters) all() (all []letter) {
	l.t.Helper()
	require.NoError(l.t, l.gorm.Order("created_at, id").Find(&all).Error)
	return all
}

func (l *letters) requireDue(want ...string) {
	l.t.Helper()
	due, err := l.due(l.t.Context())
	require.NoError(l.t, err)
	require.Equal(l.t, want, due)
}

func TestJobIsClaimedForAsLongAsItsLease(t *testing.T) {
	l := newLetters(t)
	l.requireDue()
	l.write("bob@example.com", 3)
	l.write("ada@example.com", 1)
	l.requireDue("ada@example.com", "bob@example.com")

	claimed := l.claim("bob@example.com", 2)

	require.Len(t, claimed, 2)
	require.Equal(t, 1, claimed[0].Attempts)
	require.Equal(t, "hello", claimed[0].Text)
	require.Len(t, l.claim("bob@example.com", 2), 1)
	require.Empty(t, l.claim("bob@example.com", 2))
	l.requireDue("ada@example.com")
	l.at = l.at.Add(time.Minute)
	l.requireDue("ada@example.com", "bob@example.com")
	again := l.claim("bob@example.com", 5)
	require.Len(t, again, 3)
	require.Equal(t, 2, again[0].Attempts)
}

func TestJobIsSettledByTheLastWhoClaimedIt(t *testing.T) {
	l := newLetters(t)
	l.write("ada@example.com", 1)
	lost := l.claim("ada@example.com", 1)[0]
	l.at = l.at.Add(time.Minute)
	claimed := l.claim("ada@example.com", 1)[0]

	lost.State, lost.Note = Refused, "late"
	require.NoError(t, l.settle(t.Context(), lost.Job))
	require.NoError(t, l.release(t.Context(), lost.Job))
	require.Equal(t, claimed.Job.Attempts, l.all()[0].Attempts)
	require.Equal(t, Pending, l.all()[0].State)

	claimed.NextAt, claimed.Status, claimed.Note = l.at.Add(time.Hour), 450, "try later"
	require.NoError(t, l.settle(t.Context(), claimed.Job))
	stored := l.all()[0]
	require.Equal(t, 450, stored.Status)
	require.Equal(t, "try later", stored.Note)
	l.requireDue()
	l.at = l.at.Add(time.Hour)
	l.requireDue("ada@example.com")
}

func TestJobThatIsReleasedWasNotAttempted(t *testing.T) {
	l := newLetters(t)
	l.write("ada@example.com", 1)

	require.NoError(t, l.release(t.Context(), l.claim("ada@example.com", 1)[0].Job))

	require.Zero(t, l.all()[0].Attempts)
	l.requireDue("ada@example.com")
}

func TestJobIsRetriedWhateverCameOfIt(t *testing.T) {
	l := newLetters(t)
	l.write("ada@example.com", 2)
	for _, state := range []DeliveryState{GivenUp, Delivered} {
		j := l.claim("ada@example.com", 1)[0].Job
		j.State = state
		require.NoError(t, l.settle(t.Context(), j))
	}
	l.at = l.at.Add(25 * time.Hour)

	n, err := l.retryAll(t.Context(), "ada@example.com")
	require.NoError(t, err)
	require.Equal(t, 1, n, "one was delivered")
	for _, letter := range l.all() {
		if letter.State == Delivered {
			require.NoError(t, l.retry(t.Context(), letter.ID))
		}
	}

	claimed := l.claim("ada@example.com", 5)
	require.Len(t, claimed, 2)
	require.Equal(t, 1, claimed[0].Attempts)
	require.True(t, claimed[0].GiveUpAt.Equal(l.at.Add(keepTrying)))
	job, err := newJob(l.at)
	require.NoError(t, err)
	require.ErrorIs(t, l.retry(t.Context(), job.ID), ErrNotFound)
}

func TestJobIsDueThoughTheClockWasSetBack(t *testing.T) {
	l := newLetters(t)
	l.write("ada@example.com", 1)
	l.at = l.at.Add(-24 * time.Hour)
	l.requireDue()

	n, err := l.reschedule(t.Context(), time.Hour, time.Minute)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	l.requireDue("ada@example.com")

	n, err = l.reschedule(t.Context(), time.Hour, time.Minute)
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestJobsThatAreOverArePrunedAndCountedNoMore(t *testing.T) {
	l := newLetters(t)
	l.write("ada@example.com", 3)
	l.at = l.at.Add(time.Hour)
	pending, late, err := l.backlog(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, pending)
	require.Equal(t, time.Hour, late)
	for _, letter := range l.claim("ada@example.com", 3) {
		letter.State = Delivered
		require.NoError(t, l.settle(t.Context(), letter.Job))
	}
	pending, late, err = l.backlog(t.Context())
	require.NoError(t, err)
	require.Zero(t, pending)
	require.Zero(t, late)

	for _, want := range []int{2, 1, 0} {
		n, err := l.prune(t.Context(), l.at.Add(time.Hour), 2)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
}
