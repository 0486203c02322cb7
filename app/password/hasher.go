// Package password hashes passwords with limits on memory and time, and checks new
// passwords against rules.
package password

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/alexedwards/argon2id"
	"golang.org/x/text/unicode/norm"
)

// MaxBytes is the maximum length of a password in bytes. Passwords are never truncated.
const MaxBytes = 1024

// RetryAfter is how long a hash may wait in the queue, and how long to wait before trying
// again after ErrBusy.
const RetryAfter = 2 * time.Second

// waitingPerCore is the length of the queue per core: about a second's worth of hashes with
// the default parameters.
const waitingPerCore = 32

const (
	saltBytes = 16
	keyBytes  = 32
)

// ErrBusy is returned while too many hashes are waiting. Nothing was hashed: answer
// 503, and ask to try again after RetryAfter.
var ErrBusy = errors.New("password: too many passwords are being checked")

// Params are the costs of a hash. A zero field means the default, the first choice
// of OWASP's Password Storage Cheat Sheet: 19456 KiB, 2 passes, 1 lane.
type Params struct {
	MemoryKiB uint32 // from 8 per lane to 1 GiB
	Passes    uint32 // at most 100
	Lanes     uint8
}

func (p Params) orDefault() Params {
	return Params{
		MemoryKiB: cmp.Or(p.MemoryKiB, 19456),
		Passes:    cmp.Or(p.Passes, 2),
		Lanes:     cmp.Or(p.Lanes, 1),
	}
}

// Validate returns an error that names the field if NewHasher would panic.
func (p Params) Validate() error {
	return p.orDefault().check()
}

// check keeps argon2 from panicking, and a mistyped setting or a corrupt row in the
// database from using all memory. The minimum memory is 8 KiB per lane (RFC 9106 §3.1).
func (p Params) check() error {
	switch {
	case p.Lanes < 1:
		return errors.New("argon2 needs at least 1 lane")
	case p.Passes < 1 || p.Passes > 100:
		return fmt.Errorf("argon2 needs from 1 to 100 passes here, not %d", p.Passes)
	case p.MemoryKiB < 8*uint32(p.Lanes) || p.MemoryKiB > 1<<20:
		return fmt.Errorf("argon2 needs from %d (8 for each lane) to %d KiB of memory here, not %d", 8*uint32(p.Lanes), 1<<20, p.MemoryKiB)
	}
	return nil
}

// below reports whether any cost is lower than the current one.
func (p Params) below(current Params) bool {
	return p.MemoryKiB < current.MemoryKiB || p.Passes < current.Passes || p.Lanes < current.Lanes
}

// A Hasher hashes and verifies passwords with Argon2id, no more than GOMAXPROCS at a time, and no more than
// fit into the memory that the Go runtime may use. Others wait in a queue of limited length and for RetryAfter at
// most; those that would wait longer are refused at once. WithTurn decides who comes next, and who loses a place when
// the queue is full. It is safe for concurrent use.
//
// Its methods take passwords of any bytes. They return ErrBusy if the queue is too
// long, and the context's error if it ends before hashing starts. Passwords that differ only
// in Unicode normalization are the same, since keyboards differ in how they enter an é (NIST SP 800-63B-4 §3.1.1.2).
type Hasher struct {
	// Dummies has the costs of hashes for people who have no account.
	Dummies Dummies

	params Params
	queue  queue
	onHash func(context.Context, Hashing)
}

// Hashing describes a finished or refused hash.
type Hashing struct {
	Asked, Began, Ended time.Time // Began is zero if it didn't start
	Refused             bool      // with ErrBusy
}

// OnHash sets a function to call after every hash, including refused ones. Call it before the
// Hasher is used.
func (h *Hasher) OnHash(f func(context.Context, Hashing)) { h.onHash = f }

// Load is the load of a Hasher.
type Load struct {
	Running, MaxRunning int
	Waiting, MaxWaiting int
}

// Load returns the current load.
func (h *Hasher) Load() Load { return h.queue.load() }

// NewHasher returns a Hasher that hashes with p. It panics if p isn't valid.
func NewHasher(p Params) *Hasher {
	if err := p.Validate(); err != nil {
		panic("password: " + err.Error())
	}
	p = p.orDefault()
	cores := runtime.GOMAXPROCS(0)
	budget := memoryBudget(debug.SetMemoryLimit(-1))
	slots := int(max(1, min(int64(cores), budget/int64(p.MemoryKiB))))
	return &Hasher{params: p, queue: queue{slots: slots, places: cores * waitingPerCore, budget: budget}}
}

// otherMemory is what the rest of the program may need, in bytes.
const otherMemory = 40 << 20

// memoryBudget returns how many KiB hashes may use together under the Go runtime's memory limit, in bytes. Until the
// garbage collector has run, the memory of earlier hashes counts too: half of what is left is for that.
func memoryBudget(limit int64) int64 { return max(limit-otherMemory, 0) / 2 >> 10 }

// Hash returns password's hash with a salt of its own, in PHC string format. A
// password longer than MaxBytes, which Rules.Check refuses, is an error.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	if len(password) > MaxBytes {
		return "", fmt.Errorf("hash password: longer than %d bytes", MaxBytes)
	}
	password = norm.NFC.String(password)
	leave, err := h.enter(ctx, h.params)
	if err != nil {
		return "", err
	}
	defer leave()
	hash, err := argon2id.CreateHash(password, &argon2id.Params{
		Memory:      h.params.MemoryKiB,
		Iterations:  h.params.Passes,
		Parallelism: h.params.Lanes,
		SaltLength:  saltBytes,
		KeyLength:   keyBytes,
	})
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return hash, nil
}

// Verify reports whether the password matches hash. If so, stale reports whether any cost
// of hash is lower than the current one: hash the password again and store that.
//
// A hash that is malformed, or whose cost is out of the bounds of Params, is an error.
// A password longer than MaxBytes never matches, and isn't hashed.
func (h *Hasher) Verify(ctx context.Context, password, hash string) (ok, stale bool, err error) {
	stored, err := decode(hash)
	if err != nil {
		return false, false, fmt.Errorf("verify password: %w", err)
	}
	if len(password) > MaxBytes {
		return false, false, nil
	}
	password = norm.NFC.String(password)
	leave, err := h.enter(ctx, stored)
	if err != nil {
		return false, false, err
	}
	defer leave()
	ok, err = argon2id.ComparePasswordAndHash(password, hash)
	if err != nil {
		return false, false, fmt.Errorf("verify password: %w", err)
	}
	return ok, ok && stored.below(h.params), nil
}

// VerifyNoAccount takes as long as a Verify that fails, and fails with the same errors: call it when there is no
// such account, so that the timing doesn't reveal it. The number stands for the address: see Dummies.
func (h *Hasher) VerifyNoAccount(ctx context.Context, password string, number uint64) error {
	_, _, err := h.Verify(ctx, password, unmatchable(h.Dummies.of(number, h.params)))
	return err
}

// Busy reports whether a new hash would be refused, so that the caller can skip the work before it.
// If so, OnHash's function is called for a refused hash.
func (h *Hasher) Busy(ctx context.Context) bool {
	busy := h.queue.refuses(ctx)
	if busy && h.onHash != nil {
		now := time.Now()
		h.onHash(ctx, Hashing{Asked: now, Ended: now, Refused: true})
	}
	return busy
}

// enter waits until a hash with these parameters may run. The caller must call leave after hashing.
func (h *Hasher) enter(ctx context.Context, p Params) (leave func(), err error) {
	if h.onHash == nil {
		return h.queue.enter(ctx, int64(p.MemoryKiB))
	}
	done := Hashing{Asked: time.Now()}
	stop, err := h.queue.enter(ctx, int64(p.MemoryKiB))
	if err != nil {
		done.Ended, done.Refused = time.Now(), errors.Is(err, ErrBusy)
		h.onHash(ctx, done)
		return nil, err
	}
	done.Began = time.Now()
	return func() {
		stop()
		done.Ended = time.Now()
		h.onHash(ctx, done)
	}, nil
}

// decode returns the costs of a stored hash, or an error if argon2id could panic on
// it or report a match without comparing anything.
func decode(hash string) (Params, error) {
	p, _, key, err := argon2id.DecodeHash(hash)
	if err != nil {
		return Params{}, fmt.Errorf("stored hash: %w", err)
	}
	if len(key) < 16 || len(key) > 64 {
		return Params{}, fmt.Errorf("stored hash: a key of %d bytes", len(key))
	}
	stored := Params{MemoryKiB: p.Memory, Passes: p.Iterations, Lanes: p.Parallelism}
	if err := stored.check(); err != nil {
		return Params{}, fmt.Errorf("stored hash: %w", err)
	}
	return stored, nil
}

// unmatchable returns a hash with a random salt and key, without hashing anything:
// finding a matching password is as hard as for any 256-bit key.
func unmatchable(p Params) string {
	random := make([]byte, saltBytes+keyBytes)
	rand.Read(random) // never fails
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", p.MemoryKiB, p.Passes, p.Lanes,
		base64.RawStdEncoding.EncodeToString(random[:saltBytes]), base64.RawStdEncoding.EncodeToString(random[saltBytes:]))
}
