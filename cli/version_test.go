package cli

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

func TestVersion(t *testing.T) {
	noted := ""
	if info, err := os.Stat(filepath.Join(kit.Root(t), ".git")); err == nil && info.IsDir() { // Go does not look into a worktree
		noted = ` of commit [0-9a-f]{40}( with changes since)? at \d{4}-\d\d-\d\dT\S+Z`
	}
	require.Regexp(t, `^latchkey \S+`+noted+`, go1\.\d+\S*\n$`, kit.NewMachine(t).Do("", "version"))
}

func TestVersionOfAnyBuild(t *testing.T) {
	noted := []debug.BuildSetting{{Key: "vcs.revision", Value: "0123abcd"}, {Key: "vcs.time", Value: "2026-11-22T20:25:58Z"}, {Key: "vcs.modified", Value: "false"}}
	info := &debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Version: "v1.2.3"}, Settings: noted}
	require.Equal(t, "latchkey v1.2.3 of commit 0123abcd at 2026-11-22T20:25:58Z, go1.26.8", describeBuild(info))
	noted[2].Value = "true"
	require.Equal(t, "latchkey v1.2.3 of commit 0123abcd with changes since at 2026-11-22T20:25:58Z, go1.26.8", describeBuild(info))
	require.Equal(t, "latchkey (devel), go1.26.8", describeBuild(&debug.BuildInfo{GoVersion: "go1.26.8"}))
}
