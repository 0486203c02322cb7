package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"latchkey/app/activity"
	"latchkey/app/authn"
	"latchkey/app/background"
	"latchkey/app/config"
	"latchkey/db"
	"latchkey/models"
)

type userCmd struct {
	Add      userAddCmd      `cmd:"" help:"Create an account. The password comes from a prompt or from standard input."`
	List     userListCmd     `cmd:"" help:"List all accounts."`
	Disable  userDisableCmd  `cmd:"" help:"Keep somebody from signing in and end their sessions at once."`
	Enable   userEnableCmd   `cmd:"" help:"Let a disabled person sign in again."`
	Delete   userDeleteCmd   `cmd:"" help:"Delete an account and end its sessions at once."`
	Activity userActivityCmd `cmd:"" help:"List somebody's recent sign-ins, failures and sign-outs, newest first."`
	Group    userGroupCmd    `cmd:"" help:"Groups, for ACCESS: add, remove."`
	Name     userNameCmd     `cmd:"" help:"Set or remove somebody's name."`
	Address  userAddressCmd  `cmd:"" help:"Set somebody's email address, which is passed on to apps. They stay signed in."`
	Username userUsernameCmd `cmd:"" help:"Set or remove somebody's username."`
	Password userPasswordCmd `cmd:"" help:"Set a new password, from a prompt or from standard input, and end the person's sessions."`
}

type userAddCmd struct {
	Address  string `arg:"" help:"Email address."`
	Name     string `help:"Name of the person, for the pages."`
	Username string `help:"What the person may sign in with instead of the address: 2 to 64 lower-case letters, digits, dots, dashes and underscores."`
}

// Run creates an account.
func (cmd *userAddCmd) Run(ctx context.Context, settings *config.Settings) error {
	account := authn.NewAccount{Email: cmd.Address, Username: cmd.Username, Name: cmd.Name, ByOperator: true}
	if err := account.CheckPerson(); err != nil { // before somebody thinks of a password
		return err
	}
	var err error
	if account.Password, err = readPassword(ctx); err != nil {
		return err
	}
	return withDatabase(ctx, settings, db.Open, func(database *db.DB) error {
		identity, err := newService(settings, newStore(database)).CreateAccount(ctx, account)
		switch {
		case errors.Is(err, models.ErrTaken):
			return fmt.Errorf("%s already has an account, or looks like an address that has one", cmd.Address)
		case errors.Is(err, models.ErrUsernameTaken):
			return fmt.Errorf("the username %s belongs to another account, or looks like one that does", cmd.Username)
		case err != nil:
			return err
		}
		actOn(ctx, identity)
		fmt.Printf("%s can sign in now.\n", identity.Email)
		return nil
	})
}

// newService returns what signs people in, for an operator's doings.
func newService(settings *config.Settings, store *models.Store) *authn.Service {
	return authn.New(settings, store, background.NewQueue(slog.Default()), slog.Default(), time.Now)
}

type userListCmd struct{}

// Run lists all accounts.
func (userListCmd) Run(ctx context.Context, settings *config.Settings) error {
	return withStore(ctx, settings, func(store *models.Store) error {
		identities, err := store.Identities.List(ctx)
		if err != nil {
			return err
		}
		return printTable("There are no accounts yet: 'latchkey user add ADDRESS' creates one.", "ADDRESS\tUSERNAME\tNAME\tSTATE\tGROUPS\tSINCE", func(row func(...any)) error {
			for _, i := range identities {
				state := "active"
				if !i.Active {
					state = "disabled"
				}
				row(i.Email, i.Username, i.Name, state, strings.Join(i.Groups, ","), i.CreatedAt.Format(time.DateOnly))
			}
			return nil
		})
	})
}

type userActivityCmd struct {
	Address string `arg:"" help:"Email address."`
	Limit   int    `default:"250" placeholder:"N" help:"How many entries at most. Default: ${default}."`
}

// Run lists the recent activity of an account.
func (cmd *userActivityCmd) Run(ctx context.Context, settings *config.Settings) error {
	if cmd.Limit < 1 {
		return fmt.Errorf("--limit is %d: it must be 1 or more", cmd.Limit)
	}
	return withIdentity(ctx, settings, cmd.Address, func(store *models.Store, identity models.Identity) error {
		return printTable("Nothing has happened yet, or it is older than SESSION_RETENTION.", "TIME\tWHAT\tDEVICE\tFROM", func(row func(...any)) error {
			found, err := store.Activities.Of(ctx, identity.ID, time.Now().Add(-settings.SessionRetention), cmd.Limit)
			for _, v := range found {
				row(v.At.UTC().Format(time.RFC3339), activity.Describe(v), activity.Where(v), v.IPAddress)
			}
			return err
		})
	})
}

type userDisableCmd struct {
	Address string `arg:"" help:"Email address."`
}

// Run disables an account.
func (cmd *userDisableCmd) Run(ctx context.Context, settings *config.Settings) error {
	return withIdentity(ctx, settings, cmd.Address, func(store *models.Store, identity models.Identity) error {
		if err := store.Identities.Disable(ctx, identity.ID); err != nil {
			return err
		}
		fmt.Printf("%s is disabled and signed out everywhere.\n", identity.Email)
		return nil
	})
}

type userEnableCmd struct {
	Address string `arg:"" help:"Email address."`
}

// Run enables an account.
func (cmd *userEnableCmd) Run(ctx context.Context, settings *config.Settings) error {
	return withIdentity(ctx, settings, cmd.Address, func(store *models.Store, identity models.Identity) error {
		if err := store.Identities.Enable(ctx, identity.ID); err != nil {
			return err
		}
		fmt.Printf("%s can sign in again.\n", identity.Email)
		return nil
	})
}

type userDeleteCmd struct {
	Address string `arg:"" help:"Email address."`
	Yes     bool   `help:"Don't ask for confirmation. Only a terminal is asked at all."`
}

// Run deletes an account.
func (cmd *userDeleteCmd) Run(ctx context.Context, settings *config.Settings) error {
	return withIdentity(ctx, settings, cmd.Address, func(store *models.Store, identity models.Identity) error {
		if !cmd.Yes {
			if err := confirm(ctx, fmt.Sprintf("Delete the account of %s, with its sessions and activity?", identity.Email)); err != nil {
				return err
			}
		}
		if err := store.Identities.Delete(ctx, identity.ID); err != nil {
			return err
		}
		fmt.Printf("%s is deleted and signed out everywhere.\n", identity.Email)
		return nil
	})
}

type userNameCmd struct {
	Address string `arg:"" help:"Email address."`
	Name    string `arg:"" optional:"" help:"New name. Leave it out to remove the current one."`
}

// Run sets the name of an account.
func (cmd *userNameCmd) Run(ctx context.Context, settings *config.Settings) error {
	name := models.NormalizeName(cmd.Name)
	if err := models.CheckName(name); err != nil {
		return err
	}
	return withIdentity(ctx, settings, cmd.Address, func(store *models.Store, identity models.Identity) error {
		if err := store.Identities.Rename(ctx, identity.ID, name); err != nil {
			return err
		}
		if name == "" {
			fmt.Printf("%s has no name now.\n", identity.Email)
			return nil
		}
		fmt.Printf("%s is now called %s.\n", identity.Email, name)
		return nil
	})
}

type userAddressCmd struct {
	Address string `arg:"" help:"Current email address."`
	New     string `arg:"" help:"New email address."`
}

// Run sets the address of an account.
func (cmd *userAddressCmd) Run(ctx context.Context, settings *config.Settings) error {
	if err := authn.CheckEmail(cmd.New); err != nil {
		return err
	}
	return withIdentity(ctx, settings, cmd.Address, func(store *models.Store, identity models.Identity) error {
		err := store.Identities.SetAddress(ctx, identity.ID, cmd.New)
		if errors.Is(err, models.ErrTaken) {
			return fmt.Errorf("%s already has an account, or looks like an address that has one", models.NormalizeEmail(cmd.New))
		}
		if err != nil {
			return err
		}
		fmt.Printf("%s is now %s.\n", identity.Email, models.NormalizeEmail(cmd.New))
		return nil
	})
}

type userPasswordCmd struct {
	Address string `arg:"" help:"Email address."`
}

// Run sets the password of an account.
func (cmd *userPasswordCmd) Run(ctx context.Context, settings *config.Settings) error {
	return withIdentity(ctx, settings, cmd.Address, func(store *models.Store, identity models.Identity) error {
		pass, err := readPassword(ctx)
		if err != nil {
			return err
		}
		ended, err := newService(settings, store).SetPassword(ctx, identity, pass)
		if err != nil {
			return err
		}
		fmt.Printf("%s has a new password; sessions ended: %d.\n", identity.Email, ended)
		return nil
	})
}

type userUsernameCmd struct {
	Address  string `arg:"" help:"Email address."`
	Username string `arg:"" optional:"" help:"New username. Leave it out to remove the present one."`
}

// Run sets the username of an account.
func (cmd *userUsernameCmd) Run(ctx context.Context, settings *config.Settings) error {
	if cmd.Username != "" {
		if err := models.CheckUsername(cmd.Username); err != nil {
			return err
		}
	}
	return withIdentity(ctx, settings, cmd.Address, func(store *models.Store, identity models.Identity) error {
		err := store.Identities.SetUsername(ctx, identity.ID, cmd.Username)
		if errors.Is(err, models.ErrUsernameTaken) {
			return fmt.Errorf("the username %s belongs to another account, or looks like one that does", cmd.Username)
		}
		if err != nil {
			return err
		}
		if cmd.Username == "" {
			fmt.Printf("%s has no username.\n", identity.Email)
			return nil
		}
		fmt.Printf("%s is %s.\n", identity.Email, cmd.Username)
		return nil
	})
}
