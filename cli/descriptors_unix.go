//go:build linux || darwin

package cli

import "golang.org/x/sys/unix"

// maxDescriptors returns how many file descriptors the process may have. Go has raised the soft limit to the hard one.
func maxDescriptors() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > 1<<20 {
		return 1 << 20
	}
	return int(limit.Cur)
}
