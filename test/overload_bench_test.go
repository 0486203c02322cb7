package test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	overloadConnections = 64
	overloadRound       = 3 * time.Second
	overloadRounds      = 5
)

// BenchmarkOverload measures the latency of whoami while more people sign in than the cores can hash
// passwords for, with as many threads as there are cores and with as many as Latchkey uses by default.
//
//	go test -run '^$' -bench Overload ./test
func BenchmarkOverload(b *testing.B) {
	table := &results{b: b}
	for _, setting := range []struct{ name, unit, env string }{
		{"as many threads as cores", "plain", fmt.Sprintf("GOMAXPROCS=%d", runtime.GOMAXPROCS(0))},
		{"as it is", "own", "GOGC="},
	} {
		s := newSeeded(b, 1000)
		s.Env = append(s.Env, setting.env)
		s.server = s.Start()
		var p50, p99, signIns, shed []float64
		for range overloadRounds {
			idle := s.whoamiLatencies(b, overloadRound)
			bare := hashRate(b, s.hash)
			var flood *flood
			var busy []time.Duration
			flood = s.flood(b, func() { busy = s.whoamiLatencies(b, overloadRound) })
			p50 = append(p50, percentileRatio(busy, idle, 0.50))
			p99 = append(p99, percentileRatio(busy, idle, 0.99))
			signIns = append(signIns, flood.signedIn/bare)
			shed = append(shed, flood.shed)
			b.Logf("%s: whoami p50 %s idle, %s busy; p99 %s idle, %s busy; %.1f sign-ins and %.1f refusals a second, the slowest refusal after %s",
				setting.name, percentile(idle, 0.50), percentile(busy, 0.50), percentile(idle, 0.99), percentile(busy, 0.99), flood.signedIn, flood.shed, flood.slowestRefusal)
		}
		s.server.Stop()
		table.add("median of whoami under overload, "+setting.name, "", 0, median(p50), "whoami-"+setting.unit+"-p50-times")
		table.add("99th percentile, "+setting.name, "", 0, median(p99), "whoami-"+setting.unit+"-p99-times")
		table.add("sign-ins against bare Argon2id, "+setting.name, "", 0, 100*median(signIns), "sign-in-"+setting.unit+"-percent")
		table.add("refusals a second, "+setting.name, "", 0, median(shed), "shed-"+setting.unit+"-each-second")
	}
	b.ReportMetric(0, "ns/op") // meaningless here
	fmt.Print(table.String())
}

// whoamiLatencies sends requests one after the other, and returns how long each took, in order.
func (s *seeded) whoamiLatencies(b *testing.B, round time.Duration) (times []time.Duration) {
	b.Helper()
	conn, err := net.Dial("tcp", s.address())
	require.NoError(b, err)
	defer conn.Close()
	in := bufio.NewReader(conn)
	request := []byte("GET " + whoamiPath + " HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nCookie: latchkey_session=" + s.tokens[0] + "\r\n\r\n")
	for begin := time.Now(); time.Since(begin) < round; time.Sleep(time.Millisecond) {
		asked := time.Now()
		_, err := conn.Write(request)
		if err == nil {
			err = readOK(in)
		}
		require.NoError(b, err)
		times = append(times, time.Since(asked))
	}
	slices.Sort(times)
	return times
}

func percentile(times []time.Duration, part float64) time.Duration {
	return times[int(part*float64(len(times)-1))].Round(10 * time.Microsecond)
}

func percentileRatio(of, to []time.Duration, part float64) float64 {
	return float64(percentile(of, part)) / float64(percentile(to, part))
}

// flood is what became of more sign-ins than the cores can hash passwords for.
type flood struct {
	signedIn, shed float64 // a second
	slowestRefusal time.Duration
}

// flood has people sign in on many connections, without pause, while it calls during.
func (s *seeded) flood(b *testing.B, during func()) *flood {
	b.Helper()
	action := strings.TrimPrefix(s.server.Get("/auth/self-service/login/api", "").Text("ui", "action"), s.server.URL)
	var stop atomic.Bool
	var signedIn, shed, slowest atomic.Int64
	var all sync.WaitGroup
	for i := range overloadConnections {
		all.Go(func() {
			conn, err := net.Dial("tcp", s.address())
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			in := bufio.NewReader(conn)
			request := signInRequest(action, i)
			for !stop.Load() {
				begin := time.Now()
				_, err := conn.Write(request)
				status, retry := 0, 0
				if err == nil {
					status, retry, err = readAnswer(in)
				}
				switch took := int64(time.Since(begin)); {
				case err != nil:
					b.Error(err)
					return
				case status == http.StatusOK:
					signedIn.Add(1)
				case status == http.StatusBadRequest && retry > 0:
					shed.Add(1)
					slowest.Store(max(slowest.Load(), took))
					time.Sleep(100 * time.Millisecond) // a client tries again, though sooner than it should
				default:
					b.Errorf("a right password is answered %d", status)
					return
				}
			}
		})
	}
	time.Sleep(time.Second) // until the queue has its full length
	signedIn.Store(0)
	shed.Store(0)
	slowest.Store(0)
	begin := time.Now()
	during()
	seconds := time.Since(begin).Seconds()
	f := &flood{signedIn: float64(signedIn.Load()) / seconds, shed: float64(shed.Load()) / seconds,
		slowestRefusal: time.Duration(slowest.Load()).Round(time.Millisecond)}
	stop.Store(true)
	all.Wait()
	return f
}

// readAnswer reads one answer of known length, and returns its status and Retry-After.
func readAnswer(in *bufio.Reader) (status, retryAfter int, err error) {
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		return 0, 0, err
	}
	_, err = io.Copy(io.Discard, answer.Body)
	retryAfter, _ = strconv.Atoi(answer.Header.Get("Retry-After"))
	return answer.StatusCode, retryAfter, errors.Join(err, answer.Body.Close())
}
