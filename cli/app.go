package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gofrs/uuid/v5"

	"latchkey/app/backchannel"
	"latchkey/app/config"
	"latchkey/app/keys"
	"latchkey/app/outbox"
	"latchkey/models"
)

type appCmd struct {
	Add        appAddCmd        `cmd:"" help:"Notify an app when a session ends."`
	List       appListCmd       `cmd:"" help:"List the apps that are notified."`
	Remove     appRemoveCmd     `cmd:"" help:"Stop notifying an app, and drop what is waiting for it."`
	Test       appTestCmd       `cmd:"" help:"Send an app a logout token for a session that never existed, and print its answer."`
	Deliveries appDeliveriesCmd `cmd:"" help:"List notifications, sent and waiting, newest first."`
	Retry      appRetryCmd      `cmd:"" help:"Send notifications again, whatever became of them before."`
}

type appAddCmd struct {
	Name string      `arg:"" help:"Name of the app; the audience (aud) of its tokens."`
	URL  string      `arg:"" help:"Its OpenID Connect back-channel logout URI."`
	Send models.Send `default:"both" enum:"both,sub,sid" help:"What the token says: whose session has ended (sub), which session (sid), or both. Default: ${default}."`
}

// Run registers an app.
func (cmd *appAddCmd) Run(ctx context.Context, settings *config.Settings) error {
	if err := errors.Join(models.CheckApp(cmd.Name), backchannel.CheckURL(cmd.URL)); err != nil {
		return err
	}
	return withStore(ctx, settings, func(store *models.Store) error {
		err := store.Apps.Add(ctx, models.App{Name: cmd.Name, LogoutURL: cmd.URL, Send: cmd.Send})
		if errors.Is(err, models.ErrTaken) {
			return fmt.Errorf("there already is an app %s; 'latchkey app remove %s' removes it", cmd.Name, cmd.Name)
		}
		if err != nil {
			return err
		}
		actOnApp(ctx, cmd.Name)
		fmt.Printf("%s will be notified of every session that ends. Try it: latchkey app test %s\n", cmd.Name, cmd.Name)
		return nil
	})
}

type appListCmd struct{}

// Run lists the apps.
func (appListCmd) Run(ctx context.Context, settings *config.Settings) error {
	return withStore(ctx, settings, func(store *models.Store) error {
		return printTable("No app is notified yet: 'latchkey app add NAME URL' adds one.", "NAME\tURL\tSENDS\tADDED", func(row func(...any)) error {
			apps, err := store.Apps.List(ctx)
			for _, a := range apps {
				row(a.Name, a.LogoutURL, a.Send, a.CreatedAt.Format(time.DateOnly))
			}
			return err
		})
	})
}

type appRemoveCmd struct {
	Name string `arg:"" help:"Name of the app."`
}

// Run removes an app.
func (cmd *appRemoveCmd) Run(ctx context.Context, settings *config.Settings) error {
	return withApp(ctx, settings, cmd.Name, func(store *models.Store, found models.App) error {
		if err := store.Apps.Remove(ctx, found.Name); err != nil {
			return err
		}
		fmt.Printf("%s is no longer notified.\n", found.Name)
		return nil
	})
}

type appTestCmd struct {
	Name string `arg:"" help:"Name of the app."`
}

// Run notifies an app of the end of a session that never existed.
func (cmd *appTestCmd) Run(ctx context.Context, settings *config.Settings) error {
	return withApp(ctx, settings, cmd.Name, func(store *models.Store, found models.App) error {
		ring, err := keys.Load(ctx, store, settings.SecretKeys, time.Now)
		if err != nil {
			return err
		}
		notifier := outbox.NewNotifier(settings, ring, time.Now)
		person, err := uuid.NewV4()
		if err != nil {
			return err
		}
		session, err := uuid.NewV4()
		if err != nil {
			return err
		}
		result, err := notifier.Notify(ctx, found, person, session)
		if err != nil {
			return err
		}
		if result.Outcome != backchannel.Delivered {
			return fmt.Errorf("%s did not accept it: %s (issuer %s)", found.Name, result.Note, settings.Issuer)
		}
		fmt.Printf("%s accepted it: %s (issuer %s).\n", found.Name, result.Note, settings.Issuer)
		return nil
	})
}

type appDeliveriesCmd struct {
	Name  string                `arg:"" optional:"" help:"Only this app's."`
	State *models.DeliveryState `enum:"pending,delivered,refused,given_up" placeholder:"STATE" help:"Only those in this state: pending, delivered, refused, given_up."`
	Limit int                   `default:"50" placeholder:"N" help:"How many at most. Default: ${default}."`
}

// Run lists deliveries.
func (cmd *appDeliveriesCmd) Run(ctx context.Context, settings *config.Settings) error {
	if cmd.Limit < 1 {
		return errors.New("--limit must be 1 or more")
	}
	if cmd.Name != "" {
		return withApp(ctx, settings, cmd.Name, func(store *models.Store, _ models.App) error { return cmd.list(ctx, store) })
	}
	return withStore(ctx, settings, func(store *models.Store) error { return cmd.list(ctx, store) })
}

func (cmd *appDeliveriesCmd) list(ctx context.Context, store *models.Store) error {
	var state models.DeliveryState // any
	if cmd.State != nil {
		state = *cmd.State
	}
	return printTable("There are none: an app gets one for each session that ends after the app was added.", "ID\tAPP\tSESSION\tENDED BY\tAT\tSTATE\tATTEMPTS\tNEXT\tLAST ANSWER", func(row func(...any)) error {
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
	ID  []string `arg:"" optional:"" help:"IDs of deliveries, from 'app deliveries'."`
	App string   `placeholder:"NAME" help:"All that this app has not accepted."`
}

// Run makes deliveries due again.
func (cmd *appRetryCmd) Run(ctx context.Context, settings *config.Settings) error {
	switch {
	case len(cmd.ID) > 0 && cmd.App == "":
		return withStore(ctx, settings, func(store *models.Store) error { return retryDeliveries(ctx, store, cmd.ID) })
	case len(cmd.ID) == 0 && cmd.App != "":
		return withApp(ctx, settings, cmd.App, func(store *models.Store, found models.App) error {
			n, err := store.Deliveries.RetryAll(ctx, found.Name)
			if err == nil {
				fmt.Printf("Deliveries that are due now: %d.\n", n)
			}
			return err
		})
	}
	return errors.New("say which deliveries: IDs, or --app NAME")
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
