package app_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

const logsDoc = "docs/logs.md"

// The file keeps its place, so that a server that appends to it goes on doing so.
func TestLogrotateOfTheDocument(t *testing.T) {
	program, err := exec.LookPath("logrotate")
	if err != nil {
		program = kit.NeedProgram(t, "/usr/sbin/logrotate", "logrotate") // Debian: not in everybody's PATH
	}
	dir := t.TempDir()
	file, config := filepath.Join(dir, "latchkey.log"), filepath.Join(dir, "latchkey.conf")
	require.NoError(t, os.WriteFile(config, []byte(adapt(t, codeIn(t, logsDoc, "logrotate", "copytruncate"),
		"/var/log/latchkey.log", file)), 0o600))
	log, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	require.NoError(t, err)
	defer log.Close()
	_, err = log.WriteString("before\n")
	require.NoError(t, err)

	out, err := exec.Command(program, "--state", filepath.Join(dir, "state"), "--force", config).CombinedOutput()
	require.NoError(t, err, "%s", out)
	_, err = log.WriteString("after\n")
	require.NoError(t, err)

	now, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "after\n", string(now))
	old, err := filepath.Glob(file + "-*")
	require.NoError(t, err)
	require.Len(t, old, 1, "the newest isn't packed yet")
	before, err := os.ReadFile(old[0])
	require.NoError(t, err)
	require.Equal(t, "before\n", string(before))
}
