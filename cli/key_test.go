package cli

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

func TestKeyCommands(t *testing.T) {
	m := kit.NewMachine(t)
	s := m.Start()
	kid := func() string {
		found := regexp.MustCompile(`"kid":"([^"]+)"`).FindStringSubmatch(s.Get("/auth/.well-known/jwks.json", "").Body)
		require.NotNil(t, found)
		return found[1] // of the first, which signs
	}
	first := kid()
	listed := m.Do("", "key", "list")
	require.Regexp(t, `^KIND +ALGORITHM +ID +MADE +STATE +SEALED BY\n`, listed)
	require.Regexp(t, `(?m)^signing +ES256 +`+regexp.QuoteMeta(first)+` +\S+Z +current +-$`, listed)
	require.Regexp(t, `(?m)^sealing +AES-256-GCM +- +\S+Z +current +-$`, listed)
	require.Regexp(t, `(?m)^logout +HMAC-SHA256 +- +\S+Z +current +-$`, listed)

	rotated := m.Do("", "key", "rotate")

	require.Regexp(t, `(?m)^signing +ES256 +`+regexp.QuoteMeta(kid())+` +\S+Z +current +-$`, rotated)
	require.Equal(t, 1+3, strings.Count(rotated, "\n"), "the head and the new keys")
	require.NotEqual(t, first, kid())
	listed = m.Do("", "key", "list")
	require.Regexp(t, `(?m)^signing +ES256 +`+regexp.QuoteMeta(first)+` +\S+Z +published until \S+Z +-$`, listed)
	require.Regexp(t, `(?m)^sealing +AES-256-GCM +- +\S+Z +opens until \S+Z +-$`, listed)
	require.Regexp(t, `(?m)^logout +HMAC-SHA256 +- +\S+Z +verifies until \S+Z +-$`, listed)
	require.Contains(t, s.Get("/auth/.well-known/jwks.json", "").Body, first, "apps may have tokens of it")

	m.Do("", "key", "rotate", "--revoke")
	require.Equal(t, 1+3, strings.Count(m.Do("", "key", "list"), "\n"), "the head and one key of each kind")
	require.NotContains(t, s.Get("/auth/.well-known/jwks.json", "").Body, first)
}

func TestKeysAreSealedWithTheSecretKey(t *testing.T) {
	m := kit.NewMachine(t)
	m.Env = append(m.Env, "SECRET_KEY="+strings.Repeat("k", 44))
	m.AddUser("ada@example.com")
	s := m.Start()
	ada := s.SignIn("ada@example.com")
	unsealed := regexp.MustCompile(`(?m) -$`)
	require.NotRegexp(t, unsealed, m.Do("", "key", "list"))
	require.NotRegexp(t, unsealed, m.Do("", "key", "rotate"))
	s.Stop()

	wrong := "--secret-key=" + strings.Repeat("w", 44)
	require.Contains(t, m.Refuse("", "key", "rotate", wrong), "SECRET_KEY")
	require.Contains(t, m.Refuse("", "--listen=localhost:0", wrong), "SECRET_KEY")
	require.NotContains(t, m.Refuse("", "--listen=localhost:0", wrong), "www")

	// Both open, and the first one seals everything from the next rotation on.
	m.Env = append(m.Env, "SECRET_KEY="+strings.Repeat("n", 44)+","+strings.Repeat("k", 44))
	m.Do("", "key", "rotate")
	m.Env = append(m.Env, "SECRET_KEY="+strings.Repeat("n", 44))
	require.NotEmpty(t, m.Start().Get("/auth/sessions/whoami", ada).Text("id"), "nobody is signed out")
}
