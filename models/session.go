package models

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"latchkey/db/lookup"
)

// Session is one sign-in of one person on one browser or client.
type Session struct {
	ID              uuid.UUID
	TokenHash       []byte // SHA-256: who reads the database can sign nobody in
	IdentityID      uuid.UUID
	Identity        *Identity // nil from Active and ByIDs
	AuthenticatedAt time.Time // when it began
	ConfirmedAt     time.Time // when its person last proved who they are
	LastSeenAt      time.Time
	ExpiresAt       time.Time // moves with use, up to LatestExpiresAt; the end, once it has ended
	IdleSeconds     int64
	LatestExpiresAt time.Time
	Remember        bool // its cookie outlives the browser
	Method          string
	IPAddress       string
	UserAgent       string
	EndedAt         *time.Time
	EndReason       Reason

	// Token is the secret that its holder carries. It is not stored, and so known only of a
	// session that has just been started or was found by it.
	Token string `gorm:"-"`
}

// tokenLength is the length of what crypto/rand.Text returns: 130 bits in base 32.
const tokenLength = 26

// Active reports whether the session signs its holder in at that time.
func (s *Session) Active(now time.Time) bool {
	return s.EndedAt == nil && now.Before(s.ExpiresAt) && s.Identity != nil && s.Identity.Active
}

// Sessions keeps the sessions, and those that have ended until their retention is over.
type Sessions struct{ table }

// SignIn is what a session begins with.
type SignIn struct {
	Identity  Identity
	IPAddress string
	UserAgent string
	Lifetime  time.Duration // at most
	Idle      time.Duration // without use
	Remember  bool          // the cookie is to outlive the browser
	// PasswordHash is what the password was verified against. If it is no longer what is stored,
	// no session is started: a change of password must outrun whoever knew the old one.
	PasswordHash string
	// Replaces is the session that the browser held before; it ends. uuid.Nil for none.
	Replaces uuid.UUID
}

// Start begins a session with a new token. It returns ErrChanged if the person has been disabled
// or deleted, or their password changed, since the caller verified it.
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
		Method: MethodPassword, IPAddress: in.IPAddress, UserAgent: in.UserAgent,
	}
	session.TokenHash = hashToken(session.Token)

	_, err = s.ending(ctx, func(tx *gorm.DB) (replaced Ended, err error) {
		if err := unchanged(ctx, tx, in.Identity.ID, in.PasswordHash); err != nil {
			return nil, err
		}
		if in.Replaces != uuid.Nil {
			if replaced, err = end(ctx, tx, now, EndedByNewLogin, "id = ?", in.Replaces); err != nil {
				return nil, err
			}
		}
		return replaced, gorm.G[Session](tx).Omit("Identity").Create(ctx, &session)
	})
	if err != nil {
		return Session{}, fmt.Errorf("start a session: %w", err)
	}
	return session, nil
}

// unchanged returns ErrChanged if the person has been disabled or deleted, or their password is no
// longer the one with that hash. Its lock keeps such a change, on a database where writers run side
// by side, from slipping in before the commit.
func unchanged(ctx context.Context, tx *gorm.DB, person uuid.UUID, passwordHash string) error {
	_, err := gorm.G[Credential](tx, clause.Locking{Strength: clause.LockingStrengthShare}).
		Where("identity_id = ? AND method = ? AND hash = ?", person, MethodPassword, passwordHash).Take(ctx)
	if err == nil {
		_, err = gorm.G[Identity](tx, clause.Locking{Strength: clause.LockingStrengthShare}).
			Where("id = ? AND active", person).Take(ctx)
	}
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return ErrChanged
	}
	return err
}

// Confirm notes that the session's person has proved anew who they are, by the password with that
// hash. The session gets a new token (ASVS 7.2.4); who holds another is signed out, be it of a
// Confirm at the same time: the last one counts. It returns ErrNotFound if the session has ended
// meanwhile, and ErrChanged as Start does.
func (s Sessions) Confirm(ctx context.Context, session Session, passwordHash string) (Session, error) {
	now := s.now()
	session.Token = rand.Text()
	session.TokenHash, session.ConfirmedAt = hashToken(session.Token), now
	err := s.write(ctx, func(tx *gorm.DB) error {
		if err := unchanged(ctx, tx, session.IdentityID, passwordHash); err != nil {
			return err
		}
		n, err := gorm.G[Session](tx).Where("id = ? AND ended_at IS NULL AND expires_at > ?", session.ID, now).
			Set(set("token_hash", session.TokenHash), set("confirmed_at", now)).Update(ctx)
		if err == nil && n == 0 {
			err = ErrNotFound
		}
		return err
	})
	if err != nil {
		return Session{}, fmt.Errorf("confirm session %s: %w", session.ID, err)
	}
	return session, nil
}

// byToken is read for every request of every app, so it names its columns and is sent and scanned
// by hand: less than half the time of a GORM join.
const byToken = `SELECT s.id, s.authenticated_at, s.confirmed_at, s.last_seen_at, s.expires_at, s.idle_seconds,
	s.latest_expires_at, s.remember, s.method, s.ip_address, s.user_agent, s.ended_at, s.end_reason,
	i.id, i.email, i.name, i.groups, i.active, i.state_changed_at, i.created_at, i.updated_at
	FROM sessions s JOIN identities i ON i.id = s.identity_id WHERE s.token_hash = $1`

// columns are where those of byToken go.
func (s *Session) columns() []any {
	i := s.Identity
	return []any{&s.ID, &s.AuthenticatedAt, &s.ConfirmedAt, &s.LastSeenAt, &s.ExpiresAt, &s.IdleSeconds,
		&s.LatestExpiresAt, &s.Remember, &s.Method, &s.IPAddress, &s.UserAgent, &s.EndedAt, &s.EndReason,
		&i.ID, &i.Email, &i.Name, &i.Groups, &i.Active, &i.StateChangedAt, &i.CreatedAt, &i.UpdatedAt}
}

// ByToken returns the session of a token, whether it is active or not, with its identity.
// It returns ErrNotFound if the token is nobody's.
func (s Sessions) ByToken(ctx context.Context, token string) (Session, error) {
	if len(token) != tokenLength {
		return Session{}, ErrNotFound
	}
	if err := s.file.checked(); err != nil {
		return Session{}, fmt.Errorf("find a session: %w", err)
	}
	session := Session{Token: token, TokenHash: hashToken(token), Identity: new(Identity)}
	read := s.readSQLite
	if s.postgres != nil {
		read = s.readPostgres
	}
	err := read(ctx, &session)
	if errors.Is(err, ErrNotFound) {
		return Session{}, err
	}
	if err != nil {
		return Session{}, fmt.Errorf("find a session: %w", err)
	}
	session.IdentityID = session.Identity.ID
	return session, nil
}

// readSQLite reads the session with that TokenHash.
func (s Sessions) readSQLite(_ context.Context, session *Session) error {
	found, err := s.lookup.Row(byToken, [sha256.Size]byte(session.TokenHash), session.scan)
	if err == nil && !found {
		err = ErrNotFound
	}
	return err
}

// scan reads a row of byToken as SQLite stores it.
func (s *Session) scan(row lookup.Row) error {
	at := func(column int32) time.Time { return time.UnixMicro(row.Int(column)).UTC() }
	s.AuthenticatedAt, s.ConfirmedAt, s.LastSeenAt, s.ExpiresAt = at(1), at(2), at(3), at(4)
	s.IdleSeconds, s.LatestExpiresAt, s.Remember = row.Int(5), at(6), row.Int(7) != 0
	s.Method, s.IPAddress, s.UserAgent = row.Text(8), row.Text(9), row.Text(10)
	if !row.Null(11) {
		ended := at(11)
		s.EndedAt = &ended
	}
	s.EndReason = Reason(row.Text(12))
	who := s.Identity
	who.Email, who.Name, who.Groups, who.Active = row.Text(14), row.Text(15), parseGroups(row.Text(16)), row.Int(17) != 0
	who.StateChangedAt, who.CreatedAt, who.UpdatedAt = at(18), at(19), at(20)
	return errors.Join(s.ID.UnmarshalText(row.Raw(0)), who.ID.UnmarshalText(row.Raw(13)))
}

// readPostgres is readSQLite for PostgreSQL, without database/sql in between.
func (s Sessions) readPostgres(ctx context.Context, session *Session) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := s.postgres.QueryRow(ctx, byToken, session.TokenHash).Scan(session.columns()...)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNotFound
	}
	return err
}

// ByID returns a session with its identity, whether it is active or not. It returns ErrNotFound if
// there is none of that id.
func (s Sessions) ByID(ctx context.Context, id uuid.UUID) (Session, error) {
	session, err := gorm.G[Session](s.db).Joins(clause.Has("Identity"), nil).Where("sessions.id = ?", id).Take(ctx)
	if err != nil {
		return Session{}, fmt.Errorf("find session %s: %w", id, notFound(err))
	}
	return session, nil
}

// ByIDs returns those of the sessions that there are, with when and why they have ended.
func (s Sessions) ByIDs(ctx context.Context, ids []uuid.UUID) ([]Session, error) {
	found, err := gorm.G[Session](s.db).Select("id", "expires_at", "ended_at", "end_reason").Where("id IN ?", ids).Find(ctx)
	if err != nil {
		return nil, fmt.Errorf("find sessions: %w", err)
	}
	return found, nil
}

// Page is a part of a person's active sessions.
type Page struct {
	Sessions []Session
	Total    int // on all pages
	More     bool
}

// Position is where a page of sessions begins: after this one. The zero value is the beginning.
type Position struct {
	AuthenticatedAt time.Time
	ID              uuid.UUID
}

// Active returns a person's active sessions, newest first, without the one given.
func (s Sessions) Active(ctx context.Context, person, without uuid.UUID, after Position, size int) (Page, error) {
	query := func() gorm.ChainInterface[Session] {
		return gorm.G[Session](s.db).
			Where("identity_id = ? AND id <> ? AND ended_at IS NULL AND expires_at > ?", person, without, s.now())
	}
	total, err := query().Count(ctx, "id")
	if err != nil {
		return Page{}, fmt.Errorf("count the sessions of %s: %w", person, err)
	}
	part := query()
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

// AllActive returns the active sessions of an address, or with "" everybody's, with their
// identities, newest first.
func (s Sessions) AllActive(ctx context.Context, email string) ([]Session, error) {
	found, err := gorm.G[Session](s.db).Joins(clause.Has("Identity"), nil).
		Where("ended_at IS NULL AND expires_at > ? AND (email = ? OR ?)", s.now(), email, email == "").
		Order("authenticated_at DESC").Find(ctx)
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	return found, nil
}

// Seen notes that a session was in use at its LastSeenAt and moves its expiry accordingly. One
// that has ended or expired stays so.
func (s Sessions) Seen(ctx context.Context, session Session) error {
	at := session.LastSeenAt.UTC().Truncate(time.Microsecond)
	expires := at.Add(time.Duration(session.IdleSeconds) * time.Second)
	if expires.After(session.LatestExpiresAt) {
		expires = session.LatestExpiresAt
	}
	_, err := s.update(ctx, func(tx *gorm.DB) (int, error) {
		return gorm.G[Session](tx).
			Where("id = ? AND ended_at IS NULL AND expires_at > ? AND last_seen_at < ?", session.ID, s.now(), at).
			Set(set("last_seen_at", at), set("expires_at", expires)).Update(ctx)
	})
	if err != nil {
		return fmt.Errorf("note the use of session %s: %w", session.ID, err)
	}
	return nil
}

// Prune removes up to limit sessions that ended before a time; it returns how many. One that has
// expired stays until Expire has ended it, or nobody would be told.
func (s Sessions) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	n, err := s.update(ctx, func(tx *gorm.DB) (int, error) {
		return gorm.G[Session](tx).
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
