package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"gorm.io/gorm"

	"latchkey/app"
	"latchkey/db"
	"latchkey/models"
)

type backupCmd struct {
	File string `arg:"" help:"New file for the copy. It holds password hashes and keys."`
}

// Run copies the database while others read and write it.
func (cmd *backupCmd) Run(ctx context.Context, config *app.Config) error {
	path, ok := db.SQLitePath(config.DatabaseURL)
	if !ok {
		return fmt.Errorf("PostgreSQL makes its own copies, such as by: %s", pgDump(config.DatabaseURL, cmd.File))
	}
	if cmd.File == "-" {
		return errors.New("give a file rather than -: a copy is verified before anybody gets it, and only a file can be")
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("there is no database to copy: %w; set DATABASE_URL to that of the server", err)
	}
	var held contents
	err := db.Backup(ctx, path, cmd.File, func(copied *gorm.DB) (err error) {
		held, err = contentsOf(ctx, copied)
		return err
	})
	if err != nil {
		return err
	}
	info, err := os.Stat(cmd.File)
	if err != nil {
		return err
	}
	fmt.Printf("%s is whole: %s.\n", cmd.File, strings.Join([]string{
		bytesOf(info.Size()), counted(held.accounts, "account"), counted(held.sessions, "active session"), "schema " + held.schema}, ", "))
	return nil
}

// contents is what a database holds.
type contents struct {
	accounts, sessions int64
	schema             string
}

func contentsOf(ctx context.Context, database *gorm.DB) (c contents, err error) {
	schema, err := db.SchemaOf(ctx, database)
	if err != nil {
		return c, err
	}
	if schema.Latest == "" {
		return c, errors.New("it is no database of Latchkey: no migration has been applied")
	}
	c.schema = schema.Latest
	if c.accounts, err = gorm.G[models.Identity](database).Count(ctx, "id"); err == nil {
		c.sessions, err = gorm.G[models.Session](database).Where("ended_at IS NULL AND expires_at > ?", time.Now().UTC()).Count(ctx, "id")
	}
	return c, err
}

func counted(n int64, what string) string {
	if n != 1 {
		what += "s"
	}
	return humanize.Comma(n) + " " + what
}

// pgDump returns the command that copies a PostgreSQL database. Passwords are left out of it: it is
// printed, and other users of a machine see the commands that run.
func pgDump(dsn, file string) string {
	quoted := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	command := "pg_dump --format=custom --file=" + quoted(file)
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
			query.Del(name) // a secret, or not pg_dump's
		}
	}
	u.RawQuery = query.Encode()
	return command + " " + quoted(u.String()) + " (it takes the password from PGPASSWORD or ~/.pgpass)"
}

// bytesOf writes the size of a file.
func bytesOf(size int64) string { return humanize.IBytes(unsigned(size)) }

func unsigned(size int64) uint64 { return uint64(max(size, 0)) } // #nosec G115 -- it is not negative
