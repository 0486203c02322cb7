package app

import (
	"context"
	"fmt"
	"net/http"
)

// isAlive returns an error unless a handler answers the liveness check at a path.
func isAlive(ctx context.Context, handler http.Handler, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	req.Host, req.RequestURI, req.RemoteAddr = "localhost", req.URL.RequestURI(), "127.0.0.1:0"
	var answer aliveAnswer
	handler.ServeHTTP(&answer, req)
	if answer.status != http.StatusOK {
		return fmt.Errorf("the check answered %d", answer.status)
	}
	return nil
}

// aliveAnswer is a response that keeps only the status.
type aliveAnswer struct {
	header http.Header
	status int
}

func (a *aliveAnswer) Header() http.Header {
	if a.header == nil {
		a.header = http.Header{}
	}
	return a.header
}

func (a *aliveAnswer) WriteHeader(status int) { a.status = status }

func (a *aliveAnswer) Write(p []byte) (int, error) { return len(p), nil }
