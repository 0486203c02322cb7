// Latchkey is the sign-in page for the apps on one's own domain, and the sign-out that really ends
// the session.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/term"
	"gorm.io/gorm"

	"latchkey/app"
	"latchkey/app/tracing"
	"latchkey/db"
)

type cli struct {
	app.Config

	Serve       serveCmd       `cmd:"" default:"withargs" help:"Serve the sign-in pages and the API. The default."`
	User        userCmd        `cmd:"" help:"Accounts: add, list, disable, enable, delete, activity, group, password."`
	Session     sessionCmd     `cmd:"" help:"Sessions: list, end."`
	App         appCmd         `cmd:"" help:"Apps that are told when sessions end: add, list, remove, test, deliveries, retry."`
	Key         keyCmd         `cmd:"" help:"Keys that sign what apps are told: list, rotate."`
	Copy        copyCmd        `cmd:"" help:"Copy everything to another database, such as from SQLite to PostgreSQL. Nobody is signed out by it."`
	Healthcheck healthcheckCmd `cmd:"" help:"Exit with 0 if the server on this machine is ready."`
	Version     versionCmd     `cmd:"" help:"Print the version."`
}

func main() {
	var c cli
	k := kong.Parse(&c, kong.Name("latchkey"),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Description("The sign-in page for the apps on your own domain, and the sign-out that really ends the session. "+
			"Every setting is a flag and an environment variable."))
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

type serveCmd struct{}

const (
	// maxHeaderBytes is more than any header may have, so that one that is too long gets an answer
	// of ours; net/http would cut the connection.
	maxHeaderBytes = 1<<20 + 128<<10
	// shutdownTimeout is less than the 30 seconds that hosts wait before they kill.
	shutdownTimeout = 25 * time.Second
	// flushTimeout is for the traces that are left, and fits into what is left of those 30 seconds.
	flushTimeout = 3 * time.Second
)

// Run serves until it is told to stop, and then finishes what is under way.
func (serveCmd) Run(ctx context.Context, config *app.Config) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200) // the heap is small: half the collections cost two megabytes
	}
	traces, err := tracing.FromEnvironment(ctx, version(), config.Log)
	if err != nil {
		return err
	}
	config.Traces = traces
	return withDatabase(ctx, config, db.Open, func(database *gorm.DB) error {
		latchkey, err := app.New(*config, database)
		if err != nil {
			return err
		}
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", config.Address())
		if err != nil {
			return fmt.Errorf("%w; choose another address with LISTEN or PORT", err)
		}
		if handler := latchkey.Metrics(); handler != nil {
			metrics, err := serveMetrics(ctx, config, handler)
			if err != nil {
				return err
			}
			defer metrics.Close()
		}
		if err := announce(ctx, config, latchkey, listener); err != nil {
			return err
		}

		background, stop := context.WithCancel(context.WithoutCancel(ctx))
		var running sync.WaitGroup
		running.Go(func() { latchkey.Run(background) })

		server := &http.Server{
			Handler: latchkey,

			DisableGeneralOptionsHandler: true, // OPTIONS * is answered like all else

			ReadHeaderTimeout: 5 * time.Second,
			ReadTimeout:       30 * time.Second,
			WriteTimeout:      60 * time.Second,
			IdleTimeout:       2 * time.Minute,
			MaxHeaderBytes:    maxHeaderBytes,
			ErrorLog:          slog.NewLogLogger(config.Log.Handler(), slog.LevelWarn),
		}
		failed := make(chan error, 1)
		go func() { failed <- server.Serve(listener) }()
		select {
		case err = <-failed:
		case <-ctx.Done():
			config.Log.Info("stopping")
			deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
			err = server.Shutdown(deadline)
			cancel()
		}
		stop()
		running.Wait()
		flushing, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		traces.Shutdown(flushing)
		return err
	})
}

// announce prints where to go.
func announce(ctx context.Context, config *app.Config, latchkey *app.App, listener net.Listener) error {
	address := strings.TrimSuffix(config.BaseURL, "/")
	if address == "" {
		address = "http://" + app.Reachable(listener.Addr().String())
	}
	setup, err := latchkey.SetupURL(ctx, address)
	if err != nil {
		return err
	}
	fmt.Printf("Latchkey is at %s\n", address)
	if setup != "" {
		fmt.Printf("Make the first account: %s\n", setup)
	}
	return nil
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
	line := "latchkey " + version()
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

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
