package app

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// outage logs when what is tried again and again begins to fail, and when it works again: a line
// for each try would hide all others.
type outage struct {
	log  *slog.Logger
	what string
	on   bool
}

// note takes what came of a try, but for one that ctx has stopped.
func (o *outage) note(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil:
		return
	case err != nil && !o.on:
		o.log.Error(o.what+" fails; trying on", slog.Any("error", err))
	case err == nil && o.on:
		o.log.Info(o.what + " works again")
	}
	o.on = err != nil
}

// trouble logs that the database can't be used, and again now and then: a line for each request
// would fill the disk, which may be what is wrong.
type trouble struct {
	log *slog.Logger

	mu     sync.Mutex
	logged time.Time
	silent int // requests since then
}

const troubleEvery = 10 * time.Second

func (t *trouble) note(ctx context.Context, err error, request string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.logged.IsZero() && time.Since(t.logged) < troubleEvery {
		t.silent++
		return
	}
	t.log.ErrorContext(ctx, "the database can't be used; requests are answered with 503", slog.String("request", request),
		slog.Int("failed_since_last_line", t.silent), slog.Any("error", err))
	t.logged, t.silent = time.Now(), 0
}
