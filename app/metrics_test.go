package app_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/app/config"
	"latchkey/models"
	"latchkey/test/kit"
)

func withMetrics(c *config.Config) { c.MetricsListen = "localhost:0" }

// scrape returns what Prometheus would read.
func (s *site) scrape() string {
	s.t.Helper()
	answer := httptest.NewRecorder()
	s.app.Metrics().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Equal(s.t, http.StatusOK, answer.Code)
	return answer.Body.String()
}

// counts waits until the metrics have these lines: some things are counted after the answer.
func (s *site) counts(lines ...string) {
	s.t.Helper()
	for _, line := range lines {
		eventually(s.t, func() bool { return strings.Contains(s.scrape(), "\n"+line+"\n") }, line)
	}
}

func TestMetricsCountWhatHappens(t *testing.T) {
	site := newSite(t, withMetrics, open)
	wiki := newReceiver(t)
	site.addApp("wiki", wiki.url, models.SendBoth)
	ada := site.signUp("ada@example.com")
	site.signIn("ada@example.com")
	disabled := site.register("bob@example.com")
	require.NoError(t, site.store.Identities.Disable(t.Context(), disabled.ID))
	site.visitor().submitLogin("bob@example.com", goodPassword)
	for range 7 { // the last one is not looked at
		site.visitor().submitLogin("eve@example.com", "wrongwrongwrong")
	}
	zoe := site.visitor()
	flow := zoe.get("/auth/self-service/registration/browser", asJSON)
	zoe.postJSON(flow.text("ui.action"), map[string]any{"method": "password", "traits.email": "zoe@example.com",
		"password": goodPassword, "csrf_token": flow.csrfToken()})
	ada.open(ada.logoutURL())
	ada.get("/auth/PATHSECRET?token=QUERYSECRET")
	ada.send("BREW", "/auth/login", "")

	site.counts(
		`latchkey_sign_ins_total{result="ok"} 2`,
		`latchkey_sign_ins_total{result="disabled"} 1`,
		`latchkey_sign_ins_total{result="wrong_credentials"} 6`,
		`latchkey_sign_ins_total{result="throttled"} 1`,
		`latchkey_registrations_total 1`,
		`latchkey_sessions_started_total 3`,
		`latchkey_sessions_ended_total{reason="logout"} 1`,
		`latchkey_sessions_ended_total{reason="expired"} 0`,
		`latchkey_outbox_attempts_total{result="delivered"} 1`,
		`latchkey_outbox_pending 0`,
		`latchkey_password_hash_duration_seconds_count 10`,
		`latchkey_database_up 1`,
		`latchkey_http_requests_total{code="303",method="GET",route="/auth/self-service/logout"} 1`,
		`latchkey_http_requests_total{code="404",method="GET",route="unknown"} 1`,
		`latchkey_http_requests_total{code="405",method="other",route="unknown"} 1`,
	)

	wiki.answers(answerWith(http.StatusServiceUnavailable))
	site.clock.advance(13 * time.Hour) // past every session
	site.counts(`latchkey_sessions_ended_total{reason="expired"} 2`, `latchkey_outbox_pending 2`, `latchkey_outbox_attempts_total{result="failed"} 2`)
	text := site.scrape()
	for _, secret := range []string{"QUERYSECRET", "example.com", goodPassword, "PATHSECRET", "BREW"} {
		require.NotContains(t, text, secret)
	}
}

func TestMetricsAreOnNoPublicAddress(t *testing.T) {
	require.Nil(t, newSite(t).app.Metrics(), "nobody asked for any")
	site := newSite(t, withMetrics)
	for _, path := range []string{"/metrics", "/auth/metrics"} {
		require.Equal(t, http.StatusNotFound, site.visitor().get(path, asJSON).status)
	}
	for path, status := range map[string]int{"/": http.StatusNotFound, "/auth/login": http.StatusNotFound, "/debug/pprof/": http.StatusNotFound} {
		answer := httptest.NewRecorder()
		site.app.Metrics().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		require.Equal(t, status, answer.Code, path)
	}
}

func TestMetricsOfADatabaseThatIsGone(t *testing.T) {
	site := newSite(t, withMetrics)
	site.stop()
	require.NoError(t, site.database.Close())
	text := site.scrape()
	require.Contains(t, text, "\nlatchkey_database_up 0\n")
	require.NotContains(t, text, "\nlatchkey_outbox_pending")
	require.NotContains(t, text, "\nlatchkey_outbox_oldest_due_seconds")
	require.Contains(t, text, "\nlatchkey_event_streams 0\n")
}

var seriesType = regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`)

// exposed returns the metrics of a scrape, each with its type.
func exposed(text string) map[string]string {
	found := map[string]string{}
	for _, line := range seriesType.FindAllStringSubmatch(text, -1) {
		found[line[1]] = line[2]
	}
	return found
}

// busySite is one that has a series of everything.
func busySite(t *testing.T) *site {
	site := newSite(t, withMetrics)
	ada := site.signUp("ada@example.com")
	ada.open(ada.logoutURL())
	site.counts(`latchkey_http_requests_total{code="303",method="GET",route="/auth/self-service/logout"} 1`)
	return site
}

func TestEveryMetricIsInItsDocument(t *testing.T) {
	text := busySite(t).scrape()
	help := map[string]string{}
	for _, line := range regexp.MustCompile(`(?m)^# HELP (\S+) (.*)$`).FindAllStringSubmatch(text, -1) {
		help[line[1]] = line[2]
	}
	var wanted []string
	all := exposed(text)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !strings.HasPrefix(name, "latchkey_") {
			continue
		}
		series := regexp.MustCompile(`(?m)^` + name + `(?:_count)?(?:\{(.*)\})? `).FindStringSubmatch(text)
		require.NotNil(t, series, name)
		labels := "–"
		if series[1] != "" {
			var names []string
			for _, label := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(series[1], -1) {
				names = append(names, "`"+label[1]+"`")
			}
			labels = strings.Join(names, ", ")
		}
		unit := "–"
		if strings.HasSuffix(name, "_seconds") {
			unit = "seconds"
		}
		wanted = append(wanted, fmt.Sprintf("| `%s` | %s | %s | %s | %s |", name, all[name], unit, labels, help[name]))
	}
	_, rest, _ := strings.Cut(readDoc(t, "docs/metrics.md"), "| --- | --- | --- | --- | --- |\n")
	table, _, _ := strings.Cut(rest, "\n\n")
	require.Equal(t, strings.Join(wanted, "\n"), table)
}

// dashboard is what we rely on of Grafana's format.
type dashboard struct {
	UID, Title    string
	SchemaVersion int
	Templating    struct {
		List []struct{ Name, Type, Query any }
	}
	Panels []struct {
		ID         int
		Type       string
		Title      string
		Datasource struct{ Type, UID string }
		GridPos    struct{ X, Y, W, H int }
		Targets    []struct {
			RefID, Expr string
			Datasource  struct{ Type, UID string }
		}
	}
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(readDoc(t, "docs/latchkey-dashboard.json")), &d))
	return d
}

// alerts returns the expressions of the alert rules.
func alerts(t *testing.T) (all []string) {
	t.Helper()
	text := readDoc(t, "docs/latchkey-alerts.yaml")
	for _, line := range regexp.MustCompile(`(?m)^ +expr: (.+)$`).FindAllStringSubmatch(text, -1) {
		all = append(all, line[1])
	}
	require.Len(t, all, strings.Count(text, "- alert: "))
	return all
}

var (
	notNames = regexp.MustCompile(`"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|on|without) ?\([^)]*\)`)
	named    = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\(?)`)
)

// metricsIn returns the names of metrics in an expression: what is no function.
func metricsIn(expression string) (names []string) {
	for _, found := range named.FindAllStringSubmatch(notNames.ReplaceAllString(expression, " "), -1) {
		if found[2] == "" {
			names = append(names, found[1])
		}
	}
	return names
}

func TestDashboardAndAlertsAreOfMetricsThatExist(t *testing.T) {
	d := readDashboard(t)
	require.Equal(t, "latchkey", d.UID)
	require.Positive(t, d.SchemaVersion)
	require.Equal(t, "datasource", d.Templating.List[0].Name)
	require.Equal(t, "prometheus", d.Templating.List[0].Query)
	expressions := alerts(t)
	require.NotEmpty(t, expressions)
	for _, block := range codeBlock.FindAllStringSubmatch(readDoc(t, runbookDoc), -1) {
		if block[1] == "promql" {
			expressions = append(expressions, block[2])
		}
	}
	ids := map[int]bool{}
	for _, panel := range d.Panels {
		require.False(t, ids[panel.ID], "two panels %d", panel.ID)
		ids[panel.ID] = true
		require.NotEmpty(t, panel.Title)
		require.LessOrEqual(t, panel.GridPos.X+panel.GridPos.W, 24, panel.Title)
		if panel.Type == "row" {
			continue
		}
		require.Equal(t, "${datasource}", panel.Datasource.UID, panel.Title)
		require.NotEmpty(t, panel.Targets, panel.Title)
		for _, target := range panel.Targets {
			require.Equal(t, "${datasource}", target.Datasource.UID, panel.Title)
			expressions = append(expressions, target.Expr)
		}
	}

	known := exposed(busySite(t).scrape())
	for _, expression := range expressions {
		names := metricsIn(expression)
		require.NotEmpty(t, names, expression)
		for _, name := range names {
			base := name
			for _, part := range []string{"_bucket", "_sum", "_count"} {
				if cut, is := strings.CutSuffix(name, part); is && known[cut] == "histogram" {
					base = cut
				}
			}
			require.True(t, name == "up" || known[base] != "", "no metric %s, in %s", name, expression)
		}
	}
}

func TestPrometheusReadsMetricsAndRules(t *testing.T) {
	t.Parallel()
	kit.NeedProgram(t, "prometheus", "prometheus")
	site := busySite(t)
	lint := exec.Command("promtool", "check", "metrics")
	lint.Stdin = strings.NewReader(site.scrape())
	out, err := lint.CombinedOutput()
	require.NoError(t, err, "%s", out)
	rules, err := filepath.Abs("../docs/latchkey-alerts.yaml")
	require.NoError(t, err)
	out, err = exec.Command("promtool", "check", "rules", rules).CombinedOutput()
	require.NoError(t, err, "%s", out)

	listener := httptest.NewServer(site.app.Metrics())
	t.Cleanup(listener.Close)
	dir, address := t.TempDir(), freeAddress(t)
	config := adapt(t, codeIn(t, "docs/metrics.md", "yaml", "scrape_configs"), "localhost:9464", strings.TrimPrefix(listener.URL, "http://"))
	config = "global: {scrape_interval: 5s, scrape_timeout: 5s}\nrule_files: [" + rules + "]\n" + config
	require.NoError(t, os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600))
	startProgram(t, exec.Command("prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+dir,
		"--web.listen-address="+address, "--log.level=warn"), address)

	var answer struct {
		Status string
		Error  string
		Data   struct{ Result []struct{ Value []any } }
	}
	eventually(t, func() bool {
		res, err := http.Get("http://" + address + "/-/ready")
		return err == nil && res.Body.Close() == nil && res.StatusCode == http.StatusOK
	}, "prometheus is never ready")
	ask := func(expression string) {
		t.Helper()
		res, err := http.Get("http://" + address + "/api/v1/query?" + url.Values{"query": {expression}}.Encode())
		require.NoError(t, err)
		defer res.Body.Close()
		answer.Error, answer.Data.Result = "", nil
		require.NoError(t, json.NewDecoder(res.Body).Decode(&answer))
		require.Equal(t, "success", answer.Status, "%s: %s", expression, answer.Error)
	}
	eventually(t, func() bool {
		ask(`latchkey_sessions_ended_total{job="latchkey",reason="logout"}`)
		return len(answer.Data.Result) == 1 && answer.Data.Result[0].Value[1] == "1"
	}, "prometheus reads no metrics")
	variables := strings.NewReplacer("$job", "latchkey", "$instance", ".*", "$__rate_interval", "1m")
	for _, panel := range readDashboard(t).Panels {
		for _, target := range panel.Targets {
			if expression := variables.Replace(target.Expr); strings.Contains(expression, "rate(") || strings.Contains(expression, "increase(") {
				ask(expression) // it has no value before the second scrape
			} else {
				ask(expression)
				require.NotEmpty(t, answer.Data.Result, expression)
			}
		}
	}
	for _, expression := range alerts(t) {
		ask(expression)
		require.Empty(t, answer.Data.Result, "all is well, but: %s", expression)
	}
}
