package cli

import (
	"fmt"
	"net/http"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/app/config"
	"latchkey/test/kit"
)

func TestHelpNamesEverySetting(t *testing.T) {
	help := kit.NewMachine(t).Do("", "--help")
	settings := 0
	for field := range reflect.TypeFor[config.Config]().Fields() {
		settings++
		name := field.Tag.Get("env")
		require.NotEmpty(t, name, field.Name)
		require.NotEmpty(t, field.Tag.Get("help"), name)
		require.Contains(t, help, "($"+name+")")
		require.Contains(t, help, "--"+strings.ToLower(strings.ReplaceAll(name, "_", "-")), "the flag of %s", name)
	}
	require.Greater(t, settings, 20)
	for _, command := range []string{"serve", "user add", "user list", "user disable", "user enable", "user delete",
		"user username", "user password", "session list", "session end", "backup", "check", "healthcheck", "version"} {
		require.Contains(t, help, "\n  "+command+" ")
	}
}

func TestWrongSettingStopsTheStart(t *testing.T) {
	for _, setting := range []string{
		"LISTEN=nowhere", "LISTEN=localhost:99999", "LISTEN=localhost:http:80", "PORT=web", "PORT=70000",
		"DATABASE_URL=postgres://localhost:x/latchkey", "DATABASE_URL=mysql://localhost/latchkey", "DATABASE_URL=sqlite:", "DATABASE_URL=sqlite://x.db", "DATABASE_URL=sqlite::memory:", "DATABASE_URL_FILE=no-such-file", "SECRET_KEY=short",
		"BASE_URL=example.com", "BASE_URL=https://example.com/auth", "COOKIE_DOMAIN=example.com",
		"ALLOWED_RETURN_URLS=app.example.com", "LOGIN_RETURN_URL=javascript:alert(1)", "LOGOUT_RETURN_URL=//example.com",
		"CORS_ALLOWED_ORIGINS=*", "TRUSTED_PROXIES=proxy.example.com", "LOG_LEVEL=loud", "DEV=perhaps", "REGISTRATION=ajar",
		"PASSWORD_MIN_LENGTH=4", "PASSWORD_MEMORY=1", "PASSWORD_PASSES=1000", "PASSWORD_LANES=300",
		"SESSION_LIFETIME=forever", "SESSION_IDLE=1s", "REMEMBER_LIFETIME=-1h", "REMEMBER_IDLE=7", "SESSION_RETENTION=-1h",
		"SITE_NAME= ", "SITE_LOGO=no-such-file.svg", "SITE_ACCENT=red", "CLEAR_SITE_DATA=a\nb",
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			m := kit.NewMachine(t)
			m.Env = append(m.Env, "LISTEN=localhost:0", setting)

			sentence := m.Refuse("")

			name, _, _ := strings.Cut(setting, "=")
			flag := "--" + strings.ToLower(strings.ReplaceAll(name, "_", "-"))
			require.True(t, strings.Contains(sentence, name) || strings.Contains(sentence, flag), sentence)
		})
	}
}

func TestProcessesOpenANewDatabaseAtOnce(t *testing.T) {
	for range 20 {
		m := kit.NewMachine(t)
		results := make([]kit.Result, 6)
		var all sync.WaitGroup
		for i := range results {
			all.Go(func() { results[i] = m.Run(kit.GoodPassword, "user", "add", fmt.Sprintf("person%d@example.com", i)) })
		}
		all.Wait()
		for _, r := range results {
			require.Zero(t, r.Code, r.Stderr)
		}
		require.Equal(t, len(results), strings.Count(m.Do("", "user", "list"), "@"))
	}
}

func TestEmptyVariableIsUnset(t *testing.T) {
	for kind, variables := range map[string][]string{
		"text":     {"BASE_URL=", "DATABASE_URL=", "SITE_NAME="},
		"choice":   {"LOG_LEVEL=", "REGISTRATION="},
		"number":   {"PORT=", "PASSWORD_MIN_LENGTH="},
		"duration": {"SESSION_LIFETIME=", "SESSION_RETENTION="},
		"list":     {"ALLOWED_RETURN_URLS=", "TRUSTED_PROXIES="},
		"bool":     {"DEV=", "APPS_PUBLIC_ONLY="},
	} {
		t.Run(kind, func(t *testing.T) {
			m := kit.NewSQLiteMachine(t) // its file is where the default of DATABASE_URL is
			m.Env = append(m.Env, variables...)
			m.AddUser("ada@example.com")

			s := m.Start()

			require.Equal(t, http.StatusOK, s.Whoami(s.SignIn("ada@example.com")))
			found := m.Run("", "check", "--listen="+strings.TrimPrefix(s.URL, "http://"))
			require.Zero(t, found.Code, found.Stdout)
			require.Contains(t, found.Stdout, "ok   settings    all valid\n")
			require.Contains(t, found.Stdout, "1 account, 1 active session\n")
		})
	}
}

func TestEmptyVariablesOfAllSettingsLeaveTheDefaults(t *testing.T) {
	var got, want commands
	parser := newParser(&got)
	for _, flag := range parser.Model.Flags {
		for _, name := range flag.Envs {
			t.Setenv(name, "")
		}
	}
	_, err := parse(parser, nil)
	require.NoError(t, err)
	for _, flag := range parser.Model.Flags {
		for _, name := range flag.Envs {
			_, set := os.LookupEnv(name)
			require.False(t, set, name)
		}
	}

	_, err = newParser(&want).Parse(nil)

	require.NoError(t, err)
	require.Equal(t, want.Config, got.Config)
}
