package cli

import (
	"context"
	"os"

	"latchkey/app/config"
	"latchkey/cli/check"
)

type checkCmd struct{}

// Run prints what is wrong and how to fix it. It changes nothing.
func (checkCmd) Run(ctx context.Context, settings *config.Settings) error {
	return check.Run(ctx, settings, os.Stdout)
}
