// Package backchannel tells apps that somebody was signed out: OpenID Connect
// Back-Channel Logout 1.0. It signs logout tokens, publishes the keys that verify
// them, and posts them. What to send to whom, and when again, is its callers' to say.
package backchannel

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// tokenType is the typ of a logout token's header. It keeps a receiver from taking
// another token for one, and the other way round (§2.4, §4.1).
const tokenType = "logout+jwt"

// event is the member of a token's events that makes it one of a logout (§2.4).
const event = "http://schemas.openid.net/event/backchannel-logout"

// A Key signs logout tokens, by ES256: ECDSA with P-256 and SHA-256, which all
// receivers' libraries know. Printed or logged, it is its ID.
type Key struct {
	ID      string // the JWK thumbprint of the public key, RFC 7638
	Private *ecdsa.PrivateKey
}

// NewKey makes a key. The bytes are its PKCS #8 form, to be stored, and as secret
// as the key.
func NewKey() (Key, []byte, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Key{}, nil, fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return Key{}, nil, fmt.Errorf("encode a key: %w", err)
	}
	key, err := newKey(private)
	return key, der, err
}

// ParseKey reads what NewKey gave to store.
func ParseKey(der []byte) (Key, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return Key{}, fmt.Errorf("read a key: %w", err)
	}
	private, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || private.Curve != elliptic.P256() {
		return Key{}, errors.New("read a key: it is not one of ECDSA with P-256")
	}
	return newKey(private)
}

func newKey(private *ecdsa.PrivateKey) (Key, error) {
	sum, err := (&jose.JSONWebKey{Key: &private.PublicKey}).Thumbprint(crypto.SHA256)
	if err != nil {
		return Key{}, fmt.Errorf("name a key: %w", err)
	}
	return Key{ID: base64.RawURLEncoding.EncodeToString(sum), Private: private}, nil
}

func (k Key) String() string       { return k.ID }
func (k Key) GoString() string     { return k.ID }
func (k Key) LogValue() slog.Value { return slog.StringValue(k.ID) }

// JWKS returns the public halves of the keys as a JSON Web Key Set (RFC 7517), in
// the order given. Receivers find the key of a token in it by the token's kid.
func JWKS(keys []Key) ([]byte, error) {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, k := range keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{
			Key: &k.Private.PublicKey, KeyID: k.ID, Algorithm: string(jose.ES256), Use: "sig",
		})
	}
	document, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("encode the public keys: %w", err)
	}
	return document, nil
}

// A Token is what an app is told: that all sessions of the subject are over, or
// the one session, or, with both, that session of that subject (§2.4).
type Token struct {
	Issuer   string // BASE_URL
	Audience string // the app
	// ID is of this token alone. An attempt to send it again, with later times,
	// needs another: receivers refuse an ID that they have seen (§2.6).
	ID       string
	Subject  string // the identity's id, or ""
	Session  string // the session's id, or ""
	IssuedAt time.Time
	// ExpiresAt should be two minutes after IssuedAt at most (§4).
	ExpiresAt time.Time
}

// claims has no nonce, and must not: a token with one could pass for an ID token.
type claims struct {
	Issuer   string              `json:"iss"`
	Audience string              `json:"aud"`
	IssuedAt int64               `json:"iat"`
	Expires  int64               `json:"exp"`
	ID       string              `json:"jti"`
	Subject  string              `json:"sub,omitempty"`
	Session  string              `json:"sid,omitempty"`
	Events   map[string]struct{} `json:"events"`
}

// Sign returns the token as a signed JWT. A token that receivers would have to
// refuse is an error: without an issuer, audience, ID or times, with neither subject
// nor session, or with no time between its times, which count in whole seconds.
func (k Key) Sign(t Token) (string, error) {
	c := claims{
		Issuer: t.Issuer, Audience: t.Audience, ID: t.ID, Subject: t.Subject, Session: t.Session,
		IssuedAt: t.IssuedAt.Unix(), Expires: t.ExpiresAt.Unix(),
		Events: map[string]struct{}{event: {}},
	}
	switch {
	case c.Issuer == "" || c.Audience == "" || c.ID == "":
		return "", errors.New("sign a logout token: it needs an issuer, an audience and an ID")
	case c.Subject == "" && c.Session == "":
		return "", errors.New("sign a logout token: it needs a subject or a session")
	case c.IssuedAt <= 0 || c.Expires <= c.IssuedAt:
		return "", errors.New("sign a logout token: it must expire after it is issued")
	}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: k.Private, KeyID: k.ID}},
		new(jose.SignerOptions).WithType(tokenType),
	)
	if err != nil {
		return "", fmt.Errorf("sign a logout token: %w", err)
	}
	token, err := jwt.Signed(signer).Claims(c).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign a logout token: %w", err)
	}
	return token, nil
}
