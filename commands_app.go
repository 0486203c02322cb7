package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gofrs/uuid/v5"

	"latchkey/app"
	"latchkey/app/backchannel"
	"latchkey/models"
)

type appCmd struct {
	Add        appAddCmd        `cmd:"" help:"Have an app told when a session ends."`
	List       appListCmd       `cmd:"" help:"List the apps that are told."`
	Remove     appRemoveCmd     `cmd:"" help:"Tell an app no more, not even what is waiting for it."`
	Test       appTestCmd       `cmd:"" help:"Send an app the logout token of a session that never was, and say what it answers."`
	Deliveries appDeliveriesCmd `cmd:"" help:"List what apps were told, newest first, and what is waiting."`
	Retry      appRetryCmd      `cmd:"" help:"Tell an app again, whatever came of it before."`
}

type appAddCmd struct {
	Name string      `arg:"" help:"Name of the app; the audience (aud) of its tokens."`
	URL  string      `arg:"" help:"Where it is told: its OpenID Connect back-channel logout URI."`
	Send models.Send `default:"both" enum:"both,sub,sid" help:"What it is told: whose session has ended (sub), which (sid), or both. Default: ${default}."`
}

// Run registers an app.
func (cmd *appAddCmd) Run(ctx context.Context, config *app.Config) error {
	if err := errors.Join(models.CheckApp(cmd.Name), backchannel.CheckURL(cmd.URL)); err != nil {
		return err
	}
	return withStore(ctx, config, func(store *models.Store) error {
		err := store.Apps.Add(ctx, models.App{Name: cmd.Name, LogoutURL: cmd.URL, Send: cmd.Send})
		if errors.Is(err, models.ErrTaken) {
			return fmt.Errorf("there is an app %s already; 'latchkey app remove %s' removes it", cmd.Name, cmd.Name)
		}
		if err != nil {
			return err
		}
		fmt.Printf("%s is told of every session that ends from now on. Try it: latchkey app test %s\n", cmd.Name, cmd.Name)
		return nil
	})
}

type appListCmd struct{}

// Run lists the apps.
func (appListCmd) Run(ctx context.Context, config *app.Config) error {
	return withStore(ctx, config, func(store *models.Store) error {
		return table("NAME\tURL\tSENDS\tADDED", func(row func(...any)) error {
			apps, err := store.Apps.List(ctx)
			for _, a := range apps {
				row(a.Name, a.LogoutURL, a.Send, a.CreatedAt.Format(time.DateOnly))
			}
			return err
		})
	})
}

// withApp calls do with the app of a name.
func withApp(ctx context.Context, config *app.Config, name string, do func(*models.Store, models.App) error) error {
	return withStore(ctx, config, func(store *models.Store) error {
		found, err := store.Apps.ByName(ctx, name)
		if errors.Is(err, models.ErrNotFound) {
			return fmt.Errorf("there is no app %q; 'latchkey app list' lists them", name)
		}
		if err != nil {
			return err
		}
		return do(store, found)
	})
}

type appRemoveCmd struct {
	Name string `arg:"" help:"Name of the app."`
}

// Run removes an app.
func (cmd *appRemoveCmd) Run(ctx context.Context, config *app.Config) error {
	return withApp(ctx, config, cmd.Name, func(store *models.Store, found models.App) error {
		if err := store.Apps.Remove(ctx, found.Name); err != nil {
			return err
		}
		fmt.Printf("%s is told no more.\n", found.Name)
		return nil
	})
}

type appTestCmd struct {
	Name string `arg:"" help:"Name of the app."`
}

// Run tells an app of the end of a session that never was.
func (cmd *appTestCmd) Run(ctx context.Context, config *app.Config) error {
	return withApp(ctx, config, cmd.Name, func(store *models.Store, found models.App) error {
		notifier, err := app.NewNotifier(ctx, *config, store)
		if err != nil {
			return err
		}
		nobody, err := uuid.NewV4()
		if err != nil {
			return err
		}
		nowhere, err := uuid.NewV4()
		if err != nil {
			return err
		}
		result, err := notifier.Tell(ctx, found, nobody, nowhere)
		if err != nil {
			return err
		}
		if result.Outcome != backchannel.Delivered {
			return fmt.Errorf("%s did not take it: %s (the issuer was %s)", found.Name, result.Note, notifier.Issuer())
		}
		fmt.Printf("%s took it: %s (the issuer was %s).\n", found.Name, result.Note, notifier.Issuer())
		return nil
	})
}

type appDeliveriesCmd struct {
	Name  string                `arg:"" optional:"" help:"Only this app's."`
	State *models.DeliveryState `enum:"pending,delivered,refused,given_up" placeholder:"STATE" help:"Only those in this state: pending, delivered, refused, given_up."`
	Limit int                   `default:"50" placeholder:"N" help:"How many at most. Default: ${default}."`
}

// Run lists deliveries.
func (cmd *appDeliveriesCmd) Run(ctx context.Context, config *app.Config) error {
	if cmd.Limit < 1 {
		return errors.New("--limit must be 1 or more")
	}
	if cmd.Name != "" {
		return withApp(ctx, config, cmd.Name, func(store *models.Store, _ models.App) error { return cmd.list(ctx, store) })
	}
	return withStore(ctx, config, func(store *models.Store) error { return cmd.list(ctx, store) })
}

func (cmd *appDeliveriesCmd) list(ctx context.Context, store *models.Store) error {
	var state models.DeliveryState // any
	if cmd.State != nil {
		state = *cmd.State
	}
	return table("ID\tAPP\tSESSION\tENDED BY\tAT\tSTATE\tATTEMPTS\tNEXT\tLAST ANSWER", func(row func(...any)) error {
		deliveries, err := store.Deliveries.Log(ctx, cmd.Name, state, cmd.Limit)
		for _, d := range deliveries {
			next := "-"
			if d.State == models.Pending {
				next = d.NextAt.Format(time.RFC3339)
			}
			row(d.ID, d.AppName, d.SessionID, d.Reason, d.CreatedAt.Format(time.RFC3339), d.State, d.Attempts, next, d.Note)
		}
		return err
	})
}

type appRetryCmd struct {
	ID  []string `arg:"" optional:"" help:"Ids of deliveries, from 'app deliveries'."`
	App string   `placeholder:"NAME" help:"All that this app has not taken."`
}

// Run makes deliveries due again.
func (cmd *appRetryCmd) Run(ctx context.Context, config *app.Config) error {
	switch {
	case len(cmd.ID) > 0 && cmd.App == "":
		return withStore(ctx, config, func(store *models.Store) error { return retryDeliveries(ctx, store, cmd.ID) })
	case len(cmd.ID) == 0 && cmd.App != "":
		return withApp(ctx, config, cmd.App, func(store *models.Store, found models.App) error {
			n, err := store.Deliveries.RetryAll(ctx, found.Name)
			if err == nil {
				fmt.Printf("Deliveries that are due now: %d.\n", n)
			}
			return err
		})
	}
	return errors.New("say which deliveries: ids, or --app NAME")
}

func retryDeliveries(ctx context.Context, store *models.Store, raw []string) error {
	ids := make([]uuid.UUID, len(raw))
	for i := range raw {
		var err error
		if ids[i], err = uuid.FromString(raw[i]); err != nil {
			return fmt.Errorf("%q is not the id of a delivery; 'latchkey app deliveries' lists them", raw[i])
		}
	}
	for _, id := range ids {
		err := store.Deliveries.Retry(ctx, id)
		if errors.Is(err, models.ErrNotFound) {
			return fmt.Errorf("there is no delivery %s; 'latchkey app deliveries' lists them", id)
		}
		if err != nil {
			return err
		}
		fmt.Printf("%s is due now.\n", id)
	}
	return nil
}

type keyCmd struct {
	List   keyListCmd   `cmd:"" help:"List the keys that verify what apps are told."`
	Rotate keyRotateCmd `cmd:"" help:"Sign with a new key from now on; the one before verifies for a day more."`
}

type keyListCmd struct{}

// Run lists the signing keys.
func (keyListCmd) Run(ctx context.Context, config *app.Config) error {
	return withStore(ctx, config, func(store *models.Store) error {
		return table("ID\tMADE\tSIGNS\tPUBLISHED UNTIL", func(row func(...any)) error {
			keys, err := store.SigningKeys.List(ctx)
			for _, k := range keys {
				signs, until := "yes", "-"
				if k.RetiresAt != nil {
					signs, until = "no", k.RetiresAt.Format(time.RFC3339)
				}
				row(k.ID, k.CreatedAt.Format(time.RFC3339), signs, until)
			}
			return err
		})
	})
}

// keyOverlap is longer than any receiver keeps the keys that it has fetched.
const keyOverlap = 24 * time.Hour

type keyRotateCmd struct {
	Revoke bool `help:"Take the keys before out of the published ones at once: for a key that has become known."`
}

// Run makes a new signing key.
func (cmd *keyRotateCmd) Run(ctx context.Context, config *app.Config) error {
	overlap, before := keyOverlap, ""
	if cmd.Revoke {
		overlap, before = 0, " No other key is published any more."
	}
	return withStore(ctx, config, func(store *models.Store) error {
		id, err := app.AddSigningKey(ctx, store, overlap, false)
		if err == nil {
			fmt.Printf("%s signs from now on.%s\n", id, before)
		}
		return err
	})
}
