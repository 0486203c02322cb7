package route_test

import (
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/app/route"
	"latchkey/test/kit"
)

// quoted is a string of JavaScript, or of Go or HTML in a template.
var quoted = regexp.MustCompile("\"[^\"\n]*\"|'[^'\n]*'|`[^`]*`")

// The table is the one place that says where something is: a path that is written anywhere else stays
// behind when it moves.
func TestNoPathIsWrittenOutsideTheTable(t *testing.T) {
	root := kit.Root(t)
	for _, file := range sources(t, root) {
		text, err := os.ReadFile(filepath.Join(root, file))
		require.NoError(t, err)
		literals := stringsOfGo
		if !strings.HasSuffix(file, ".go") {
			literals = stringsOfPages
		}
		for _, found := range literals(text) {
			if isPath(found.text) {
				t.Errorf("%s:%d: %q is a path of package route", file, found.line, found.text)
			}
		}
	}
}

// The guard above must see a path wherever one can be written.
func TestWhatCountsAsAPath(t *testing.T) {
	for _, path := range []string{"/auth", "/auth/login", "/auth?x", "/login", "/sessions/whoami", "/sessions/:id", "/sessions/", "/login?return_to=", "/login#x"} {
		require.True(t, isPath(path), path)
	}
	for _, text := range []string{"", "/", "/authors", "/metrics", "login", "/login-help"} {
		require.False(t, isPath(text), text)
	}
	require.Equal(t, []literal{{2, "/login"}, {3, "/a"}}, stringsOfGo([]byte("package a // \"/comment\"\nvar a = \"/login\"\nvar b = `/a`\n")))
	require.Equal(t, []literal{{1, "/a"}, {2, "/b"}, {2, "/c"}}, stringsOfPages([]byte("<a href=\"/a\">\nfetch('/b' + `/c`)")))
}

// isPath reports whether a literal is a path of the table, or what one begins with.
func isPath(text string) bool {
	path, _, _ := strings.Cut(text, "?")
	path, _, _ = strings.Cut(path, "#")
	if path == "/auth" || strings.HasPrefix(path, "/auth/") {
		return true
	}
	for _, r := range route.All {
		if fixed := r.Path[:len(r.Path)-len(parameter.FindString(r.Path))]; len(fixed) > 1 && (path == fixed || path == r.Path) {
			return true
		}
	}
	return false
}

// parameter is the first parameter of a path, with all that follows.
var parameter = regexp.MustCompile(`[:*].*`)

type literal struct {
	line int
	text string
}

func stringsOfGo(text []byte) (found []literal) {
	files := token.NewFileSet()
	file := files.AddFile("", -1, len(text))
	var in scanner.Scanner
	in.Init(file, text, nil, 0)
	for {
		at, kind, source := in.Scan()
		if kind == token.EOF {
			return found
		}
		if value, err := strconv.Unquote(source); kind == token.STRING && err == nil {
			found = append(found, literal{file.Line(at), value})
		}
	}
}

func stringsOfPages(text []byte) (found []literal) {
	for _, at := range quoted.FindAllIndex(text, -1) {
		found = append(found, literal{1 + strings.Count(string(text[:at[0]]), "\n"), string(text[at[0]+1 : at[1]-1])})
	}
	return found
}

// sources returns the files of the program: neither tests, nor what only they use, nor the table itself.
func sources(t *testing.T, root string) (files []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (path == "app/route" || path == "test" || d.Name() == "testdata" || d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") && path != "."):
			return fs.SkipDir
		case strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go"),
			strings.HasSuffix(path, ".templ"), strings.HasPrefix(path, "static/") && strings.HasSuffix(path, ".js"):
			files = append(files, path)
		}
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, len(files), 100)
	return files
}
