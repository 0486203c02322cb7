// Package kit has what the tests of several packages share: databases, the built program and ways to
// run it, and a client for its API.
package kit

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// GoodPassword is the password of all accounts that tests create.
const GoodPassword = "correct horse battery"

// Timeout is how long tests wait for what must happen, on however slow a machine.
const Timeout = time.Minute

// Root returns the directory of the repository.
func Root(t testing.TB) string {
	t.Helper()
	root, err := findRoot()
	require.NoError(t, err)
	return root
}

// findRoot looks for go.mod upwards from the directory of the package, where go test runs its tests.
func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		_, err := os.Stat(filepath.Join(dir, "go.mod"))
		if err == nil || dir == filepath.Dir(dir) {
			return dir, err
		}
		dir = filepath.Dir(dir)
	}
}

// FreePort returns a TCP port that nothing listens on, on any interface. Nothing reserves it.
func FreePort(t testing.TB) string {
	t.Helper()
	port, err := freePort(":0")
	require.NoError(t, err)
	return strconv.Itoa(port)
}

func freePort(address string) (int, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return 0, err
	}
	return listener.Addr().(*net.TCPAddr).Port, listener.Close()
}

// Clock is a clock that only moves when a test says so. It is safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock that shows the given time.
func NewClock(now time.Time) *Clock { return &Clock{now: now} }

// Now returns the time that the clock shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock; a negative duration moves it back.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
