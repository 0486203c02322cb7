package password

import (
	"context"
	"encoding/base64"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alexedwards/argon2id"
	"github.com/stretchr/testify/require"
)

// cheap makes hashes that cost next to nothing.
var cheap = Params{MemoryKiB: 8, Passes: 1, Lanes: 1}

func TestHashVerifiesOnlyItsPassword(t *testing.T) {
	h := NewHasher(cheap)
	for _, password := range []string{
		"correct horse battery", "", "\x00", "a\x00b", "a\x00c", "pässwörd", "密码密码密码", "\xff\xfe", " spaced ", "Spaced", "spaced",
		strings.Repeat("x", MaxBytes), strings.Repeat("x", MaxBytes-1) + "y",
	} {
		hash, err := h.Hash(t.Context(), password)
		require.NoError(t, err)

		ok, stale, err := h.Verify(t.Context(), password, hash)
		require.NoError(t, err)
		require.True(t, ok, "%q", password)
		require.False(t, stale)

		for _, other := range []string{password + "x", password + "\x00", " " + password} {
			ok, _, err = h.Verify(t.Context(), other, hash)
			require.NoError(t, err)
			require.False(t, ok, "%q against %q", other, password)
		}
	}
}

func TestDefaultsAreTheRecommendedOnes(t *testing.T) {
	h := NewHasher(Params{})
	hash, err := h.Hash(t.Context(), "correct horse battery")
	require.NoError(t, err)
	require.Regexp(t, `^\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`, hash)

	ok, stale, err := h.Verify(t.Context(), "correct horse battery", hash)
	require.NoError(t, err)
	require.True(t, ok)
	require.False(t, stale)
}

func TestEveryHashHasItsOwnSalt(t *testing.T) {
	h := NewHasher(cheap)
	one, err := h.Hash(t.Context(), "correct horse battery")
	require.NoError(t, err)
	two, err := h.Hash(t.Context(), "correct horse battery")
	require.NoError(t, err)
	require.NotEqual(t, one, two)
}

func TestNothingIsCutOffALongPassword(t *testing.T) {
	h := NewHasher(cheap)
	long := strings.Repeat("x", MaxBytes)
	hash, err := h.Hash(t.Context(), long)
	require.NoError(t, err)

	ok, _, err := h.Verify(t.Context(), long+"y", hash)
	require.NoError(t, err)
	require.False(t, ok)
	_, err = h.Hash(t.Context(), long+"y")
	require.Error(t, err)
}

func TestHashOfLowerCostIsStaleOnceItsPasswordIsRight(t *testing.T) {
	old := Params{MemoryKiB: 32, Passes: 2, Lanes: 2}
	hash, err := NewHasher(old).Hash(t.Context(), "correct horse battery")
	require.NoError(t, err)
	for _, c := range []struct {
		today Params
		stale bool
	}{
		{old, false},
		{cheap, false},
		{Params{MemoryKiB: 64, Passes: 2, Lanes: 2}, true},
		{Params{MemoryKiB: 32, Passes: 3, Lanes: 2}, true},
		{Params{MemoryKiB: 32, Passes: 2, Lanes: 3}, true},
		{Params{MemoryKiB: 16, Passes: 3, Lanes: 1}, true},
	} {
		h := NewHasher(c.today)
		ok, stale, err := h.Verify(t.Context(), "correct horse battery", hash)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, c.stale, stale, "%+v", c.today)

		ok, stale, err = h.Verify(t.Context(), "wrong", hash)
		require.NoError(t, err)
		require.False(t, ok || stale)
	}
}

func TestNobodysHashCostsAsMuchAsAnybodys(t *testing.T) {
	h := NewHasher(Params{MemoryKiB: 32, Passes: 2, Lanes: 2})
	require.NoError(t, h.VerifyNoAccount(t.Context(), "correct horse battery", 0))

	hash, err := h.Hash(t.Context(), "correct horse battery")
	require.NoError(t, err)
	nobody, _, _, err := argon2id.DecodeHash(unmatchable(h.Dummies.of(0, h.params)))
	require.NoError(t, err)
	anybody, _, _, err := argon2id.DecodeHash(hash)
	require.NoError(t, err)
	require.Equal(t, anybody, nobody)
}

// key16 and salt are parts of hashes that lack something else.
var (
	key16 = base64.RawStdEncoding.EncodeToString(make([]byte, 16))
	salt  = key16
)

func TestMalformedHashIsAnErrorAndNoMatch(t *testing.T) {
	h := NewHasher(cheap)
	for why, hash := range map[string]string{
		"nothing":                "",
		"no hash":                "hunter2",
		"another algorithm":      "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
		"another variant":        "$argon2i$v=19$m=8,t=1,p=1$" + salt + "$" + key16,
		"another version":        "$argon2id$v=16$m=8,t=1,p=1$" + salt + "$" + key16,
		"no parameters":          "$argon2id$v=19$$" + salt + "$" + key16,
		"a negative parameter":   "$argon2id$v=19$m=8,t=-1,p=1$" + salt + "$" + key16,
		"no passes":              "$argon2id$v=19$m=8,t=0,p=1$" + salt + "$" + key16,
		"no lanes":               "$argon2id$v=19$m=8,t=1,p=0$" + salt + "$" + key16,
		"too many lanes":         "$argon2id$v=19$m=8,t=1,p=256$" + salt + "$" + key16,
		"less memory than lanes": "$argon2id$v=19$m=8,t=1,p=2$" + salt + "$" + key16,
		"4 TiB of memory":        "$argon2id$v=19$m=4294967295,t=1,p=1$" + salt + "$" + key16,
		"years of passes":        "$argon2id$v=19$m=8,t=4294967295,p=1$" + salt + "$" + key16,
		"no key":                 "$argon2id$v=19$m=8,t=1,p=1$" + salt + "$",
		"a key easily met":       "$argon2id$v=19$m=8,t=1,p=1$" + salt + "$AA",
		"a key without end":      "$argon2id$v=19$m=8,t=1,p=1$" + salt + "$" + strings.Repeat("A", 4096),
		"no base64":              "$argon2id$v=19$m=8,t=1,p=1$!$" + key16,
		"something behind":       "$argon2id$v=19$m=8,t=1,p=1$" + salt + "$" + key16 + "$",
	} {
		ok, stale, err := h.Verify(t.Context(), "hunter2", hash)
		require.Error(t, err, why)
		require.False(t, ok || stale, why)
	}
	_, _, err := h.Verify(t.Context(), "hunter2", "")
	require.ErrorIs(t, err, argon2id.ErrInvalidHash, "the cause is wrapped")
}

func TestParamsOutOfBoundsAreNamed(t *testing.T) {
	require.NoError(t, Params{}.Validate())
	for says, p := range map[string]Params{
		"passes":       {Passes: 101},
		"1048576 KiB":  {MemoryKiB: 1<<20 + 1},
		"from 8 (8":    {MemoryKiB: 7},
		"from 2040 (8": {MemoryKiB: 2039, Lanes: 255},
	} {
		require.ErrorContains(t, p.Validate(), says)
		require.Panics(t, func() { NewHasher(p) })
	}
}

// TestQueueIsBounded fills every place to hash in, then every place to wait in.
func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHasher(cheap)
		hash, err := h.Hash(t.Context(), "correct horse battery")
		require.NoError(t, err)
		release := fill(t, h)
		ctx, cancel := context.WithCancel(t.Context())
		waiting := runtime.GOMAXPROCS(0) * waitingPerCore
		results := make(chan error, waiting)
		for i := range waiting {
			go func() {
				wait := ctx
				if i%2 == 0 {
					wait = t.Context()
				}
				_, err := h.Hash(wait, "correct horse battery")
				results <- err
			}()
		}
		synctest.Wait()
		require.Empty(t, results, "all wait")

		_, err = h.Hash(t.Context(), "one too many")
		require.ErrorIs(t, err, ErrBusy)
		_, _, err = h.Verify(t.Context(), "one too many", hash)
		require.ErrorIs(t, err, ErrBusy)
		require.ErrorIs(t, h.VerifyNoAccount(t.Context(), "one too many", 0), ErrBusy)

		cancel()
		synctest.Wait()
		require.Len(t, results, waiting/2, "those that gave up leave the queue")
		for range waiting / 2 {
			require.ErrorIs(t, <-results, context.Canceled)
		}

		release()
		for range waiting / 2 {
			require.NoError(t, <-results)
		}
		synctest.Wait()
		require.Zero(t, h.Load().Waiting+h.Load().Running, "everybody left")
		require.NoError(t, h.VerifyNoAccount(t.Context(), "next, please", 0))
	})
}

func TestWaitingTooLongIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHasher(cheap)
		release := fill(t, h)
		require.ErrorIs(t, h.VerifyNoAccount(t.Context(), "correct horse battery", 0), ErrBusy, "the bubble's clock runs ahead")
		release()
		require.NoError(t, h.VerifyNoAccount(t.Context(), "correct horse battery", 0))
	})
}

func TestWhoWouldWaitTooLongIsRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHasher(cheap)
		release := fill(t, h)
		h.queue.took = time.Second
		inTime := int(RetryAfter/time.Second) * runtime.GOMAXPROCS(0)
		results := make(chan error, inTime)
		for range inTime {
			require.False(t, h.Busy(t.Context()))
			go func() { results <- h.VerifyNoAccount(t.Context(), "correct horse battery", 0) }()
			synctest.Wait()
		}
		before := time.Now()

		require.True(t, h.Busy(t.Context()))
		require.ErrorIs(t, h.VerifyNoAccount(t.Context(), "one too many", 0), ErrBusy)

		require.Zero(t, time.Since(before), "nobody waited")
		release()
		for range inTime {
			require.NoError(t, <-results)
		}
		require.False(t, h.Busy(t.Context()))
	})
}

func TestWhoeverIsGoneIsNotHashedFor(t *testing.T) {
	h := NewHasher(cheap)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := h.Hash(ctx, "correct horse battery")
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, h.VerifyNoAccount(ctx, "correct horse battery", 0), context.Canceled)
	require.Zero(t, h.Load().Waiting+h.Load().Running)
}

// fill takes every place to hash in until release is called.
func fill(t *testing.T, h *Hasher) (release func()) {
	t.Helper()
	var leaves []func()
	for range runtime.GOMAXPROCS(0) {
		leave, err := h.enter(t.Context(), cheap)
		require.NoError(t, err)
		leaves = append(leaves, leave)
	}
	return func() {
		for _, leave := range leaves {
			leave()
		}
	}
}

func FuzzVerify(f *testing.F) {
	h := NewHasher(cheap)
	own, err := h.Hash(f.Context(), "correct horse battery")
	require.NoError(f, err)
	f.Add(own)
	f.Add("$argon2id$v=19$m=8,t=0,p=1$" + salt + "$" + key16)
	f.Add("$argon2id$v=19$m=4294967295,t=1,p=0$" + salt + "$")
	f.Add("$argon2i$v=19$m=8,t=1,p=1$$")
	f.Add("$$$$$")
	f.Fuzz(func(t *testing.T, hash string) {
		if p, err := decode(hash); err == nil && (p.MemoryKiB > 1024 || p.Passes > 2) {
			return // valid, and slow
		}
		ok, stale, err := h.Verify(t.Context(), "correct horse battery", hash)
		if err != nil {
			require.False(t, ok || stale)
		}
		wrong, _, _ := h.Verify(t.Context(), "another horse", hash)
		require.False(t, ok && wrong, "%q fits two passwords", hash)
	})
}

func TestTheSameTextIsTheSamePasswordHoweverItWasTyped(t *testing.T) {
	h := NewHasher(Params{MemoryKiB: 8, Passes: 1, Lanes: 1})
	hash, err := h.Hash(t.Context(), "caf\u00e9 au lait")
	require.NoError(t, err)

	ok, _, err := h.Verify(t.Context(), "cafe\u0301 au lait", hash)

	require.NoError(t, err)
	require.True(t, ok)
}
