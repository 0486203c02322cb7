package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

const (
	// bareAddress is the environment variable that turns the test binary into the bare handler.
	bareAddress = "LATCHKEY_BARE_ADDRESS"
	// bareDatabase is the one with the URL of the PostgreSQL from which it reads a row before each answer.
	bareDatabase = "LATCHKEY_BARE_DATABASE"

	bareReady = "/ready"
	// bareRow selects that row, which has the size of a session, by the session's token.
	bareRow = "SELECT row FROM bare WHERE token = $1"
	// barePool is as many connections as one instance of Latchkey has.
	barePool = 10
)

// cannedAnswer is an answer that the bare handler repeats.
type cannedAnswer struct {
	Path   string
	Header http.Header
	Body   []byte
}

// startBare starts the bare handler, with the answers of a running Latchkey.
func startBare(b *testing.B, s *seeded, environment ...string) (address string) {
	b.Helper()
	var copies []cannedAnswer
	for _, path := range []string{whoamiPath, verifyPath, logoutURLPath} {
		req, err := http.NewRequest(http.MethodGet, s.server.URL+path, nil)
		require.NoError(b, err)
		req.Header.Set("Accept", "application/json")
		req.Header.Set("Cookie", "latchkey_session="+s.tokens[0])
		res, err := http.DefaultClient.Do(req)
		require.NoError(b, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(b, errors.Join(err, res.Body.Close()))
		require.Equal(b, http.StatusOK, res.StatusCode, "%s", body)
		res.Header.Del("Date") // net/http adds these
		res.Header.Del("Content-Length")
		copies = append(copies, cannedAnswer{path, res.Header, body})
	}
	listener, err := net.Listen("tcp", "localhost:0")
	require.NoError(b, err)
	address = listener.Addr().String()
	require.NoError(b, listener.Close())
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), bareAddress+"="+address), environment...)
	cmd.Stderr = os.Stderr
	stdin, err := json.Marshal(copies)
	require.NoError(b, err)
	cmd.Stdin = bytes.NewReader(stdin)
	require.NoError(b, cmd.Start())
	s.barePID = cmd.Process.Pid
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	for status("http://"+address+bareReady) != http.StatusOK {
		time.Sleep(time.Millisecond)
	}
	return address
}

// serveBare serves the answers that it reads from standard input. If it has a database, it reads a row
// before each.
func serveBare(address string) {
	var copies []cannedAnswer
	if err := json.NewDecoder(os.Stdin).Decode(&copies); err != nil {
		panic(err)
	}
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.GET(bareReady, func(c *gin.Context) { c.Status(http.StatusOK) })
	if database := os.Getenv(bareDatabase); database != "" {
		config, err := pgxpool.ParseConfig(database)
		if err != nil {
			panic(err)
		}
		config.MaxConns = barePool
		pool, err := pgxpool.NewWithConfig(context.Background(), config)
		if err != nil {
			panic(err)
		}
		r.Use(func(c *gin.Context) {
			var row string
			token := strings.TrimPrefix(c.GetHeader("Cookie"), "latchkey_session=")
			if err := pool.QueryRow(c.Request.Context(), bareRow, token).Scan(&row); err != nil {
				c.AbortWithStatus(http.StatusInternalServerError)
			}
		})
	}
	for _, answer := range copies {
		contentType := answer.Header.Get("Content-Type")
		r.GET(answer.Path, func(c *gin.Context) {
			for name, values := range answer.Header {
				c.Writer.Header()[name] = values
			}
			if len(answer.Body) == 0 {
				c.Status(http.StatusOK)
				return
			}
			c.Data(http.StatusOK, contentType, answer.Body)
		})
	}
	panic(http.ListenAndServe(address, r))
}
