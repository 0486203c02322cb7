// Package codec has what gin needs of MessagePack to compile. It reads and writes none.
package codec

import (
	"errors"
	"io"
)

var errLeftOut = errors.New("MessagePack is left out of this build: see internal/empty/codec")

// MsgpackHandle chooses MessagePack.
type MsgpackHandle struct{}

// Decoder fails.
type Decoder struct{}

// NewDecoder returns a Decoder that reads nothing.
func NewDecoder(io.Reader, *MsgpackHandle) *Decoder { return &Decoder{} }

// Decode returns an error.
func (*Decoder) Decode(any) error { return errLeftOut }

// Encoder fails.
type Encoder struct{}

// NewEncoder returns an Encoder that writes nothing.
func NewEncoder(io.Writer, *MsgpackHandle) *Encoder { return &Encoder{} }

// Encode returns an error.
func (*Encoder) Encode(any) error { return errLeftOut }
