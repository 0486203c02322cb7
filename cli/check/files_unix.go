//go:build linux || darwin

package check

import (
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

// hasPermissions says that files have the permission bits of Unix.
const hasPermissions = true

// ownerOf returns the id of the user that a file belongs to.
func ownerOf(info fs.FileInfo) uint32 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Uid
	}
	return 0
}

// freeSpace returns how many bytes can be written in a directory; false if that is unknown.
func freeSpace(dir string) (uint64, bool) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0, false
	}
	return stat.Bavail * uint64(stat.Bsize), true // #nosec G115 -- the size of a block
}
