package live

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/gofrs/uuid/v5"

	"latchkey/app/outage"
	"latchkey/db"
	"latchkey/models"
)

// tail is the position up to which the ends have been read.
type tail struct {
	known bool
	last  int64
	holes []hole
}

// hole is a place in the sequence where a number was missing. On PostgreSQL a number is drawn
// before its transaction is committed, and may become visible after higher ones. So it is
// looked for again, for longer than such a transaction should take; if one takes even longer, the
// recheck finds the end.
type hole struct {
	after int64
	until time.Time
}

const (
	// readEndsEvery is how long it may take to notice that another process has ended a session.
	readEndsEvery = 500 * time.Millisecond
	// readEndsAnyway is the interval while the database sends notifications, which may get lost.
	readEndsAnyway  = 5 * time.Second
	readEndsTimeout = 5 * time.Second
	endsBatch       = 1000
	// recheckEvery is how often every stream's session is looked up, to find ends that were committed too
	// late or removed while the database was unavailable.
	recheckEvery = time.Minute
	recheckBatch = 500

	holeOpen = 10 * time.Second
	// unseenTail is how many numbers may be drawn but not yet visible when reading begins.
	unseenTail = 500
)

// follow starts reading the ends, unless they are being read already.
func (all *streams) follow(ctx context.Context) error {
	all.reading.Lock()
	defer all.reading.Unlock()
	if all.tail.known {
		return nil
	}
	last, err := all.store.Ends.Last(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	all.tail = tail{known: true, last: last, holes: []hole{{after: last - unseenTail, until: now.Add(holeOpen)}}}
	all.checked = now
	return nil
}

const (
	// listenAgain is the pause after listening has failed.
	listenAgain = 2 * time.Second
	// listenAnyway is the pause if the database doesn't deliver notifications, which is no failure.
	listenAnyway = 10 * time.Minute
)

// listen makes run read the ends of other instances at once, if the database sends notifications, until
// ctx is done.
func (all *streams) listen(ctx context.Context) {
	failing := outage.New(all.log, "listening for ends on other instances, now polled every "+readEndsEvery.String()+",")
	told := false
	for ctx.Err() == nil {
		err := all.store.Ends.Listen(ctx, func() {
			failing.Report(ctx, nil)
			all.notified.Store(true)
			all.wake()
		})
		if err == nil {
			return
		}
		pause := listenAgain
		if errors.Is(err, db.ErrNoNotices) {
			pause = listenAnyway
			if !told {
				all.log.Info("the database doesn't deliver notifications, as behind a pooler: ends on other instances are polled every " + readEndsEvery.String())
			}
			told = true
		} else {
			failing.Report(ctx, err)
		}
		all.notified.Store(false)
		all.wake()
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

func (all *streams) read(ctx context.Context) {
	all.reading.Lock()
	defer all.reading.Unlock()
	if all.openCount() == 0 {
		all.tail = tail{}
	}
	if !all.tail.known {
		return
	}
	timely, cancel := context.WithTimeout(ctx, readEndsTimeout)
	defer cancel()
	err := all.readEnds(timely)
	if err == nil {
		err = all.recheck(timely)
	}
	all.outage.Report(ctx, err)
}

// readEnds tells the streams about all ends since the last time, including those that became visible late.
func (all *streams) readEnds(ctx context.Context) error {
	t := &all.tail
	from := t.last
	if len(t.holes) > 0 {
		from = t.holes[0].after
	}
	for {
		ends, err := all.store.Ends.After(ctx, from, endsBatch)
		if err != nil {
			return err
		}
		now := time.Now()
		for _, end := range ends {
			all.finish(end.SessionID, end.Reason)
			if end.Seq > t.last+1 {
				t.holes = append(t.holes, hole{after: t.last, until: now.Add(holeOpen)})
			}
			t.last, from = max(t.last, end.Seq), end.Seq
		}
		if len(ends) < endsBatch {
			t.holes = slices.DeleteFunc(t.holes, func(h hole) bool { return h.until.Before(now) })
			return nil
		}
	}
}

// recheck looks up the sessions that may have expired, and periodically all.
func (all *streams) recheck(ctx context.Context) error {
	begun := time.Now()
	everyone := begun.Sub(all.checked) >= recheckEvery || all.outage.Failing()
	for ids := range slices.Chunk(all.due(everyone), recheckBatch) {
		found, err := all.store.Sessions.ByIDs(ctx, ids)
		if err != nil {
			return err
		}
		all.settle(ids, found)
	}
	if everyone {
		all.checked = begun
	}
	return nil
}

// due returns the sessions of streams that have expired as far as is known, or all.
func (all *streams) due(everyone bool) []uuid.UUID {
	now := all.now()
	all.mu.Lock()
	defer all.mu.Unlock()
	var ids []uuid.UUID
	for id, open := range all.bySession {
		if everyone || slices.ContainsFunc(open, func(s *stream) bool { return !now.Before(s.expiresAt) }) {
			ids = append(ids, id)
		}
	}
	return ids
}

// settle finishes the streams of sessions that have ended, and updates the expiry of the others.
func (all *streams) settle(ids []uuid.UUID, found []models.Session) {
	now := all.now()
	left := make(map[uuid.UUID]models.Session, len(found))
	for _, session := range found {
		left[session.ID] = session
	}
	for _, id := range ids {
		switch session, ok := left[id]; {
		case !ok:
			all.finish(id, models.EndedByDeletion)
		case session.EndedAt != nil:
			all.finish(id, session.EndReason)
		case !now.Before(session.ExpiresAt):
			all.finish(id, models.Expired)
		default:
			all.setExpiry(id, session.ExpiresAt)
		}
	}
}

func (all *streams) setExpiry(session uuid.UUID, until time.Time) {
	all.mu.Lock()
	defer all.mu.Unlock()
	for _, s := range all.bySession[session] {
		s.expiresAt = until
	}
}
