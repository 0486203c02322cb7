package kit

import (
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Binary builds the program as its users do and returns its path. It is built with -cover if the tests
// are, or if GOCOVERDIR is set.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := binary()
	require.NoError(t, err)
	return path
}

// binary builds once a process. Since the file outlives the process, the go command finds it up to date
// in the test processes of other packages, and links only once a change.
var binary = sync.OnceValues(func() (string, error) {
	root, err := findRoot()
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	args := []string{"build", "-buildvcs=auto"}
	if coverageDir() != "" {
		args = append(args, "-cover")
	}
	key := sha256.Sum256(fmt.Append(nil, root, args)) // each clone has its own
	dir := filepath.Join(cache, "latchkey-test", hex.EncodeToString(key[:8]))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	unlock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	path := filepath.Join(dir, "latchkey")
	build := exec.Command("go", append(args, "-o", path, ".")...)
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return path, nil
})

// coverageDir returns the directory for the coverage of programs that were built with -cover, "" if it is
// not measured. The go command sets GOCOVERDIR for tests with -cover, but not to what a
// -test.gocoverdir after -args says.
func coverageDir() string {
	if f := flag.Lookup("test.gocoverdir"); f != nil && f.Value.String() != "" {
		return f.Value.String()
	}
	return os.Getenv("GOCOVERDIR")
}
