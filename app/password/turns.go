package password

import (
	"context"
	"slices"
)

// Turn says whose password is hashed. Waiting hashes take turns by kind, within a kind by network, and within a network
// by account, so nobody can fill the queue for others. The zero value is a separate turn, for operators.
type Turn struct{ Kind, Network, Account string }

type turnKey struct{}

// WithTurn returns a context for the methods of Hasher that says whose password they hash.
func WithTurn(ctx context.Context, turn Turn) context.Context {
	return context.WithValue(ctx, turnKey{}, turn)
}

// path returns the groups that a context's hash belongs to, the largest first.
func path(ctx context.Context) []string {
	turn, _ := ctx.Value(turnKey{}).(Turn)
	return []string{turn.Kind, turn.Network, turn.Account}
}

// waiter is a waiting hash.
type waiter struct {
	path []string
	kib  int64
	// done gets nil when the hash may run, or ErrBusy when it has lost its place.
	done chan error
}

// turns is a queue in which groups take turns, and within a group its own groups.
type turns struct {
	name    string
	size    int       // how many wait
	groups  []*turns  // in the order of their turns
	waiters []*waiter // first come, first served; of the smallest groups only
}

// group returns the group of a name, or nil.
func (t *turns) group(name string) *turns {
	for _, g := range t.groups {
		if g.name == name {
			return g
		}
	}
	return nil
}

// ahead returns how many are served before another one of the path, if nobody else comes.
func (t *turns) ahead(path []string) int {
	if len(path) == 0 {
		return t.size
	}
	n := 0
	if own := t.group(path[0]); own != nil {
		n = own.ahead(path[1:])
	}
	before := n
	for _, g := range t.groups {
		if g.name != path[0] {
			n += min(g.size, before+1)
		}
	}
	return n
}

func (t *turns) push(w *waiter) {
	t.size++
	for _, name := range w.path {
		g := t.group(name)
		if g == nil {
			g = &turns{name: name}
			t.groups = append(t.groups, g)
		}
		t = g
		t.size++
	}
	t.waiters = append(t.waiters, w)
}

// next returns the waiter whose turn it is. There must be one.
func (t *turns) next() *waiter {
	for len(t.groups) > 0 {
		t = t.groups[0]
	}
	return t.waiters[0]
}

// pop removes next's waiter; its groups go to the end of their queues.
func (t *turns) pop() {
	t.size--
	if len(t.groups) == 0 {
		t.waiters = slices.Delete(t.waiters, 0, 1)
		return
	}
	g := t.groups[0]
	g.pop()
	t.groups = slices.Delete(t.groups, 0, 1)
	if g.size > 0 {
		t.groups = append(t.groups, g)
	}
}

// victim returns the waiter to turn away for a new one on the path, or nil if no group has more waiters than its own
// would have.
func (t *turns) victim(path []string) *waiter {
	if len(path) == 0 || len(t.groups) == 0 {
		return nil
	}
	own, largest := t.group(path[0]), t.largest()
	switch {
	case own == nil && largest.size > 1, own != nil && largest.size > own.size+1:
		return largest.last()
	case own == nil:
		return nil
	}
	return own.victim(path[1:])
}

func (t *turns) largest() *turns {
	return slices.MaxFunc(t.groups, func(a, b *turns) int { return a.size - b.size })
}

// last returns the waiter that came last in the largest group.
func (t *turns) last() *waiter {
	for len(t.groups) > 0 {
		t = t.largest()
	}
	return t.waiters[len(t.waiters)-1]
}

// remove removes a waiter and reports whether it was there.
func (t *turns) remove(w *waiter) bool { return t.removeBelow(w, w.path) }

func (t *turns) removeBelow(w *waiter, path []string) bool {
	if len(path) == 0 {
		i := slices.Index(t.waiters, w)
		if i < 0 {
			return false
		}
		t.waiters = slices.Delete(t.waiters, i, i+1)
		t.size--
		return true
	}
	g := t.group(path[0])
	if g == nil || !g.removeBelow(w, path[1:]) {
		return false
	}
	t.size--
	t.groups = slices.DeleteFunc(t.groups, func(g *turns) bool { return g.size == 0 })
	return true
}
