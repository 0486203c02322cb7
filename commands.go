package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gofrs/uuid/v5"
	"golang.org/x/term"
	"gorm.io/gorm"

	"latchkey/app"
	"latchkey/app/password"
	"latchkey/db"
	"latchkey/models"
)

// The operator's commands. Each works beside a running server, on the same database.

type userCmd struct {
	Add      userAddCmd      `cmd:"" help:"Make an account. The password comes from a prompt or from standard input."`
	List     userListCmd     `cmd:"" help:"List all accounts."`
	Disable  userDisableCmd  `cmd:"" help:"Shut somebody out and end their sessions at once."`
	Enable   userEnableCmd   `cmd:"" help:"Let a disabled person sign in again."`
	Delete   userDeleteCmd   `cmd:"" help:"Delete an account and end its sessions at once."`
	Activity userActivityCmd `cmd:"" help:"List somebody's recent sign-ins, failures and sign-outs, the newest first."`
	Group    userGroupCmd    `cmd:"" help:"Groups, for ACCESS: add, remove."`
	Password userPasswordCmd `cmd:"" help:"Set a new password, from a prompt or from standard input, and end the person's sessions."`
}

type sessionCmd struct {
	List sessionListCmd `cmd:"" help:"List the active sessions."`
	End  sessionEndCmd  `cmd:"" help:"End sessions at once."`
}

func withStore(ctx context.Context, config *app.Config, do func(*models.Store) error) error {
	return withDatabase(ctx, config, db.OpenExisting, func(database *gorm.DB) error { return do(models.New(database, time.Now)) })
}

// withPerson calls do with the account of an address.
func withPerson(ctx context.Context, config *app.Config, address string, do func(*models.Store, models.Identity) error) error {
	return withStore(ctx, config, func(store *models.Store) error {
		identity, err := store.Identities.ByEmail(ctx, address)
		if errors.Is(err, models.ErrNotFound) {
			return fmt.Errorf("there is no account for %s; 'latchkey user list' lists them", address)
		}
		if err != nil {
			return err
		}
		return do(store, identity)
	})
}

type userAddCmd struct {
	Address string `arg:"" help:"Email address."`
	Name    string `help:"What pages call the person."`
}

// Run makes an account.
func (cmd *userAddCmd) Run(ctx context.Context, config *app.Config) error {
	if err := errors.Join(app.CheckEmail(cmd.Address), app.CheckName(cmd.Name)); err != nil {
		return err
	}
	hash, err := newPassword(ctx, config, cmd.Address, cmd.Name)
	if err != nil {
		return err
	}
	return withDatabase(ctx, config, db.Open, func(database *gorm.DB) error {
		store := models.New(database, time.Now)
		identity, err := store.Identities.Create(ctx, cmd.Address, cmd.Name, hash, false)
		if errors.Is(err, models.ErrTaken) {
			return fmt.Errorf("%s has an account already", cmd.Address)
		}
		if err != nil {
			return err
		}
		fmt.Printf("%s can sign in now.\n", identity.Email)
		return nil
	})
}

// newPassword takes a password from a person at a terminal, or the line that is piped in, and
// returns its hash if it is a good one.
func newPassword(ctx context.Context, config *app.Config, personal ...string) (string, error) {
	pass, err := readPassword(ctx)
	if err != nil {
		return "", err
	}
	if err := config.CheckPassword(pass, personal...); err != nil {
		return "", err
	}
	return password.NewHasher(config.PasswordParams()).Hash(ctx, pass)
}

func readPassword(ctx context.Context) (string, error) {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		line, err := bufio.NewReader(io.LimitReader(os.Stdin, password.MaxBytes+2)).ReadString('\n')
		if err != nil && err != io.EOF {
			return "", fmt.Errorf("read the password: %w", err)
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
	first, err := ask(ctx, "Password: ")
	if err != nil {
		return "", err
	}
	second, err := ask(ctx, "Once more: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", errors.New("the two passwords differ; nothing was changed")
	}
	return first, nil
}

// ask reads a line that the terminal does not show.
func ask(ctx context.Context, prompt string) (string, error) {
	stdin := int(os.Stdin.Fd())
	terminal, err := term.GetState(stdin)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	// Reading can't be interrupted, so it is left behind, and the terminal put right again.
	stop := context.AfterFunc(ctx, func() {
		fmt.Fprintln(os.Stderr)
		if err := term.Restore(stdin, terminal); err != nil {
			fmt.Fprintln(os.Stderr, "latchkey: error: restore the terminal:", err)
		}
		os.Exit(1)
	})
	defer stop()
	fmt.Fprint(os.Stderr, prompt)
	line, err := term.ReadPassword(stdin)
	fmt.Fprintln(os.Stderr)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return string(line), nil
}

type userListCmd struct{}

// Run lists all accounts.
func (userListCmd) Run(ctx context.Context, config *app.Config) error {
	return withStore(ctx, config, func(store *models.Store) error {
		identities, err := store.Identities.List(ctx)
		if err != nil {
			return err
		}
		return table("ADDRESS\tNAME\tSTATE\tGROUPS\tSINCE", func(row func(...any)) error {
			for _, i := range identities {
				state := "active"
				if !i.Active {
					state = "disabled"
				}
				row(i.Email, i.Name, state, strings.Join(i.Groups, ","), i.CreatedAt.Format(time.DateOnly))
			}
			return nil
		})
	})
}

type userActivityCmd struct {
	Address string `arg:"" help:"Email address."`
	Limit   int    `default:"250" placeholder:"N" help:"How many entries at most. Default: ${default}."`
}

// Run lists what has happened to an account.
func (cmd *userActivityCmd) Run(ctx context.Context, config *app.Config) error {
	if cmd.Limit < 1 {
		return fmt.Errorf("--limit is %d: it must be 1 or more", cmd.Limit)
	}
	return withPerson(ctx, config, cmd.Address, func(store *models.Store, identity models.Identity) error {
		return table("TIME\tWHAT\tDEVICE\tFROM", func(row func(...any)) error {
			found, err := store.Activities.Of(ctx, identity.ID, time.Now().Add(-config.SessionRetention), cmd.Limit)
			for _, v := range found {
				row(v.At.UTC().Format(time.RFC3339), app.ActivityInWords(v), app.DeviceInWords(v.UserAgent), v.IPAddress)
			}
			return err
		})
	})
}

type userDisableCmd struct {
	Address string `arg:"" help:"Email address."`
}

// Run shuts a person out.
func (cmd *userDisableCmd) Run(ctx context.Context, config *app.Config) error {
	return withPerson(ctx, config, cmd.Address, func(store *models.Store, identity models.Identity) error {
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

// Run lets a person in again.
func (cmd *userEnableCmd) Run(ctx context.Context, config *app.Config) error {
	return withPerson(ctx, config, cmd.Address, func(store *models.Store, identity models.Identity) error {
		if err := store.Identities.Enable(ctx, identity.ID); err != nil {
			return err
		}
		fmt.Printf("%s can sign in again.\n", identity.Email)
		return nil
	})
}

type userDeleteCmd struct {
	Address string `arg:"" help:"Email address."`
}

// Run deletes an account.
func (cmd *userDeleteCmd) Run(ctx context.Context, config *app.Config) error {
	return withPerson(ctx, config, cmd.Address, func(store *models.Store, identity models.Identity) error {
		if err := store.Identities.Delete(ctx, identity.ID); err != nil {
			return err
		}
		fmt.Printf("%s is deleted and signed out everywhere.\n", identity.Email)
		return nil
	})
}

type userPasswordCmd struct {
	Address string `arg:"" help:"Email address."`
}

// Run sets a person's password.
func (cmd *userPasswordCmd) Run(ctx context.Context, config *app.Config) error {
	return withPerson(ctx, config, cmd.Address, func(store *models.Store, identity models.Identity) error {
		hash, err := newPassword(ctx, config, identity.Email, identity.Name)
		if err != nil {
			return err
		}
		ended, err := store.Identities.SetPassword(ctx, identity.ID, models.PasswordChange{Hash: hash, EndSessions: true})
		if err != nil {
			return err
		}
		fmt.Printf("%s has a new password; sessions ended: %d.\n", identity.Email, ended)
		return nil
	})
}

type userGroupCmd struct {
	Add    userGroupAddCmd    `cmd:"" help:"Put somebody into groups, from their next request on."`
	Remove userGroupRemoveCmd `cmd:"" help:"Take somebody out of groups, from their next request on."`
}

type userGroupAddCmd struct {
	Address string   `arg:"" help:"Email address."`
	Group   []string `arg:"" help:"Names of groups, as in ACCESS."`
}

// Run puts a person into groups.
func (cmd *userGroupAddCmd) Run(ctx context.Context, config *app.Config) error {
	for _, group := range cmd.Group {
		if err := models.CheckGroup(group); err != nil {
			return err
		}
	}
	return withPerson(ctx, config, cmd.Address, func(store *models.Store, identity models.Identity) error {
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

// Run takes a person out of groups.
func (cmd *userGroupRemoveCmd) Run(ctx context.Context, config *app.Config) error {
	return withPerson(ctx, config, cmd.Address, func(store *models.Store, identity models.Identity) error {
		slices.Sort(cmd.Group)
		cmd.Group = slices.Compact(cmd.Group)
		for _, group := range cmd.Group {
			if !slices.Contains(identity.Groups, group) {
				return fmt.Errorf("%s is not in %q; 'latchkey user list' shows the groups. Nothing was changed", identity.Email, group)
			}
		}
		for _, group := range cmd.Group {
			err := store.Identities.RemoveFromGroup(ctx, identity.ID, group)
			if err != nil && !errors.Is(err, models.ErrNotFound) { // somebody else was quicker
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

type sessionListCmd struct {
	User string `placeholder:"ADDRESS" help:"Only this person's."`
}

// Run lists the active sessions.
func (cmd *sessionListCmd) Run(ctx context.Context, config *app.Config) error {
	if cmd.User != "" {
		return withPerson(ctx, config, cmd.User, func(store *models.Store, identity models.Identity) error {
			return listSessions(ctx, store, identity.Email)
		})
	}
	return withStore(ctx, config, func(store *models.Store) error { return listSessions(ctx, store, "") })
}

func listSessions(ctx context.Context, store *models.Store, email string) error {
	return table("ID\tADDRESS\tDEVICE\tFROM\tSIGNED IN\tLAST SEEN", func(row func(...any)) error {
		sessions, err := store.Sessions.AllActive(ctx, email)
		for _, s := range sessions {
			row(s.ID, s.Identity.Email, app.DeviceInWords(s.UserAgent), s.IPAddress,
				s.AuthenticatedAt.Format(time.RFC3339), s.LastSeenAt.Format(time.RFC3339))
		}
		return err
	})
}

type sessionEndCmd struct {
	ID   []string `arg:"" optional:"" help:"Ids of sessions, from 'session list'."`
	User string   `placeholder:"ADDRESS" help:"All of this person's."`
	All  bool     `help:"Everybody's."`
}

// Run ends sessions.
func (cmd *sessionEndCmd) Run(ctx context.Context, config *app.Config) error {
	switch {
	case len(cmd.ID) > 0 && cmd.User == "" && !cmd.All:
		return withStore(ctx, config, func(store *models.Store) error { return endSessions(ctx, store, cmd.ID) })
	case cmd.User != "" && len(cmd.ID) == 0 && !cmd.All:
		return withPerson(ctx, config, cmd.User, func(store *models.Store, identity models.Identity) error {
			return endAllSessions(ctx, store, identity.ID)
		})
	case cmd.All && len(cmd.ID) == 0 && cmd.User == "":
		return withStore(ctx, config, func(store *models.Store) error { return endAllSessions(ctx, store, uuid.Nil) })
	}
	return errors.New("say which sessions to end: ids, or --user ADDRESS, or --all")
}

func endSessions(ctx context.Context, store *models.Store, raw []string) error {
	ids := make([]uuid.UUID, len(raw))
	for i := range raw {
		var err error
		if ids[i], err = uuid.FromString(raw[i]); err != nil {
			return fmt.Errorf("%q is not the id of a session; 'latchkey session list' lists them", raw[i])
		}
	}
	for _, id := range ids {
		err := store.Sessions.End(ctx, id, models.EndedByOperator)
		if errors.Is(err, models.ErrNotFound) {
			return fmt.Errorf("there is no session %s; 'latchkey session list' lists them", id)
		}
		if err != nil {
			return err
		}
		fmt.Printf("%s has ended.\n", id)
	}
	return nil
}

func endAllSessions(ctx context.Context, store *models.Store, person uuid.UUID) error {
	n, err := store.Sessions.EndAll(ctx, person)
	if err != nil {
		return err
	}
	fmt.Printf("Sessions ended: %d.\n", n)
	return nil
}

// table prints rows in columns that line up.
func table(head string, fill func(row func(...any)) error) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, head)
	err := fill(func(cells ...any) {
		for i, cell := range cells {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			fmt.Fprint(w, cell)
		}
		fmt.Fprintln(w)
	})
	return errors.Join(err, w.Flush())
}
