package password

import (
	"cmp"
	"math"
	"slices"
	"sync/atomic"
)

// dummyRest completes the costs of a hash, which end in a dollar sign, so that decode can check them.
const dummyRest = "AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// Dummies chooses what to compare a password with if there is no account. After the settings have changed, hashes differ
// in cost, and so in the time that a sign-in takes, until their owners have signed in. The dummies have the same costs
// in the same proportions; otherwise, the time would reveal that there is an account. The zero value has dummies with
// today's costs only. It is safe for concurrent use.
type Dummies struct{ shares atomic.Pointer[[]share] }

// share is the fraction of accounts whose hashes have the same costs.
type share struct {
	params Params
	upTo   float64 // of all accounts, in the order of the costs
}

// Update sets how many hashes there are with the given costs: "$argon2id$v=19$m=19456,t=2,p=1$".
// It ignores costs that no hash can have.
func (d *Dummies) Update(counts map[string]int) {
	var shares []share
	total := 0.0
	for costs, n := range counts {
		params, err := decode(costs + dummyRest)
		if err != nil || n <= 0 {
			continue
		}
		shares = append(shares, share{params, float64(n)})
		total += float64(n)
	}
	// In this order, dummies move from low costs to high ones as people sign in, like accounts.
	slices.SortFunc(shares, func(a, b share) int { return compare(a.params, b.params) })
	sum := 0.0
	for i := range shares {
		sum += shares[i].upTo
		shares[i].upTo = sum / total
	}
	d.shares.Store(&shares)
}

func compare(a, b Params) int {
	work := func(p Params) uint64 { return uint64(p.MemoryKiB) * uint64(p.Passes) }
	return cmp.Or(cmp.Compare(work(a), work(b)), cmp.Compare(a.MemoryKiB, b.MemoryKiB), cmp.Compare(a.Lanes, b.Lanes))
}

// of returns the costs for a number, which must be fixed and unpredictable for each address.
func (d *Dummies) of(number uint64, today Params) Params {
	shares := d.shares.Load()
	if shares == nil {
		return today
	}
	at := float64(number) / math.MaxUint64
	for _, s := range *shares {
		if at <= s.upTo {
			return s.params
		}
	}
	return today
}
