package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/dustin/go-humanize"

	"latchkey/db"
	"latchkey/models"
)

type copyCmd struct {
	From string `required:"" placeholder:"URL" help:"Database to copy, such as sqlite:latchkey.db."`
	To   string `required:"" placeholder:"URL" help:"New, empty database, such as postgres://latchkey@localhost/latchkey. A SQLite file must not exist yet."`
}

// Run copies one database to another and prints the number of rows of each table.
func (cmd *copyCmd) Run(ctx context.Context) error {
	var tables []models.Copied
	show := newProgress(os.Stderr)
	err := withDatabaseAt(ctx, "--from", cmd.From, db.OpenExisting, func(from *db.DB) error {
		same, err := db.Same(ctx, cmd.From, cmd.To)
		if err == nil && same {
			err = errors.New("it is the same database as --from: name the new one")
		}
		if err == nil {
			err = db.Create(ctx, cmd.To, func(to *db.DB) (err error) {
				tables, err = models.Copy(ctx, from, to, show.update)
				return err
			})
		}
		if err != nil {
			return fmt.Errorf("--to: %w", err)
		}
		return nil
	})
	show.clear()
	if errors.Is(err, models.ErrNotEmpty) {
		return fmt.Errorf("%w; give a new database, which no server has been started on", err)
	}
	if err != nil {
		return err
	}
	err = printTable("Nothing was copied.", "TABLE\tROWS", func(row func(...any)) error {
		for _, table := range tables {
			row(table.Table, table.Rows)
		}
		return nil
	})
	fmt.Println("Start Latchkey with DATABASE_URL set to the new database. Whatever is still written to the old one is not in it.")
	return err
}

// progressEvery is how often progress is shown.
const progressEvery = 100 * time.Millisecond

// progress shows on one line of a terminal how far a copy has come. Elsewhere it shows nothing.
type progress struct {
	to    io.Writer // nil if it isn't a terminal
	shown time.Time
}

func newProgress(file *os.File) *progress {
	if !isTerminal(file) {
		return &progress{}
	}
	return &progress{to: file}
}

// eraseLine erases the line of the cursor and returns to its start.
const eraseLine = "\r\x1b[K"

func (p *progress) update(now models.CopyProgress) {
	if p.to == nil || now.Done < now.Total && time.Since(p.shown) < progressEvery {
		return
	}
	p.shown = time.Now()
	fmt.Fprintf(p.to, "%s%s of %s rows, %d %% (%s)", eraseLine, humanize.Comma(int64(now.Done)), humanize.Comma(int64(now.Total)),
		100*now.Done/max(now.Total, 1), now.Table)
}

// clear erases the line.
func (p *progress) clear() {
	if p.to != nil && !p.shown.IsZero() {
		fmt.Fprint(p.to, eraseLine)
	}
}
