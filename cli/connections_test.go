package cli

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/app/config"
)

func TestDescriptorsAreShared(t *testing.T) {
	for _, c := range []struct{ descriptors, connections, streams int }{
		{1 << 20, 4096, 1<<20 - 256 - 4096}, {1024, 384, 384}, {4096, 1920, 1920}, {20000, 4096, 20000 - 256 - 4096}, {100, 32, 32},
	} {
		connections, streams := shareDescriptors(c.descriptors)
		require.Equal(t, []int{c.connections, c.streams}, []int{connections, streams}, c.descriptors)
	}
}

func TestProxiesHaveNoLimitOfTheirOwn(t *testing.T) {
	settings := &config.Settings{}
	settings.Clients.Trusted = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	limits := connectionLimits(settings, 100)
	for address, exempt := range map[string]bool{"10.1.2.3": true, "127.0.0.1": true, "::1": true, "192.0.2.1": false, "2001:db8::1": false} {
		require.Equal(t, exempt, limits.Exempt(netip.MustParseAddr(address)), address)
	}
}
