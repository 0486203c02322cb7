package test

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkCPU measures the processor time that the server spends on an answer, in user code and in the
// kernel. Unlike a rate, it hardly depends on what else the machine does. Linux only.
//
//	go test -run '^$' -bench CPU ./test
func BenchmarkCPU(b *testing.B) {
	table := &results{b: b}
	s := newSeeded(b, 100_000)
	s.server = s.Start()
	bare := startBare(b, s)
	for _, endpoint := range []struct{ name, path string }{{"whoami", whoamiPath}, {"verify", verifyPath}, {"logout URL", logoutURLPath}} {
		rates := alternate(growthRounds,
			func() float64 { return s.cpu(b, s.barePID, bare, endpoint.path) },
			func() float64 { return s.cpu(b, s.server.PID(), s.address(), endpoint.path) })
		fmt.Fprintf(&table.rows, "%s\t%.1f µs of processor time\t%.2f times\tbare gin handler\n",
			endpoint.name, median(rates[1]), medianRatio(rates[1], rates[0]))
	}
	b.ReportMetric(0, "ns/op") // meaningless here
	fmt.Print(table.String())
}

// cpu returns the microseconds of processor time that the process spends on an answer.
func (s *seeded) cpu(b *testing.B, pid int, address, path string) float64 {
	b.Helper()
	before := processorTime(b, pid)
	n := s.load(b, address, path) * round.Seconds() // nearly
	return float64((processorTime(b, pid) - before).Microseconds()) / n
}

// processorTime returns the processor time that a process has used so far.
func processorTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	require.NoError(b, err)
	_, after, _ := bytes.Cut(stat, []byte(") ")) // the name may have spaces
	fields := bytes.Fields(after)
	var ticks int
	for _, field := range fields[11:13] { // utime and stime: proc_pid_stat(5)
		n, err := strconv.Atoi(string(field))
		require.NoError(b, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
