package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"latchkey/app/config"
	"latchkey/models"
)

type userGroupCmd struct {
	Add    userGroupAddCmd    `cmd:"" help:"Add somebody to groups, from their next request on."`
	Remove userGroupRemoveCmd `cmd:"" help:"Remove somebody from groups, from their next request on."`
}

type userGroupAddCmd struct {
	Address string   `arg:"" help:"Email address."`
	Group   []string `arg:"" help:"Names of groups, as in ACCESS."`
}

// Run adds a person to groups.
func (cmd *userGroupAddCmd) Run(ctx context.Context, settings *config.Settings) error {
	for _, group := range cmd.Group {
		if err := models.CheckGroup(group); err != nil {
			return err
		}
	}
	return withIdentity(ctx, settings, cmd.Address, func(store *models.Store, identity models.Identity) error {
		for _, group := range cmd.Group {
			if err := store.Identities.AddToGroup(ctx, identity.ID, group); err != nil {
				return err
			}
		}
		return printGroups(ctx, store, identity.Email)
	})
}

type userGroupRemoveCmd struct {
	Address string   `arg:"" help:"Email address."`
	Group   []string `arg:"" help:"Names of groups."`
}

// Run removes a person from groups.
func (cmd *userGroupRemoveCmd) Run(ctx context.Context, settings *config.Settings) error {
	return withIdentity(ctx, settings, cmd.Address, func(store *models.Store, identity models.Identity) error {
		slices.Sort(cmd.Group)
		cmd.Group = slices.Compact(cmd.Group)
		for _, group := range cmd.Group {
			if !slices.Contains(identity.Groups, group) {
				return fmt.Errorf("%s is not in %q; 'latchkey user list' shows the groups. Nothing was changed", identity.Email, group)
			}
		}
		for _, group := range cmd.Group {
			err := store.Identities.RemoveFromGroup(ctx, identity.ID, group)
			if err != nil && !errors.Is(err, models.ErrNotFound) { // removed meanwhile
				return err
			}
		}
		return printGroups(ctx, store, identity.Email)
	})
}

func printGroups(ctx context.Context, store *models.Store, email string) error {
	identity, err := store.Identities.ByEmail(ctx, email)
	if err != nil {
		return err
	}
	groups := strings.Join(identity.Groups, ", ")
	fmt.Printf("%s is in %s.\n", identity.Email, cmp.Or(groups, "no group"))
	return nil
}
