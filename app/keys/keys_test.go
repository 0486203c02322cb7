package keys_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/gofrs/uuid/v5"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"latchkey/app/backchannel"
	"latchkey/app/keys"
	"latchkey/db"
	"latchkey/models"
	"latchkey/test/kit"
)

// clock is what a test sets, and all instances on a database read.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// house is a database, on which any number of instances run.
type house struct {
	*clock
	t     *testing.T
	store *models.Store
	db    *gorm.DB
}

func newHouse(t *testing.T) *house {
	t.Helper()
	database, err := db.Open(t.Context(), kit.DatabaseURL(t, filepath.Join(t.TempDir(), "latchkey.db")))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, database.Close()) })
	h := &house{clock: &clock{now: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)}, t: t, db: database.Query(context.Background())}
	h.store = models.New(database, h.Now)
	return h
}

func (h *house) load(secretKeys ...string) *keys.Ring {
	h.t.Helper()
	ring, err := keys.Load(h.t.Context(), h.store, secretKeys, h.Now)
	require.NoError(h.t, err)
	return ring
}

// longest is how long sessions last here.
const longest = 30 * 24 * time.Hour

func (h *house) rotate(secretKeys ...string) []keys.Info {
	h.t.Helper()
	made, err := keys.Rotate(h.t.Context(), h.store, secretKeys, keys.Rotation{LongestSession: longest})
	require.NoError(h.t, err)
	return made
}

func (h *house) revoke(secretKeys ...string) []keys.Info {
	h.t.Helper()
	made, err := keys.Rotate(h.t.Context(), h.store, secretKeys, keys.Rotation{Revoke: true, LongestSession: longest})
	require.NoError(h.t, err)
	return made
}

func (h *house) requireOpens(ring *keys.Ring, sealed, what string) {
	h.t.Helper()
	value, err := ring.Open("flow", sealed)
	require.NoError(h.t, err, what)
	require.Equal(h.t, "secret", string(value))
}

func (h *house) requireClosed(ring *keys.Ring, sealed, what string) {
	h.t.Helper()
	_, err := ring.Open("flow", sealed)
	require.ErrorIs(h.t, err, keys.ErrNotSealed, what)
}

func seal(ring *keys.Ring) string { return ring.Seal("flow", []byte("secret")) }

func sign(t *testing.T, ring *keys.Ring, algorithm backchannel.Algorithm) string {
	t.Helper()
	key, err := ring.Signing(t.Context(), algorithm)
	require.NoError(t, err)
	now := time.Now()
	signed, err := key.Sign(backchannel.Token{Issuer: "https://login.example.com", Audience: "wiki", ID: "1", Subject: "ada", IssuedAt: now, ExpiresAt: now.Add(time.Minute)})
	require.NoError(t, err)
	return signed
}

// verify returns the error of a receiver that knows only what is published.
func verify(t *testing.T, ring *keys.Ring, signed string) error {
	t.Helper()
	document, err := ring.JWKS(t.Context())
	require.NoError(t, err)
	known, err := keyfunc.NewJWKSetJSON(document)
	require.NoError(t, err)
	_, err = jwt.Parse(signed, known.Keyfunc, jwt.WithValidMethods([]string{"ES256", "RS256"}))
	return err
}

func published(t *testing.T, ring *keys.Ring) (ids []string) {
	t.Helper()
	document, err := ring.JWKS(t.Context())
	require.NoError(t, err)
	var set struct{ Keys []struct{ Kid string } }
	require.NoError(t, json.Unmarshal(document, &set))
	for _, key := range set.Keys {
		ids = append(ids, key.Kid)
	}
	return ids
}

var someSession = uuid.Must(uuid.FromString("7d4c9b58-7f2a-4a4a-9a3e-0b0f3a1c5d6e"))

func TestInstancesThatStartAtOnceHaveTheSameKeys(t *testing.T) {
	h := newHouse(t)
	rings := make([]*keys.Ring, 6)
	var all sync.WaitGroup
	for i := range rings {
		all.Go(func() {
			var err error
			if rings[i], err = keys.Load(t.Context(), h.store, nil, h.Now); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.False(t, t.Failed())

	sealed, token, ids := seal(rings[0]), rings[0].LogoutToken(someSession), published(t, rings[0])
	require.Len(t, ids, 1)
	for _, ring := range rings {
		h.requireOpens(ring, sealed, "another's")
		require.Equal(t, token, ring.LogoutToken(someSession))
		require.Equal(t, ids, published(t, ring))
	}
}

func TestWhatIsNotSealedHereIsNotOpened(t *testing.T) {
	h := newHouse(t)
	ring, other := h.load(), newHouse(t).load()
	sealed := seal(ring)
	raw, err := base64.RawURLEncoding.DecodeString(sealed)
	require.NoError(t, err)
	changed := slices.Clone(raw)
	changed[len(changed)-1] ^= 1
	otherKey := slices.Clone(raw)
	otherKey[0] ^= 1

	for name, value := range map[string]string{
		"empty": "", "short": "AAAA", "of another database": seal(other), "changed": base64.RawURLEncoding.EncodeToString(changed),
		"naming another key": base64.RawURLEncoding.EncodeToString(otherKey), "with a line break": sealed[:8] + "\n" + sealed[8:], "padded": sealed + "=",
	} {
		h.requireClosed(ring, value, name)
	}
	_, err = ring.Open("device", sealed)
	require.ErrorIs(t, err, keys.ErrNotSealed, "for another purpose")
	h.requireOpens(ring, sealed, "the one that is good")
	empty, err := ring.Open("flow", ring.Seal("flow", nil))
	require.NoError(t, err)
	require.Empty(t, empty)
}

func TestLogoutTokenIsOfOneSession(t *testing.T) {
	ring := newHouse(t).load()
	token, other := ring.LogoutToken(someSession), uuid.Must(uuid.NewV4())

	require.Len(t, token, 43)
	require.Equal(t, token, ring.LogoutToken(someSession))
	require.True(t, ring.CheckLogoutToken(someSession, token))
	require.False(t, ring.CheckLogoutToken(other, token))
	for _, wrong := range []string{"", "x", token + "A", ring.LogoutToken(other)} {
		require.False(t, ring.CheckLogoutToken(someSession, wrong))
	}
}

func TestRotationReplacesEveryKey(t *testing.T) {
	h := newHouse(t)
	before := h.load()
	sealed, token := seal(before), before.LogoutToken(someSession)
	es, rs := sign(t, before, backchannel.ES256), sign(t, before, backchannel.RS256)

	made := h.rotate()

	require.Len(t, made, 4)
	after := h.load()
	require.NotEqual(t, token, after.LogoutToken(someSession))
	ids := published(t, after)
	require.Len(t, ids, 4)
	require.ElementsMatch(t, []string{made[0].ID, made[1].ID}, ids[:2], "those that sign come first")
	for _, algorithm := range []backchannel.Algorithm{backchannel.ES256, backchannel.RS256} {
		key, err := after.Signing(t.Context(), algorithm)
		require.NoError(t, err)
		require.Equal(t, algorithm, key.Algorithm())
		require.Contains(t, ids[:2], key.ID)
	}

	holds := func() []bool {
		fresh := h.load()
		_, err := fresh.Open("flow", sealed)
		return []bool{err == nil, verify(t, fresh, es) == nil && verify(t, fresh, rs) == nil, fresh.CheckLogoutToken(someSession, token)}
	}
	require.Equal(t, []bool{true, true, true}, holds())
	h.advance(time.Hour - time.Second)
	require.Equal(t, []bool{true, true, true}, holds())
	h.advance(time.Second)
	require.Equal(t, []bool{false, true, true}, holds(), "an hour after it")
	h.requireClosed(after, sealed, "by one that has not looked since")
	h.advance(23 * time.Hour)
	require.Equal(t, []bool{false, false, true}, holds(), "a day after it")
	h.advance(longest - 24*time.Hour)
	require.Equal(t, []bool{false, false, false}, holds(), "as long after it as a session lasts")
	require.False(t, after.CheckLogoutToken(someSession, token))
}

func TestRevokedKeysAreOfNoUseAtOnce(t *testing.T) {
	h := newHouse(t)
	before := h.load()
	sealed, token, signed := seal(before), before.LogoutToken(someSession), sign(t, before, backchannel.ES256)
	h.rotate()

	made := h.revoke()

	after := h.load()
	h.requireClosed(after, sealed, "it was revoked")
	require.False(t, after.CheckLogoutToken(someSession, token))
	require.Error(t, verify(t, after, signed))
	require.Equal(t, []string{made[0].ID}, published(t, after))
	require.Equal(t, []string{made[0].ID}, published(t, before), "an instance that runs reads them each time")
	rows, err := keys.List(t.Context(), h.store)
	require.NoError(t, err)
	require.Equal(t, made, rows)
}

func TestRunningInstanceNoticesARotation(t *testing.T) {
	h := newHouse(t)
	running := h.load()
	sealed, token := seal(running), running.LogoutToken(someSession)
	h.revoke()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); running.Run(ctx, slog.New(slog.DiscardHandler)) }()
	defer func() { cancel(); <-done }()

	require.Eventually(t, func() bool { return running.LogoutToken(someSession) != token }, 10*time.Second, time.Millisecond)

	h.requireClosed(running, sealed, "it was revoked")
	require.Equal(t, h.load().LogoutToken(someSession), running.LogoutToken(someSession))
}

func TestValueOfAnInstanceThatKnowsANewerKeyIsOpened(t *testing.T) {
	h := newHouse(t)
	behind := h.load()
	h.rotate()
	ahead := h.load()

	h.requireOpens(behind, seal(ahead), "by the newer key")
	require.True(t, behind.CheckLogoutToken(someSession, ahead.LogoutToken(someSession)))

	h.rotate()
	third := h.load()
	require.False(t, behind.CheckLogoutToken(someSession, third.LogoutToken(someSession)), "it looks once a second")
	h.requireClosed(behind, seal(third), "it looks once a second")
	h.advance(time.Second)
	require.True(t, behind.CheckLogoutToken(someSession, third.LogoutToken(someSession)))
	h.requireOpens(behind, seal(third), "it has looked")
}

func TestKeysOfTheVersionBeforeStayAsTheyAre(t *testing.T) {
	h := newHouse(t)
	sealingKey, logoutKey := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	signing, der, err := backchannel.NewKey(backchannel.ES256)
	require.NoError(t, err)
	for name, value := range map[string][]byte{"seal": sealingKey, "logout": logoutKey, "setup": {3}} {
		require.NoError(t, h.db.Exec("INSERT INTO secrets (name, value, created_at) VALUES (?, ?, ?)", name, value, h.now).Error)
	}
	require.NoError(t, h.db.Exec("INSERT INTO signing_keys (id, private_key, created_at) VALUES (?, ?, ?)", signing.ID, der, h.now).Error)

	ring := h.load()

	require.Equal(t, []string{signing.ID}, published(t, ring))
	// Made by the version before, with these keys.
	require.Equal(t, "0lJgNcU1phX9be7UkTuv-SQZe_hazJWq9eSwS1u3GNk", ring.LogoutToken(someSession))
	const unnamed = "Apean4eqQI6ehM18MPL-muulElYWNw4V9cGrx29VfPRQVA"
	h.requireOpens(ring, unnamed, "without the name of a key")
	h.rotate()
	h.requireOpens(h.load(), unnamed, "after a rotation")
	h.load(secretKey(1))
	var setup models.Secret
	require.NoError(t, h.db.Where("name = 'setup'").Take(&setup).Error)
	require.Equal(t, []byte{3}, setup.Value)
}

func TestKeyThatCannotBeParsedKeepsNobodyFromSigningIn(t *testing.T) {
	h := newHouse(t)
	running := h.load()
	require.NoError(t, h.db.Exec("UPDATE signing_keys SET private_key = ?", []byte{0}).Error)

	for _, ring := range []*keys.Ring{running, h.load()} {
		_, err := ring.Signing(t.Context(), backchannel.ES256)
		require.Error(t, err)
		_, err = ring.JWKS(t.Context())
		require.Error(t, err)
		h.requireOpens(ring, seal(running), "sealing goes on")
	}
	h.revoke()
	sign(t, running, backchannel.ES256)
}

func TestListShowsEveryKeyAndNoSecret(t *testing.T) {
	h := newHouse(t)
	ring := h.load()
	sign(t, ring, backchannel.RS256)
	before := h.Now()
	h.advance(time.Hour)
	h.rotate()

	rows, err := keys.List(t.Context(), h.store)

	require.NoError(t, err)
	var shown []string
	for _, row := range rows {
		require.True(t, row.MadeAt.Equal(before) || row.MadeAt.Equal(h.Now()))
		require.Equal(t, row.Kind == "signing", row.ID != "")
		shown = append(shown, strings.Join([]string{row.Kind, row.Algorithm, row.State()}, " "))
	}
	slices.Sort(shown)
	require.Equal(t, []string{
		"logout HMAC-SHA256 current", "logout HMAC-SHA256 verifies until 2026-12-22T10:00:00Z",
		"sealing AES-256-GCM current", "sealing AES-256-GCM opens until 2026-11-22T11:00:00Z",
		"signing ES256 current", "signing ES256 published until 2026-11-23T10:00:00Z",
		"signing RS256 current", "signing RS256 published until 2026-11-23T10:00:00Z",
	}, shown)
}

func TestOneKeyOfAnAlgorithmIsMadeHoweverManyAsk(t *testing.T) {
	h := newHouse(t)
	one, other := h.load(), h.load()
	var all sync.WaitGroup
	for _, ring := range []*keys.Ring{one, other, one} {
		all.Go(func() {
			if _, err := ring.Signing(t.Context(), backchannel.RS256); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()

	require.Len(t, published(t, one), 2, "one of each algorithm")
	require.NoError(t, verify(t, other, sign(t, one, backchannel.RS256)))
}

func TestEveryInstanceDrawsTheSame(t *testing.T) {
	h := newHouse(t)
	one, other := h.load(), h.load()
	require.Equal(t, one.Draw("ada@example.com"), other.Draw("ada@example.com"))
	require.NotEqual(t, one.Draw("ada@example.com"), one.Draw("bob@example.com"))
	require.NotEqual(t, one.Draw("ada@example.com"), newHouse(t).load().Draw("ada@example.com"), "without the key nobody can tell")
}
