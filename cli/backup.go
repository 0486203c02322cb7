package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"latchkey/app/config"
	"latchkey/cli/check"
	"latchkey/db"
	"latchkey/models"
)

type backupCmd struct {
	File string `arg:"" help:"New file for the copy. It holds password hashes and keys."`
}

// Run copies the database while others read and write it.
func (cmd *backupCmd) Run(ctx context.Context, settings *config.Settings) error {
	path, ok := db.SQLitePath(settings.DatabaseURL)
	if !ok {
		return fmt.Errorf("PostgreSQL makes its own copies, such as by: %s", pgDump(settings.DatabaseURL, cmd.File))
	}
	if cmd.File == "-" {
		return errors.New("give a file rather than -: the copy is verified before it gets its name")
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("there is no database to copy: %w; set DATABASE_URL to that of the server", err)
	}
	var contents models.Contents
	var schema db.Schema
	err := db.Backup(ctx, path, cmd.File, func(copied *db.Reader) (err error) {
		if schema, err = db.SchemaOf(ctx, copied); err != nil {
			return err
		}
		if schema.Latest == "" {
			return errors.New("it is not a database of Latchkey: no migration has been applied")
		}
		contents, err = models.Inspect(ctx, copied, time.Now())
		return err
	})
	if err != nil {
		return err
	}
	info, err := os.Stat(cmd.File)
	if err != nil {
		return err
	}
	size := humanize.IBytes(uint64(max(info.Size(), 0))) // #nosec G115 -- it is not negative
	fmt.Printf("%s is complete: %s, %s, %s, schema %s.\n", cmd.File, size,
		check.Plural(contents.Accounts, "account"), check.Plural(contents.ActiveSessions, "active session"), schema.Latest)
	return nil
}

// pgDump returns the command that copies a PostgreSQL database. It has no passwords: it is printed, and
// other users of the machine can see the arguments of processes.
func pgDump(dsn, file string) string {
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	command := "pg_dump --format=custom --file=" + quote(file)
	u, err := url.Parse(dsn)
	if err != nil {
		return command + " DATABASE"
	}
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	query := u.Query()
	for name := range query {
		if name == "password" || name == "sslpassword" || strings.HasPrefix(name, "pool_") || strings.HasPrefix(name, "default_query_exec") {
			query.Del(name) // a secret, or not known to pg_dump
		}
	}
	u.RawQuery = query.Encode()
	return command + " " + quote(u.String()) + " (it takes the password from PGPASSWORD or ~/.pgpass)"
}
