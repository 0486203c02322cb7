// Package cli is the command line: serve, which is the default, and the operator's commands. Those work
// beside a running server, on the same database.
package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"latchkey/app"
	"latchkey/app/config"
	"latchkey/cli/check"
)

// commands is the command line as kong parses it: the settings are flags of every command.
type commands struct {
	config.Config

	Serve       serveCmd       `cmd:"" default:"withargs" help:"Serve the sign-in pages and the API. The default."`
	User        userCmd        `cmd:"" help:"Accounts: add, list, disable, enable, delete, activity, group, username, password."`
	Session     sessionCmd     `cmd:"" help:"Sessions: list, end."`
	App         appCmd         `cmd:"" help:"Apps that are notified when sessions end: add, list, remove, test, deliveries, retry."`
	Key         keyCmd         `cmd:"" help:"Keys that sign logout notifications: list, rotate."`
	Backup      backupCmd      `cmd:"" help:"Copy the SQLite database into a new file, while the server keeps running."`
	Check       checkCmd       `cmd:"" help:"Print what is wrong with settings, database, proxy, cookies and clock, and how to fix it. Changes nothing."`
	Copy        copyCmd        `cmd:"" help:"Copy everything to another database, such as from SQLite to PostgreSQL. Nobody is signed out by it."`
	Healthcheck healthcheckCmd `cmd:"" help:"Exit with 0 if the server on this machine is ready."`
	Version     versionCmd     `cmd:"" help:"Print the version."`
}

// Main runs the command that the arguments of the process name, and exits if it fails. options are the
// server's.
func Main(options app.Options) {
	var c commands
	parser := newParser(&c)
	command, err := parse(parser, os.Args[1:])
	isCheck := isCheck(command, err)
	var settings *config.Settings
	if err == nil {
		if settings, err = c.Config.Parse(); err != nil {
			err = settingError{err}
		}
	}
	if err != nil && isCheck {
		err = check.ReportInvalid(os.Stdout, err)
	}
	parser.FatalIfErrorf(err)
	options.Log = newLogger(c.LogLevel)
	slog.SetDefault(options.Log)
	command.BindTo(signalContext(), (*context.Context)(nil))
	command.FatalIfErrorf(command.Run(settings, options))
}

func newParser(c *commands) *kong.Kong {
	return kong.Must(c, kong.Name("latchkey"),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Description("The sign-in page for the apps on your own domain, and the sign-out that really ends the session. "+
			"Every setting is a flag and an environment variable."))
}

func parse(parser *kong.Kong, args []string) (*kong.Context, error) {
	if err := unsetEmptyVariables(parser.Model); err != nil {
		return nil, err
	}
	return parser.Parse(args)
}

// unsetEmptyVariables removes the variables of settings that are empty from the environment, where kong
// would take them for values. Tools such as Compose can't leave out a variable, only set it to "".
func unsetEmptyVariables(model kong.Visitable) error {
	return kong.Visit(model, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			for _, name := range flag.Envs {
				if value, ok := os.LookupEnv(name); ok && value == "" {
					if err := os.Unsetenv(name); err != nil {
						return fmt.Errorf("unset %s: %w", name, err)
					}
				}
			}
		}
		return next(nil)
	})
}

// isCheck reports whether the command is check, or err is about it.
func isCheck(command *kong.Context, err error) bool {
	var failed *kong.ParseError
	if errors.As(err, &failed) {
		command = failed.Context
	}
	if command == nil {
		return false
	}
	selected := command.Selected()
	return selected != nil && selected.Name == "check"
}

// settingError is the error of a setting that is wrong.
type settingError struct{ error }

// ExitCode implements kong.ExitCoder: it is what kong exits with for a wrong argument. systemd does not
// start Latchkey again after it (docs/latchkey.service).
func (settingError) ExitCode() int { return 80 }

// exitInterrupted is the status that shells report for a process that SIGINT ended.
const exitInterrupted = 130

// signalContext returns a context that is canceled by the first SIGINT or SIGTERM. The second one
// exits at once.
func signalContext() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals
		os.Exit(exitInterrupted)
	}()
	return ctx
}

// newLogger returns a logger that writes text to a terminal, and JSON elsewhere.
func newLogger(level string) *slog.Logger {
	var options slog.HandlerOptions
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err == nil { // kong has checked it
		options.Level = l
	}
	if term.IsTerminal(int(os.Stderr.Fd())) {
		return slog.New(slog.NewTextHandler(os.Stderr, &options))
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, &options))
}
