//go:build linux || darwin

package main

import (
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownedByUsers says that the modes of files mean something here.
const ownedByUsers = true

// ownerOf returns the number of the user that a file belongs to.
func ownerOf(info fs.FileInfo) uint32 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Uid
	}
	return 0
}

// freeSpace returns how many bytes can still be written in a directory.
func freeSpace(dir string) (uint64, bool) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0, false
	}
	return stat.Bavail * uint64(stat.Bsize), true // #nosec G115 -- the size of a block
}
