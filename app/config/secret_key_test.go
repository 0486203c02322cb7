package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"latchkey/app/config"
)

// parseArgs parses a command line of settings.
func parseArgs(t *testing.T, args ...string) (*config.Settings, error) {
	t.Helper()
	var c config.Config
	parser, err := kong.New(&c)
	require.NoError(t, err)
	_, err = parser.Parse(args)
	require.NoError(t, err)
	return c.Parse()
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "secret-key")
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	return name
}

func TestSecretKeysAreReadFromTheirSettingOrFile(t *testing.T) {
	t.Setenv("SECRET_KEY", "")
	t.Setenv("SECRET_KEY_FILE", "")
	one, other := strings.Repeat("a1+/", 11), strings.Repeat("b2+/", 8)
	for name, c := range map[string]struct {
		arg  string
		want []string
	}{
		"unset":               {"--log-level=info", nil},
		"one key":             {"--secret-key=" + one, []string{one}},
		"two keys":            {"--secret-key=" + one + ", " + other, []string{one, other}},
		"two keys, two lines": {"--secret-key=" + one + "\n" + other, []string{one, other}},
		"a file":              {"--secret-key-file=" + writeFile(t, " "+one+"\n"), []string{one}},
		"a file of two keys":  {"--secret-key-file=" + writeFile(t, one+"\r\n\r\n"+other+"\r\n"), []string{one, other}},
	} {
		settings, err := parseArgs(t, c.arg)

		require.NoError(t, err, name)
		require.Equal(t, c.want, settings.SecretKeys, name)
	}
}

func TestWrongSecretKeyStopsTheStartWithoutShowingIt(t *testing.T) {
	t.Setenv("SECRET_KEY", "")
	t.Setenv("SECRET_KEY_FILE", "")
	good, short := strings.Repeat("a1+/", 11), strings.Repeat("s", 31)
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"short":           {[]string{"--secret-key=" + short}, "key 1 of SECRET_KEY has 31 characters, and must have 32 or more: make one with: openssl rand -base64 32"},
		"second short":    {[]string{"--secret-key=" + good + "," + short}, "key 2 of SECRET_KEY has 31 characters"},
		"blank":           {[]string{"--secret-key= , "}, "SECRET_KEY has no key"},
		"empty file":      {[]string{"--secret-key-file=" + writeFile(t, "\n")}, "is empty"},
		"short in a file": {[]string{"--secret-key-file=" + writeFile(t, short)}, "key 1 of SECRET_KEY_FILE has 31 characters"},
		"no file":         {[]string{"--secret-key-file=/nowhere/key"}, "SECRET_KEY_FILE: /nowhere/key can't be read: no such file"},
		"both":            {[]string{"--secret-key=" + good, "--secret-key-file=" + writeFile(t, good)}, "SECRET_KEY and SECRET_KEY_FILE are both set"},
	} {
		_, err := parseArgs(t, c.args...)

		require.ErrorContains(t, err, c.want, name)
		require.NotContains(t, err.Error(), short, name)
		require.NotContains(t, err.Error(), good, name)
	}
}
