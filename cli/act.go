package cli

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/gofrs/uuid/v5"

	"latchkey/app/audit"
	"latchkey/db"
	"latchkey/models"
)

// unrecorded are the commands that change nothing that concerns a person, an app or a key.
var unrecorded = []string{"serve", "user list", "user activity", "session list", "app list", "app deliveries", "key list",
	"backup", "vacuum", "copy", "check", "healthcheck", "version"}

// act is what a command does, for the server's log.
type act struct {
	command  string    // without its arguments
	identity uuid.UUID // may be uuid.Nil
	app      string    // may be ""
}

type actKey struct{}

// withAct returns the context of a command. withDatabase then records what it has done.
func withAct(ctx context.Context, command *kong.Context) context.Context {
	name := commandName(command)
	if !isRecorded(name) {
		return ctx
	}
	return context.WithValue(ctx, actKey{}, &act{command: name})
}

func isRecorded(command string) bool { return !slices.Contains(unrecorded, command) }

// commandName returns a command's name without its arguments, such as "user add".
func commandName(command *kong.Context) string {
	name, _, _ := strings.Cut(command.Command(), " <")
	return name
}

// actOn records whose account the command is about.
func actOn(ctx context.Context, identity models.Identity) {
	if a, ok := ctx.Value(actKey{}).(*act); ok {
		a.identity = identity.ID
	}
}

// actOnApp records which app the command is about.
func actOnApp(ctx context.Context, name string) {
	if a, ok := ctx.Value(actKey{}).(*act); ok {
		a.app = name
	}
}

// recordAct stores what the command did, and whether that failed, for the server to log.
func recordAct(ctx context.Context, database *db.DB, failure error) error {
	a, ok := ctx.Value(actKey{}).(*act)
	if !ok {
		return nil
	}
	e := audit.Entry{Event: audit.OperatorAct, Outcome: audit.OK, Identity: a.identity, Command: a.command, UID: uid(), App: a.app}
	if failure != nil {
		e.Outcome = audit.Failed
	}
	err := audit.Store(context.WithoutCancel(ctx), models.New(database, time.Now).SecurityEvents, e)
	if failure != nil {
		return nil // which says enough
	}
	return err
}

// uid returns the id of the user who runs the command, even through sudo.
func uid() string {
	if _, err := strconv.Atoi(os.Getenv("SUDO_UID")); err == nil {
		return os.Getenv("SUDO_UID")
	}
	return strconv.Itoa(os.Getuid())
}

// newStore returns a command's store. It leaves the ends of sessions for the server to log.
func newStore(database *db.DB) *models.Store {
	store := models.New(database, time.Now)
	store.OnEnd(func(ctx context.Context, ended models.Ended) {
		entries := make([]audit.Entry, len(ended))
		for i, session := range ended {
			entries[i] = audit.Ended(ctx, session)
			if entries[i].By == "" {
				entries[i].By = audit.ByOperator
			}
		}
		if err := audit.Store(context.WithoutCancel(ctx), store.SecurityEvents, entries...); err != nil {
			slog.Warn("security events not logged", slog.Any("error", err))
		}
	})
	return store
}
