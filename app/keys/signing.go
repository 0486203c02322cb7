package keys

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"latchkey/app/backchannel"
	"latchkey/models"
)

// openedKey is a signing key that has been opened.
type openedKey struct {
	stored []byte // the stored form it was opened from
	key    backchannel.Key
}

// Signing returns the current signing key of an algorithm, creating it if there is none. It reads the database
// each time, so that a rotation applies from the next token on.
func (r *Ring) Signing(ctx context.Context, algorithm backchannel.Algorithm) (backchannel.Key, error) {
	stored, err := r.store.SigningKeys.List(ctx)
	if err != nil {
		return backchannel.Key{}, err
	}
	current := currentSigning(stored, algorithm)
	if current == nil {
		if err := r.complete(ctx, algorithm); err != nil {
			return backchannel.Key{}, err
		}
		if stored, err = r.store.SigningKeys.List(ctx); err != nil {
			return backchannel.Key{}, err
		}
		if current = currentSigning(stored, algorithm); current == nil {
			return backchannel.Key{}, fmt.Errorf("there is no signing key for %s; 'latchkey key rotate' creates one", algorithm)
		}
	}
	return r.parse(*current)
}

// currentSigning returns the current signing key of an algorithm, or nil.
func currentSigning(keys []models.SigningKey, algorithm backchannel.Algorithm) *models.SigningKey {
	i := slices.IndexFunc(keys, func(k models.SigningKey) bool { return k.RetiresAt == nil && k.Algorithm == string(algorithm) })
	if i < 0 {
		return nil
	}
	return &keys[i]
}

// JWKS returns the JSON Web Key Set (RFC 7517 §5) of the published signing keys.
func (r *Ring) JWKS(ctx context.Context) ([]byte, error) {
	stored, err := r.store.SigningKeys.List(ctx)
	if err != nil {
		return nil, err
	}
	published := make([]backchannel.Key, len(stored))
	for i := range stored {
		if published[i], err = r.parse(stored[i]); err != nil {
			return nil, err
		}
	}
	return backchannel.JWKS(published)
}

// parse opens a signing key. If another instance has sealed it meanwhile with a SECRET_KEY that this one lacks,
// parse returns the key that was opened before.
func (r *Ring) parse(stored models.SigningKey) (backchannel.Key, error) {
	known, _ := r.signing.Load(stored.ID)
	before, opened := known.(openedKey)
	if opened && (bytes.Equal(before.stored, stored.PrivateKey) || !r.secretKeys.canOpen(stored.Sealed)) {
		return before.key, nil
	}
	plain, err := r.secretKeys.open(models.Keys{Signing: []models.SigningKey{stored}})
	if err != nil {
		return backchannel.Key{}, err
	}
	key, err := backchannel.ParseKey(plain.Signing[0].PrivateKey)
	if err != nil {
		return backchannel.Key{}, fmt.Errorf("signing key %s: %w", stored.ID, err)
	}
	r.signing.Store(stored.ID, openedKey{stored.PrivateKey, key})
	return key, nil
}

// openSigning opens all signing keys in advance. It ignores those that can't be parsed, which fail when they
// are used: they are no reason not to start.
func (r *Ring) openSigning(ctx context.Context) error {
	stored, err := r.store.SigningKeys.List(ctx)
	for i := range stored {
		_, _ = r.parse(stored[i])
	}
	return err
}

// CheckSigning returns an error about the first signing key that can't be read.
func (r *Ring) CheckSigning(stored []models.SigningKey) error {
	for _, key := range stored {
		if _, err := r.parse(key); err != nil {
			return err
		}
	}
	return nil
}

// madeKeys are new signing keys that are not stored yet.
type madeKeys []models.SigningKey

func makeSigningKeys(algorithms ...backchannel.Algorithm) (madeKeys, error) {
	made := make(madeKeys, len(algorithms))
	for i, algorithm := range algorithms {
		key, der, err := backchannel.NewKey(algorithm)
		if err != nil {
			return nil, err
		}
		made[i] = models.SigningKey{ID: key.ID, Algorithm: string(algorithm), PrivateKey: der}
	}
	return made, nil
}

// at returns the keys with the given creation time.
func (m madeKeys) at(now time.Time) []models.SigningKey {
	keys := slices.Clone(m)
	for i := range keys {
		keys[i].CreatedAt = now
	}
	return keys
}
