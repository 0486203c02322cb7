package backchannel_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"latchkey/app/backchannel"
)

// The library that signs does not get to say that it did it right: golang-jwt does.

var issued = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func token() backchannel.Token {
	return backchannel.Token{
		Issuer: "https://login.example.com", Audience: "notes", ID: "a-token",
		Subject: "ada", Session: "a-session", IssuedAt: issued, ExpiresAt: issued.Add(2 * time.Minute),
	}
}

var algorithms = []backchannel.Algorithm{backchannel.ES256, backchannel.RS256}

func newKey(t testing.TB) backchannel.Key { return newKeyFor(t, backchannel.ES256) }

func newKeyFor(t testing.TB, algorithm backchannel.Algorithm) backchannel.Key {
	t.Helper()
	key, _, err := backchannel.NewKey(algorithm)
	require.NoError(t, err)
	return key
}

func sign(t testing.TB, key backchannel.Key, token backchannel.Token) string {
	t.Helper()
	signed, err := key.Sign(token)
	require.NoError(t, err)
	return signed
}

func jwks(t *testing.T, keys ...backchannel.Key) []byte {
	t.Helper()
	document, err := backchannel.JWKS(keys)
	require.NoError(t, err)
	return document
}

// verify reads a token as a receiver does who knows only the key set.
func verify(t *testing.T, signed string, keySet []byte, now time.Time) (*jwt.Token, error) {
	t.Helper()
	keys, err := keyfunc.NewJWKSetJSON(keySet)
	require.NoError(t, err)
	return jwt.Parse(signed, keys.Keyfunc,
		jwt.WithValidMethods([]string{"ES256", "RS256"}), jwt.WithIssuer("https://login.example.com"), jwt.WithAudience("notes"),
		jwt.WithIssuedAt(), jwt.WithExpirationRequired(), jwt.WithTimeFunc(func() time.Time { return now }))
}

func TestTokenIsWhatTheStandardAsksFor(t *testing.T) {
	key, other, rsaKey := newKey(t), newKey(t), newKeyFor(t, backchannel.RS256)
	for name, c := range map[string]struct {
		key       backchannel.Key
		algorithm string
		published []backchannel.Key
	}{
		"one key":                       {key, "ES256", []backchannel.Key{key}},
		"two keys":                      {key, "ES256", []backchannel.Key{other, key}},
		"two keys, the other way round": {key, "ES256", []backchannel.Key{key, other}},
		"a key of each algorithm":       {key, "ES256", []backchannel.Key{rsaKey, key}},
		"the RSA key":                   {rsaKey, "RS256", []backchannel.Key{key, rsaKey}},
	} {
		parsed, err := verify(t, sign(t, c.key, token()), jwks(t, c.published...), issued)

		require.NoError(t, err, name)
		require.Equal(t, map[string]any{"alg": c.algorithm, "typ": "logout+jwt", "kid": c.key.ID}, parsed.Header)
		require.Equal(t, jwt.MapClaims{
			"iss": "https://login.example.com", "aud": "notes", "jti": "a-token", "sub": "ada", "sid": "a-session",
			"iat": float64(issued.Unix()), "exp": float64(issued.Add(2 * time.Minute).Unix()),
			"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
		}, parsed.Claims, "and no nonce")
	}
}

func TestTokenNamesOnlyWhatItIsGiven(t *testing.T) {
	key := newKey(t)
	for without, change := range map[string]func(*backchannel.Token){
		"sub": func(t *backchannel.Token) { t.Subject = "" },
		"sid": func(t *backchannel.Token) { t.Session = "" },
	} {
		told := token()
		change(&told)

		parsed, err := verify(t, sign(t, key, told), jwks(t, key), issued)

		require.NoError(t, err)
		require.NotContains(t, parsed.Claims, without)
		require.Len(t, parsed.Claims, 7)
	}
}

func TestTokenThatReceiversWouldRefuseIsNotSigned(t *testing.T) {
	key := newKey(t)
	for name, change := range map[string]func(*backchannel.Token){
		"no issuer":                 func(t *backchannel.Token) { t.Issuer = "" },
		"no audience":               func(t *backchannel.Token) { t.Audience = "" },
		"no id":                     func(t *backchannel.Token) { t.ID = "" },
		"nobody":                    func(t *backchannel.Token) { t.Subject, t.Session = "", "" },
		"no time of issue":          func(t *backchannel.Token) { t.IssuedAt = time.Time{} },
		"no end":                    func(t *backchannel.Token) { t.ExpiresAt = time.Time{} },
		"over before it is issued":  func(t *backchannel.Token) { t.ExpiresAt = t.IssuedAt },
		"over within the same tick": func(t *backchannel.Token) { t.ExpiresAt = t.IssuedAt.Add(time.Second - 1) },
	} {
		told := token()
		change(&told)

		signed, err := key.Sign(told)

		require.Error(t, err, name)
		require.Empty(t, signed)
	}
	_, err := backchannel.Key{}.Sign(token())
	require.Error(t, err, "no key")
}

func TestTokenIsNotTakenLaterOrByAnotherKey(t *testing.T) {
	key, other := newKey(t), newKey(t)
	signed := sign(t, key, token())

	_, err := verify(t, signed, jwks(t, key), issued.Add(3*time.Minute))
	require.ErrorIs(t, err, jwt.ErrTokenExpired)
	_, err = verify(t, signed, jwks(t, other), issued)
	require.Error(t, err)
	_, err = verify(t, sign(t, backchannel.Key{ID: key.ID, Private: other.Private}, token()), jwks(t, key), issued)
	require.ErrorIs(t, err, jwt.ErrTokenSignatureInvalid)
}

func TestKeySetHasOnlyWhatIsPublic(t *testing.T) {
	keys := []backchannel.Key{newKey(t), newKey(t)}

	var set struct {
		Keys []map[string]string `json:"keys"`
	}
	document := jwks(t, keys...)
	require.NoError(t, json.Unmarshal(document, &set))

	require.Len(t, set.Keys, 2)
	for i, shown := range set.Keys {
		require.Equal(t, []string{"alg", "crv", "kid", "kty", "use", "x", "y"}, slices.Sorted(maps.Keys(shown)))
		// RFC 7638 §3: the members that a key must have, in this order, with no space.
		sum := sha256.Sum256(fmt.Appendf(nil, `{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}`, shown["x"], shown["y"]))
		require.Equal(t, keys[i].ID, base64.RawURLEncoding.EncodeToString(sum[:]))
		require.Equal(t, keys[i].ID, shown["kid"])
		require.Equal(t, "sig ES256", shown["use"]+" "+shown["alg"])
	}
	require.JSONEq(t, `{"keys": []}`, string(jwks(t)))
}

func TestKeySetHasOnlyWhatIsPublicOfAnRSAKey(t *testing.T) {
	key := newKeyFor(t, backchannel.RS256)
	var set struct {
		Keys []map[string]string `json:"keys"`
	}
	require.NoError(t, json.Unmarshal(jwks(t, key), &set))

	require.Len(t, set.Keys, 1)
	shown := set.Keys[0]
	require.Equal(t, []string{"alg", "e", "kid", "kty", "n", "use"}, slices.Sorted(maps.Keys(shown)))
	sum := sha256.Sum256(fmt.Appendf(nil, `{"e":"%s","kty":"RSA","n":"%s"}`, shown["e"], shown["n"]))
	require.Equal(t, key.ID, base64.RawURLEncoding.EncodeToString(sum[:]))
	require.Equal(t, key.ID, shown["kid"])
	require.Equal(t, "sig RS256", shown["use"]+" "+shown["alg"])
}

func TestKeyIsTheSameAfterItWasStored(t *testing.T) {
	for _, algorithm := range algorithms {
		key, der, err := backchannel.NewKey(algorithm)
		require.NoError(t, err)

		stored, err := backchannel.ParseKey(der)

		require.NoError(t, err)
		require.Equal(t, key.ID, stored.ID)
		require.Equal(t, algorithm, stored.Algorithm())
		_, err = verify(t, sign(t, stored, token()), jwks(t, key), issued)
		require.NoError(t, err)
	}
}

func TestWhatIsNoKeyOfOursIsRefused(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	_, ed25519Key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	for name, private := range map[string]any{"P-384": p384, "RSA of 1024 bits": short, "Ed25519": ed25519Key} {
		der, err := x509.MarshalPKCS8PrivateKey(private)
		require.NoError(t, err)
		_, err = backchannel.ParseKey(der)
		require.ErrorContains(t, err, "P-256", name)
	}
	for _, der := range [][]byte{nil, {}, []byte("a key")} {
		_, err := backchannel.ParseKey(der)
		require.Error(t, err)
	}
	_, _, err = backchannel.NewKey("HS256")
	require.ErrorContains(t, err, "HS256")
}

func TestKeyIsLoggedByItsName(t *testing.T) {
	key := newKey(t)
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		require.Equal(t, key.ID, fmt.Sprintf(format, key))
	}
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"JSON": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var log bytes.Buffer
		slog.New(handler(&log)).Info("rotated", "key", key)
		require.Contains(t, log.String(), key.ID, name)
		require.NotContains(t, log.String(), "Private", name)
	}
}
