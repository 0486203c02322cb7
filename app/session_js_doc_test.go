package app_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/app/config"
	"latchkey/models"
)

// documented is an app whose page holds a sample of docs/session-js.md, with the policy from there.
func documented(t *testing.T, language, text string) (*site, *tab) {
	t.Helper()
	const doc, latchkey = "docs/session-js.md", "https://auth.example.com"
	sample := codeIn(t, doc, language, text)
	_, policy, found := strings.Cut(strings.TrimSpace(codeIn(t, doc, "http", "Content-Security-Policy")), ": ")
	require.True(t, found)
	policy = strings.Replace(policy, "script-src", "script-src 'unsafe-inline'", 1) // for the sample itself
	if language == "js" {
		sample = "<script>" + sample + "</script>"
	}
	var s *site
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", strings.ReplaceAll(policy, latchkey, s.url))
		writeApp(w, "<h1>An app</h1>"+strings.ReplaceAll(sample, latchkey, s.url))
	}))
	t.Cleanup(server.Close)
	s = newSite(t, func(c *config.Config) { c.CORSAllowedOrigins = []string{server.URL} })
	s.register("ada@example.com")
	b := s.at("ada@example.com")
	b.others = []string{server.URL}
	s.leave(b)
	b.open(server.URL + "/")
	s.streams(1)
	return s, b
}

func TestOneLineMovesAPageWhoseSessionHasEnded(t *testing.T) {
	site, b := documented(t, "html", `session.js" async`)
	site.endElsewhere()
	b.arrives("You are signed out")
}

func TestPageDealsWithTheEndItself(t *testing.T) {
	site, b := documented(t, "html", "data-stay")
	site.endElsewhere()
	b.until(`document.querySelector("#notice").textContent === "You have been signed out."`)
	b.arrives("An app")
}

func TestPageListensToTheStreamItself(t *testing.T) {
	site, b := documented(t, "js", "EventSource")
	site.endElsewhere()
	b.until(`document.title === "Signed out: operator"`)
}

func TestReasonsInTheDocumentAreAllThereAre(t *testing.T) {
	_, rest, _ := strings.Cut(readDoc(t, "docs/session-js.md"), "| reason |")
	table, _, _ := strings.Cut(rest, "\n\n")
	var reasons []models.Reason
	for _, row := range exampleRow.FindAllStringSubmatch(table, -1) {
		reasons = append(reasons, models.Reason(row[1]))
	}
	require.ElementsMatch(t, reasons, []models.Reason{models.EndedByLogout, models.EndedByPerson, models.EndedByNewLogin,
		models.EndedByPasswordChange, models.EndedByDisabling, models.EndedByOperator, models.EndedByDeletion, models.EndedByLimit, models.Expired, "unknown"})
}

func TestAProxyPassesEventsOnAtOnce(t *testing.T) {
	for _, proxy := range proxies {
		t.Run(proxy.name, func(t *testing.T) {
			p := behind(t, proxy.start)
			p.register("ada@example.com")
			ada := p.from("127.0.0.2")
			require.Equal(t, http.StatusOK, ada.submitLogin("ada@example.com", goodPassword).status)
			listening := ada.listen()
			require.Equal(t, 1, p.site.app.Live().Streams())

			p.endElsewhere()

			require.Equal(t, models.EndedByOperator, listening.hears())
		})
	}
}
