package cli

import (
	"net/netip"

	"latchkey/app/config"
	"latchkey/app/connlimit"
)

const (
	// maxConnections is in all, not counting event streams. With the header of a request half sent, each takes up
	// to some 70 KiB.
	maxConnections = 4096
	// maxClientConnections is for one client: enough for many people behind one address, since idle ones are
	// closed for new ones.
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

// connectionLimits exempts trusted proxies from the limit of one client, and this machine, where they may run without
// being trusted.
func connectionLimits(settings *config.Settings, connections int) connlimit.Limits {
	return connlimit.Limits{Total: connections, PerClient: maxClientConnections, Exempt: func(addr netip.Addr) bool {
		return addr.IsLoopback() || settings.Clients.Trusts(addr)
	}}
}
