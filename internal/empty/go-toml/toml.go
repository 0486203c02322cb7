// Package toml has what gin needs of TOML to compile. It reads and writes none.
package toml

import (
	"errors"
	"io"
)

var errLeftOut = errors.New("TOML is left out of this build: see internal/empty/go-toml")

// Decoder fails.
type Decoder struct{}

// NewDecoder returns a Decoder that reads nothing.
func NewDecoder(io.Reader) *Decoder { return &Decoder{} }

// Decode returns an error.
func (*Decoder) Decode(any) error { return errLeftOut }

// Marshal returns an error.
func Marshal(any) ([]byte, error) { return nil, errLeftOut }
