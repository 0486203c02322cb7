package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"

	"latchkey/app/config"
	"latchkey/db"
)

type vacuumCmd struct{}

// Run shrinks the SQLite file.
func (vacuumCmd) Run(ctx context.Context, settings *config.Settings) error {
	path, ok := db.SQLitePath(settings.DatabaseURL)
	if !ok {
		return errors.New("nothing to do: PostgreSQL reclaims space itself (autovacuum)")
	}
	before, after, err := db.Vacuum(ctx, path)
	if errors.Is(err, db.ErrInUse) {
		return fmt.Errorf("%w: stop Latchkey first, because nobody could sign in meanwhile", err)
	}
	if err != nil {
		return err
	}
	size := func(n int64) string { return humanize.IBytes(uint64(max(n, 0))) } // #nosec G115 -- it is not negative
	fmt.Printf("%s has shrunk to %s from %s. From now on the server keeps it small.\n", path, size(after), size(before))
	return nil
}
