package app_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/gofrs/uuid/v5"
	"github.com/stretchr/testify/require"

	"latchkey/app/config"
	"latchkey/test/kit"
)

const postgresDoc = "docs/postgresql.md"

func TestSeveralInstancesBehindNginx(t *testing.T) {
	configure := func(c *config.Config) {
		c.BaseURL, c.TrustedProxies = "https://auth.example.com", []string{"127.0.0.1"}
	}
	one := newSiteOn(t, kit.PostgresURL(t), configure)
	other := one.restart(configure)
	address := func(s *site) string { return strings.TrimPrefix(s.server.URL, "http://") }
	p := &proxied{site: one, https: freeAddress(t), dir: t.TempDir()}
	p.url = "https://auth.example.com"
	p.makeCertificate(t)
	p.runNginx(t, adapt(t, codeIn(t, postgresDoc, "nginx", "upstream"),
		"192.0.2.11:8080", address(one), "192.0.2.12:8080", address(other), "listen 443 ssl;", "listen "+p.https+" ssl;",
		"/etc/ssl/example.com.crt", p.cert, "/etc/ssl/example.com.key", p.key), p.https)
	p.register("ada@example.com")
	signInAndOut := func() {
		ada := p.from("127.0.0.2")
		res := ada.open("/auth/login")
		require.Equal(t, http.StatusOK, res.status, res.body)
		res = ada.postForm(res.action(), url.Values{"method": {"password"}, "identifier": {"ada@example.com"}, "password": {goodPassword}},
			with("Origin", p.url))
		require.Equal(t, http.StatusSeeOther, res.status, res.body)
		for range 4 { // each of them twice at least
			require.True(t, ada.signedIn())
		}
		require.Equal(t, http.StatusSeeOther, ada.open(ada.logoutURL()).status)
		for range 4 {
			require.False(t, ada.signedIn())
		}
	}

	signInAndOut()
	require.Contains(t, other.logged(), `"path":"/auth/sessions/whoami"`, "both are asked")
	other.server.Close()
	signInAndOut()
	require.Contains(t, one.logged(), `"path":"/auth/sessions/whoami"`)
}

// What the pages say of role, database, backup and restore is done as they say.
func TestPostgresOfTheDocument(t *testing.T) {
	server := kit.StartPostgres(t, "-F")
	for statement := range strings.SplitSeq(strings.TrimSpace(codeIn(t, postgresDoc, "sql", "CREATE ROLE")), "\n") {
		server.Exec(t, statement)
	}
	settings := settingsIn(t, strings.ReplaceAll(codeIn(t, postgresDoc, "sh", "change-me@db.example.com/"), "'", ""))
	dsn := adapt(t, settings["DATABASE_URL"], "db.example.com", fmt.Sprintf("127.0.0.1:%d", server.Port), "verify-full", "disable")
	site := newSiteOn(t, dsn)
	ada := site.signUp("ada@example.com")
	ended := site.apiToken("ada@example.com")
	dir := t.TempDir()
	t.Setenv("PGPORT", strconv.Itoa(server.Port))
	const backupDoc = "docs/backup.md"
	shell(t, dir, adapt(t, codeIn(t, backupDoc, "sh", "pg_dump"), "db.example.com", "127.0.0.1"))
	require.Equal(t, http.StatusNoContent, site.visitor().delete("/auth/self-service/logout/api", `{"session_token": "`+ended+`"}`,
		with("Content-Type", "application/json")).status)

	const create = "CREATE DATABASE latchkey_restored OWNER latchkey"
	require.Contains(t, strings.Join(strings.Fields(readDoc(t, backupDoc)), " "), create)
	server.Exec(t, create)
	lines := strings.Split(strings.TrimSpace(adapt(t, codeIn(t, backupDoc, "sh", "pg_restore"), "db.example.com", "127.0.0.1")), "\n")
	shell(t, dir, lines[0])
	require.Contains(t, lines[1], "latchkey session end --all") // as below
	restored := newSiteOn(t, adapt(t, dsn, "/latchkey?", "/latchkey_restored?"))
	require.True(t, restored.sameBrowser(ada).signedIn())
	whoami := func() int {
		return restored.visitor().get("/auth/sessions/whoami", with("X-Session-Token", ended)).status
	}
	require.Equal(t, http.StatusOK, whoami(), "as the page warns")
	n, err := restored.store.Sessions.EndAll(t.Context(), uuid.Nil)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, http.StatusUnauthorized, whoami())
}
