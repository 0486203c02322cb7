package cli

import (
	"cmp"
	"context"
	"time"

	"latchkey/app/config"
	"latchkey/app/keys"
	"latchkey/models"
)

type keyCmd struct {
	List   keyListCmd   `cmd:"" help:"List the keys that sign logout tokens, seal forms and cookies, and make logout URLs."`
	Rotate keyRotateCmd `cmd:"" help:"Replace all keys. The previous ones keep working for a time: published for a day, opening forms for an hour, logout URLs as long as their sessions."`
}

type keyListCmd struct{}

// Run lists the keys.
func (keyListCmd) Run(ctx context.Context, settings *config.Settings) error {
	return withStore(ctx, settings, func(store *models.Store) error {
		all, err := keys.List(ctx, store)
		if err != nil {
			return err
		}
		return printKeys(all)
	})
}

func printKeys(all []keys.Info) error {
	return printTable("There are none yet: the server creates them when it starts.", "KIND\tALGORITHM\tID\tMADE\tSTATE\tSEALED BY", func(row func(...any)) error {
		for _, k := range all {
			row(k.Kind, k.Algorithm, cmp.Or(k.ID, "-"), k.MadeAt.Format(time.RFC3339), k.State(), cmp.Or(k.Sealed, "-"))
		}
		return nil
	})
}

type keyRotateCmd struct {
	Revoke bool `help:"Drop all previous keys at once: for keys that have leaked. Open forms have to be sent again, logout URLs on open pages stop working, and apps reject older logout tokens."`
}

// Run replaces all keys.
func (cmd *keyRotateCmd) Run(ctx context.Context, settings *config.Settings) error {
	return withStore(ctx, settings, func(store *models.Store) error {
		made, err := keys.Rotate(ctx, store, settings.SecretKeys, keys.Rotation{
			Revoke: cmd.Revoke, LongestSession: max(settings.SessionLifetime, settings.RememberLifetime)})
		if err != nil {
			return err
		}
		return printKeys(made)
	})
}
