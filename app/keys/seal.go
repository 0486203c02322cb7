package keys

import (
	"bytes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"time"

	"latchkey/models"
)

// sealingKey seals values that browsers carry.
type sealingKey struct {
	id        []byte
	aead      cipher.AEAD
	retiresAt *time.Time
}

func newSealingKey(opened models.Secret) (sealingKey, error) {
	id, err := idOf(opened.Value)
	if err != nil {
		return sealingKey{}, err
	}
	aead, err := newAEAD(opened.Value)
	return sealingKey{id: id, aead: aead, retiresAt: opened.RetiresAt}, err
}

// ErrNotSealed means that a value was not sealed with a current or recent key of this database, or was sealed
// for another purpose.
var ErrNotSealed = errors.New("not sealed here")

// Seal encrypts and authenticates a value that a browser is to carry. A value sealed for one purpose can't be
// opened for another.
func (r *Ring) Seal(purpose string, value []byte) string {
	key := &r.current.Load().sealing[0]
	sealed := key.aead.Seal(nil, nil, value, []byte(purpose)) // #nosec G407 -- this cipher draws its own nonce
	return base64.RawURLEncoding.EncodeToString(append(bytes.Clone(key.id), sealed...))
}

// minSealed is the length of an empty value that is sealed: nonce and tag.
const minSealed = 12 + 16

// Open returns what Seal has sealed, or ErrNotSealed.
func (r *Ring) Open(purpose, sealed string) ([]byte, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(sealed)
	if err != nil || base64.RawURLEncoding.EncodeToString(raw) != sealed { // the decoder skips line breaks
		return nil, ErrNotSealed
	}
	if len(raw) < minSealed { // no reason to look for newer keys
		return nil, ErrNotSealed
	}
	known := r.current.Load()
	value, keyFound := r.open(known, purpose, raw)
	if value == nil && !keyFound && r.refresh(known) {
		value, _ = r.open(r.current.Load(), purpose, raw)
	}
	if value == nil {
		return nil, ErrNotSealed
	}
	return value, nil
}

// open returns the value, or nil if it can't be opened, and whether the key that it names is known.
func (r *Ring) open(known *snapshot, purpose string, raw []byte) (value []byte, keyFound bool) {
	for _, key := range known.sealing {
		sealed, named := bytes.CutPrefix(raw, key.id)
		keyFound = keyFound || named
		if r.retired(key.retiresAt) {
			continue
		}
		if named {
			if value, err := key.aead.Open([]byte{}, nil, sealed, []byte(purpose)); err == nil {
				return value, true
			}
		}
		// The previous version wrote no key id.
		if value, err := key.aead.Open([]byte{}, nil, raw, []byte(purpose)); err == nil {
			return value, true
		}
	}
	return nil, keyFound
}
