package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gofrs/uuid/v5"

	"latchkey/app/activity"
	"latchkey/app/config"
	"latchkey/models"
)

type sessionCmd struct {
	List sessionListCmd `cmd:"" help:"List the active sessions."`
	End  sessionEndCmd  `cmd:"" help:"End sessions at once."`
}

type sessionListCmd struct {
	User string `placeholder:"ADDRESS" help:"Only this person's."`
}

// Run lists the active sessions.
func (cmd *sessionListCmd) Run(ctx context.Context, settings *config.Settings) error {
	if cmd.User != "" {
		return withIdentity(ctx, settings, cmd.User, func(store *models.Store, identity models.Identity) error {
			return listSessions(ctx, store, identity.Email, identity.Email+" isn't signed in anywhere.")
		})
	}
	return withStore(ctx, settings, func(store *models.Store) error { return listSessions(ctx, store, "", "Nobody is signed in.") })
}

func listSessions(ctx context.Context, store *models.Store, email, none string) error {
	return printTable(none, "ID\tADDRESS\tDEVICE\tFROM\tSIGNED IN\tLAST SEEN", func(row func(...any)) error {
		sessions, err := store.Sessions.AllActive(ctx, email)
		for _, s := range sessions {
			row(s.ID, s.Identity.Email, activity.Device(s.UserAgent), s.IPAddress,
				s.AuthenticatedAt.Format(time.RFC3339), s.LastSeenAt.Format(time.RFC3339))
		}
		return err
	})
}

type sessionEndCmd struct {
	ID   []string `arg:"" optional:"" help:"IDs of sessions, from 'session list'."`
	User string   `placeholder:"ADDRESS" help:"All of this person's."`
	All  bool     `help:"Everybody's."`
}

// Run ends sessions.
func (cmd *sessionEndCmd) Run(ctx context.Context, settings *config.Settings) error {
	switch {
	case len(cmd.ID) > 0 && cmd.User == "" && !cmd.All:
		return withStore(ctx, settings, func(store *models.Store) error { return endSessions(ctx, store, cmd.ID) })
	case cmd.User != "" && len(cmd.ID) == 0 && !cmd.All:
		return withIdentity(ctx, settings, cmd.User, func(store *models.Store, identity models.Identity) error {
			return endAllSessions(ctx, store, identity.ID)
		})
	case cmd.All && len(cmd.ID) == 0 && cmd.User == "":
		return withStore(ctx, settings, func(store *models.Store) error { return endAllSessions(ctx, store, uuid.Nil) })
	}
	return errors.New("say which sessions to end: IDs, or --user ADDRESS, or --all")
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
