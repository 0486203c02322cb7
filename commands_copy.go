package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"

	"gorm.io/gorm"

	"latchkey/db"
	"latchkey/models"
)

type copyCmd struct {
	From string `required:"" placeholder:"URL" help:"Database to copy, such as sqlite:latchkey.db."`
	To   string `required:"" placeholder:"URL" help:"New, empty database, such as postgres://latchkey@localhost/latchkey."`
}

// Run copies one database to another and prints how much that was.
func (cmd *copyCmd) Run(ctx context.Context) error {
	var all []models.Copied
	err := withDatabaseOf(ctx, "--from", cmd.From, db.OpenExisting, func(from *gorm.DB) error {
		return withDatabaseOf(ctx, "--to", cmd.To, db.Open, func(to *gorm.DB) (err error) {
			all, err = models.Copy(ctx, from, to)
			return err
		})
	})
	if errors.Is(err, models.ErrNotEmpty) {
		return fmt.Errorf("%w; give a new database, which no server has been started on", err)
	}
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, table := range all {
		fmt.Fprintf(w, "%s\t%d\n", table.Table, table.Rows)
	}
	fmt.Fprintln(w, "Start Latchkey with DATABASE_URL set to the new database. What is still written to the old one is not in it.")
	return w.Flush()
}
