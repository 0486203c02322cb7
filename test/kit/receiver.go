package kit

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Receiver is an app that receives logout tokens.
type Receiver struct {
	URL   string
	Pause time.Duration // before it answers

	mu     sync.Mutex
	status int
	tokens []jwt.MapClaims
}

// NewReceiver starts a receiver that answers 200.
func NewReceiver(t testing.TB) *Receiver {
	r := &Receiver{status: http.StatusOK}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		time.Sleep(r.Pause)
		claims := jwt.MapClaims{}
		_, _, err := jwt.NewParser().ParseUnverified(req.FormValue("logout_token"), claims)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.tokens = append(r.tokens, claims)
		if err != nil {
			t.Errorf("not a token: %v", err)
		}
		w.WriteHeader(r.status)
	}))
	t.Cleanup(server.Close)
	r.URL = server.URL + "/signed-out"
	return r
}

// SetStatus changes the status of its answers.
func (r *Receiver) SetStatus(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

// Tokens returns the claims of the tokens that it has received, in order.
func (r *Receiver) Tokens() []jwt.MapClaims {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.tokens)
}

// Received reports whether it has received a token for the session with the id.
func (r *Receiver) Received(session string) bool {
	return slices.ContainsFunc(r.Tokens(), func(claims jwt.MapClaims) bool { return claims["sid"] == session })
}
