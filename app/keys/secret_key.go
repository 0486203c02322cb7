package keys

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"latchkey/models"
)

// ErrSecretKey means that SECRET_KEY is not what the keys in the database are sealed with.
var ErrSecretKey = errors.New("SECRET_KEY doesn't fit the database")

// secretKeys are the external keys. The first one seals the keys in the database; all of them open. Without
// any, nothing is sealed.
type secretKeys []secretKey

type secretKey struct {
	id   string
	aead cipher.AEAD
}

func newSecretKeys(texts []string) (secretKeys, error) {
	keys := make(secretKeys, len(texts))
	for i, text := range texts {
		id, err := idOf([]byte(text))
		if err != nil {
			return nil, err
		}
		derived, err := hkdf.Key(sha256.New, []byte(text), nil, "latchkey: sealing of stored keys", 32)
		if err != nil {
			return nil, fmt.Errorf("use SECRET_KEY: %w", err)
		}
		aead, err := newAEAD(derived)
		if err != nil {
			return nil, err
		}
		keys[i] = secretKey{hex.EncodeToString(id), aead}
	}
	return keys, nil
}

// id returns the id of the key that seals, or "" if there is none.
func (k secretKeys) id() string {
	if len(k) == 0 {
		return ""
	}
	return k[0].id
}

// canOpen reports whether there is a key with that id, or the id is "".
func (k secretKeys) canOpen(id string) bool {
	return id == "" || slices.ContainsFunc(k, func(key secretKey) bool { return key.id == id })
}

// haveSealed reports whether all keys are sealed with the first key, or unsealed if there is none.
func (k secretKeys) haveSealed(stored models.Keys) bool {
	return !slices.ContainsFunc(stored.Signing, func(s models.SigningKey) bool { return s.Sealed != k.id() }) &&
		!slices.ContainsFunc(stored.Secrets, func(s models.Secret) bool { return s.Sealed != k.id() })
}

// seal returns the stored form of opened keys.
func (k secretKeys) seal(opened models.Keys) models.Keys {
	stored := clone(opened)
	if len(k) > 0 {
		for _, part := range secretParts(stored) {
			*part.value = k[0].aead.Seal(nil, nil, *part.value, []byte(part.label)) // #nosec G407 -- this cipher draws its own nonce
			*part.sealed = k[0].id
		}
	}
	return stored
}

// open returns the opened form of stored keys. It returns an error that is ErrSecretKey if a key is missing.
func (k secretKeys) open(stored models.Keys) (models.Keys, error) {
	opened := clone(stored)
	for _, part := range secretParts(opened) {
		if *part.sealed == "" {
			continue
		}
		i := slices.IndexFunc(k, func(key secretKey) bool { return key.id == *part.sealed })
		if i < 0 {
			return models.Keys{}, k.misfit(*part.sealed)
		}
		value, err := k[i].aead.Open(nil, nil, *part.value, []byte(part.label))
		if err != nil {
			return models.Keys{}, fmt.Errorf("the %s in the database is damaged: SECRET_KEY doesn't open it, though it is sealed with that key – restore a backup", part.label)
		}
		*part.value, *part.sealed = value, ""
	}
	return opened, nil
}

// misfit returns the error for keys that are sealed with another key, with what to do.
func (k secretKeys) misfit(id string) error {
	const ifLost = "; if it is lost, 'latchkey key rotate --revoke' makes new keys"
	if len(k) == 0 {
		return fmt.Errorf("%w: the keys there are sealed with one (its id is %s), and it is unset – set SECRET_KEY or SECRET_KEY_FILE to it%s", ErrSecretKey, id, ifLost)
	}
	return fmt.Errorf("%w: the keys there are sealed with another one (its id is %s) – set SECRET_KEY or SECRET_KEY_FILE to that one, or to a new one and that one, separated by a comma%s", ErrSecretKey, id, ifLost)
}

func clone(k models.Keys) models.Keys {
	return models.Keys{Signing: slices.Clone(k.Signing), Secrets: slices.Clone(k.Secrets)}
}

// secretPart is the secret part of a stored key.
type secretPart struct {
	label  string // additional authenticated data
	value  *[]byte
	sealed *string
}

func secretParts(k models.Keys) (parts []secretPart) {
	for i := range k.Signing {
		key := &k.Signing[i]
		parts = append(parts, secretPart{"signing key " + key.ID, &key.PrivateKey, &key.Sealed})
	}
	for i := range k.Secrets {
		secret := &k.Secrets[i]
		parts = append(parts, secretPart{"secret " + secret.Kind(), &secret.Value, &secret.Sealed})
	}
	return parts
}
