package web

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"latchkey/app/outage"
)

func TestDatabaseIsBlamedOnlyForItsOwnDeadlines(t *testing.T) {
	expired := func(cause error) context.Context {
		ctx, cancel := context.WithDeadlineCause(t.Context(), time.Unix(1, 0), cause)
		t.Cleanup(cancel)
		return ctx
	}
	for _, c := range []struct {
		why     string
		ctx     context.Context
		blamed  bool
		message string
	}{
		{"the database's limit", t.Context(), true, "database unavailable"},
		{"the request's time", expired(errTimedOut), false, "request timed out"},
	} {
		t.Run(c.why, func(t *testing.T) {
			var logged bytes.Buffer
			log := slog.New(slog.NewTextHandler(&logged, nil))
			s := &Site{Log: log, database: outage.NewError(log, "database unavailable", "")}
			ginContext, _ := gin.CreateTestContext(httptest.NewRecorder())
			ginContext.Request = httptest.NewRequestWithContext(c.ctx, http.MethodPost, "/", nil)

			p := s.Explain(ginContext, fmt.Errorf("find a session: %w", context.DeadlineExceeded))

			require.Equal(t, http.StatusServiceUnavailable, p.Code)
			require.Equal(t, unavailableRetryAfter, p.RetryAfter)
			require.Equal(t, c.blamed, p.Reason == ErrUnavailable.Reason)
			require.Contains(t, logged.String(), c.message)
		})
	}
}
