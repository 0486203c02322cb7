package cli

import (
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

// limitMemory limits the Go runtime to seven eighths of the memory of the container or service, unless GOMEMLIMIT is
// set. The rest is for what the runtime doesn't manage. The limit also determines how many passwords are hashed at a
// time.
func limitMemory(log *slog.Logger) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if limit := cgroupMemory(os.DirFS("/")); limit > 0 {
		debug.SetMemoryLimit(limit - limit/8)
		log.Debug("memory limit", slog.Int64("cgroup_bytes", limit), slog.Int64("go_bytes", limit-limit/8))
	}
}

// cgroupMemory returns the lowest memory limit of the process's cgroup and those above it, of version 2 or 1, in
// bytes. It returns 0 if there is none. root is the file system.
func cgroupMemory(root fs.FS) int64 {
	lowest := int64(math.MaxInt64)
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0 // not Linux
	}
	for line := range strings.Lines(string(groups)) {
		controllers, group, _ := strings.Cut(line[strings.Index(line, ":")+1:], ":")
		mounted, file := "sys/fs/cgroup", "memory.max"
		if controllers != "" {
			if controllers != "memory" {
				continue
			}
			mounted, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		}
		// In a container the group's path may be one of the host: then the mount's root is its own.
		for dir := path.Clean("/" + strings.TrimSpace(group)); ; dir = path.Dir(dir) {
			raw, err := fs.ReadFile(root, path.Join(mounted, dir, file))
			if limit, bad := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64); err == nil && bad == nil && limit > 0 {
				lowest = min(lowest, limit)
			}
			if dir == "/" {
				break
			}
		}
	}
	if lowest >= 1<<50 { // version 1: no limit is a large number
		return 0
	}
	return lowest
}
