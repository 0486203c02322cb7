// Package password hashes passwords within bounds of memory and time, and says which
// passwords are refused.
package password

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/alexedwards/argon2id"
	"golang.org/x/text/unicode/norm"
)

// MaxBytes is the most bytes a password may have. None is ever cut off.
const MaxBytes = 1024

// RetryAfter is how long a hash may wait for its turn, and when to try again after
// ErrBusy.
const RetryAfter = 2 * time.Second

// waitingPerCore hashes take about a second with the default parameters.
const waitingPerCore = 32

const (
	saltBytes = 16
	keyBytes  = 32
)

// ErrBusy is returned while too many hashes are waiting. Nothing was hashed: answer
// 503, and ask to try again after RetryAfter.
var ErrBusy = errors.New("password: too many passwords are being checked")

// Params are the costs of a hash. A zero field stands for its default, the first
// choice of OWASP's Password Storage Cheat Sheet: 19456 KiB, 2 passes, 1 lane.
type Params struct {
	MemoryKiB uint32 // from 8 for each lane to 1 GiB
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

// Validate returns an error that names the field that NewHasher would panic about.
func (p Params) Validate() error {
	return p.orDefault().check()
}

// check keeps argon2 from panicking, and a mistyped setting or a broken row of the
// database from taking all memory. Memory below 8 KiB a lane has no meaning
// (RFC 9106 §3.1).
func (p Params) check() error {
	switch {
	case p.Lanes < 1:
		return errors.New("argon2 needs at least 1 lane")
	case p.Passes < 1 || p.Passes > 100:
		return fmt.Errorf("argon2 takes from 1 to 100 passes here, not %d", p.Passes)
	case p.MemoryKiB < 8*uint32(p.Lanes) || p.MemoryKiB > 1<<20:
		return fmt.Errorf("argon2 takes from %d (8 for each lane) to %d KiB of memory here, not %d", 8*uint32(p.Lanes), 1<<20, p.MemoryKiB)
	}
	return nil
}

// below reports whether any cost is lower than today's.
func (p Params) below(today Params) bool {
	return p.MemoryKiB < today.MemoryKiB || p.Passes < today.Passes || p.Lanes < today.Lanes
}

// A Hasher hashes and verifies passwords with Argon2id, no more than GOMAXPROCS at a
// time. Others wait in a queue of limited length and for RetryAfter at most, so that
// memory doesn't grow with the load; who would wait longer is refused at once. It is safe
// for concurrent use.
//
// Its methods take passwords of any bytes. They return ErrBusy when there is no turn to be
// had, and the context's error when it ends before the turn comes. Texts that only Unicode
// normalization tells apart are one password, since keyboards differ in how they write an é
// (NIST SP 800-63B-4 §3.1.1.2).
type Hasher struct {
	params   Params
	nobody   string        // a hash that no password fits
	admitted chan struct{} // holds one for each hash that waits or runs
	running  chan struct{} // holds one for each hash that runs
	took     atomic.Int64  // nanoseconds of a hash, the last ones counting most
	onHash   func(context.Context, Hashing)
}

// Hashing is how a hash went.
type Hashing struct {
	Asked, Began, Ended time.Time // Began is zero if it never did
	Refused             bool      // with ErrBusy
}

// OnHash has do called after every hash that was asked for. Set it before the Hasher is used.
func (h *Hasher) OnHash(do func(context.Context, Hashing)) { h.onHash = do }

// Load is how much a Hasher has to do.
type Load struct {
	Running, MaxRunning int
	Waiting, MaxWaiting int
}

// Load returns how much there is to do right now.
func (h *Hasher) Load() Load {
	running := len(h.running)
	return Load{Running: running, MaxRunning: cap(h.running),
		Waiting: max(len(h.admitted)-running, 0), MaxWaiting: cap(h.admitted) - cap(h.running)}
}

// NewHasher returns a Hasher that makes hashes with p. It panics if p isn't valid.
func NewHasher(p Params) *Hasher {
	if err := p.Validate(); err != nil {
		panic("password: " + err.Error())
	}
	p = p.orDefault()
	cores := runtime.GOMAXPROCS(0)
	return &Hasher{
		params:   p,
		nobody:   unmatchable(p),
		admitted: make(chan struct{}, cores+cores*waitingPerCore),
		running:  make(chan struct{}, cores),
	}
}

// Hash returns password's hash with a salt of its own, in PHC string format. A
// password longer than MaxBytes, which Rules.Check refuses, is an error.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	if len(password) > MaxBytes {
		return "", fmt.Errorf("hash password: longer than %d bytes", MaxBytes)
	}
	password = norm.NFC.String(password)
	leave, err := h.enter(ctx)
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

// Verify reports whether hash is password's. If so, stale tells that it was made with
// a lower cost than today's: hash the password again and store that.
//
// A hash that is malformed, or whose cost is out of the bounds of Params, is an error.
// A password longer than MaxBytes has no hash, and is told so at once.
func (h *Hasher) Verify(ctx context.Context, password, hash string) (ok, stale bool, err error) {
	stored, err := decode(hash)
	if err != nil {
		return false, false, fmt.Errorf("verify password: %w", err)
	}
	if len(password) > MaxBytes {
		return false, false, nil
	}
	password = norm.NFC.String(password)
	leave, err := h.enter(ctx)
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

// VerifyNobody takes as long as a Verify that fails, and fails with the same errors:
// call it when there is no such account, so that time doesn't tell.
func (h *Hasher) VerifyNobody(ctx context.Context, password string) error {
	_, _, err := h.Verify(ctx, password, h.nobody)
	return err
}

// Busy reports whether a hash that is asked for now would be refused, or wait in vain: who has other
// work to do before it can save that. It counts as one that was refused.
func (h *Hasher) Busy(ctx context.Context) bool {
	busy := h.busy()
	if busy && h.onHash != nil {
		now := time.Now()
		h.onHash(ctx, Hashing{Asked: now, Ended: now, Refused: true})
	}
	return busy
}

func (h *Hasher) busy() bool {
	waiting := len(h.admitted) + 1 - cap(h.running)
	return len(h.admitted) == cap(h.admitted) || time.Duration(waiting)*h.pace() > RetryAfter
}

// pace is how often a turn comes while all are hashing.
func (h *Hasher) pace() time.Duration {
	return time.Duration(h.took.Load()) / time.Duration(cap(h.running))
}

// leave ends a turn that began then.
func (h *Hasher) leave(began time.Time) {
	const weight = 8
	before, took := h.took.Load(), int64(time.Since(began))
	if before != 0 {
		took = before + (took-before)/weight
	}
	h.took.Store(took) // of two at once one is lost, which does not matter
	<-h.running
	<-h.admitted
}

// enter waits for a turn to hash. The caller must call leave after it.
func (h *Hasher) enter(ctx context.Context) (leave func(), err error) {
	if h.onHash == nil {
		return h.queue(ctx)
	}
	done := Hashing{Asked: time.Now()}
	stop, err := h.queue(ctx)
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

func (h *Hasher) queue(ctx context.Context) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if h.busy() {
		return nil, ErrBusy
	}
	select {
	case h.admitted <- struct{}{}:
	default:
		return nil, ErrBusy
	}
	patience := time.NewTimer(RetryAfter)
	defer patience.Stop()
	select {
	case h.running <- struct{}{}:
		began := time.Now()
		return func() { h.leave(began) }, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-patience.C:
		err = ErrBusy
	}
	<-h.admitted
	return nil, err
}

// decode returns the costs of a stored hash, or an error if argon2id could panic over
// it or take it for a match where nothing was compared.
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

// unmatchable returns a hash whose salt and key are random, which takes no time to
// make: finding a password for it is as hard as for any key of 256 bits.
func unmatchable(p Params) string {
	random := make([]byte, saltBytes+keyBytes)
	rand.Read(random) // never fails
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", p.MemoryKiB, p.Passes, p.Lanes,
		base64.RawStdEncoding.EncodeToString(random[:saltBytes]), base64.RawStdEncoding.EncodeToString(random[saltBytes:]))
}
