package app_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/app"
)

func TestOnlyTheKeyOfTheDatabaseShowsHowARequestIsSeen(t *testing.T) {
	site := newSite(t, func(c *app.Config) { c.TrustedProxies = []string{"127.0.0.1"} })
	key, err := site.store.Secrets.Get(t.Context(), "seal")
	require.NoError(t, err)
	token := func(key []byte, at time.Time) header {
		sealed, err := app.SeenToken(key, at)
		require.NoError(t, err)
		return with(app.SeenHeader, sealed)
	}
	v, now := site.visitor(), site.clock.Now()

	seen := v.get(app.PathSeen, token(key, now), with("X-Forwarded-For", "203.0.113.9"), with("X-Forwarded-Proto", "https"))
	require.Equal(t, http.StatusOK, seen.status, seen.body)
	require.Equal(t, "127.0.0.1", seen.text("peer"))
	require.Equal(t, "203.0.113.9", seen.text("client"))
	require.Equal(t, "203.0.113.9", seen.text("forwarded_for"))
	require.Equal(t, "https", seen.text("forwarded_proto"))

	v.get(app.PathSeen).requireError(http.StatusForbidden, "")
	for why, sent := range map[string]header{
		"no token":    with(app.SeenHeader, "x"),
		"another key": token(make([]byte, 32), now),
		"old":         token(key, now.Add(-6*time.Minute)),
		"of tomorrow": token(key, now.Add(24*time.Hour)),
	} {
		res := v.get(app.PathSeen, sent)
		require.Equal(t, http.StatusForbidden, res.status, why)
	}
}
