//go:build !linux && !darwin

package main

import "io/fs"

// ownedByUsers says that the modes of files mean something here.
const ownedByUsers = false

func ownerOf(fs.FileInfo) uint32 { return 0 }

func freeSpace(string) (uint64, bool) { return 0, false }
