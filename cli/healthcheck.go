package cli

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"latchkey/app/config"
	"latchkey/app/route"
)

type healthcheckCmd struct{}

// Run asks the server that runs on this machine with the same settings whether it is ready.
func (healthcheckCmd) Run(ctx context.Context, settings *config.Settings) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	url := "http://" + config.Reachable(settings.Address()) + settings.BasePath.Path(route.Ready)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("not ready: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s answered %s", url, res.Status)
	}
	fmt.Println("ready")
	return nil
}
