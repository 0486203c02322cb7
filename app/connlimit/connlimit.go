// Package connlimit limits the connections of an HTTP server, so that nobody can exhaust its memory and file
// descriptors with idle ones.
package connlimit

import (
	"container/list"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"latchkey/app/clientaddr"
)

// Limits are the bounds.
type Limits struct {
	Total int // of all connections
	// PerClient is for one client: a clientaddr.Network.
	PerClient int
	// Exempt reports whether PerClient doesn't apply to an address, such as a proxy's.
	Exempt func(netip.Addr) bool
}

// Guard limits a server's connections. A connection beyond the limit closes the one that has waited longest for a
// request, or is itself closed if all others are busy. Hijacked connections don't count. It is safe for concurrent use.
type Guard struct {
	limits Limits

	mu       sync.Mutex
	conns    map[net.Conn]*list.Element
	waiting  *list.List // of *entry, by the time of their last request; includes busy ones
	byClient map[string]int
}

type entry struct {
	conn   net.Conn
	client string // "" if it is exempt
	busy   bool   // a request is in progress: its header has arrived
}

// New returns a Guard. Set http.Server.ConnState to its Track.
func New(limits Limits) *Guard {
	return &Guard{limits: limits, conns: map[net.Conn]*list.Element{}, waiting: list.New(), byClient: map[string]int{}}
}

// Open returns how many connections there are.
func (g *Guard) Open() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.conns)
}

// Track follows the state of a connection, as http.Server.ConnState. A connection is new or idle until a request's whole
// header has arrived.
func (g *Guard) Track(conn net.Conn, state http.ConnState) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch state {
	case http.StateNew:
		g.add(conn)
	case http.StateActive, http.StateIdle:
		if found := g.conns[conn]; found != nil { // else it has been closed here
			found.Value.(*entry).busy = state == http.StateActive
			g.waiting.MoveToBack(found)
		}
	case http.StateClosed, http.StateHijacked:
		if found := g.conns[conn]; found != nil {
			g.remove(found)
		}
	}
}

func (g *Guard) add(conn net.Conn) {
	added := &entry{conn: conn, client: g.clientOf(conn.RemoteAddr())}
	g.conns[conn] = g.waiting.PushBack(added)
	if added.client != "" {
		if g.byClient[added.client]++; g.byClient[added.client] > g.limits.PerClient {
			g.closeOldest(func(e *entry) bool { return e.client == added.client })
		}
	}
	if len(g.conns) > g.limits.Total {
		g.closeOldest(func(*entry) bool { return true })
	}
}

// closeOldest closes the matching connection that has waited longest. At least the one that was just added matches.
func (g *Guard) closeOldest(matches func(*entry) bool) {
	for e := g.waiting.Front(); e != nil; e = e.Next() {
		if candidate := e.Value.(*entry); !candidate.busy && matches(candidate) {
			_ = candidate.conn.Close() // the server notices
			g.remove(e)
			return
		}
	}
}

func (g *Guard) remove(e *list.Element) {
	removed := g.waiting.Remove(e).(*entry)
	delete(g.conns, removed.conn)
	if removed.client != "" {
		if g.byClient[removed.client]--; g.byClient[removed.client] == 0 {
			delete(g.byClient, removed.client)
		}
	}
}

// clientOf returns whose connection it is; "" for one that is exempt, or has no IP address.
func (g *Guard) clientOf(remote net.Addr) string {
	if remote == nil { // it is closed already
		return ""
	}
	addr := clientaddr.Peer(remote.String())
	if !addr.IsValid() || g.limits.Exempt(addr) {
		return ""
	}
	return clientaddr.Network(addr.String())
}
