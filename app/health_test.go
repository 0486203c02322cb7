package app_test

import (
	"net/http"
	"testing"
	"time"

	"latchkey/app/config"
	"latchkey/app/health"
	"latchkey/app/keys"

	"github.com/stretchr/testify/require"
)

func TestOnlyTheKeyOfTheDatabaseShowsHowARequestIsSeen(t *testing.T) {
	site := newSite(t, func(c *config.Config) { c.TrustedProxies = []string{"127.0.0.1"} })
	key, another := site.keys(), newSite(t).keys()
	token := func(key *keys.Ring, at time.Time) header { return with(health.SeenHeader, health.SeenToken(key, at)) }
	v, now := site.visitor(), site.clock.Now()

	seen := v.get("/auth/health/request", token(key, now), with("X-Forwarded-For", "203.0.113.9"), with("X-Forwarded-Proto", "https"))
	require.Equal(t, http.StatusOK, seen.status, seen.body)
	require.Equal(t, "127.0.0.1", seen.text("peer"))
	require.Equal(t, "203.0.113.9", seen.text("client"))
	require.Equal(t, "203.0.113.9", seen.text("forwarded_for"))
	require.Equal(t, "https", seen.text("forwarded_proto"))
	require.Equal(t, "X-Forwarded-For", seen.text("client_header"))
	require.Empty(t, seen.text("client_problem"))
	require.Empty(t, seen.text("cookie_domain"))
	seen = v.get("/auth/health/request", token(key, now), with("X-Forwarded-For", "203.0.113.9, x"))
	require.Equal(t, "127.0.0.1", seen.text("client"))
	require.Contains(t, seen.text("client_problem"), `"x"`)

	v.get("/auth/health/request").requireError(http.StatusForbidden, "")
	for why, sent := range map[string]header{
		"no token":    with(health.SeenHeader, "x"),
		"another key": token(another, now),
		"old":         token(key, now.Add(-6*time.Minute)),
		"of tomorrow": token(key, now.Add(24*time.Hour)),
	} {
		res := v.get("/auth/health/request", sent)
		require.Equal(t, http.StatusForbidden, res.status, why)
	}
}

// keys returns the keys of the database, as 'latchkey check' reads them.
func (s *site) keys() *keys.Ring {
	s.t.Helper()
	stored, err := s.store.Keys(s.t.Context())
	require.NoError(s.t, err)
	ring, err := keys.Inspect(stored, nil, s.clock.Now)
	require.NoError(s.t, err)
	return ring
}
