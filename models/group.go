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
)

// Groups are the names of the groups that a person is in, sorted. They are stored as one text, so
// that who asks for a session gets them with the same read.
type Groups []string

// groupName leaves out what would need escaping in a header, a setting or the stored text.
var groupName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// CheckGroup returns an error for a person if that can't be the name of a group.
func CheckGroup(name string) error {
	if !groupName.MatchString(name) {
		return fmt.Errorf("%q can't be a group: use up to 64 lower-case letters, digits, dots, dashes and underscores", name)
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

// AddToGroup puts a person into a group; once there they stay.
func (s Identities) AddToGroup(ctx context.Context, id uuid.UUID, group string) error {
	return s.setGroups(ctx, id, func(groups Groups) Groups {
		groups = append(groups, group)
		slices.Sort(groups)
		return slices.Compact(groups)
	})
}

// RemoveFromGroup takes a person out of a group. It returns ErrNotFound if they are not in it.
func (s Identities) RemoveFromGroup(ctx context.Context, id uuid.UUID, group string) error {
	return s.setGroups(ctx, id, func(groups Groups) Groups {
		if !slices.Contains(groups, group) {
			return nil
		}
		return slices.DeleteFunc(groups, func(name string) bool { return name == group })
	})
}

// setGroups changes a person's groups; change returns nil for what can't be changed.
func (s Identities) setGroups(ctx context.Context, id uuid.UUID, change func(Groups) Groups) error {
	_, err := s.update(ctx, func(tx *gorm.DB) (int, error) {
		identity, err := gorm.G[Identity](tx, clause.Locking{Strength: clause.LockingStrengthUpdate}).Where("id = ?", id).Take(ctx)
		if err != nil {
			return 0, notFound(err)
		}
		groups := change(identity.Groups)
		if groups == nil {
			return 0, ErrNotFound
		}
		return gorm.G[Identity](tx).Where("id = ?", id).Set(set("groups", groups), set("updated_at", s.now())).Update(ctx)
	})
	if err != nil {
		return fmt.Errorf("change the groups of identity %s: %w", id, err)
	}
	return nil
}
