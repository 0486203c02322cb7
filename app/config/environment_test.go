package config_test

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/app/config"
)

func TestVariablesThatAreNoSettings(t *testing.T) {
	for variable, want := range map[string]string{
		"LATCHKEY_DATABASE_URL=sqlite:x.db": "LATCHKEY_DATABASE_URL is not a setting: did you mean DATABASE_URL?",
		"LATCHKEY_DATABSE_URL=sqlite:x.db":  "did you mean DATABASE_URL?",
		"LATCHKEY_SECRET=x":                 "LATCHKEY_SECRET is not a setting: remove it",
		"BASE_URL_FILE=/run/secrets/url":    "BASE_URL_FILE is not a setting: only DATABASE_URL or SECRET_KEY can be in files",
		"LATCHKEY_DATABASE_URL_FILE=x":      "did you mean DATABASE_URL_FILE?",
	} {
		require.ErrorContains(t, config.CheckEnvironment([]string{"PATH=/bin", variable}), want)
	}
	require.NoError(t, config.CheckEnvironment([]string{"PATH=/bin", "DATABASE_URL_FILE=x", "SECRET_KEY_FILE=x", "LATCHKEY_X=", "OTHER_FILE=x",
		"LATCHKEY_TEST_POSTGRES=1",
		// Kubernetes sets these for services called latchkey and latchkey-metrics.
		"LATCHKEY_SERVICE_HOST=10.0.0.1", "LATCHKEY_SERVICE_PORT=80", "LATCHKEY_SERVICE_PORT_HTTP=80", "LATCHKEY_PORT=tcp://10.0.0.1:80",
		"LATCHKEY_PORT_80_TCP=tcp://10.0.0.1:80", "LATCHKEY_PORT_80_TCP_PROTO=tcp", "LATCHKEY_PORT_80_TCP_PORT=80", "LATCHKEY_PORT_80_TCP_ADDR=10.0.0.1",
		"LATCHKEY_METRICS_SERVICE_HOST=10.0.0.2", "LATCHKEY_METRICS_PORT=tcp://10.0.0.2:9464"}))
	require.ErrorContains(t, config.CheckEnvironment([]string{"LATCHKEY_PORT=8080"}), "did you mean PORT?")
}

func TestEverySecretCanBeInAFile(t *testing.T) {
	settings := reflect.TypeFor[config.Config]()
	secret := regexp.MustCompile(`(_|^)(KEY|PASSWORD|SECRET|TOKEN|CREDENTIALS|DSN)$|^DATABASE_URL$`)
	found := 0
	for field := range settings.Fields() {
		if !secret.MatchString(field.Tag.Get("env")) {
			continue
		}
		found++
		file, ok := settings.FieldByName(field.Name + "File")
		require.True(t, ok, field.Name)
		require.Equal(t, field.Tag.Get("env")+"_FILE", file.Tag.Get("env"))
	}
	require.GreaterOrEqual(t, found, 2)
}

func TestDatabaseURLFromAFile(t *testing.T) {
	for _, name := range []string{"DATABASE_URL", "DATABASE_URL_FILE", "SECRET_KEY", "SECRET_KEY_FILE"} {
		t.Setenv(name, "")
	}
	const url = "postgres://latchkey:hunter2@db.example.com/latchkey"
	file := writeFile(t, url+"\n")

	settings, err := parseArgs(t, "--database-url-file="+file)

	require.NoError(t, err)
	require.Equal(t, url, settings.DatabaseURL)
	require.Equal(t, []config.SecretFile{{Setting: "DATABASE_URL_FILE", Path: file}}, settings.SecretFiles())
	again, err := settings.Config.Parse()
	require.NoError(t, err, "as at a socket of systemd")
	require.Equal(t, url, again.DatabaseURL)
	settings, err = parseArgs(t)
	require.NoError(t, err)
	require.Equal(t, "sqlite:latchkey.db", settings.DatabaseURL)
	for want, args := range map[string][]string{
		"DATABASE_URL and DATABASE_URL_FILE are both set": {"--database-url=" + url, "--database-url-file=" + file},
		"DATABASE_URL_FILE: /nowhere/url can't be read":   {"--database-url-file=/nowhere/url"},
		"is empty": {"--database-url-file=" + writeFile(t, " \n")},
	} {
		_, err := parseArgs(t, args...)
		require.ErrorContains(t, err, want)
		require.False(t, strings.Contains(err.Error(), "hunter2"))
	}
}
