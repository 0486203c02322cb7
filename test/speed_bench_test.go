package test

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

var (
	million = flag.Bool("million", false, "benchmark with 1,000,000 sessions too; filling the database takes a while")
	rounds  = flag.Int("rounds", 7, "how often benchmarks measure each of what they compare")
)

const (
	round       = time.Second
	connections = 32
	// Hashing is slow: sign-ins need longer rounds, and fewer connections so as not to get 503.
	hashRound       = 2 * time.Second
	hashConnections = 8

	whoamiPath    = "/auth/sessions/whoami"
	logoutURLPath = "/auth/self-service/logout/browser"
	verifyPath    = "/auth/verify"
)

// BenchmarkSpeed compares Latchkey with a bare gin handler that answers the same bytes, and sign-ins with
// bare Argon2id. Both servers are processes, measured in turn over loopback; a ratio is the median of those
// of the rounds.
//
//	go test -run '^$' -bench Speed ./test [-million]
func BenchmarkSpeed(b *testing.B) {
	table := &results{b: b}

	first := readyTime(b, func() *kit.Machine { return withDefaults(kit.NewSQLiteMachine(b)) })
	table.add("first start to ready", "", 0, first, "first-ready-ms")

	small := newSeeded(b, 100_000)
	again := readyTime(b, func() *kit.Machine { return small.Machine })
	table.add("start to ready, 100,000 sessions", "", 0, again, "ready-ms")
	small.server = small.Start()

	bare := startBare(b, small)
	for _, endpoint := range []struct{ name, path, unit string }{
		{"whoami", whoamiPath, "whoami/bare"}, {"verify", verifyPath, "verify/bare"}, {"logout URL", logoutURLPath, "logout-url/bare"},
	} {
		rates := alternate(*rounds,
			func() float64 { return small.load(b, bare, endpoint.path) },
			func() float64 { return small.load(b, small.address(), endpoint.path) })
		table.add(endpoint.name+", 100,000 sessions", "bare gin handler", median(rates[1]), medianRatio(rates[1], rates[0]), endpoint.unit)
	}
	table.add("resident at most until here", "", 0, residentMiB(b, small.server), "resident-MiB")

	if *million {
		large := newSeeded(b, 1_000_000)
		large.server = large.Start()
		for _, endpoint := range []struct{ name, path, unit string }{
			{"whoami", whoamiPath, "whoami-1M/100k"}, {"verify", verifyPath, "verify-1M/100k"}, {"logout URL", logoutURLPath, "logout-url-1M/100k"},
		} {
			rates := alternate(*rounds,
				func() float64 { return small.load(b, small.address(), endpoint.path) },
				func() float64 { return large.load(b, large.address(), endpoint.path) })
			table.add(endpoint.name+", 1,000,000 sessions", "100,000 sessions", median(rates[1]), medianRatio(rates[1], rates[0]), endpoint.unit)
		}
		table.add("resident at most, 1,000,000 sessions", "", 0, residentMiB(b, large.server), "resident-1M-MiB")
	}

	rates := alternate(*rounds,
		func() float64 { return hashRate(b, small.hash) },
		func() float64 { return small.signIns(b) })
	table.add("sign-in", "bare Argon2id", median(rates[1]), medianRatio(rates[1], rates[0]), "sign-in/argon2id")

	b.ReportMetric(0, "ns/op") // meaningless here
	fmt.Print(table.String())  // Log would cut it short
}

// readyTime returns the median time from a process's start to its first 200 of health/ready, in milliseconds.
func readyTime(b *testing.B, where func() *kit.Machine) float64 {
	b.Helper()
	var times []float64
	for range *rounds {
		m := where()
		listener, err := net.Listen("tcp", "localhost:0")
		require.NoError(b, err)
		address := listener.Addr().String()
		require.NoError(b, listener.Close())
		cmd := m.Command("--listen=" + address)
		begin := time.Now()
		require.NoError(b, cmd.Start())
		for http.StatusOK != status("http://"+address+"/auth/health/ready") {
			require.Less(b, time.Since(begin), kit.Timeout)
			time.Sleep(200 * time.Microsecond)
		}
		times = append(times, float64(time.Since(begin).Microseconds())/1000)
		require.NoError(b, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(b, cmd.Wait())
	}
	return median(times)
}

func status(url string) int {
	res, err := http.Get(url)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	return res.StatusCode
}

// residentMiB returns the peak resident memory of the process, in MiB.
func residentMiB(b *testing.B, s *kit.Server) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID()))
	if errors.Is(err, os.ErrNotExist) {
		return 0 // not Linux
	}
	require.NoError(b, err)
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	require.NoError(b, err)
	return float64(kib) / 1024
}
