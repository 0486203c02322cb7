// Package backchannel notifies apps that somebody was signed out: OpenID Connect
// Back-Channel Logout 1.0. It signs logout tokens, publishes the keys that verify
// them, and posts them. Its callers decide what to send to whom, and when to retry.
package backchannel

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
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

// tokenType is the typ of a logout token's header. It keeps receivers from
// confusing it with other kinds of tokens (§2.4, §4.1).
const tokenType = "logout+jwt"

// event is the member of the events claim that identifies a logout token (§2.4).
const event = "http://schemas.openid.net/event/backchannel-logout"

// An Algorithm is a signature algorithm, named as in JSON Web Algorithms (RFC 7518 §3.1).
type Algorithm string

const (
	// ES256 is ECDSA with P-256 and SHA-256, which all receivers' libraries know.
	ES256 Algorithm = "ES256"
	// RS256 is RSASSA-PKCS1-v1_5 with SHA-256, which all clients of OpenID Connect must know.
	RS256 Algorithm = "RS256"
)

// rsaBits is the size of a new RSA key, and the minimum (RFC 7518 §3.3).
const rsaBits = 2048

// A Key signs tokens. It is printed and logged as its ID.
type Key struct {
	ID      string        // the JWK thumbprint of the public key, RFC 7638
	Private crypto.Signer // an *ecdsa.PrivateKey or *rsa.PrivateKey
}

// NewKey creates a key for an algorithm. The bytes are its PKCS #8 form for storage, and as secret as
// the key.
func NewKey(algorithm Algorithm) (Key, []byte, error) {
	var private crypto.Signer
	var err error
	switch algorithm {
	case ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RS256:
		private, err = rsa.GenerateKey(rand.Reader, rsaBits)
	default:
		err = fmt.Errorf("there is no algorithm %q", algorithm)
	}
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

// ParseKey parses the bytes from NewKey.
func ParseKey(der []byte) (Key, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return Key{}, fmt.Errorf("read a key: %w", err)
	}
	switch private := parsed.(type) {
	case *ecdsa.PrivateKey:
		if private.Curve == elliptic.P256() {
			return newKey(private)
		}
	case *rsa.PrivateKey:
		if private.N.BitLen() >= rsaBits {
			return newKey(private)
		}
	}
	return Key{}, errors.New("read a key: it is neither one of ECDSA with P-256 nor of RSA with 2048 bits or more")
}

func newKey(private crypto.Signer) (Key, error) {
	sum, err := (&jose.JSONWebKey{Key: private.Public()}).Thumbprint(crypto.SHA256)
	if err != nil {
		return Key{}, fmt.Errorf("name a key: %w", err)
	}
	return Key{ID: base64.RawURLEncoding.EncodeToString(sum), Private: private}, nil
}

// Algorithm returns the key's algorithm; "" for the zero Key.
func (k Key) Algorithm() Algorithm {
	switch k.Private.(type) {
	case *ecdsa.PrivateKey:
		return ES256
	case *rsa.PrivateKey:
		return RS256
	}
	return ""
}

func (k Key) String() string       { return k.ID }
func (k Key) GoString() string     { return k.ID }
func (k Key) LogValue() slog.Value { return slog.StringValue(k.ID) }

// JWKS returns the public halves of the keys as a JSON Web Key Set (RFC 7517), in
// the order given. Receivers look up the key of a token by its kid.
func JWKS(keys []Key) ([]byte, error) {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, k := range keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{
			Key: k.Private.Public(), KeyID: k.ID, Algorithm: string(k.Algorithm()), Use: "sig",
		})
	}
	document, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("encode the public keys: %w", err)
	}
	return document, nil
}

// A Token tells an app that all sessions of the subject have ended, or one session, or,
// with both, that session of that subject (§2.4).
type Token struct {
	Issuer   string // BASE_URL
	Audience string // the app
	// ID is unique. An attempt to send the token again, with later times, needs a new
	// one: receivers refuse an ID that they have seen (§2.6).
	ID       string
	Subject  string // the identity's id, or ""
	Session  string // the session's id, or ""
	IssuedAt time.Time
	// ExpiresAt should be two minutes after IssuedAt at most (§4).
	ExpiresAt time.Time
}

// claims has no nonce, and must not have one: the token could be mistaken for an ID token.
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
// refuse is an error: one without an issuer, audience, ID or times, with neither subject
// nor session, or that expires within the second in which it was issued.
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
		jose.SigningKey{Algorithm: jose.SignatureAlgorithm(k.Algorithm()), Key: jose.JSONWebKey{Key: k.Private, KeyID: k.ID}},
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
