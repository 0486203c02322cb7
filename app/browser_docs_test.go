package app_test

import (
	"os"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

func TestDocsCanBeSearched(t *testing.T) {
	t.Parallel()
	b := newSite(t).browser()
	b.size(1280, 800)
	b.open("/auth/docs")
	visible := func() string {
		return strings.Join(eval[[]string](b, `[...document.querySelectorAll("article, .object > h4")].filter((e) => e.checkVisibility()).map((e) => e.id)`), " ")
	}
	b.until(`document.querySelector("#search").checkVisibility()`)
	all := visible()
	require.Less(t, eval[float64](b, `document.querySelector("nav.contents").getBoundingClientRect().right - document.querySelector(".text").getBoundingClientRect().left`), 1.0, "the contents are beside the text")

	b.fill("#search", "EVENT stream")
	found := visible()
	require.Contains(t, found, "listenToSession")
	require.NotContains(t, found, "getJWKS")
	require.Regexp(t, `^\d+ of \d+ entries$`, b.value("#found", "innerText"))
	require.False(t, eval[bool](b, `document.querySelector(".contents a[href='#getJWKS']").checkVisibility()`))

	eval[any](b, `location.hash = "#getJWKS"; null`)
	b.until(`document.querySelector("#getJWKS").checkVisibility()`)
	require.Equal(t, all, visible(), "a link shows what it leads to")
	b.fill("#search", "xyzzy")
	require.Empty(t, visible())
	b.press(kb.Escape)
	require.Equal(t, all, visible())

	b.withoutJavaScript()
	b.open("/auth/docs")
	require.Equal(t, all, visible())
	require.False(t, eval[bool](b, `document.querySelector("#search").checkVisibility()`))
}

func TestDocsAreAccessible(t *testing.T) {
	t.Parallel()
	axe, err := os.ReadFile("testdata/node_modules/axe-core/axe.min.js")
	kit.Need(t, err == nil, "npm packages: npm ci --prefix app/testdata")
	b := newSite(t).browser()
	call(b, page.SetBypassCSP, page.SetBypassCSPParams{Enabled: true}) // axe-core styles the page it looks at
	b.open("/auth/docs")
	eval[any](b, string(axe)+"; null")
	eval[any](b, `for (const example of document.querySelectorAll("#toSession details, #updateLoginFlow details")) example.open = true; null`)
	for _, width := range []int64{1280, 320} {
		for _, scheme := range []string{"light", "dark"} {
			b.size(width, 800)
			b.scheme(scheme)
			require.Empty(t, eval[[]string](b, `axe.run({ resultTypes: ["violations"], runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] })
				.then(({ violations }) => violations.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => [id, html, failureSummary].join("\n"))))`), "%s, %d pixels wide", scheme, width)
			require.LessOrEqual(t, eval[int64](b, "document.documentElement.scrollWidth"), width)
		}
	}
}
