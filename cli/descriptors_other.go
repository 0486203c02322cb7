//go:build !linux && !darwin

package cli

// maxDescriptors returns how many files the process may have open: here, no limit is known.
func maxDescriptors() int { return 1 << 20 }
