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
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"latchkey/app"
	"latchkey/app/config"
	"latchkey/cli/check"
	"latchkey/db"
)

// commands is the command line as kong parses it: the settings are flags of every command.
type commands struct {
	config.Config

	ShowVersion kong.VersionFlag `name:"version" help:"Print the version."`

	Serve       serveCmd       `cmd:"" default:"withargs" help:"Serve the sign-in pages and the API. The default."`
	User        userCmd        `cmd:"" help:"Accounts: add, list, disable, enable, delete, activity, group, name, address, username, password."`
	Session     sessionCmd     `cmd:"" help:"Sessions: list, end."`
	App         appCmd         `cmd:"" help:"Apps that are notified when sessions end: add, list, remove, test, deliveries, retry."`
	Key         keyCmd         `cmd:"" help:"Keys that sign logout notifications: list, rotate."`
	Backup      backupCmd      `cmd:"" help:"Copy the SQLite database into a new file, while the server keeps running."`
	Vacuum      vacuumCmd      `cmd:"" help:"Shrink the SQLite database while the server is stopped. Needed once, for a file from an earlier version."`
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
	if err == nil && command.Command() == "version" { // whatever the settings are
		parser.FatalIfErrorf(command.Run())
		return
	}
	var settings *config.Settings
	if err == nil {
		if settings, err = parseSettings(c.Config); err != nil {
			err = settingError{err}
		}
	}
	if err != nil {
		err = withoutURLs(err, parser.Model)
	}
	if err != nil && isCheck {
		err = check.ReportInvalid(os.Stdout, err)
	}
	options.Log = newLogger(os.Stderr, c.LogLevel)
	slog.SetDefault(options.Log)
	if err == nil {
		command.BindTo(withAct(signalContext(), command), (*context.Context)(nil))
		err = command.Run(settings, options)
	}
	if err != nil && isServe(os.Args[1:]) && !isTerminal(os.Stderr) {
		options.Log.Error("Latchkey stops", slog.Any("error", err))
		parser.Exit(exitCode(err))
	}
	parser.FatalIfErrorf(err)
}

func parseSettings(c config.Config) (*config.Settings, error) {
	if err := config.CheckEnvironment(os.Environ()); err != nil {
		return nil, err
	}
	settings, err := c.Parse()
	if err != nil {
		return nil, err
	}
	if err := db.CheckURL(settings.DatabaseURL); err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	return settings, nil
}

// isServe reports whether the arguments start the server, whose errors go to its log.
func isServe(args []string) bool {
	return len(args) == 0 || args[0] == "serve" || strings.HasPrefix(args[0], "-")
}

// exitCode returns the status of a process that ends with an error.
func exitCode(err error) int {
	var coder kong.ExitCoder
	if errors.As(err, &coder) {
		return coder.ExitCode()
	}
	return 1
}

func newParser(c *commands) *kong.Kong {
	return kong.Must(c, kong.Name("latchkey"),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true}), kong.Help(printHelp),
		kong.Vars{"version": versionLine()},
		kong.Description("The sign-in page for the apps on your own domain, and the sign-out that really ends the session. "+
			"Every setting is a flag and an environment variable."))
}

// settingsInHelp are the settings in a command's help, by its name. Other commands show only DATABASE_URL.
var settingsInHelp = map[string][]string{"healthcheck": {"listen", "port", "base-path"}, "copy": {}, "version": {}}

// printHelp prints all settings only for the program and the server. They are flags of every command, but a command's
// own would drown in them.
func printHelp(options kong.HelpOptions, command *kong.Context) error {
	selected := command.Selected()
	if selected == nil || selected.Name == "serve" {
		return kong.DefaultHelpPrinter(options, command)
	}
	shown, ok := settingsInHelp[selected.Name]
	if !ok {
		shown = []string{"database-url"}
	}
	for _, flag := range command.Model.Flags {
		flag.Hidden = flag.Name != "help" && !slices.Contains(shown, flag.Name)
	}
	err := kong.DefaultHelpPrinter(options, command)
	if err == nil && len(shown) > 0 {
		_, err = fmt.Fprintln(command.Stdout, "\nIt also accepts the server's settings: latchkey serve --help")
	}
	return err
}

func parse(parser *kong.Kong, args []string) (*kong.Context, error) {
	if err := unsetEmptyVariables(parser.Model); err != nil {
		return nil, err
	}
	command, err := parser.Parse(args)
	if err != nil && len(args) > 0 && !slices.ContainsFunc(parser.Model.Children, func(n *kong.Node) bool { return n.Name == args[0] }) {
		// To kong it is an argument of serve, the default.
		if near := config.Nearest(args[0], commandNames(parser.Model)); near != "" {
			return command, fmt.Errorf("%w, did you mean %q?", err, near)
		}
	}
	return command, err
}

func commandNames(model *kong.Application) (names []string) {
	for _, command := range model.Children {
		names = append(names, command.Name)
	}
	return names
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
func newLogger(to *os.File, level string) *slog.Logger {
	var options slog.HandlerOptions
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err == nil { // else kong or Parse has refused it
		options.Level = l
	}
	if isTerminal(to) {
		return slog.New(slog.NewTextHandler(to, &options))
	}
	return slog.New(slog.NewJSONHandler(to, &options))
}

func isTerminal(file *os.File) bool { return term.IsTerminal(int(file.Fd())) }
