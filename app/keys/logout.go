package keys

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"sync"
	"time"

	"github.com/gofrs/uuid/v5"

	"latchkey/models"
)

// logoutKey makes logout tokens.
type logoutKey struct {
	macs      *sync.Pool // of HMACs with the key, which take longer to make than to use
	retiresAt *time.Time
}

func newLogoutKey(opened models.Secret) logoutKey {
	return logoutKey{macs: &sync.Pool{New: func() any { return hmac.New(sha256.New, opened.Value) }}, retiresAt: opened.RetiresAt}
}

func (k *logoutKey) token(session uuid.UUID) string {
	mac := k.macs.Get().(hash.Hash)
	defer k.macs.Put(mac)
	mac.Reset()
	mac.Write(session[:])
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// LogoutToken returns the token of a session's logout URL, which protects against CSRF. It is derived from the
// session's id, so it isn't stored, and stays the same until the key is rotated, even if the session gets a new
// token.
func (r *Ring) LogoutToken(session uuid.UUID) string {
	return r.current.Load().logout[0].token(session)
}

// CheckLogoutToken reports whether a token is a session's logout token, made with the current key or one that
// has not retired.
func (r *Ring) CheckLogoutToken(session uuid.UUID, token string) bool {
	known := r.current.Load()
	return r.checkLogoutToken(known, session, token) || r.refresh(known) && r.checkLogoutToken(r.current.Load(), session, token)
}

func (r *Ring) checkLogoutToken(known *snapshot, session uuid.UUID, token string) bool {
	for i := range known.logout {
		key := &known.logout[i]
		if !r.retired(key.retiresAt) && hmac.Equal([]byte(key.token(session)), []byte(token)) {
			return true
		}
	}
	return false
}
