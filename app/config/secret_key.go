package config

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// minSecretKey is the least length of a key in bytes. It is for 256 bits: a key that is meant to be
// remembered can be guessed by whoever has a copy of the database.
const minSecretKey = 32

const makeSecretKey = "make one with: openssl rand -base64 32"

// parseSecretKeys returns the keys of SECRET_KEY or of SECRET_KEY_FILE; the first one seals. No error has a
// key in it.
func (c *Config) parseSecretKeys() ([]string, error) {
	name, text := "SECRET_KEY", c.SecretKey
	switch {
	case c.SecretKey != "" && c.SecretKeyFile != "":
		return nil, errors.New("SECRET_KEY and SECRET_KEY_FILE are both set: leave one out")
	case c.SecretKeyFile != "":
		raw, err := os.ReadFile(c.SecretKeyFile)
		if err != nil {
			return nil, fmt.Errorf("SECRET_KEY_FILE: %w", err)
		}
		name, text = "SECRET_KEY_FILE", string(raw)
	case c.SecretKey == "":
		return nil, nil
	}
	keys := trimmed(strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '\n' || r == '\r' }))
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
