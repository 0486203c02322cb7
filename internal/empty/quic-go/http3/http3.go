// Package http3 has what gin needs of HTTP/3 to compile. It serves none: that is the proxy's.
package http3

import (
	"errors"
	"net/http"
)

// ListenAndServeQUIC returns an error.
func ListenAndServeQUIC(addr, certFile, keyFile string, handler http.Handler) error {
	return errors.New("HTTP/3 is left out of this build: see internal/empty/quic-go")
}
