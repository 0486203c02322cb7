package kit

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// Need skips the test unless what it needs is there. The format and its arguments name that, and how to
// get it. In continuous integration (CI=true), which has to have everything, the test fails instead.
func Need(t testing.TB, there bool, format string, args ...any) {
	t.Helper()
	if there {
		return
	}
	message := fmt.Sprintf("this test needs "+format, args...)
	if os.Getenv("CI") == "true" {
		require.FailNow(t, message)
	}
	t.Skip(message)
}

// NeedProgram is Need for a program, which a Debian package installs. It returns the program's path.
func NeedProgram(t testing.TB, program, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	Need(t, err == nil, "%s: apt-get install %s", program, debianPackage)
	return path
}
