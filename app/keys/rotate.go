package keys

import (
	"context"
	"encoding/hex"
	"slices"
	"time"

	"latchkey/app/backchannel"
	"latchkey/models"
)

const (
	// signingOverlap is longer than apps cache the JWKS.
	signingOverlap = 24 * time.Hour
	// sealingOverlap is longer than a form stays open.
	sealingOverlap = time.Hour
)

// Rotation holds the arguments of Rotate.
type Rotation struct {
	// Revoke removes all old keys immediately, in case they have leaked. Open forms and logout URLs then
	// stop working, known devices are forgotten, and apps reject tokens that were signed before. It works
	// without the SECRET_KEY of the old keys.
	Revoke bool
	// LongestSession is the longest that a session may last, and how long old logout tokens stay valid.
	LongestSession time.Duration
}

// Rotate replaces all keys in one transaction: the signing keys of every algorithm in use, the sealing key and
// the logout key. Unless revoked, the old keys stay valid for a while: signing keys are published for another
// 24 hours, the sealing key opens values for an hour (after which known devices are forgotten), and the logout
// key verifies for LongestSession. Running servers notice within a second. Rotate returns the new keys.
func Rotate(ctx context.Context, store *models.Store, secretKeys []string, how Rotation) ([]Info, error) {
	outer, err := newSecretKeys(secretKeys)
	if err != nil {
		return nil, err
	}
	before, err := store.Keys(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := outer.open(before); err != nil && !how.Revoke {
		return nil, err
	}
	algorithms := algorithmsOf(before)
	made, err := makeSigningKeys(algorithms...) // outside the transaction, since it may be slow
	if err != nil {
		return nil, err
	}
	var fresh models.Keys
	err = store.ChangeKeys(ctx, func(now time.Time, stored models.Keys) (models.Keys, error) {
		if in := algorithmsOf(stored); !slices.Equal(in, algorithms) { // another has come into use meanwhile
			algorithms = in
			if made, err = makeSigningKeys(in...); err != nil {
				return models.Keys{}, err
			}
		}
		fresh = models.Keys{
			Signing: made.at(now),
			Secrets: []models.Secret{makeSecret(models.SecretSeal, now), makeSecret(models.SecretLogout, now)},
		}
		if how.Revoke {
			fresh = outer.seal(fresh)
			return fresh, nil
		}
		old, err := outer.open(stored)
		if err == nil {
			err = retire(old, now, how.LongestSession)
		}
		if err != nil {
			return models.Keys{}, err
		}
		all := outer.seal(models.Keys{Signing: append(fresh.Signing, old.Signing...), Secrets: append(fresh.Secrets, old.Secrets...)})
		fresh = models.Keys{Signing: all.Signing[:len(fresh.Signing)], Secrets: all.Secrets[:len(fresh.Secrets)]}
		return all, nil
	})
	if err != nil {
		return nil, err
	}
	return Describe(fresh), nil
}

// algorithmsOf returns the algorithms of the current signing keys, and ES256, sorted.
func algorithmsOf(k models.Keys) []backchannel.Algorithm {
	algorithms := []backchannel.Algorithm{backchannel.ES256}
	for _, key := range k.Signing {
		if key.RetiresAt == nil {
			algorithms = append(algorithms, backchannel.Algorithm(key.Algorithm))
		}
	}
	slices.Sort(algorithms)
	return slices.Compact(algorithms)
}

// retire sets the retirement times of the current keys.
func retire(opened models.Keys, now time.Time, longestSession time.Duration) error {
	until := func(d time.Duration) *time.Time { t := now.Add(d); return &t }
	for i := range opened.Signing {
		if key := &opened.Signing[i]; key.RetiresAt == nil {
			key.RetiresAt = until(signingOverlap)
		}
	}
	for i := range opened.Secrets {
		secret := &opened.Secrets[i]
		if secret.RetiresAt != nil {
			continue
		}
		overlap := sealingOverlap
		if secret.Kind() == models.SecretLogout {
			overlap = longestSession
		}
		id, err := idOf(secret.Value)
		if err != nil {
			return err
		}
		secret.Name += ":" + hex.EncodeToString(id) // only the current one has the plain name
		secret.RetiresAt = until(overlap)
	}
	return nil
}

// Info describes a key without its secret.
type Info struct {
	Kind      string // signing, sealing or logout
	ID        string // the kid of a signing key; "" for the others
	Algorithm string
	MadeAt    time.Time
	RetiresAt *time.Time // nil for the current one
	Sealed    string     // id of the SECRET_KEY that it is sealed with; "" for none
}

// State describes the key's state, such as "current" or "published until …".
func (i Info) State() string {
	if i.RetiresAt == nil {
		return "current"
	}
	what := map[string]string{"signing": "published", "sealing": "opens", "logout": "verifies"}[i.Kind]
	return what + " until " + i.RetiresAt.UTC().Format(time.RFC3339)
}

// List returns all keys that have not retired, by kind, the current ones first.
func List(ctx context.Context, store *models.Store) ([]Info, error) {
	stored, err := store.Keys(ctx)
	if err != nil {
		return nil, err
	}
	return Describe(stored), nil
}

// Describe returns the Info of each key, by kind.
func Describe(stored models.Keys) (all []Info) {
	for _, k := range stored.Signing {
		all = append(all, Info{"signing", k.ID, k.Algorithm, k.CreatedAt, k.RetiresAt, k.Sealed})
	}
	for _, kind := range []struct{ name, kind, algorithm string }{
		{models.SecretSeal, "sealing", "AES-256-GCM"}, {models.SecretLogout, "logout", "HMAC-SHA256"},
	} {
		for _, s := range stored.Secrets {
			if s.Kind() == kind.name {
				all = append(all, Info{kind.kind, "", kind.algorithm, s.CreatedAt, s.RetiresAt, s.Sealed})
			}
		}
	}
	return all
}
