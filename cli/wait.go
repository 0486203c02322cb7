package cli

import (
	"context"
	"log/slog"
	"time"

	"latchkey/app"
	"latchkey/db"
)

const (
	// firstPause is between the first two tries to open a database that is away. Each pause is twice as long as the
	// one before, up to longestPause.
	firstPause   = 500 * time.Millisecond
	longestPause = 5 * time.Second
)

// run serves until ctx is done. While PostgreSQL is away it answers 503. It returns an error if a setting is wrong, even
// if that only turns out once PostgreSQL is there.
func (s *service) run(ctx context.Context) error {
	err := s.open(ctx)
	if !s.mayComeLater(err) {
		return err
	}
	if err := s.answerUnavailable(ctx); err != nil {
		return err
	}
	for pause := firstPause; s.mayComeLater(err); pause = min(2*pause, longestPause) {
		s.away.Report(ctx, err, slog.String("listen", s.listener.Addr().String()))
		select {
		case <-time.After(pause):
			err = s.open(ctx)
		case <-ctx.Done():
			err = ctx.Err()
		case err := <-s.server.failed:
			return err
		}
	}
	if s.serving {
		return err
	}
	if stopped := s.server.stop(ctx); ctx.Err() != nil {
		return stopped // whatever the last try was doing
	}
	return err
}

// open opens the database and serves on it until ctx is done.
func (s *service) open(ctx context.Context) error {
	return withDatabase(ctx, s.settings, db.Open, func(database *db.DB) error {
		latchkey, err := app.New(ctx, s.settings, database, s.options)
		if err != nil {
			return err
		}
		return s.serve(ctx, latchkey)
	})
}

// mayComeLater reports whether open failed because PostgreSQL is away. An unusable SQLite file needs an operator.
func (s *service) mayComeLater(err error) bool {
	_, file := db.SQLitePath(s.settings.DatabaseURL)
	return !file && !s.serving && db.Unavailable(err)
}

// answerUnavailable starts the server without a database.
func (s *service) answerUnavailable(ctx context.Context) error {
	waiting, err := app.NewWaiting(s.settings, s.options)
	if err != nil {
		return err
	}
	if err := s.listen(ctx); err != nil {
		return err
	}
	s.server = startServer(ctx, s.settings, s.listener, s.socket != nil, waiting)
	s.server.ready("Waiting for the database")
	return nil
}
