package models

import (
	"context"
	"database/sql/driver"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/gofrs/uuid/v5"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"latchkey/db"
)

// Groups is the sorted list of the groups that a person is in. It is stored in one column, so that it comes
// with the session in the same read.
type Groups []string

// groupName allows only characters that need no escaping in a header, a setting or the stored column.
var groupName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// CheckGroup returns nil if name is a valid group name, and an error fit to show to the user if not.
func CheckGroup(name string) error {
	if !groupName.MatchString(name) {
		return fmt.Errorf("%q can't be the name of a group: use up to 64 lower-case letters, digits, dots, dashes and underscores", name)
	}
	return nil
}

// Value implements driver.Valuer.
func (g Groups) Value() (driver.Value, error) { return strings.Join(g, ","), nil }

// Scan implements sql.Scanner.
func (g *Groups) Scan(stored any) error {
	text, ok := stored.(string)
	if !ok {
		return fmt.Errorf("groups are stored as %T", stored)
	}
	*g = parseGroups(text)
	return nil
}

func parseGroups(stored string) Groups {
	if stored == "" {
		return nil
	}
	return strings.Split(stored, ",")
}

// AddToGroup adds a person to a group. It does nothing if they are in it, and returns ErrNotFound if there is
// no such person.
func (s Identities) AddToGroup(ctx context.Context, id uuid.UUID, group string) error {
	return s.setGroups(ctx, id, func(groups Groups) Groups {
		groups = append(groups, group)
		slices.Sort(groups)
		return slices.Compact(groups)
	})
}

// RemoveFromGroup removes a person from a group. It returns ErrNotFound if they are not in it, or there is no
// such person.
func (s Identities) RemoveFromGroup(ctx context.Context, id uuid.UUID, group string) error {
	return s.setGroups(ctx, id, func(groups Groups) Groups {
		if !slices.Contains(groups, group) {
			return nil
		}
		return slices.DeleteFunc(groups, func(name string) bool { return name == group })
	})
}

// setGroups replaces a person's groups by what change returns, or returns ErrNotFound if that is nil.
func (s Identities) setGroups(ctx context.Context, id uuid.UUID, change func(Groups) Groups) error {
	_, err := s.update(ctx, func(tx *db.Tx) (int, error) {
		identity, err := gorm.G[Identity](tx.DB, clause.Locking{Strength: clause.LockingStrengthUpdate}).Where("id = ? AND "+there, id).Take(ctx)
		if err != nil {
			return 0, notFound(err)
		}
		groups := change(identity.Groups)
		if groups == nil {
			return 0, ErrNotFound
		}
		return gorm.G[Identity](tx.DB).Where("id = ?", id).Set(set("groups", groups), set("updated_at", s.now())).Update(ctx)
	})
	if err != nil {
		return fmt.Errorf("change the groups of identity %s: %w", id, err)
	}
	return nil
}
