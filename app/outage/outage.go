// Package outage logs when a repeated operation starts to fail and when it works again. A line for each
// failure would drown out all others, and fill the disk, which may be the problem.
package outage

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Log logs the outages of one operation. It is safe for concurrent use.
type Log struct {
	log              *slog.Logger
	level            slog.Level
	failing, working string // the messages

	mu     sync.Mutex
	failed bool
	logged time.Time
	silent int // failures since the last line
}

// repeatEvery is the time between two lines while an outage lasts.
const repeatEvery = 10 * time.Second

// New returns a Log for the operation what, such as "reading the ends of sessions".
func New(log *slog.Logger, what string) *Log {
	return &Log{log: log, level: slog.LevelError, failing: what + " failed; retrying", working: what + " works again"}
}

// NewWarning returns a Log with its own messages, at level WARN: for operations that the server can do
// without.
func NewWarning(log *slog.Logger, failing, working string) *Log {
	return &Log{log: log, level: slog.LevelWarn, failing: failing, working: working}
}

// NewError is like NewWarning, at level ERROR.
func NewError(log *slog.Logger, failing, working string) *Log {
	return &Log{log: log, level: slog.LevelError, failing: failing, working: working}
}

// Report reports the result of the operation: nil if it succeeded. It ignores errors after ctx was canceled.
// It logs the first failure, then at most one every 10 seconds, and the first success after a failure.
func (l *Log) Report(ctx context.Context, err error, attrs ...slog.Attr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		if l.failed {
			l.log.LogAttrs(ctx, slog.LevelInfo, l.working, attrs...)
		}
		l.failed, l.logged, l.silent = false, time.Time{}, 0
	case ctx.Err() != nil && context.Cause(ctx) == context.Canceled:
	case l.failed && time.Since(l.logged) < repeatEvery:
		l.silent++
	default:
		l.log.LogAttrs(ctx, l.level, l.failing,
			append(attrs, slog.Any("error", err), slog.Int("failed_since_last_line", l.silent))...)
		l.failed, l.logged, l.silent = true, time.Now(), 0
	}
}

// Failing reports whether the operation last failed.
func (l *Log) Failing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}
