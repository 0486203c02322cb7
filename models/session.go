package models

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/gofrs/uuid/v5"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"latchkey/db"
)

// Session is one sign-in of one person on one browser or client.
type Session struct {
	ID              uuid.UUID
	TokenHash       []byte // SHA-256, so that a leaked database signs nobody in
	IdentityID      uuid.UUID
	Identity        *Identity // nil in what Active and ByIDs return
	AuthenticatedAt time.Time // when it began
	ConfirmedAt     time.Time // when the person last authenticated
	LastSeenAt      time.Time
	ExpiresAt       time.Time // extended by use, up to LatestExpiresAt; once ended, the time of the end
	IdleSeconds     int64
	LatestExpiresAt time.Time
	Remember        bool   // the cookie is persistent
	Method          Method // the one it was started with
	Proofs          Proofs // "" if the previous version started it
	AAL             AAL    // the highest of its proofs
	IPAddress       string
	UserAgent       string
	Number          int64      // counts the person's sessions; 0 if the previous version started it
	EndedAt         *time.Time // also nil for one that a raised floor has ended, until it is swept
	EndReason       Reason

	// Token is the secret that the client holds. It is not stored, so it is set only for a session that
	// has just been started or confirmed, or was found by its token.
	Token string `gorm:"-"`
}

// tokenLength is the length of crypto/rand.Text in bytes: 130 bits in base 32.
const tokenLength = 26

// Active reports whether the session is valid at the given time. It needs Identity.
func (s *Session) Active(now time.Time) bool {
	return s.EndedAt == nil && now.Before(s.ExpiresAt) && s.Identity != nil && s.Identity.Active && s.Number >= s.Identity.SessionFloor
}

// Proved returns the proofs of the session, oldest first.
func (s *Session) Proved() []Proof {
	if s.Proofs == "" {
		return []Proof{{Method: s.Method, AAL: AAL1, At: s.ConfirmedAt}}
	}
	return s.Proofs.List()
}

// Sessions stores the sessions, including those that have ended, until Prune removes them.
type Sessions struct{ table }

// SignIn holds the arguments of Start.
type SignIn struct {
	Identity  Identity
	IPAddress string
	UserAgent string
	Lifetime  time.Duration // at most
	Idle      time.Duration // without use
	Remember  bool          // the cookie is to outlive the browser
	// Proof is how the person has proved who they are. If its credential has changed since, no session
	// is started: a change of password must outrun everybody who knew the old one.
	Proof Proof
	// Replaces are the sessions that the browser had before, which Start ends.
	Replaces []uuid.UUID
	// Limit is how many active sessions the person may have, including this one; Start ends the oldest. 0 for
	// no limit.
	Limit int
}

// Start starts a session with a new token. It returns ErrChanged if the person has been disabled or
// deleted, or the credential of the proof changed or removed.
func (s Sessions) Start(ctx context.Context, in SignIn) (Session, error) {
	id, err := uuid.NewV4()
	if err != nil {
		return Session{}, fmt.Errorf("start a session: %w", err)
	}
	now := s.now()
	session := Session{
		ID: id, Token: rand.Text(), IdentityID: in.Identity.ID, Identity: &in.Identity,
		AuthenticatedAt: now, ConfirmedAt: now, LastSeenAt: now,
		ExpiresAt: now.Add(min(in.Lifetime, in.Idle)), LatestExpiresAt: now.Add(in.Lifetime),
		IdleSeconds: int64(in.Idle / time.Second), Remember: in.Remember,
		Method: in.Proof.Method, Proofs: Proofs("").with(in.Proof), AAL: in.Proof.AAL, IPAddress: in.IPAddress, UserAgent: in.UserAgent,
	}
	session.TokenHash = hashToken(session.Token)

	tooMany := 0
	_, err = s.ending(ctx, func(tx *db.Tx) (replaced Ended, err error) {
		if session.Number, err = drawNumber(ctx, tx, in.Identity.ID); err != nil {
			return nil, err
		}
		if err := in.Proof.use(ctx, tx, in.Identity.ID, now); err != nil {
			return nil, err
		}
		if len(in.Replaces) > 0 {
			if replaced, err = end(ctx, tx, now, EndedByNewLogin, "id IN ?", padded(in.Replaces)); err != nil {
				return nil, err
			}
		}
		if err := gorm.G[Session](tx.DB).Omit("Identity").Create(ctx, &session); err != nil {
			return nil, err
		}
		tooMany, err = enforceLimit(ctx, tx, now, in.Identity.ID, in.Limit)
		return replaced, err
	})
	if err != nil {
		return Session{}, fmt.Errorf("start a session: %w", err)
	}
	if tooMany > 0 {
		s.sweepFirst(ctx, in.Identity.ID, tooMany)
	}
	return session, nil
}

// drawNumber returns the number of a person's next session, or ErrChanged if the person has been disabled or
// deleted. Its lock prevents that, and a raised floor, until the commit.
func drawNumber(ctx context.Context, tx *db.Tx, person uuid.UUID) (int64, error) {
	var drawn []Identity
	err := tx.WithContext(ctx).Raw(`UPDATE identities SET last_session_number = last_session_number + 1
		WHERE id = ? AND active RETURNING last_session_number`, person).Scan(&drawn).Error
	if err != nil {
		return 0, err
	}
	if len(drawn) == 0 {
		return 0, ErrChanged
	}
	return drawn[0].LastSessionNumber, nil
}

// enforceLimit ends a person's oldest active sessions if there are more than limit, and returns how many it
// ended. Sessions with the number 0 count as the oldest, and end together.
func enforceLimit(ctx context.Context, tx *db.Tx, now time.Time, person uuid.UUID, limit int) (int, error) {
	if limit <= 0 {
		return 0, nil
	}
	oldest, err := activeOf(tx.WithContext(ctx), person, now).Select("number").
		Order("number DESC").Offset(limit - 1).Limit(2).Find(ctx)
	if err != nil || len(oldest) < 2 {
		return 0, err
	}
	return raiseFloorTo(ctx, tx, now, EndedByLimit, person, oldest[0].Number)
}

// Confirm records that the session's person has authenticated again. The session gets a new token
// (ASVS 7.2.4), and earlier ones are only good for ending it; of several concurrent calls, the last one's
// token is valid. It ends the sessions replaced, which the browser had besides. It returns ErrNotFound if the session
// has ended meanwhile, and ErrChanged under the same conditions as Start.
func (s Sessions) Confirm(ctx context.Context, session Session, proof Proof, replaced ...uuid.UUID) (Session, error) {
	var confirmed Session
	_, err := s.ending(ctx, func(tx *db.Tx) (ended Ended, err error) {
		now := s.now()
		if confirmed, err = session.confirm(ctx, tx, proof, now); err != nil || len(replaced) == 0 {
			return nil, err
		}
		return end(ctx, tx, now, EndedByNewLogin, "id IN ? AND id <> ?", padded(replaced), session.ID)
	})
	if err != nil {
		return Session{}, fmt.Errorf("confirm session %s: %w", session.ID, err)
	}
	return confirmed, nil
}

// confirm is Confirm within a transaction. It adds to the stored proofs, since another proof may have been
// given since the session was read.
func (s Session) confirm(ctx context.Context, tx *db.Tx, proof Proof, now time.Time) (Session, error) {
	if err := proof.stillProves(ctx, tx, s.IdentityID, now); err != nil {
		return Session{}, err
	}
	stored, err := gorm.G[Session](tx.DB, forUpdate).Select("number", "proofs", "token_hash").
		Where("id = ? AND ended_at IS NULL AND expires_at > ? AND "+aboveFloor, s.ID, now).Take(ctx)
	if err != nil {
		return Session{}, notFound(err)
	}
	if err := keepReplaced(ctx, tx, s.ID, stored.TokenHash); err != nil {
		return Session{}, err
	}
	s.Token = rand.Text()
	s.TokenHash, s.ConfirmedAt, s.Number = hashToken(s.Token), now, stored.Number
	s.Proofs = stored.Proofs.with(proof)
	s.AAL = s.Proofs.aal()
	_, err = gorm.G[Session](tx.DB).Where("id = ?", s.ID).
		Set(set("token_hash", s.TokenHash), set("confirmed_at", now), set("proofs", s.Proofs), set("aal", s.AAL)).Update(ctx)
	return s, err
}

// byToken runs for every request of every app, so it reads only the columns it needs.
const byToken = `SELECT s.id, s.authenticated_at, s.confirmed_at, s.last_seen_at, s.expires_at, s.idle_seconds,
	s.latest_expires_at, s.remember, s.method, s.proofs, s.aal, s.ip_address, s.user_agent, s.number, s.ended_at, s.end_reason,
	i.id, i.email, i.email_trust, i.username, i.name, i.groups, i.active, i.session_floor, i.state_changed_at, i.created_at, i.updated_at
	FROM sessions s JOIN identities i ON i.id = s.identity_id WHERE s.token_hash = $1`

// ByToken returns the session of a token, whether it is active or not, with its identity (hot path).
// It returns ErrNotFound if there is no session with that token.
func (s Sessions) ByToken(ctx context.Context, token string) (Session, error) {
	if !IsToken(token) {
		return Session{}, ErrNotFound
	}
	session := Session{Token: token, TokenHash: hashToken(token), Identity: new(Identity)}
	v, who, groups := &session, session.Identity, ""
	err := s.db.ReadRow(ctx, byToken, v.TokenHash,
		&v.ID, &v.AuthenticatedAt, &v.ConfirmedAt, &v.LastSeenAt, &v.ExpiresAt, &v.IdleSeconds,
		&v.LatestExpiresAt, &v.Remember, (*string)(&v.Method), (*string)(&v.Proofs), (*string)(&v.AAL), &v.IPAddress, &v.UserAgent, &v.Number, &v.EndedAt, (*string)(&v.EndReason),
		&who.ID, &who.Email, (*int64)(&who.EmailTrust), &who.Username, &who.Name, &groups, &who.Active, &who.SessionFloor, &who.StateChangedAt, &who.CreatedAt, &who.UpdatedAt)
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return Session{}, ErrNotFound
	}
	if err != nil {
		return Session{}, fmt.Errorf("find a session: %w", err)
	}
	session.IdentityID, who.Groups = who.ID, parseGroups(groups)
	return session, nil
}

// ByID returns a session with its identity, whether it is active or not. It returns ErrNotFound if
// there is none with that id.
func (s Sessions) ByID(ctx context.Context, id uuid.UUID) (Session, error) {
	session, err := withIdentity(s.db.Query(ctx)).Where("sessions.id = ?", id).Take(ctx)
	if err != nil {
		return Session{}, fmt.Errorf("find session %s: %w", id, notFound(err))
	}
	return session, nil
}

func withIdentity(from *gorm.DB) gorm.ChainInterface[Session] {
	return gorm.G[Session](from).Joins(clause.Has("Identity"), nil)
}

// ByIDs returns the sessions that exist, in no particular order. Only ID, Number, ExpiresAt, EndedAt and
// EndReason are set, also for sessions that have ended but are not swept yet.
func (s Sessions) ByIDs(ctx context.Context, ids []uuid.UUID) ([]Session, error) {
	var rows []struct {
		ID           uuid.UUID
		Number       int64
		ExpiresAt    time.Time
		EndedAt      *time.Time
		EndReason    Reason
		SessionFloor int64
		At           *time.Time // of the sweep that will mark it; nil for none
		Reason       *Reason
	}
	err := s.db.Query(ctx).Raw(`SELECT sessions.id, number, expires_at, ended_at, end_reason, session_floor, at, reason
		FROM sessions JOIN identities ON identities.id = sessions.identity_id
		LEFT JOIN sweeps ON sweeps.identity_id = sessions.identity_id AND number < below AND ended_at IS NULL AND `+firstSweep+`
		WHERE sessions.id IN ?`, padded(ids)).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("find sessions: %w", err)
	}
	found := make([]Session, len(rows))
	for i, row := range rows {
		session := &found[i]
		*session = Session{ID: row.ID, Number: row.Number, ExpiresAt: row.ExpiresAt, EndedAt: row.EndedAt, EndReason: row.EndReason}
		switch {
		case session.EndedAt != nil || session.Number >= row.SessionFloor:
		case row.At == nil: // started below the floor by the previous version
			session.EndedAt, session.EndReason = &session.ExpiresAt, EndedByPerson
		case row.At.Before(session.ExpiresAt):
			session.EndedAt, session.EndReason, session.ExpiresAt = row.At, *row.Reason, *row.At
		default:
			session.EndedAt, session.EndReason = &session.ExpiresAt, Expired
		}
	}
	return found, nil
}

// Page is a page of a person's active sessions.
type Page struct {
	Sessions []Session
	Total    int // on all pages
	More     bool
}

// Position is the session after which a page begins. The zero value is the beginning.
type Position struct {
	AuthenticatedAt time.Time
	ID              uuid.UUID
}

// activeOf matches a person's active sessions.
func activeOf(from *gorm.DB, person uuid.UUID, now time.Time) gorm.ChainInterface[Session] {
	return gorm.G[Session](from).Where(`identity_id = ? AND number >= (SELECT session_floor FROM identities WHERE identities.id = ?)
		AND ended_at IS NULL AND expires_at > ?`, person, person, now)
}

// Active returns up to size of a person's active sessions after a position, newest first, leaving out the
// session without, which may be uuid.Nil.
func (s Sessions) Active(ctx context.Context, person, without uuid.UUID, after Position, size int) (Page, error) {
	from, now := s.db.Query(ctx), s.now()
	total, err := activeOf(from, person, now).Count(ctx, "*") // includes the one to leave out, since the index has no ids
	if err != nil {
		return Page{}, fmt.Errorf("count the sessions of %s: %w", person, err)
	}
	if without != uuid.Nil {
		left, err := activeOf(from, person, now).Where("id = ?", without).Count(ctx, "*")
		if err != nil {
			return Page{}, fmt.Errorf("count the sessions of %s: %w", person, err)
		}
		total -= left
	}
	part := activeOf(from, person, now).Where("id <> ?", without)
	if after.ID != uuid.Nil {
		part = part.Where("(authenticated_at < ? OR (authenticated_at = ? AND id < ?))",
			after.AuthenticatedAt, after.AuthenticatedAt, after.ID)
	}
	found, err := part.Order("authenticated_at DESC, id DESC").Limit(size + 1).Find(ctx)
	if err != nil {
		return Page{}, fmt.Errorf("list the sessions of %s: %w", person, err)
	}
	page := Page{Sessions: found, Total: int(total), More: len(found) > size}
	if page.More {
		page.Sessions = found[:size]
	}
	return page, nil
}

// AllActive returns the active sessions of the person with a primary address, or everybody's if email is "",
// with their identities, newest first. email must be normalized.
func (s Sessions) AllActive(ctx context.Context, email string) ([]Session, error) {
	found, err := withIdentity(s.db.Query(ctx)).
		Where("number >= session_floor AND ended_at IS NULL AND expires_at > ? AND (email = ? OR ?)", s.now(), email, email == "").
		Order("authenticated_at DESC").Find(ctx)
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	return found, nil
}

// Seen records that a session was used at a time, and extends its expiry accordingly. session is as it was read
// then: it does nothing if another use has been recorded since, or the session has ended or expired.
func (s Sessions) Seen(ctx context.Context, session Session, at time.Time) error {
	at = at.UTC().Truncate(time.Microsecond)
	expires := at.Add(time.Duration(session.IdleSeconds) * time.Second)
	if expires.After(session.LatestExpiresAt) {
		expires = session.LatestExpiresAt
	}
	_, err := s.update(ctx, func(tx *db.Tx) (int, error) {
		return gorm.G[Session](tx.DB).
			Where("id = ? AND ended_at IS NULL AND expires_at > ? AND last_seen_at <= ? AND last_seen_at < ? AND "+aboveFloor,
				session.ID, s.now(), session.LastSeenAt.UTC(), at).
			Set(set("last_seen_at", at), set("expires_at", expires)).Update(ctx)
	})
	if err != nil {
		return fmt.Errorf("record the use of session %s: %w", session.ID, err)
	}
	return nil
}

// Prune removes up to limit sessions that ended before a time and returns how many it removed. It keeps an
// expired session until Expire has marked, and thereby announced, its end.
func (s Sessions) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	n, err := s.update(ctx, func(tx *db.Tx) (int, error) {
		return gorm.G[Session](tx.DB).
			Where("id IN (SELECT id FROM sessions WHERE expires_at < ? AND ended_at IS NOT NULL LIMIT ?)", before.UTC(), limit).Delete(ctx)
	})
	if err != nil {
		return 0, fmt.Errorf("remove old sessions: %w", err)
	}
	return n, nil
}

func hashToken(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}
