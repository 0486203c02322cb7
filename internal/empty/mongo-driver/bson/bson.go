// Package bson has what gin needs of BSON to compile. It reads and writes none.
package bson

import "errors"

var errLeftOut = errors.New("BSON is left out of this build: see internal/empty/mongo-driver")

// Unmarshal returns an error.
func Unmarshal([]byte, any) error { return errLeftOut }

// Marshal returns an error.
func Marshal(any) ([]byte, error) { return nil, errLeftOut }
