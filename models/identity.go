package models

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gofrs/uuid/v5"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"latchkey/db"
)

// Identity is a person's account.
type Identity struct {
	ID             uuid.UUID
	Email          string // the primary address, as NormalizeEmail returns it
	EmailTrust     Trust
	Username       string // may be empty
	Name           string // may be empty; as NormalizeName returns it
	Groups         Groups // matched against ACCESS, which says who may use which app
	Active         bool
	StateChangedAt time.Time
	// SessionFloor is the Session.Number below which all sessions have ended. It is at most
	// LastSessionNumber+1.
	SessionFloor      int64
	LastSessionNumber int64
	UsernameSkeleton  string
	DeletedAt         *time.Time // nil unless deleted; the row is removed once the sessions have been swept
	CreatedAt         time.Time
	UpdatedAt         time.Time
}

// Trust says why an address may be taken for its person's.
type Trust int64

// The values of Trust, which are stored.
const (
	TrustUnknown  Trust = iota // a version that recorded nothing has created the account
	GivenByPerson              // it may be anybody's
	SetByOperator
	Verified // its person has read mail there: Address.VerifiedAt says when
)

// TrustedEmail returns the primary address, or "" if it may be somebody else's. registrationOpen is whether
// strangers can create accounts: then one of unknown origin isn't trusted.
func (i *Identity) TrustedEmail(registrationOpen bool) string {
	if i.EmailTrust == GivenByPerson || i.EmailTrust == TrustUnknown && registrationOpen {
		return ""
	}
	return i.Email
}

// there matches the accounts that have not been deleted.
const there = "deleted_at IS NULL"

// Address is one of a person's email addresses.
type Address struct {
	ID         uuid.UUID
	IdentityID uuid.UUID
	Value      string // as NormalizeEmail returns it
	Skeleton   string // the same for addresses that look the same
	VerifiedAt *time.Time
	Primary    bool `gorm:"column:is_primary"` // also in Identity.Email, for the hot path
	CreatedAt  time.Time
}

// Identities stores the accounts and their addresses.
type Identities struct{ table }

// NewIdentity describes an account to create.
type NewIdentity struct {
	Email, Username, Name string // Username and Name may be empty
	EmailTrust            Trust
	Credential            NewCredential
	// SetupToken, if not empty, permits the first account only: see Create.
	SetupToken string
}

// Create creates an active account with its first credential, and invalidates any setup token. It returns
// ErrTaken or ErrUsernameTaken if another account has the address or username, or one that looks the same. With
// in.SetupToken set, it returns ErrNotFirst if there is an account already or the token isn't valid; of several
// concurrent calls, one succeeds.
func (s Identities) Create(ctx context.Context, in NewIdentity) (Identity, Credential, error) {
	failed := func(err error) (Identity, Credential, error) {
		return Identity{}, Credential{}, fmt.Errorf("create an identity: %w", err)
	}
	id, err := uuid.NewV4()
	if err != nil {
		return failed(err)
	}
	now := s.now()
	identity := Identity{ID: id, Email: NormalizeEmail(in.Email), EmailTrust: in.EmailTrust, Username: in.Username, UsernameSkeleton: skeleton(in.Username),
		Name: NormalizeName(in.Name), Active: true, StateChangedAt: now, CreatedAt: now, UpdatedAt: now}
	address := Address{IdentityID: id, Value: identity.Email, Skeleton: skeleton(identity.Email), Primary: true, CreatedAt: now}
	if address.ID, err = uuid.NewV4(); err != nil {
		return failed(err)
	}
	credential, err := newCredential(id, in.Credential, now)
	if err != nil {
		return failed(err)
	}

	err = s.db.Write(ctx, func(tx *db.Tx) error {
		if err := spendSetupToken(ctx, tx, in.SetupToken, now); err != nil {
			return err
		}
		if err := s.checkFree(ctx, tx, identity, address); err != nil {
			return err
		}
		result := gorm.WithResult()
		if err := gorm.G[Identity](tx.DB, result, clause.OnConflict{DoNothing: true}).Create(ctx, &identity); err != nil {
			return err
		}
		if result.RowsAffected == 0 {
			return s.whatIsTaken(ctx, tx, identity)
		}
		if err := gorm.G[Address](tx.DB, result, clause.OnConflict{DoNothing: true}).Create(ctx, &address); err != nil {
			return err
		}
		if result.RowsAffected == 0 {
			return ErrTaken
		}
		return gorm.G[Credential](tx.DB).Create(ctx, &credential)
	})
	if err != nil {
		return failed(err)
	}
	return identity, credential, nil
}

// checkFree returns ErrTaken or ErrUsernameTaken if another account has an address or username that looks like that of
// a new or changed account. An empty one is not checked. Its lock keeps others from taking them until the commit: no
// unique index can, because accounts of earlier versions may look alike.
func (s Identities) checkFree(ctx context.Context, tx *db.Tx, identity Identity, address Address) error {
	if err := tx.Lock(ctx, usernames); err != nil {
		return err
	}
	if address.Value != "" {
		n, err := gorm.G[Address](tx.DB).Where("(skeleton = ? AND skeleton <> '' OR value = ?) AND identity_id <> ?",
			address.Skeleton, address.Value, identity.ID).Count(ctx, "id")
		if err != nil {
			return err
		}
		if n > 0 {
			return ErrTaken
		}
	}
	if identity.Username != "" {
		n, err := gorm.G[Identity](tx.DB).Where("(username_skeleton = ? AND username_skeleton <> '' OR username = ? AND username <> '') AND id <> ?",
			identity.UsernameSkeleton, identity.Username, identity.ID).Count(ctx, "id")
		if err != nil {
			return err
		}
		if n > 0 {
			return ErrUsernameTaken
		}
	}
	return nil
}

// whatIsTaken returns why an identity could not be inserted: ErrTaken or ErrUsernameTaken.
func (s Identities) whatIsTaken(ctx context.Context, tx *db.Tx, identity Identity) error {
	n, err := gorm.G[Identity](tx.DB).Where("email = ?", identity.Email).Count(ctx, "id")
	switch {
	case err != nil:
		return err
	case n > 0:
		return ErrTaken
	}
	return ErrUsernameTaken
}

// ByLogin returns the account with an address or username, even if it is disabled, or ErrNotFound.
func (s Identities) ByLogin(ctx context.Context, login string) (Identity, error) {
	if strings.Contains(login, "@") {
		return s.ByEmail(ctx, login)
	}
	return s.find(ctx, "username = ? AND username <> ''", strings.ToLower(strings.TrimSpace(login)))
}

// ByEmail returns the account with an address, even if it is disabled, or ErrNotFound.
func (s Identities) ByEmail(ctx context.Context, email string) (Identity, error) {
	email = NormalizeEmail(email)
	return s.find(ctx, "email = ? OR id = (SELECT identity_id FROM addresses WHERE value = ?)", email, email)
}

func (s Identities) find(ctx context.Context, which string, args ...any) (Identity, error) {
	for _, arg := range args {
		if text, ok := arg.(string); ok && strings.Contains(text, "\x00") {
			return Identity{}, ErrNotFound // which PostgreSQL rejects in a text
		}
	}
	identity, err := gorm.G[Identity](s.db.Query(ctx)).Where("("+which+") AND "+there, args...).Take(ctx)
	if err != nil {
		return Identity{}, fmt.Errorf("find an identity: %w", notFound(err))
	}
	return identity, nil
}

// Addresses returns a person's addresses, primary first.
func (s Identities) Addresses(ctx context.Context, id uuid.UUID) ([]Address, error) {
	found, err := gorm.G[Address](s.db.Query(ctx)).Where("identity_id = ?", id).Order("is_primary DESC, value").Find(ctx)
	if err != nil {
		return nil, fmt.Errorf("find the addresses of identity %s: %w", id, err)
	}
	return found, nil
}

// usernames is the lock that is held while a username or address is set.
const usernames = "usernames"

// SetUsername changes a person's username; an empty name removes it. It returns ErrUsernameTaken if another
// account has it or one that looks the same, and ErrNotFound if there is no such person.
func (s Identities) SetUsername(ctx context.Context, id uuid.UUID, name string) error {
	n, err := s.update(ctx, func(tx *db.Tx) (int, error) {
		looks := skeleton(name)
		if err := s.checkFree(ctx, tx, Identity{ID: id, Username: name, UsernameSkeleton: looks}, Address{}); err != nil {
			return 0, err
		}
		return gorm.G[Identity](tx.DB).Where("id = ? AND "+there, id).Set(set("username", name), set("username_skeleton", looks), set("updated_at", s.now())).Update(ctx)
	})
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("set the username of identity %s: %w", id, err)
	}
	return nil
}

// DistrustUnknown records that people may have created the accounts of unknown origin themselves. It is for the time
// when anybody may register, after which it couldn't be told any more.
func (s Identities) DistrustUnknown(ctx context.Context) error {
	// Check first, since that takes no write lock: only an earlier version makes such accounts.
	found, err := gorm.G[Identity](s.db.Query(ctx)).Select("id").Where("email_trust = ?", TrustUnknown).Limit(1).Find(ctx)
	if err == nil && len(found) > 0 {
		_, err = s.update(ctx, func(tx *db.Tx) (int, error) {
			return gorm.G[Identity](tx.DB).Where("email_trust = ?", TrustUnknown).Set(set("email_trust", GivenByPerson)).Update(ctx)
		})
	}
	if err != nil {
		return fmt.Errorf("distrust addresses: %w", err)
	}
	return nil
}

// List returns all accounts, sorted by address.
func (s Identities) List(ctx context.Context) ([]Identity, error) {
	identities, err := gorm.G[Identity](s.db.Query(ctx)).Where(there).Order("email").Find(ctx)
	if err != nil {
		return nil, fmt.Errorf("list identities: %w", err)
	}
	return identities, nil
}

// Exist reports whether there is any account.
func (s Identities) Exist(ctx context.Context) (bool, error) {
	exist, err := anyIdentity(ctx, s.db.Query(ctx))
	if err != nil {
		return false, fmt.Errorf("look for identities: %w", err)
	}
	return exist, nil
}

func anyIdentity(ctx context.Context, from *gorm.DB) (bool, error) {
	found, err := gorm.G[Identity](from).Select("id").Where(there).Limit(1).Find(ctx)
	return len(found) > 0, err
}

// Rename changes a person's name. It returns ErrNotFound if there is no such person.
func (s Identities) Rename(ctx context.Context, id uuid.UUID, name string) error {
	n, err := s.update(ctx, func(tx *db.Tx) (int, error) {
		return gorm.G[Identity](tx.DB).Where("id = ? AND "+there, id).
			Set(set("name", NormalizeName(name)), set("updated_at", s.now())).Update(ctx)
	})
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("rename identity %s: %w", id, err)
	}
	return nil
}

// Enable lets a disabled person sign in again. It returns ErrNotFound if there is no such person.
func (s Identities) Enable(ctx context.Context, id uuid.UUID) error {
	return s.setActive(ctx, id, true)
}

// Disable keeps a person from signing in and ends all their sessions. It returns ErrNotFound if there is no
// such person.
func (s Identities) Disable(ctx context.Context, id uuid.UUID) error {
	return s.setActive(ctx, id, false)
}

func (s Identities) setActive(ctx context.Context, id uuid.UUID, active bool) error {
	ended, err := s.update(ctx, func(tx *db.Tx) (int, error) {
		now := s.now()
		n, err := gorm.G[Identity](tx.DB).Where("id = ? AND "+there, id).
			Set(set("active", active), set("state_changed_at", now), set("updated_at", now)).Update(ctx)
		if err == nil && n == 0 {
			err = ErrNotFound
		}
		if err != nil || active {
			return 0, err
		}
		return raiseFloor(ctx, tx, now, EndedByDisabling, id, uuid.Nil)
	})
	if err != nil {
		return fmt.Errorf("set the state of identity %s: %w", id, err)
	}
	if !active {
		s.sweepFirst(ctx, id, ended)
	}
	return nil
}

// Delete ends a person's sessions and removes their account with all that belongs to it; its address and
// username are free again. The row itself, with the sessions, is removed once streams and apps have been left notices of them.
func (s Identities) Delete(ctx context.Context, id uuid.UUID) error {
	ended, err := s.update(ctx, func(tx *db.Tx) (int, error) {
		now := s.now()
		// On PostgreSQL this locks the row: it waits for sessions that are being started, so that their ends
		// are announced, and prevents new ones.
		n, err := gorm.G[Identity](tx.DB).Where("id = ? AND "+there, id).
			Set(set("deleted_at", now), set("active", false), set("state_changed_at", now), set("updated_at", now),
				set("email", "deleted "+id.String()), set("username", ""), set("username_skeleton", ""), set("name", "")).Update(ctx)
		if err == nil && n == 0 {
			err = ErrNotFound
		}
		if err != nil {
			return 0, err
		}
		if _, err := gorm.G[Address](tx.DB).Where("identity_id = ?", id).Delete(ctx); err != nil {
			return 0, err
		}
		if _, err := gorm.G[Credential](tx.DB).Where("identity_id = ?", id).Delete(ctx); err != nil {
			return 0, err
		}
		return raiseFloor(ctx, tx, now, EndedByDeletion, id, uuid.Nil)
	})
	if err != nil {
		return fmt.Errorf("delete identity %s: %w", id, err)
	}
	s.sweepFirst(ctx, id, ended)
	return nil
}

func set(column string, value any) clause.Assigner {
	return clause.Assignment{Column: clause.Column{Name: column}, Value: value}
}

func notFound(err error) error {
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return ErrNotFound
	}
	return err
}
