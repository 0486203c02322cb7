package cli

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

func TestHelpOfACommandHasItsOwnFlags(t *testing.T) {
	m := kit.NewMachine(t)
	help := m.Do("", "user", "add", "--help")
	for _, flag := range []string{"--name", "--username", "--database-url", "--help"} {
		require.Contains(t, help, flag)
	}
	require.NotContains(t, help, "--base-url")
	require.Less(t, strings.Count(help, "\n"), 30)
	require.Contains(t, help, "latchkey serve --help")
	require.Contains(t, m.Do("", "healthcheck", "--help"), "--listen")
	require.NotContains(t, m.Do("", "copy", "--help"), "--database-url")
	require.Contains(t, m.Do("", "serve", "--help"), "--base-url")
	all := m.Do("", "--help")
	require.Less(t, strings.Index(all, "\n  user add "), strings.Index(all, "--base-url"), "commands come first")
	require.Less(t, strings.Index(all, "Commands:"), strings.Index(all, "Flags:"))
}

func TestVersionWhateverTheSettingsAre(t *testing.T) {
	m := kit.NewMachine(t)
	m.Env = append(m.Env, "BASE_URL=nonsense", "LATCHKEY_NONSENSE=1")
	require.Regexp(t, `^latchkey \S+.*, go1\.\d+`, m.Do("", "version"))
	require.Equal(t, m.Do("", "version"), m.Do("", "--version"))
}

func TestMistypedWordsAreCorrected(t *testing.T) {
	m := kit.NewMachine(t)
	for typed, meant := range map[string]string{
		"usr list": `unexpected argument usr, did you mean "user"?`, "bakup x": `did you mean "backup"?`, "user lst": `did you mean "list"?`,
		"user add --user-name=x ada@example.com": `unknown flag --user-name, did you mean "--username"?`, "--databse-url=x": `did you mean "--database-url"?`,
		"frobnicate": "unexpected argument frobnicate\n",
	} {
		require.Contains(t, m.Refuse("", strings.Fields(typed)...), meant)
	}
}

// Over every command: no library's error about a URL is passed on.
func TestNoErrorShowsAPassword(t *testing.T) {
	for _, password := range kit.NastyPasswords {
		url := "postgres://latchkey:" + password + "@127.0.0.1:1/latchkey"
		web := "https://latchkey:" + password + "@example.com"
		m := kit.NewSQLiteMachine(t)
		for _, args := range [][]string{
			{"--database-url=" + url, "--listen=192.0.2.1:80"}, {"copy", "--from=" + url, "--to=sqlite:x.db"}, {"copy", url, "sqlite:x.db"}, {"usr", url}, {"--log-level=" + url},
			{"user", "list", "--database-url=" + url}, {"backup", "--database-url=" + url, "x.db"}, {"check", "--database-url=" + url},
			{"--base-url=" + web}, {"--allowed-return-urls=" + web}, {"--cors-allowed-origins=" + web}, {"--login-return-url=" + web},
			{"app", "add", "wiki", web},
		} {
			if password != kit.NastyPasswords[0] && args[0] != "--database-url="+url && args[0] != "--base-url="+web {
				continue // every command once; every password once
			}
			r := m.Run("", args...)
			require.NotZero(t, r.Code, args)
			kit.RequireNothingNasty(t, r.Stdout+r.Stderr)
		}
	}
}
