package app_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	runbookDoc = "docs/runbook.md"
	runbookURL = "https://docs.example.com/latchkey/runbook.md#" // before the administrator has replaced it
)

var (
	runbookSection = regexp.MustCompile(`(?m)^## (\w+)$`)
)

// alertNames returns the names of the alerts, in their order.
func alertNames(t *testing.T) (names []string) {
	t.Helper()
	for _, found := range regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(readDoc(t, "docs/latchkey-alerts.yaml"), -1) {
		names = append(names, found[1])
	}
	require.NotEmpty(t, names)
	return names
}

func TestEveryAlertHasItsSectionInTheRunbook(t *testing.T) {
	page := readDoc(t, runbookDoc)
	var sections []string
	for _, found := range runbookSection.FindAllStringSubmatch(page, -1) {
		sections = append(sections, found[1])
	}
	require.Equal(t, alertNames(t), sections)

	for _, part := range strings.Split(page, "\n## ")[1:] {
		for _, wanted := range []string{"**What it means.**", "**Look at**", "**Do"} {
			require.Contains(t, part, wanted)
		}
	}
	for _, rule := range strings.Split(readDoc(t, "docs/latchkey-alerts.yaml"), "- alert: ")[1:] {
		name, _, _ := strings.Cut(rule, "\n")
		require.Contains(t, rule, "\n          runbook_url: "+runbookURL+strings.ToLower(name)+"\n")
	}
}

func TestRunbookLinksAreAdapted(t *testing.T) {
	dir := t.TempDir()
	rules := filepath.Join(dir, "latchkey-alerts.yaml")
	require.NoError(t, os.WriteFile(rules, []byte(readDoc(t, "docs/latchkey-alerts.yaml")), 0o600))

	shell(t, dir, codeIn(t, runbookDoc, "sh", "sed"))

	adapted, err := os.ReadFile(rules)
	require.NoError(t, err)
	require.NotContains(t, string(adapted), "docs.example.com")
	require.Equal(t, len(alertNames(t)), strings.Count(string(adapted), "https://wiki.example.org/latchkey/runbook.md#"))
}
