package config

import (
	"fmt"
	"strings"
)

// minSecretKey is the least length of a key in bytes. It is for 256 bits: a key that is meant to be
// remembered can be guessed by whoever has a copy of the database.
const minSecretKey = 32

const makeSecretKey = "make one with: openssl rand -base64 32"

// parseSecretKeys returns the keys of SECRET_KEY, which readFiles has read; the first one seals. No error has a
// key in it.
func (c *Config) parseSecretKeys() ([]string, error) {
	if c.SecretKey == "" {
		return nil, nil
	}
	name := "SECRET_KEY"
	if c.SecretKeyFile != "" {
		name = "SECRET_KEY_FILE"
	}
	keys := trimmed(strings.FieldsFunc(c.SecretKey, func(r rune) bool { return r == ',' || r == '\n' || r == '\r' }))
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s has no key: %s", name, makeSecretKey)
	}
	for i, key := range keys {
		if len(key) < minSecretKey {
			return nil, fmt.Errorf("key %d of %s has %d characters, and must have %d or more: %s", i+1, name, len(key), minSecretKey, makeSecretKey)
		}
	}
	return keys, nil
}
