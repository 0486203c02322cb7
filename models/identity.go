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
)

// Identity is a person's account.
type Identity struct {
	ID             uuid.UUID
	Email          string // as NormalizeEmail returns it
	Name           string // may be empty
	Groups         Groups // what apps they may use, by ACCESS
	Active         bool
	StateChangedAt time.Time
	CreatedAt      time.Time
	UpdatedAt      time.Time
}

// NormalizeEmail returns the one form under which an address is stored, compared and throttled.
func NormalizeEmail(address string) string {
	return strings.ToLower(strings.TrimSpace(address))
}

// Identities keeps the accounts, each with its credentials.
type Identities struct{ table }

// Create adds an active account that signs in with a password, and removes SecretSetup. It returns
// ErrTaken if the address has one; with onlyFirst ErrNotFirst if there is any, or no SecretSetup: of
// several at once, one wins.
func (s Identities) Create(ctx context.Context, email, name, passwordHash string, onlyFirst bool) (Identity, error) {
	id, err := uuid.NewV4()
	if err != nil {
		return Identity{}, fmt.Errorf("create an identity: %w", err)
	}
	now := s.now()
	identity := Identity{ID: id, Email: NormalizeEmail(email), Name: name, Active: true,
		StateChangedAt: now, CreatedAt: now, UpdatedAt: now}
	credential := Credential{IdentityID: id, Method: MethodPassword, Hash: passwordHash, CreatedAt: now, UpdatedAt: now}

	err = s.write(ctx, func(tx *gorm.DB) error {
		// The right to make the first account goes with any account. Of several who want to use it, all
		// but one wait here, and then find it gone.
		right, err := gorm.G[Secret](tx).Where("name = ?", SecretSetup).Delete(ctx)
		if err != nil {
			return err
		}
		if onlyFirst {
			n, err := gorm.G[Identity](tx).Count(ctx, "id")
			if err != nil {
				return err
			}
			if right == 0 || n > 0 {
				return ErrNotFirst
			}
		}
		result := gorm.WithResult()
		if err := gorm.G[Identity](tx, result, clause.OnConflict{DoNothing: true}).Create(ctx, &identity); err != nil {
			return err
		}
		if result.RowsAffected == 0 {
			return ErrTaken
		}
		return gorm.G[Credential](tx).Create(ctx, &credential)
	})
	if err != nil {
		return Identity{}, fmt.Errorf("create an identity: %w", err)
	}
	return identity, nil
}

// ByEmail returns the account of an address, disabled or not.
func (s Identities) ByEmail(ctx context.Context, email string) (Identity, error) {
	if strings.Contains(email, "\x00") {
		return Identity{}, ErrNotFound // PostgreSQL can't even look for it
	}
	identity, err := gorm.G[Identity](s.db).Where("email = ?", NormalizeEmail(email)).Take(ctx)
	if err != nil {
		return Identity{}, fmt.Errorf("find an identity: %w", notFound(err))
	}
	return identity, nil
}

// List returns all accounts, by address.
func (s Identities) List(ctx context.Context) ([]Identity, error) {
	identities, err := gorm.G[Identity](s.db).Order("email").Find(ctx)
	if err != nil {
		return nil, fmt.Errorf("list identities: %w", err)
	}
	return identities, nil
}

// Exist reports whether there is any account.
func (s Identities) Exist(ctx context.Context) (bool, error) {
	_, err := gorm.G[Identity](s.db).Select("id").Take(ctx)
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for identities: %w", err)
	}
	return true, nil
}

// Rename changes the person's name.
func (s Identities) Rename(ctx context.Context, id uuid.UUID, name string) error {
	n, err := s.update(ctx, func(tx *gorm.DB) (int, error) {
		return gorm.G[Identity](tx).Where("id = ?", id).
			Set(set("name", name), set("updated_at", s.now())).Update(ctx)
	})
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("rename identity %s: %w", id, err)
	}
	return nil
}

// Enable lets a disabled person sign in again.
func (s Identities) Enable(ctx context.Context, id uuid.UUID) error {
	return s.setActive(ctx, id, true)
}

// Disable shuts a person out and ends all their sessions.
func (s Identities) Disable(ctx context.Context, id uuid.UUID) error {
	return s.setActive(ctx, id, false)
}

func (s Identities) setActive(ctx context.Context, id uuid.UUID, active bool) error {
	now := s.now()
	_, err := s.ending(ctx, func(tx *gorm.DB) (Ended, error) {
		n, err := gorm.G[Identity](tx).Where("id = ?", id).
			Set(set("active", active), set("state_changed_at", now), set("updated_at", now)).Update(ctx)
		if err == nil && n == 0 {
			err = ErrNotFound
		}
		if err != nil || active {
			return nil, err
		}
		return end(ctx, tx, now, EndedByDisabling, "identity_id = ?", id)
	})
	if err != nil {
		return fmt.Errorf("set the state of identity %s: %w", id, err)
	}
	return nil
}

// Delete ends a person's sessions, and removes their account with all that belongs to it.
func (s Identities) Delete(ctx context.Context, id uuid.UUID) error {
	_, err := s.ending(ctx, func(tx *gorm.DB) (Ended, error) {
		// Where writers run side by side, a session that is being started is seen when it has been, and
		// none is started after this: nobody would be told of its end.
		_, err := gorm.G[Identity](tx, clause.Locking{Strength: clause.LockingStrengthUpdate}).Where("id = ?", id).Take(ctx)
		if err != nil {
			return nil, notFound(err)
		}
		ended, err := end(ctx, tx, s.now(), EndedByDeletion, "identity_id = ?", id)
		if err != nil {
			return nil, err
		}
		_, err = gorm.G[Identity](tx).Where("id = ?", id).Delete(ctx)
		return ended, err
	})
	if err != nil {
		return fmt.Errorf("delete identity %s: %w", id, err)
	}
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
