package cli

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

var metricsURL = regexp.MustCompile(`"msg":"metrics","url":"(http://[^"]+/metrics)"`)

func TestMetricsHaveAListenerOfTheirOwn(t *testing.T) {
	m := kit.NewMachine(t)
	m.Env = append(m.Env, "METRICS_LISTEN=localhost:0")
	s := m.Start()
	found := metricsURL.FindStringSubmatch(s.Log())
	require.NotNil(t, found)

	got := s.Get(found[1], "")
	require.Equal(t, http.StatusOK, got.Status)
	require.Contains(t, got.Body, "\nlatchkey_database_up 1\n")
	require.Equal(t, http.StatusNotFound, s.Get("/metrics", "").Status)
	require.Equal(t, http.StatusNotFound, s.Get(strings.TrimSuffix(found[1], "/metrics")+"/auth/health/alive", "").Status)
	require.NotContains(t, s.Log(), "METRICS_LISTEN is neither")
	s.Stop()
	require.Error(t, s.Get(found[1], "").Err)
}

// A page whose own name resolves to this machine must not read them in a browser here (DNS rebinding).
func TestMetricsOnLoopbackAreForLocalNamesAlone(t *testing.T) {
	m := kit.NewMachine(t)
	m.Env = append(m.Env, "METRICS_LISTEN=localhost:0")
	found := metricsURL.FindStringSubmatch(m.Start().Log())
	require.NotNil(t, found)
	for host, status := range map[string]int{"evil.example": http.StatusMisdirectedRequest, "localhost.evil.example:9464": http.StatusMisdirectedRequest,
		"localhost:9464": http.StatusOK, "[::1]:9464": http.StatusOK} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, found[1], nil)
		require.NoError(t, err)
		req.Host = host
		res := kit.Do(req)
		require.Equal(t, status, res.Status, host)
		require.Equal(t, status == http.StatusOK, strings.Contains(res.Body, "latchkey_"), host)
	}
}

func TestExposedMetricsAreWarnedAbout(t *testing.T) {
	m := kit.NewMachine(t)
	m.Env = append(m.Env, "METRICS_LISTEN=:0")
	require.Contains(t, m.Start().Log(), "METRICS_LISTEN is neither a loopback nor a private address")
}

func TestMetricsAddressInUseStopsTheStart(t *testing.T) {
	taken := httptest.NewServer(nil)
	defer taken.Close()
	m := kit.NewMachine(t)
	m.Env = append(m.Env, "LISTEN=localhost:0", "METRICS_LISTEN="+taken.Listener.Addr().String())
	r := m.Run("")
	require.NotZero(t, r.Code)
	require.Empty(t, r.Stdout)
	require.Contains(t, r.Stderr, "address already in use; choose another address with METRICS_LISTEN")
}
