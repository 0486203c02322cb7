// Package keys manages the keys that all instances on one database share: the sealing key for values that
// browsers carry, the logout key for logout tokens, and the signing keys for tokens to apps. All can be
// rotated, and encrypted ("sealed") in the database with an external key, SECRET_KEY.
package keys

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"latchkey/app/backchannel"
	"latchkey/app/background"
	"latchkey/app/outage"
	"latchkey/models"
)

// Ring holds the keys of a database. It is safe for concurrent use.
type Ring struct {
	store      *models.Store // nil for a Ring of Inspect
	secretKeys secretKeys
	now        func() time.Time
	current    atomic.Pointer[snapshot]
	signing    sync.Map // kid → openedKey: the opened signing keys

	mu          sync.Mutex // held while reloading
	refreshedAt time.Time
}

// snapshot is an immutable copy of the sealing and logout keys, the current ones first.
type snapshot struct {
	stored  []models.Secret
	sealing []sealingKey
	logout  []logoutKey
}

// ErrNoKeys means that no server has used the database yet.
var ErrNoKeys = errors.New("the database has no keys yet: the server creates them when it first starts")

const (
	// reloadEvery is the interval of looking for rotations by other processes.
	reloadEvery = time.Second
	// refreshTimeout limits the read of newer keys for a value that no known key opens.
	refreshTimeout = 2 * time.Second
)

// Load reads the keys, after creating missing ones. secretKeys are the values of SECRET_KEY: keys that are not
// sealed with the first one are sealed with it. It returns an error that is ErrSecretKey if none of them opens
// the stored keys. The caller must also call Run.
func Load(ctx context.Context, store *models.Store, secretKeys []string, now func() time.Time) (*Ring, error) {
	outer, err := newSecretKeys(secretKeys)
	if err != nil {
		return nil, err
	}
	r := &Ring{store: store, secretKeys: outer, now: now}
	if err := r.complete(ctx, backchannel.ES256); err != nil {
		return nil, err
	}
	if _, err := r.reload(ctx); err != nil {
		return nil, err
	}
	return r, r.openSigning(ctx)
}

// Inspect returns a Ring without a store: it seals and opens, but can't sign or reload. It returns an error
// that is ErrSecretKey if the keys can't be opened, and ErrNoKeys if there are none.
func Inspect(stored models.Keys, secretKeys []string, now func() time.Time) (*Ring, error) {
	outer, err := newSecretKeys(secretKeys)
	if err != nil {
		return nil, err
	}
	if _, err := outer.open(stored); err != nil {
		return nil, err
	}
	r := &Ring{secretKeys: outer, now: now}
	return r, r.use(stored.Secrets)
}

// Run reloads the keys once a second until ctx is done, so that rotations by other processes take effect
// without a restart.
func (r *Ring) Run(ctx context.Context, log *slog.Logger) {
	failing := outage.New(log, "reloading the keys")
	background.Every(ctx, reloadEvery, func(ctx context.Context) {
		_, err := r.reload(ctx)
		failing.Report(ctx, err)
	})
}

// reload reads the sealing and logout keys, and reports whether they have changed.
func (r *Ring) reload(ctx context.Context) (changed bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reloadLocked(ctx)
}

func (r *Ring) reloadLocked(ctx context.Context) (changed bool, err error) {
	secrets, err := r.store.Secrets.List(ctx)
	if err != nil {
		return false, err
	}
	if known := r.current.Load(); known != nil && reflect.DeepEqual(known.stored, secrets) {
		return false, nil
	}
	return true, r.use(secrets)
}

// refresh reloads the keys, at most once a second, for a value that no known key opens: another instance may
// have sealed it with a newer one. It reports whether the keys differ from known.
func (r *Ring) refresh(known *snapshot) bool {
	if r.store == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.now(); now.Sub(r.refreshedAt).Abs() >= reloadEvery {
		r.refreshedAt = now
		ctx, cancel := context.WithTimeout(context.Background(), refreshTimeout)
		defer cancel()
		_, _ = r.reloadLocked(ctx) // Run logs why
	}
	return r.current.Load() != known
}

// use opens the stored secrets and makes them the current snapshot.
func (r *Ring) use(stored []models.Secret) error {
	opened, err := r.secretKeys.open(models.Keys{Secrets: stored})
	if err != nil {
		return err
	}
	next := &snapshot{stored: stored}
	for _, secret := range opened.Secrets {
		switch secret.Kind() {
		case models.SecretSeal:
			key, err := newSealingKey(secret)
			if err != nil {
				return err
			}
			next.sealing = append(next.sealing, key)
		case models.SecretLogout:
			next.logout = append(next.logout, newLogoutKey(secret))
		}
	}
	if lacks(opened.Secrets, models.SecretSeal) || lacks(opened.Secrets, models.SecretLogout) {
		return ErrNoKeys
	}
	r.current.Store(next)
	return nil
}

// retired reports whether a key that retires at the given time has retired.
func (r *Ring) retired(at *time.Time) bool { return at != nil && !at.After(r.now()) }

// complete creates missing keys, including a signing key for the algorithm, and seals keys that are not sealed
// with the first secret key.
func (r *Ring) complete(ctx context.Context, algorithm backchannel.Algorithm) error {
	stored, err := r.store.Keys(ctx)
	if err != nil {
		return err
	}
	isComplete := func(k models.Keys) bool {
		return r.secretKeys.haveSealed(k) && !lacks(k.Secrets, models.SecretSeal) && !lacks(k.Secrets, models.SecretLogout) &&
			currentSigning(k.Signing, algorithm) != nil
	}
	if _, err := r.secretKeys.open(stored); err != nil || isComplete(stored) {
		return err
	}
	made, err := makeSigningKeys(algorithm) // outside the transaction, since it may be slow
	if err != nil {
		return err
	}
	return r.store.ChangeKeys(ctx, func(now time.Time, stored models.Keys) (models.Keys, error) {
		if isComplete(stored) { // by another instance
			return stored, nil
		}
		opened, err := r.secretKeys.open(stored)
		if err != nil {
			return models.Keys{}, err
		}
		if currentSigning(opened.Signing, algorithm) == nil {
			opened.Signing = append(opened.Signing, made.at(now)...)
		}
		for _, kind := range []string{models.SecretSeal, models.SecretLogout} {
			if lacks(opened.Secrets, kind) {
				opened.Secrets = append(opened.Secrets, makeSecret(kind, now))
			}
		}
		return r.secretKeys.seal(opened), nil
	})
}

// lacks reports whether there is no current secret of a kind.
func lacks(secrets []models.Secret, kind string) bool {
	return !slices.ContainsFunc(secrets, func(s models.Secret) bool { return s.Name == kind })
}

// makeSecret returns a random 256-bit key.
func makeSecret(kind string, now time.Time) models.Secret {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	return models.Secret{Name: kind, Value: key, CreatedAt: now}
}

// newAEAD returns AES-256-GCM with a random nonce for each value.
func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("use a key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("use a key: %w", err)
	}
	return aead, nil
}

// idLength is the length of a key's id in bytes.
const idLength = 4

// idOf derives an id from a key, which reveals nothing else about it.
func idOf(key []byte) ([]byte, error) {
	id, err := hkdf.Key(sha256.New, key, nil, "latchkey: id of a key", idLength)
	if err != nil {
		return nil, fmt.Errorf("name a key: %w", err)
	}
	return id, nil
}
