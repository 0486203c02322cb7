package cli

import (
	"context"
	"errors"
	"fmt"

	"latchkey/db"
	"latchkey/models"
)

type copyCmd struct {
	From string `required:"" placeholder:"URL" help:"Database to copy, such as sqlite:latchkey.db."`
	To   string `required:"" placeholder:"URL" help:"New, empty database, such as postgres://latchkey@localhost/latchkey."`
}

// Run copies one database to another and prints the number of rows of each table.
func (cmd *copyCmd) Run(ctx context.Context) error {
	var tables []models.Copied
	err := withDatabaseAt(ctx, "--from", cmd.From, db.OpenExisting, func(from *db.DB) error {
		return withDatabaseAt(ctx, "--to", cmd.To, db.Open, func(to *db.DB) (err error) {
			tables, err = models.Copy(ctx, from, to)
			return err
		})
	})
	if errors.Is(err, models.ErrNotEmpty) {
		return fmt.Errorf("%w; give a new database, which no server has been started on", err)
	}
	if err != nil {
		return err
	}
	err = printTable("TABLE\tROWS", func(row func(...any)) error {
		for _, table := range tables {
			row(table.Table, table.Rows)
		}
		return nil
	})
	fmt.Println("Start Latchkey with DATABASE_URL set to the new database. Whatever is still written to the old one is not in it.")
	return err
}
