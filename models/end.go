package models

import (
	"context"
	"fmt"
	"time"

	"github.com/gofrs/uuid/v5"
	"gorm.io/gorm"

	"latchkey/db"
)

// Reason is why a session ended.
type Reason string

// The reasons.
const (
	EndedByLogout         Reason = "logout"          // the person signed out of it
	EndedByPerson         Reason = "ended_elsewhere" // the person ended it from another session
	EndedByNewLogin       Reason = "new_login"       // somebody signed in on the same browser
	EndedByPasswordChange Reason = "password_changed"
	EndedByDisabling      Reason = "disabled"
	EndedByOperator       Reason = "operator"
	EndedByDeletion       Reason = "deleted"  // the account was deleted
	EndedByLimit          Reason = "too_many" // the person had more than SignIn.Limit
	Expired               Reason = "expired"
)

// Reasons returns all of them.
func Reasons() []Reason {
	return []Reason{EndedByLogout, EndedByPerson, EndedByNewLogin, EndedByPasswordChange, EndedByDisabling,
		EndedByOperator, EndedByDeletion, EndedByLimit, Expired}
}

// Ended are the sessions that one transaction marked as ended. Only ID, IdentityID and EndReason are set.
type Ended []Session

// By returns how many have ended for a reason.
func (e Ended) By(why Reason) (n int) {
	for i := range e {
		if e[i].EndReason == why {
			n++
		}
	}
	return n
}

// End ends the session for the given reason. It is safe to call twice: the first reason stands.
// It returns ErrNotFound if there never was such a session.
func (s Sessions) End(ctx context.Context, id uuid.UUID, why Reason) error {
	n, err := s.end(ctx, why, "id = ?", id)
	if err == nil && n == 0 {
		_, err = gorm.G[Session](s.db.Query(ctx)).Select("id").Where("id = ?", id).Take(ctx)
	}
	if err != nil {
		return fmt.Errorf("end session %s: %w", id, notFound(err))
	}
	return nil
}

// EndOwn ends a person's own session for the reason EndedByPerson. It returns ErrNotFound if the session
// doesn't exist or belongs to another person.
func (s Sessions) EndOwn(ctx context.Context, person, id uuid.UUID) error {
	_, err := gorm.G[Session](s.db.Query(ctx)).Select("id").Where("id = ? AND identity_id = ?", id, person).Take(ctx)
	if err != nil {
		return fmt.Errorf("end session %s: %w", id, notFound(err))
	}
	return s.End(ctx, id, EndedByPerson)
}

// EndOthers ends all sessions of a person but one and returns how many it ended.
func (s Sessions) EndOthers(ctx context.Context, person, keep uuid.UUID) (int, error) {
	n, err := s.endMany(ctx, EndedByPerson, person, keep)
	if err != nil {
		return 0, fmt.Errorf("end the other sessions of %s: %w", person, err)
	}
	return n, nil
}

// EndAll ends all sessions of a person, or of everybody if person is uuid.Nil, for the reason
// EndedByOperator. It returns how many it ended, also if it returns an error.
func (s Sessions) EndAll(ctx context.Context, person uuid.UUID) (int, error) {
	if person == uuid.Nil {
		return s.endEverybodys(ctx)
	}
	n, err := s.endMany(ctx, EndedByOperator, person, uuid.Nil)
	if err != nil {
		return 0, fmt.Errorf("end the sessions of %s: %w", person, err)
	}
	return n, nil
}

func (s Sessions) endMany(ctx context.Context, why Reason, person, keep uuid.UUID) (int, error) {
	n, err := s.update(ctx, func(tx *db.Tx) (int, error) { return raiseFloor(ctx, tx, s.now(), why, person, keep) })
	if err == nil {
		s.sweepFirst(ctx, person, n)
	}
	return n, err
}

// peopleAtOnce keeps an end of everybody's sessions from holding up those who sign in.
const peopleAtOnce = 100

// endEverybodys ends the sessions of peopleAtOnce people at a time. Sessions started meanwhile may stay
// active.
func (s Sessions) endEverybodys(ctx context.Context) (total int, err error) {
	defer func() { s.sweepFirst(ctx, uuid.Nil, total) }()
	for after := uuid.Nil; ; {
		people, err := gorm.G[Identity](s.db.Query(ctx)).Select("id").
			Where("id > ? AND EXISTS (SELECT 1 FROM sessions WHERE identity_id = identities.id AND number >= session_floor AND ended_at IS NULL)", after).
			Order("id").Limit(peopleAtOnce).Find(ctx)
		if err != nil {
			return total, fmt.Errorf("find people with sessions: %w", err)
		}
		if len(people) == 0 {
			return total, nil
		}
		n, err := s.endAllOf(ctx, people)
		if err != nil {
			return total, fmt.Errorf("end everybody's sessions: %w", err)
		}
		total, after = total+n, people[len(people)-1].ID
	}
}

func (s Sessions) endAllOf(ctx context.Context, people []Identity) (ended int, err error) {
	return s.update(ctx, func(tx *db.Tx) (int, error) {
		ended, now := 0, s.now()
		for i := range people {
			n, err := raiseFloor(ctx, tx, now, EndedByOperator, people[i].ID, uuid.Nil)
			if err != nil {
				return 0, err
			}
			ended += n
		}
		return ended, nil
	})
}

// Expire marks up to limit expired sessions as ended, which notifies streams and apps, and returns how
// many. They had stopped signing anybody in when they expired.
func (s Sessions) Expire(ctx context.Context, limit int) (int, error) {
	const due = "ended_at IS NULL AND expires_at <= ? AND " + notToBeSwept
	// Check first, since that takes no write lock.
	found, err := gorm.G[Session](s.db.Query(ctx)).Select("id").Where(due, s.now()).Limit(1).Find(ctx)
	n := 0
	if err == nil && len(found) > 0 {
		var ended Ended
		ended, err = s.ending(ctx, func(tx *db.Tx) (Ended, error) {
			now := s.now()
			return end(ctx, tx, now, Expired, "id IN (SELECT id FROM sessions WHERE "+due+" LIMIT ?) AND expires_at <= ?", now, limit, now)
		})
		n = ended.By(Expired)
	}
	if err != nil {
		return 0, fmt.Errorf("end expired sessions: %w", err)
	}
	return n, nil
}

func (s Sessions) end(ctx context.Context, why Reason, which string, args ...any) (int, error) {
	ended, err := s.ending(ctx, func(tx *db.Tx) (Ended, error) { return end(ctx, tx, s.now(), why, which, args...) })
	return ended.By(why), err
}

// end marks the sessions that match which as ended. It must run in a transaction of ending. It marks expired
// ones too: otherwise a late call of Seen, or a clock that is set back, could revive them.
func end(ctx context.Context, tx *db.Tx, now time.Time, why Reason, which string, args ...any) (Ended, error) {
	sessions, err := markEnded(ctx, tx, now, why, "("+which+") AND "+notToBeSwept, args...)
	if err != nil {
		return nil, err
	}
	return notifyOf(ctx, tx, now, sessions)
}

// markEnded is the only place where sessions are marked as ended: at the given time, or at their expiry if
// that was earlier. One statement checks and writes, so that Seen can't move the expiry in between.
func markEnded(ctx context.Context, tx *db.Tx, at time.Time, why Reason, which string, args ...any) (sessions []Session, err error) {
	err = tx.WithContext(ctx).Raw(`UPDATE sessions SET ended_at = CASE WHEN expires_at > ? THEN ? ELSE expires_at END,
		expires_at = CASE WHEN expires_at > ? THEN ? ELSE expires_at END, end_reason = CASE WHEN expires_at > ? THEN ? ELSE ? END
		WHERE `+which+" AND ended_at IS NULL RETURNING id, identity_id, end_reason", append([]any{at, at, at, at, at, why, Expired}, args...)...).
		Scan(&sessions).Error
	return sessions, err
}

// notifyOf leaves notices of sessions that have been marked, for streams and apps, and returns the sessions.
func notifyOf(ctx context.Context, tx *db.Tx, now time.Time, sessions []Session) (Ended, error) {
	if len(sessions) == 0 {
		return nil, nil
	}
	if err := recordEnds(ctx, tx, now, sessions); err != nil {
		return nil, err
	}
	return sessions, queueDeliveries(ctx, tx, now, sessions)
}

// End is the notice of a session's end, for streams that wait for it. It is kept for a short time.
type End struct {
	Seq       int64 `gorm:"primaryKey"`
	SessionID uuid.UUID
	Reason    Reason
	At        time.Time
}

// Ends stores the recent ends, of all processes.
type Ends struct{ table }

func recordEnds(ctx context.Context, tx *db.Tx, now time.Time, sessions []Session) error {
	ends := make([]End, len(sessions))
	for i := range sessions {
		ends[i] = End{SessionID: sessions[i].ID, Reason: sessions[i].EndReason, At: now}
	}
	return insertAll(ctx, tx, ends)
}

// endsChannel is the PostgreSQL channel on which instances notify each other of new ends.
const endsChannel = "latchkey_ends"

// Listen calls heard whenever there may be new ends, and once at the start, when notifications are known
// to arrive. It returns an error when the connection is lost or ctx is done, and db.ErrNoNotices if
// notifications don't arrive. On SQLite it returns nil immediately, and the caller has to poll.
func (s Ends) Listen(ctx context.Context, heard func()) error {
	if err := s.db.Listen(ctx, endsChannel, heard); err != nil {
		return fmt.Errorf("listen for ends: %w", err)
	}
	return nil
}

// Last returns the Seq of the latest end, or 0 if there is none.
func (s Ends) Last(ctx context.Context) (int64, error) {
	last, err := gorm.G[End](s.db.Query(ctx)).Order("seq DESC").Limit(1).Find(ctx)
	if err != nil {
		return 0, fmt.Errorf("find the last end: %w", err)
	}
	if len(last) == 0 {
		return 0, nil
	}
	return last[0].Seq, nil
}

// After returns up to limit ends with a higher Seq, in order.
func (s Ends) After(ctx context.Context, seq int64, limit int) ([]End, error) {
	ends, err := gorm.G[End](s.db.Query(ctx)).Where("seq > ?", seq).Order("seq").Limit(limit).Find(ctx)
	if err != nil {
		return nil, fmt.Errorf("find ends: %w", err)
	}
	return ends, nil
}

// Prune removes up to limit ends older than before and returns how many it removed.
func (s Ends) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	n, err := s.update(ctx, func(tx *db.Tx) (int, error) {
		return gorm.G[End](tx.DB).Where("seq IN (SELECT seq FROM ends WHERE at < ? LIMIT ?)", before.UTC(), limit).Delete(ctx)
	})
	if err != nil {
		return 0, fmt.Errorf("remove old ends: %w", err)
	}
	return n, nil
}
