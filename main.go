// Latchkey is the sign-in page for the apps on one's own domain, and the sign-out that really ends
// the session.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/term"
	"gorm.io/gorm"

	"latchkey/app"
	"latchkey/db"
)

type cli struct {
	app.Config

	Serve       serveCmd       `cmd:"" default:"withargs" help:"Serve the sign-in pages and the API. The default."`
	User        userCmd        `cmd:"" help:"Accounts: add, list, disable, enable, delete, activity, group, password."`
	Session     sessionCmd     `cmd:"" help:"Sessions: list, end."`
	App         appCmd         `cmd:"" help:"Apps that are told when sessions end: add, list, remove, test, deliveries, retry."`
	Key         keyCmd         `cmd:"" help:"Keys that sign what apps are told: list, rotate."`
	Backup      backupCmd      `cmd:"" help:"Copy the SQLite database into a new file, while the server goes on."`
	Check       checkCmd       `cmd:"" help:"Print what is wrong with settings, database, proxy, cookies and clock, and what to do. Changes nothing."`
	Copy        copyCmd        `cmd:"" help:"Copy everything to another database, such as from SQLite to PostgreSQL. Nobody is signed out by it."`
	Healthcheck healthcheckCmd `cmd:"" help:"Exit with 0 if the server on this machine is ready."`
	Version     versionCmd     `cmd:"" help:"Print the version."`
}

func main() {
	run(new(cli))
}

func run(c *cli) {
	parser := kong.Must(c, kong.Name("latchkey"),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Description("The sign-in page for the apps on your own domain, and the sign-out that really ends the session. "+
			"Every setting is a flag and an environment variable."))
	k, err := parser.Parse(os.Args[1:])
	var wrong *kong.ParseError
	if errors.As(err, &wrong) && wrong.Context != nil && wrong.Context.Selected() != nil && wrong.Context.Selected().Name == "check" {
		err = wrongSettings(err)
	}
	parser.FatalIfErrorf(err)
	c.Log = newLogger(c.LogLevel)
	slog.SetDefault(c.Log)
	k.BindTo(interruptible(), (*context.Context)(nil))
	k.FatalIfErrorf(k.Run(&c.Config))
}

// interruptible returns a context that ends with the first signal to stop. Who sends a second one
// does not want to wait.
func interruptible() context.Context {
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

// exitInterrupted is what shells report of a process that SIGINT ended.
const exitInterrupted = 130

// newLogger logs for a person on a terminal and for a program elsewhere.
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

func withDatabase(ctx context.Context, config *app.Config, open func(context.Context, string) (*gorm.DB, error), do func(*gorm.DB) error) error {
	return withDatabaseOf(ctx, "DATABASE_URL", config.DatabaseURL, open, do)
}

// withDatabaseOf opens the database that a setting of that name gives, and closes it afterwards.
func withDatabaseOf(ctx context.Context, setting, dsn string, open func(context.Context, string) (*gorm.DB, error), do func(*gorm.DB) error) error {
	database, err := open(ctx, dsn)
	if err != nil {
		return fmt.Errorf("%s: %w", setting, err)
	}
	return errors.Join(do(database), db.Close(database))
}

type healthcheckCmd struct{}

// Run asks the server that the same settings start whether it is ready.
func (healthcheckCmd) Run(ctx context.Context, config *app.Config) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	url := "http://" + app.Reachable(config.Address()) + "/auth/health/ready"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("not ready: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s answered %s", url, answer.Status)
	}
	fmt.Println("ready")
	return nil
}

type versionCmd struct{}

// Run prints the version and what it was built from.
func (versionCmd) Run() error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return errors.New("this binary does not know its version")
	}
	fmt.Println(describeBuild(info))
	return nil
}

// describeBuild says in a line what Go has noted in the binary.
func describeBuild(info *debug.BuildInfo) string {
	line := "latchkey " + versionOf(info)
	noted := map[string]string{}
	for _, setting := range info.Settings {
		noted[setting.Key] = setting.Value
	}
	if commit := noted["vcs.revision"]; commit != "" {
		line += " of commit " + commit
		if noted["vcs.modified"] == "true" {
			line += " with changes since"
		}
		line += " at " + noted["vcs.time"]
	}
	return line + ", " + info.GoVersion
}

func versionOf(info *debug.BuildInfo) string { return cmp.Or(info.Main.Version, "(devel)") }

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return versionOf(info)
	}
	return "(devel)"
}
