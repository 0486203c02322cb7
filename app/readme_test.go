package app_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"latchkey/app/config"
	"latchkey/app/returnto"
	"latchkey/test/kit"
)

// What the documents show is tested as they show it: the tests take it out of them.

// readDoc returns a file of the repository.
func readDoc(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", path))
	require.NoError(t, err)
	return string(text)
}

var codeBlock = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

// codeIn returns the one code block of a document that is in that language and holds the text.
func codeIn(t *testing.T, path, language, text string) string {
	t.Helper()
	var found []string
	for _, block := range codeBlock.FindAllStringSubmatch(readDoc(t, path), -1) {
		if block[1] == language && strings.Contains(block[2], text) {
			found = append(found, block[2])
		}
	}
	require.Len(t, found, 1, "blocks of %q with %q in %s", language, text, path)
	return found[0]
}

// adapt replaces what can't be the same in a test as in production. Each must be there.
func adapt(t *testing.T, text string, oldnew ...string) string {
	t.Helper()
	for i := 0; i < len(oldnew); i += 2 {
		require.Contains(t, text, oldnew[i])
	}
	return strings.NewReplacer(oldnew...).Replace(text)
}

func TestEverySettingIsInTheREADME(t *testing.T) {
	parser, err := kong.New(&config.Config{})
	require.NoError(t, err)
	_, err = parser.Parse(nil) // fills in the defaults that the help names
	require.NoError(t, err)
	wanted := []string{"| Flag | Variable | Default | What it does |", "| --- | --- | --- | --- |"}
	for _, flag := range parser.Model.Flags {
		if flag.Name == "help" {
			continue
		}
		require.Len(t, flag.Envs, 1, flag.Name)
		help := strings.TrimSuffix(flag.Help, ".")
		what, preset, _ := strings.Cut(help, " Default: ")
		if preset == "" {
			preset = "–"
			what += "."
		}
		if flag.HasDefault && flag.Default != "auto" {
			require.Equal(t, flag.Default, preset, "the help of --%s names another default than there is", flag.Name)
		}
		wanted = append(wanted, fmt.Sprintf("| `--%s` | `%s` | %s | %s |", flag.Name, flag.Envs[0], preset, what))
	}

	_, rest, _ := strings.Cut(readDoc(t, "README.md"), "<!-- settings -->\n")
	table, _, _ := strings.Cut(rest, "\n<!-- /settings -->")

	require.Equal(t, strings.Join(wanted, "\n"), strings.TrimSpace(table), "the table in README.md is not that of config.go")
}

var (
	docLink    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	docHeading = regexp.MustCompile(`(?m)^#+ (.*)$`)
)

func TestLinksInTheDocumentsLeadSomewhere(t *testing.T) {
	pages, err := filepath.Glob("../docs/*.md")
	require.NoError(t, err)
	require.NotEmpty(t, pages)
	for _, page := range append(pages, "../README.md") {
		text := readDoc(t, strings.TrimPrefix(page, "../"))
		for _, found := range docLink.FindAllStringSubmatch(text, -1) {
			path, anchor, _ := strings.Cut(found[1], "#")
			if strings.Contains(path, "://") {
				continue
			}
			target := filepath.Join(filepath.Dir(page), path)
			if path == "" {
				target = page
			}
			content, err := os.ReadFile(target)
			require.NoError(t, err, "link %s in %s", found[1], page)
			if anchor == "" {
				continue
			}
			var anchors []string
			for _, h := range docHeading.FindAllStringSubmatch(string(content), -1) {
				anchors = append(anchors, strings.ReplaceAll(regexp.MustCompile("[^a-z0-9 _-]").ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-"))
			}
			require.Contains(t, anchors, anchor, "link %s in %s", found[1], page)
		}
	}
}

func TestTheREADMELeadsToEveryDocument(t *testing.T) {
	pages, err := filepath.Glob("../docs/*.md")
	require.NoError(t, err)
	for _, page := range pages {
		require.Contains(t, readDoc(t, "README.md"), "](docs/"+filepath.Base(page)+")")
	}
}

var exampleRow = regexp.MustCompile("(?m)^\\| `([^`]*)` \\| ([^|]*) \\|$")

func TestReturnToExamplesAreTrue(t *testing.T) {
	text := readDoc(t, "docs/return-to.md")
	_, setting, ok := strings.Cut(codeIn(t, "docs/return-to.md", "sh", "ALLOWED_RETURN_URLS"), "ALLOWED_RETURN_URLS=")
	require.True(t, ok)
	rules, err := returnto.Parse(strings.Split(strings.TrimSpace(setting), ","))
	require.NoError(t, err)
	_, rest, _ := strings.Cut(text, "## What is allowed")
	allowed, refused, ok := strings.Cut(rest, "## What is refused")
	require.True(t, ok)

	for _, row := range exampleRow.FindAllStringSubmatch(allowed, -1) {
		_, err := rules.Check("https://example.com", row[1])
		require.NoError(t, err, row[1])
	}
	rows := exampleRow.FindAllStringSubmatch(refused, -1)
	require.NotEmpty(t, rows)
	for _, row := range rows {
		_, err := rules.Check("https://example.com", row[1])
		var because *returnto.Refused
		require.ErrorAs(t, err, &because, row[1])
	}
}

func TestTheSignOutButtonOfTheREADME(t *testing.T) {
	kit.NeedProgram(t, "chromium", "chromium")
	site, page := newSite(t), codeIn(t, "README.md", "html", "sign-out")
	host := http.NewServeMux()
	host.Handle("/auth/", site.app)
	host.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, "<!DOCTYPE html><title>App</title>", page)
	})
	server := httptest.NewServer(host)
	t.Cleanup(server.Close)
	site.url = server.URL
	ada := site.signUp("ada@example.com")
	const session = "latchkey_session"

	tab := emptyBrowser(t)
	_, err := chromedp.Call(tab, network.SetCookie, network.SetCookieParams{
		Name: session, Value: ada.cookie(session), URL: server.URL})
	require.NoError(t, err)
	says := func(text string) {
		t.Helper()
		is := fmt.Sprintf(`document.querySelector("#who")?.textContent === %q`, text)
		require.Eventually(t, func() bool {
			holds, err := chromedp.Run(tab, chromedp.Evaluate[bool](is))
			return err == nil && holds
		}, 30*time.Second, 10*time.Millisecond, "the page never says %q", text)
	}
	require.NoError(t, chromedp.Do(tab, chromedp.Navigate(server.URL+"/")))
	says("Hello ada@example.com")

	_, err = chromedp.Run(tab, chromedp.Evaluate[any](`document.querySelector("#sign-out:not([hidden])").click()`))

	require.NoError(t, err)
	says("Nobody is signed in.")
	require.False(t, ada.signedIn(), "the session is over for every copy of its cookie")
}

// emptyBrowser starts a Chromium that knows nothing, and reaches nothing but this machine.
func emptyBrowser(t *testing.T) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	ctx, closeBrowser := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(closeBrowser)
	ctx, closeTab := chromedp.NewContext(ctx)
	t.Cleanup(closeTab)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	t.Cleanup(cancel)
	return ctx
}
