package test

import (
	"fmt"
	"os"
	"regexp"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

// requireNoLeaks waits until the server has no more files open than before, and then ends it by a signal
// that prints its goroutines, of which there must be few.
func requireNoLeaks(t *testing.T, m *kit.Machine, s *kit.Server, filesBefore int) {
	t.Helper()
	// The pool, and that of db/lookup, may have opened the rest of their connections meanwhile, each with
	// two files.
	const pool = (8 + 8) * 2
	s.Await(fmt.Sprintf("no more than the %d files that were open before", filesBefore),
		func() bool {
			kit.Client.CloseIdleConnections()
			return openFiles(t, s) <= filesBefore+pool
		})
	n := countGoroutines(t, s)
	t.Logf("%d goroutines at the end", n)
	if n > maxGoroutines {
		require.FailNow(t, "goroutines have leaked", "%d are left:\n%s", n, s.Log())
	}
}

// maxGoroutines is more than an idle server has, and less than the requests that have failed.
const maxGoroutines = 60

// openFiles returns the number of open files of the process.
func openFiles(t testing.TB, s *kit.Server) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.PID()))
	if os.IsNotExist(err) {
		return 0 // not Linux
	}
	require.NoError(t, err)
	return len(entries)
}

var goroutineHead = regexp.MustCompile(`(?m)^goroutine \d+ `)

// countGoroutines ends the process by SIGQUIT, which prints its goroutines.
func countGoroutines(t testing.TB, s *kit.Server) int {
	t.Helper()
	s.Signal(syscall.SIGQUIT)
	s.Wait()
	return len(goroutineHead.FindAllString(s.Log(), -1))
}
