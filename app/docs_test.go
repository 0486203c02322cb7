package app_test

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"latchkey/app/apidocs"

	"github.com/stretchr/testify/require"
)

func TestDocsShowTheWholeAPI(t *testing.T) {
	spec, err := specified()
	require.NoError(t, err)

	page := newSite(t).visitor().open("/auth/docs")

	require.Equal(t, http.StatusOK, page.status)
	everywhere := part(t, page.body, `<h3 id="everywhere">`, `<h3 id="access">`)
	for path, item := range spec.Paths.Map() {
		for method, operation := range item.Operations() {
			shown := part(t, page.body, `<article id="`+operation.OperationID+`">`, `</article>`)
			require.Contains(t, shown, `">`+method+`</b> <code>`+path+`</code>`)
			for status := range operation.Responses.Map() {
				require.Contains(t, shown+everywhere, `<th scope="row">`+status+` `, operation.OperationID)
			}
			for _, parameter := range operation.Parameters {
				require.Contains(t, shown, `<th scope="row"><code>`+parameter.Value.Name+`</code>`, operation.OperationID)
			}
		}
	}
	for name, schema := range spec.Components.Schemas {
		_, shown, found := strings.Cut(page.body, `<h4 id="`+name+`">`)
		require.True(t, found, name)
		for property := range schema.Value.Properties {
			require.Contains(t, shown, `<th scope="row"><code>`+property+`</code>`, name)
		}
	}
	for name := range spec.Components.Headers {
		require.Contains(t, page.body, `<dt id="header-`+name+`">`)
	}
}

// part returns what stands between two marks.
func part(t *testing.T, text, from, to string) string {
	t.Helper()
	_, rest, found := strings.Cut(text, from)
	require.True(t, found, from)
	inside, _, found := strings.Cut(rest, to)
	require.True(t, found, to)
	return inside
}

func TestDocsPageIsWellMade(t *testing.T) {
	visitor := newSite(t).visitor()
	page := visitor.open("/auth/docs").body
	plain := visitor.get("/auth/docs", asPage, with("Accept-Encoding", "gzip;q=0"))
	packed := visitor.get("/auth/docs", asPage, with("Accept-Encoding", "gzip"))

	require.Equal(t, page, plain.body, "the same, packed or not")
	require.Equal(t, "gzip", packed.header.Get("Content-Encoding"))
	require.Equal(t, []string{"Accept, Cookie", "Accept-Encoding"}, packed.header.Values("Vary"))
	require.NotRegexp(t, `<style|style="|<script[^>]*>[^<]`, page, "the content security policy forbids these")
	require.NotRegexp(t, `(src|href)="(https?:)?//`, page, "nothing comes from another host")
	require.NotContains(t, page, "`", "all code is marked up")
	require.NotContains(t, page, "**")
	require.NoError(t, checkQuotes(page))

	var ids []string
	for _, found := range regexp.MustCompile(`<(?:section|article|h\d|dt) id="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		require.NotContains(t, ids, found[1], "an id twice")
		ids = append(ids, found[1])
	}
	for _, found := range regexp.MustCompile(`href="#([^"]*)"`).FindAllStringSubmatch(page, -1) {
		require.True(t, slices.Contains(ids, html.UnescapeString(found[1])), "a link to nowhere: %s", found[0])
	}
	level := 0
	for _, found := range regexp.MustCompile(`<h(\d)`).FindAllStringSubmatch(page, -1) {
		next, err := strconv.Atoi(found[1])
		require.NoError(t, err)
		require.LessOrEqual(t, next, level+1, "a heading skips a level")
		level = next
	}
}

// An example that doesn't work is worse than none.
func TestDocsHaveAnExampleOfEachRequest(t *testing.T) {
	spec, err := specified()
	require.NoError(t, err)
	page := newSite(t).visitor().open("/auth/docs").body
	for path, item := range spec.Paths.Map() {
		for method, operation := range item.Operations() {
			shown := part(t, page, `<article id="`+operation.OperationID+`">`, `</article>`)
			example := html.UnescapeString(part(t, shown, `<pre `, `</pre>`))
			target, err := url.Parse(regexp.MustCompile(`http://localhost:8080[^'"\s]*`).FindString(example))
			require.NoError(t, err)
			at, found := spec.operation(method, target.Path)
			require.Equal(t, operation.OperationID, found.OperationID, "%s %s", method, at)
			require.Equal(t, path, at)
			for _, parameter := range operation.Parameters {
				if parameter.Value.Required && parameter.Value.In == "query" {
					require.NotEmpty(t, target.Query().Get(parameter.Value.Name), operation.OperationID)
				}
			}
			if operation.RequestBody == nil {
				continue
			}
			body := regexp.MustCompile(`-d '([^']*)'`).FindStringSubmatch(example)
			require.Len(t, body, 2, operation.OperationID)
			schema := operation.RequestBody.Value.Content["application/json"].Schema
			require.NoError(t, spec.matches(schema.Ref, body[1]))
			if method != http.MethodPost {
				require.Contains(t, example, "-X "+method)
			}
		}
	}
}

func TestDocsOfABrokenDocumentAreRefused(t *testing.T) {
	for name, document := range map[string]string{
		"not JSON":             `{"paths": `,
		"a list for an object": `{"paths": []}`,
		"a lost reference":     `{"tags": [{"name": "a"}], "paths": {"/": {"get": {"tags": ["a"], "responses": {"400": {"$ref": "#/components/responses/Lost"}}}}}}`,
		"a lost parameter":     `{"tags": [{"name": "a"}], "paths": {"/": {"get": {"tags": ["a"], "parameters": [{"$ref": "#/components/parameters/lost"}]}}}}`,
		"a status in words":    `{"tags": [{"name": "a"}], "paths": {"/": {"get": {"tags": ["a"], "responses": {"fine": {"description": "ok"}}}}}}`,
	} {
		require.Error(t, apidocs.Check([]byte(document)), name)
	}
	require.NoError(t, apidocs.Check([]byte(`{}`)))
}
