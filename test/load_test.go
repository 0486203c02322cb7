package test

import (
	"bufio"
	"bytes"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alexedwards/argon2id"

	"latchkey/test/kit"
)

// load requests a path with the cookies of random sessions and returns the answers a second.
func (s *seeded) load(b *testing.B, address, path string) float64 {
	b.Helper()
	return s.loadOn(b, []string{address}, path, connections, round)
}

// loadOn is load with the connections spread over several addresses.
func (s *seeded) loadOn(b *testing.B, addresses []string, path string, connections int, round time.Duration) float64 {
	b.Helper()
	return answerRate(b, addresses, connections, round, func(int) func() []byte {
		head := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nCookie: latchkey_session=", path)
		request := []byte(head + s.tokens[0] + "\r\n\r\n")
		return func() []byte {
			copy(request[len(head):], s.tokens[mathrand.IntN(len(s.tokens))])
			return request
		}
	})
}

// peoplePerConnection sign in in turn, since nobody may do it very often.
const peoplePerConnection = 50

// signIns has people sign in, and returns the sign-ins a second.
func (s *seeded) signIns(b *testing.B) float64 {
	b.Helper()
	action := strings.TrimPrefix(s.server.Get("/auth/self-service/login/api", "").Text("ui", "action"), s.server.URL)
	return answerRate(b, []string{s.address()}, hashConnections, hashRound, func(i int) func() []byte {
		n := 0
		return func() []byte {
			n++
			return signInRequest(action, i*peoplePerConnection+n%peoplePerConnection)
		}
	})
}

func signInRequest(action string, i int) []byte {
	body := fmt.Sprintf(`{"method":"password","identifier":%q,"password":%q}`, person(i), kit.GoodPassword)
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", action, len(body), body)
}

// hashRate returns how many passwords a second all cores verify if they do nothing else.
func hashRate(b *testing.B, hash string) float64 {
	b.Helper()
	var done atomic.Int64
	var all sync.WaitGroup
	begin := time.Now()
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for time.Since(begin) < hashRound {
				if ok, err := argon2id.ComparePasswordAndHash(kit.GoodPassword, hash); err != nil || !ok {
					b.Error(ok, err)
				}
				done.Add(1)
			}
		})
	}
	all.Wait()
	return float64(done.Load()) / time.Since(begin).Seconds()
}

// answerRate sends requests for a round, one at a time on each of many keep-alive connections, and returns
// the answers a second, all of which must be 200. It does as little as possible itself, since it shares
// the cores with the server.
func answerRate(b *testing.B, addresses []string, connections int, round time.Duration, requests func(connection int) func() []byte) float64 {
	b.Helper()
	var done atomic.Int64
	var all sync.WaitGroup
	begin := time.Now()
	for i := range connections {
		all.Go(func() {
			conn, err := net.Dial("tcp", addresses[i%len(addresses)])
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			next, in := requests(i), bufio.NewReader(conn)
			for time.Since(begin) < round {
				if _, err = conn.Write(next()); err == nil {
					err = readOK(in)
				}
				if err != nil {
					b.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	all.Wait()
	return float64(done.Load()) / time.Since(begin).Seconds()
}

// readOK reads one answer, which must be a 200 of known length.
func readOK(in *bufio.Reader) error {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("answered %s", line)
	}
	length := 0
	for len(line) > len("\r\n") {
		if line, err = in.ReadSlice('\n'); err != nil {
			return err
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
	}
	_, err = in.Discard(length)
	return err
}
