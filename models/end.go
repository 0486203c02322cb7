package models

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"
)

// Reason is what ended a session.
type Reason string

// The reasons for which a session ends.
const (
	EndedByLogout         Reason = "logout"          // signed out, there
	EndedByPerson         Reason = "ended_elsewhere" // by its person, from another session
	EndedByNewLogin       Reason = "new_login"       // somebody signed in on the same browser
	EndedByPasswordChange Reason = "password_changed"
	EndedByDisabling      Reason = "disabled"
	EndedByOperator       Reason = "operator"
	EndedByDeletion       Reason = "deleted" // with the account
	Expired               Reason = "expired"
)

// Reasons returns all of them.
func Reasons() []Reason {
	return []Reason{EndedByLogout, EndedByPerson, EndedByNewLogin, EndedByPasswordChange, EndedByDisabling,
		EndedByOperator, EndedByDeletion, Expired}
}

// Ended is how many sessions have ended together, by reason.
type Ended map[Reason]int

func (e Ended) and(others Ended) Ended {
	all := Ended{}
	for _, part := range []Ended{e, others} {
		for why, n := range part {
			all[why] += n
		}
	}
	return all
}

// End ends the session for the given reason. It is safe to call twice: the first reason stands.
// It returns ErrNotFound if there never was such a session.
func (s Sessions) End(ctx context.Context, id uuid.UUID, why Reason) error {
	n, err := s.end(ctx, why, "id = ?", id)
	if err == nil && n == 0 {
		_, err = gorm.G[Session](s.db).Select("id").Where("id = ?", id).Take(ctx)
	}
	if err != nil {
		return fmt.Errorf("end session %s: %w", id, notFound(err))
	}
	return nil
}

// EndOwn is End for a session that must be this person's: anybody else's is ErrNotFound.
func (s Sessions) EndOwn(ctx context.Context, person, id uuid.UUID) error {
	_, err := gorm.G[Session](s.db).Select("id").Where("id = ? AND identity_id = ?", id, person).Take(ctx)
	if err != nil {
		return fmt.Errorf("end session %s: %w", id, notFound(err))
	}
	return s.End(ctx, id, EndedByPerson)
}

// EndOthers ends all sessions of a person but one and returns how many it ended.
func (s Sessions) EndOthers(ctx context.Context, person, keep uuid.UUID) (int, error) {
	n, err := s.end(ctx, EndedByPerson, "identity_id = ? AND id <> ?", person, keep)
	if err != nil {
		return 0, fmt.Errorf("end the other sessions of %s: %w", person, err)
	}
	return n, nil
}

// CountOlder returns how many active sessions EndOlder would end.
func (s Sessions) CountOlder(ctx context.Context, person uuid.UUID, upTo time.Time) (int, error) {
	n, err := gorm.G[Session](s.db).Where("identity_id = ? AND authenticated_at <= ? AND ended_at IS NULL AND expires_at > ?",
		person, upTo.UTC(), s.now()).Count(ctx, "id")
	if err != nil {
		return 0, fmt.Errorf("count the older sessions of %s: %w", person, err)
	}
	return int(n), nil
}

// EndOlder ends the sessions of a person that began up to a time, and returns how many it ended.
func (s Sessions) EndOlder(ctx context.Context, person uuid.UUID, upTo time.Time) (int, error) {
	n, err := s.end(ctx, EndedByPerson, "identity_id = ? AND authenticated_at <= ?", person, upTo.UTC())
	if err != nil {
		return 0, fmt.Errorf("end the older sessions of %s: %w", person, err)
	}
	return n, nil
}

// EndEverywhere signs a person out of the session they are using and of all others, and returns how
// many others it ended.
func (s Sessions) EndEverywhere(ctx context.Context, person, here uuid.UUID) (others int, _ error) {
	now := s.now()
	ended, err := s.ending(ctx, func(tx *gorm.DB) (Ended, error) {
		this, err := end(ctx, tx, now, EndedByLogout, "identity_id = ? AND id = ?", person, here)
		if err != nil {
			return nil, err
		}
		rest, err := end(ctx, tx, now, EndedByPerson, "identity_id = ? AND id <> ?", person, here)
		return this.and(rest), err
	})
	if err != nil {
		return 0, fmt.Errorf("end the sessions of %s: %w", person, err)
	}
	return ended[EndedByPerson], nil
}

// endBatch keeps an end of many sessions from holding up everybody's sign-ins.
const endBatch = 1000

// EndAll ends the sessions of one person, or with uuid.Nil everybody's, and returns how many it
// ended. It is the operator's.
func (s Sessions) EndAll(ctx context.Context, person uuid.UUID) (int, error) {
	total := 0
	for {
		n, err := s.end(ctx, EndedByOperator, `id IN (SELECT id FROM sessions
			WHERE (identity_id = ? OR ?) AND ended_at IS NULL AND expires_at > ? LIMIT ?)`,
			person, person == uuid.Nil, s.now(), endBatch)
		if err != nil {
			return total, fmt.Errorf("end all sessions: %w", err)
		}
		if n == 0 {
			return total, nil
		}
		total += n
	}
}

// Expire ends up to limit sessions whose time has run out, and returns how many it ended. Nobody
// is signed in by them any more; now others are told.
func (s Sessions) Expire(ctx context.Context, limit int) (int, error) {
	const due = "ended_at IS NULL AND expires_at <= ?"
	// Looking takes no turn from those who write.
	found, err := gorm.G[Session](s.db).Select("id").Where(due, s.now()).Limit(1).Find(ctx)
	n := 0
	if err == nil && len(found) > 0 {
		var ended Ended
		ended, err = s.ending(ctx, func(tx *gorm.DB) (Ended, error) {
			now := s.now()
			return expire(ctx, tx, now, "id IN (SELECT id FROM sessions WHERE "+due+" LIMIT ?)", now, limit)
		})
		n = ended[Expired]
	}
	if err != nil {
		return 0, fmt.Errorf("end expired sessions: %w", err)
	}
	return n, nil
}

func (s Sessions) end(ctx context.Context, why Reason, which string, args ...any) (int, error) {
	ended, err := s.ending(ctx, func(tx *gorm.DB) (Ended, error) { return end(ctx, tx, s.now(), why, which, args...) })
	return ended[why], err
}

// end is the one place in which sessions end, and must run in a transaction of ending. Those that have
// expired are marked as ended too, or a late note of their use (Seen) or a clock that is set back would
// revive what was ended.
func end(ctx context.Context, tx *gorm.DB, now time.Time, why Reason, which string, args ...any) (Ended, error) {
	return markEnded(ctx, tx, now, why, "("+which+") AND ended_at IS NULL", args...)
}

// expire marks those as ended whose time has run out.
func expire(ctx context.Context, tx *gorm.DB, now time.Time, which string, args ...any) (Ended, error) {
	return markEnded(ctx, tx, now, Expired, "("+which+") AND ended_at IS NULL AND expires_at <= ?", append(args, now)...)
}

// markEnded ends sessions, and leaves word of it for streams and apps. It is one statement, which finds
// out as well which of them had expired before: between two, a note of use could slip through both.
func markEnded(ctx context.Context, tx *gorm.DB, now time.Time, why Reason, which string, args ...any) (Ended, error) {
	var sessions []Session
	err := tx.WithContext(ctx).Raw(`UPDATE sessions SET ended_at = CASE WHEN expires_at > ? THEN ? ELSE expires_at END,
		expires_at = CASE WHEN expires_at > ? THEN ? ELSE expires_at END, end_reason = CASE WHEN expires_at > ? THEN ? ELSE ? END
		WHERE `+which+" RETURNING id, identity_id, end_reason", append([]any{now, now, now, now, now, why, Expired}, args...)...).Scan(&sessions).Error
	if err != nil || len(sessions) == 0 {
		return nil, err
	}
	if err := noteEnds(ctx, tx, now, sessions); err != nil {
		return nil, err
	}
	ended := Ended{}
	for i := range sessions {
		ended[sessions[i].EndReason]++
	}
	return ended, queueDeliveries(ctx, tx, now, sessions)
}

// End is the word of a session's end, for those who wait for it. It is kept for a short time.
type End struct {
	Seq       int64 `gorm:"primaryKey"`
	SessionID uuid.UUID
	Reason    Reason
	At        time.Time
}

// Ends keeps the ends of the last while, whichever process made them.
type Ends struct{ table }

func noteEnds(ctx context.Context, tx *gorm.DB, now time.Time, sessions []Session) error {
	ends := make([]End, len(sessions))
	for i := range sessions {
		ends[i] = End{SessionID: sessions[i].ID, Reason: sessions[i].EndReason, At: now}
	}
	return gorm.G[End](tx).CreateInBatches(ctx, &ends, insertBatch)
}

// insertBatch keeps one statement's variables within what every database takes.
const insertBatch = 500

// channel is where instances on one PostgreSQL tell each other that there are new ends.
const channel = "latchkey_ends"

// notify tells the other instances to look for new ends, where there are any. It comes after the
// commit, since not every database that speaks PostgreSQL's protocol can notify; who is not told looks
// anyway, only later.
func (t table) notify(ctx context.Context) {
	if t.postgres == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, _ = t.postgres.Exec(ctx, "SELECT pg_notify($1, '')", channel) // nothing hangs on it
}

// ErrNoNotices means that PostgreSQL tells nobody of new ends: a pooler is in between, or it is another
// database that speaks its protocol.
var ErrNoNotices = errors.New("the database passes on no notices")

// noticeWithin is how long a notice may take to be believed in.
const noticeWithin = 5 * time.Second

// Listen calls heard whenever there may be new ends, and first when it has made sure that it will hear
// of them. It returns an error when the connection is lost or ctx is done, and nil with SQLite, which
// has to be looked at.
func (s Ends) Listen(ctx context.Context, heard func()) error {
	if s.postgres == nil {
		return nil
	}
	config := s.postgres.Config().ConnConfig
	config.DialFunc = (&net.Dialer{Timeout: config.ConnectTimeout, KeepAlive: noticeWithin}).DialContext // it may be silent for days
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("listen for ends: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // whatever was wrong with it has been said

	err = s.probe(ctx, conn)
	for err == nil {
		heard()
		_, err = conn.WaitForNotification(ctx)
	}
	return fmt.Errorf("listen for ends: %w", err)
}

// probe makes a connection listen, and makes sure that it hears.
func (s Ends) probe(ctx context.Context, conn *pgx.Conn) error {
	timely, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := conn.Exec(timely, "LISTEN "+channel); err != nil {
		return err
	}
	s.notify(ctx)
	timely, cancel = context.WithTimeout(ctx, noticeWithin)
	defer cancel()
	_, err := conn.WaitForNotification(timely)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return ErrNoNotices
	}
	return err
}

// Last returns the number of the latest end, 0 if none is known.
func (s Ends) Last(ctx context.Context) (int64, error) {
	last, err := gorm.G[End](s.db).Order("seq DESC").Limit(1).Find(ctx)
	if err != nil {
		return 0, fmt.Errorf("find the last end: %w", err)
	}
	if len(last) == 0 {
		return 0, nil
	}
	return last[0].Seq, nil
}

// After returns up to limit ends after a number, in order.
func (s Ends) After(ctx context.Context, seq int64, limit int) ([]End, error) {
	ends, err := gorm.G[End](s.db).Where("seq > ?", seq).Order("seq").Limit(limit).Find(ctx)
	if err != nil {
		return nil, fmt.Errorf("find ends: %w", err)
	}
	return ends, nil
}

// Prune removes up to limit ends from before a time; it returns how many.
func (s Ends) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	n, err := s.update(ctx, func(tx *gorm.DB) (int, error) {
		return gorm.G[End](tx).Where("seq IN (SELECT seq FROM ends WHERE at < ? LIMIT ?)", before.UTC(), limit).Delete(ctx)
	})
	if err != nil {
		return 0, fmt.Errorf("remove old ends: %w", err)
	}
	return n, nil
}
