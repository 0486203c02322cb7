package app_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

// haproxyForPatroni returns the command that runs the document's configuration.
func haproxyForPatroni(t *testing.T, oldnew ...string) string {
	t.Helper()
	kit.NeedProgram(t, "haproxy", "haproxy")
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	require.NoError(t, os.WriteFile(file, []byte(adapt(t, codeIn(t, postgresDoc, "haproxy", "/primary"), oldnew...)), 0o600))
	return file
}

func TestHAProxyTakesTheConfigurationForPatroni(t *testing.T) {
	out, err := exec.Command("haproxy", "-c", "-f", haproxyForPatroni(t)).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NotContains(t, string(out), "[WARNING]")
}

func TestHAProxyLeadsToThePrimaryThatPatroniNames(t *testing.T) {
	t.Parallel()
	primary := kit.StartPostgres(t)
	standby := primary.Standby(t)
	var leader atomic.Pointer[kit.Postgres]
	leader.Store(primary)
	// role answers as Patroni's REST API of a member does.
	role := func(member *kit.Postgres) string {
		api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/primary" || leader.Load() != member {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}))
		t.Cleanup(api.Close)
		_, port, _ := strings.Cut(strings.TrimPrefix(api.URL, "http://"), ":")
		return fmt.Sprintf("127.0.0.1:%d port %s", member.Port, port)
	}
	address := freeAddress(t)
	startProgram(t, exec.Command("haproxy", "-db", "-f", haproxyForPatroni(t, "127.0.0.1:5000", address,
		"192.0.2.21:5432", role(primary), "192.0.2.22:5432", role(standby), "192.0.2.23:5432", "127.0.0.1:1 port 1")), address)
	dsn := "postgres://postgres@" + address + "/postgres?sslmode=disable"
	eventually(t, func() bool { return onlyPrimary(t, dsn) }, "HAProxy takes members for the primary that aren't")
	site := newSiteOn(t, dsn)
	ada, bob := site.signUp("ada@example.com"), site.signUp("bob@example.com")
	require.Equal(t, http.StatusSeeOther, bob.open(bob.logoutURL()).status)

	primary.Stop(t)
	require.Equal(t, 1, standby.QueryInt(t, "SELECT pg_promote()::int"))
	leader.Store(standby)

	eventually(t, func() bool { return ada.get("/auth/sessions/whoami", asJSON).status == http.StatusOK }, "the new primary is never found")
	require.Equal(t, http.StatusUnauthorized, bob.get("/auth/sessions/whoami", asJSON).status)
	require.Equal(t, http.StatusSeeOther, ada.open(ada.logoutURL()).status)
}

// onlyPrimary reports whether connections lead to the primary, more of them than there are members: until it
// has checked them, HAProxy takes all for up.
func onlyPrimary(t *testing.T, dsn string) bool {
	t.Helper()
	for range 6 {
		conn, err := pgx.Connect(t.Context(), dsn+"&target_session_attrs=primary")
		if err != nil {
			return false
		}
		require.NoError(t, conn.Close(t.Context()))
	}
	return true
}
