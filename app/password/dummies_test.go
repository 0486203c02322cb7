package password

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/alexedwards/argon2id"
	"github.com/stretchr/testify/require"
)

func costs(t *testing.T, h *Hasher) string {
	hash, err := h.Hash(t.Context(), "correct horse battery")
	require.NoError(t, err)
	parts := strings.Split(hash, "$")
	return strings.Join(parts[:4], "$") + "$"
}

func TestDummiesHaveTheCostsOfAccountsInTheirShares(t *testing.T) {
	old, today := Params{MemoryKiB: 16, Passes: 1, Lanes: 1}, Params{MemoryKiB: 32, Passes: 2, Lanes: 1}
	h := NewHasher(today)
	counts := map[string]int{costs(t, NewHasher(old)): 3, costs(t, h): 1, "$argon2id$v=19$m=4294967295,t=1,p=1$": 100, "": 100, "$2a$10$": 100}
	h.Dummies.Update(counts)
	random := rand.New(rand.NewPCG(1, 2))
	n := map[Params]int{}
	for range 4000 {
		n[h.Dummies.of(random.Uint64(), today)]++
	}
	require.Len(t, n, 2)
	require.InDelta(t, 3000, n[old], 150)

	number := random.Uint64()
	first := h.Dummies.of(number, today)
	h.Dummies.Update(counts)
	require.Equal(t, first, h.Dummies.of(number, today), "an address keeps its own")
}

func TestDummiesOnlyBecomeMoreExpensiveAsPeopleSignIn(t *testing.T) {
	old, today := Params{MemoryKiB: 16, Passes: 1, Lanes: 1}, Params{MemoryKiB: 32, Passes: 1, Lanes: 1}
	oldCosts, todaysCosts := costs(t, NewHasher(old)), costs(t, NewHasher(today))
	var d Dummies
	numbers := []uint64{0, math.MaxUint64 / 3, math.MaxUint64 / 2, math.MaxUint64}
	rose := make([]bool, len(numbers))
	for signedIn := range 101 {
		d.Update(map[string]int{oldCosts: 100 - signedIn, todaysCosts: signedIn})
		for i, number := range numbers {
			is := d.of(number, today) == today
			require.False(t, rose[i] && !is)
			rose[i] = is
		}
	}
	require.Equal(t, []bool{true, true, true, true}, rose)
}

func TestDummiesOfNoAccountsCostWhatTodaysHashesDo(t *testing.T) {
	var d Dummies
	require.Equal(t, cheap, d.of(1, cheap))
	d.Update(nil)
	require.Equal(t, cheap, d.of(math.MaxUint64, cheap))
}

func TestDummyCostsWhatItsParametersSay(t *testing.T) {
	old := Params{MemoryKiB: 16, Passes: 3, Lanes: 1}
	h := NewHasher(cheap)
	h.Dummies.Update(map[string]int{costs(t, NewHasher(old)): 1})
	require.NoError(t, h.VerifyNoAccount(t.Context(), "correct horse battery", 0))
	p, _, _, err := argon2id.DecodeHash(unmatchable(h.Dummies.of(7, cheap)))
	require.NoError(t, err)
	require.Equal(t, old, Params{MemoryKiB: p.Memory, Passes: p.Iterations, Lanes: p.Parallelism})
}
