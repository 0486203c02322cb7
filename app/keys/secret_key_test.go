package keys_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/app/backchannel"
	"latchkey/app/keys"
	"latchkey/models"
)

func secretKey(n int) string { return fmt.Sprintf("%032d", n) }

// stored returns what the database holds of each key that must stay secret, and by whom it is sealed.
func (h *house) stored() (values [][]byte, sealed map[string]bool) {
	h.t.Helper()
	found, err := h.store.Keys(h.t.Context())
	require.NoError(h.t, err)
	sealed = map[string]bool{}
	for _, key := range found.Signing {
		values, sealed[key.Sealed] = append(values, key.PrivateKey), true
	}
	for _, secret := range found.Secrets {
		values, sealed[secret.Sealed] = append(values, secret.Value), true
	}
	return values, sealed
}

// requireSealed fails if anything is not sealed, or not with one and the same key, which it returns.
func (h *house) requireSealed() string {
	h.t.Helper()
	values, sealed := h.stored()
	require.Len(h.t, sealed, 1)
	require.NotContains(h.t, sealed, "")
	for _, value := range values {
		require.NotEqual(h.t, 32, len(value))
		_, err := backchannel.ParseKey(value)
		require.Error(h.t, err)
	}
	for id := range sealed {
		return id
	}
	return ""
}

func TestSecretKeySealsWhatIsInTheDatabase(t *testing.T) {
	h := newHouse(t)
	h.load()
	h.rotate() // retired keys are sealed too
	before := h.load()
	sealed, token, signed := seal(before), before.LogoutToken(someSession), sign(t, before, backchannel.ES256)
	plain, _ := h.stored()

	after := h.load(secretKey(1))

	h.requireSealed()
	values, _ := h.stored()
	for _, value := range values {
		require.NotContains(t, plain, value)
	}
	h.requireOpens(after, sealed, "the keys are the same")
	require.Equal(t, token, after.LogoutToken(someSession))
	require.NoError(t, verify(t, after, signed))
	h.load(secretKey(1))
	again, _ := h.stored()
	require.Equal(t, values, again, "the next start changes nothing")
	h.rotate(secretKey(1))
	h.requireSealed()
	sign(t, after, backchannel.RS256)
	h.requireSealed()
}

func TestInstancesSealOnceTogether(t *testing.T) {
	h := newHouse(t)
	token := h.load().LogoutToken(someSession)
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			ring, err := keys.Load(t.Context(), h.store, []string{secretKey(1)}, h.Now)
			if err == nil && ring.LogoutToken(someSession) != token {
				err = errors.New("another key")
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()

	h.requireSealed()
}

// An instance that was started without SECRET_KEY runs on beside one that was given it.
func TestInstanceWithoutSecretKeyKeepsTheKeysThatItHas(t *testing.T) {
	h := newHouse(t)
	behind := h.load()
	sealed, token, ids := seal(behind), behind.LogoutToken(someSession), published(t, behind)

	ahead := h.load(secretKey(1))

	h.requireClosed(behind, "AAAA", "and it has looked for newer keys")
	h.requireOpens(behind, sealed, "as before")
	require.Equal(t, token, behind.LogoutToken(someSession))
	require.Equal(t, ids, published(t, behind))
	require.NoError(t, verify(t, ahead, sign(t, behind, backchannel.ES256)))
	h.rotate(secretKey(1))
	_, err := behind.JWKS(t.Context())
	require.ErrorIs(t, err, keys.ErrSecretKey, "a key that it never opened")
	require.Equal(t, token, behind.LogoutToken(someSession), "which still is verified")
	require.True(t, h.load(secretKey(1)).CheckLogoutToken(someSession, token))
}

func TestSecretKeyIsChangedByPuttingANewOneBeforeIt(t *testing.T) {
	h := newHouse(t)
	token := h.load(secretKey(1)).LogoutToken(someSession)
	first := h.requireSealed()

	ring := h.load(secretKey(2), secretKey(1))

	require.NotEqual(t, first, h.requireSealed())
	require.Equal(t, token, ring.LogoutToken(someSession))
	require.Equal(t, token, h.load(secretKey(2)).LogoutToken(someSession), "the old one is needed no more")
}

func TestWrongSecretKeyStopsTheStartAndSaysWhatToDo(t *testing.T) {
	h := newHouse(t)
	h.load(secretKey(1))
	id := h.requireSealed()
	contents, err := h.store.Keys(t.Context())
	require.NoError(t, err)
	for name, c := range map[string]struct {
		secretKeys []string
		want       string
	}{
		"unset": {nil, "SECRET_KEY doesn't fit the database: the keys there are sealed with one (its id is " + id +
			"), and it is unset – set SECRET_KEY or SECRET_KEY_FILE to it; if it is lost, 'latchkey key rotate --revoke' makes new keys"},
		"wrong": {[]string{secretKey(2)}, "SECRET_KEY doesn't fit the database: the keys there are sealed with another one (its id is " + id +
			") – set SECRET_KEY or SECRET_KEY_FILE to that one, or to a new one and that one, separated by a comma; if it is lost, 'latchkey key rotate --revoke' makes new keys"},
	} {
		_, err := keys.Load(t.Context(), h.store, c.secretKeys, h.Now)
		require.ErrorIs(t, err, keys.ErrSecretKey, name)
		require.EqualError(t, err, c.want)
		_, err = keys.Inspect(contents, c.secretKeys, h.Now)
		require.EqualError(t, err, c.want)
		_, err = keys.Rotate(t.Context(), h.store, c.secretKeys, keys.Rotation{LongestSession: longest})
		require.EqualError(t, err, c.want)
	}
	require.Equal(t, id, h.requireSealed(), "nothing has changed")
}

func TestLostSecretKeyIsGotOverByRevoking(t *testing.T) {
	h := newHouse(t)
	token := h.load(secretKey(1)).LogoutToken(someSession)

	h.revoke(secretKey(2))

	h.requireSealed()
	require.NotEqual(t, token, h.load(secretKey(2)).LogoutToken(someSession))
	made := h.revoke()
	require.Empty(t, made[0].Sealed, "which is how to do without")
	h.load()
}

func TestDamagedKeyStopsTheStart(t *testing.T) {
	for statement, what := range map[string]string{
		"UPDATE secrets SET value = ? WHERE name = 'seal'":                                                              "secret seal",
		"UPDATE signing_keys SET private_key = ?":                                                                       "signing key",
		"UPDATE secrets SET value = coalesce((SELECT value FROM secrets WHERE name = 'seal'), ?) WHERE name = 'logout'": "secret logout",
	} {
		h := newHouse(t)
		h.load(secretKey(1))
		require.NoError(t, h.db.Exec(statement, make([]byte, 64)).Error)

		_, err := keys.Load(t.Context(), h.store, []string{secretKey(1)}, h.Now)

		require.ErrorContains(t, err, "the "+what)
		require.ErrorContains(t, err, "is damaged")
		require.NotErrorIs(t, err, keys.ErrSecretKey)
	}
}

func TestKeysThatAreInspectedSealForTheServer(t *testing.T) {
	h := newHouse(t)
	_, err := keys.Inspect(models.Keys{}, nil, h.Now)
	require.ErrorIs(t, err, keys.ErrNoKeys)
	for _, secretKeys := range [][]string{nil, {secretKey(1)}} {
		ring := h.load(secretKeys...)
		contents, err := h.store.Keys(t.Context())
		require.NoError(t, err)

		inspected, err := keys.Inspect(contents, secretKeys, h.Now)

		require.NoError(t, err)
		h.requireOpens(ring, seal(inspected), "what check seals")
		require.NoError(t, inspected.CheckSigning(contents.Signing))
		require.ErrorContains(t, inspected.CheckSigning([]models.SigningKey{{ID: "kid", PrivateKey: []byte{1}}}), "signing key kid")
		h.requireClosed(inspected, "AAAA", "and it looks for no newer keys")
		h.advance(time.Minute)
	}
}
