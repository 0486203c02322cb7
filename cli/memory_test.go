package cli

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func TestMemoryLimitIsTheLowestOfTheCgroups(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	for name, c := range map[string]struct {
		root  fstest.MapFS
		limit int64
	}{
		"none":      {fstest.MapFS{}, 0},
		"unlimited": {fstest.MapFS{"proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("max\n")}, 0},
		"container": {fstest.MapFS{"proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("134217728\n")}, 128 << 20},
		"service in a limited slice": {fstest.MapFS{"proc/self/cgroup": file("0::/system.slice/latchkey.service\n"),
			"sys/fs/cgroup/system.slice/memory.max": file("67108864\n"), "sys/fs/cgroup/system.slice/latchkey.service/memory.max": file("134217728\n")}, 64 << 20},
		"version 1": {fstest.MapFS{"proc/self/cgroup": file("9:name=systemd:/\n4:memory:/docker/1\n0::/\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712\n"), "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": file("134217728\n")}, 128 << 20},
		"version 1 with the host's path": {fstest.MapFS{"proc/self/cgroup": file("4:memory:/docker/1\n"), "sys/fs/cgroup/memory/memory.limit_in_bytes": file("134217728\n")}, 128 << 20},
		"version 1 unlimited":            {fstest.MapFS{"proc/self/cgroup": file("4:memory:/\n"), "sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712\n")}, 0},
	} {
		require.Equal(t, c.limit, cgroupMemory(c.root), name)
	}
}
