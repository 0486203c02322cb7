package cli

import (
	"net/netip"

	"latchkey/app/config"
	"latchkey/app/connlimit"
)

const (
	// maxConnections is the total, not counting event streams. A connection with a half-sent header takes up to about
	// 70 KiB.
	maxConnections = 4096
	// maxClientConnections is per client: enough for many people behind one address, because idle connections are
	// closed to make room.
	maxClientConnections = 256
	// otherDescriptors are for the database, logs, and requests to apps.
	otherDescriptors = 256
)

// shareDescriptors divides the file descriptors that the process may have among connections and event streams.
func shareDescriptors(descriptors int) (connections, streams int) {
	free := max(descriptors-otherDescriptors, 64)
	connections = min(maxConnections, free/2)
	return connections, free - connections
}

// connectionLimits exempts trusted proxies from the limit per client, and this machine, where untrusted proxies may
// run.
func connectionLimits(settings *config.Settings, connections int) connlimit.Limits {
	return connlimit.Limits{Total: connections, PerClient: maxClientConnections, Exempt: func(addr netip.Addr) bool {
		return addr.IsLoopback() || settings.Clients.Trusts(addr)
	}}
}
