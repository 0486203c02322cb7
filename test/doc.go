// Package test exercises the whole program as its users run it: faults, several instances, restarts, the
// container image, and benchmarks. The directory kit has what tests of several packages share.
package test
