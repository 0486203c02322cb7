package app_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// asvs are the requirements of the chapters V6 and V7 of OWASP ASVS 5.0.0: how many each section has, with
// their levels in order.
var asvs = []struct{ section, levels string }{
	{"6.1", "122"}, {"6.2", "111111112222"}, {"6.3", "11223333"}, {"6.4", "112233"}, {"6.5", "22222333"}, {"6.6", "2223"}, {"6.7", "33"}, {"6.8", "2222"},
	{"7.1", "222"}, {"7.2", "1111"}, {"7.3", "22"}, {"7.4", "11222"}, {"7.5", "223"}, {"7.6", "22"},
}

var (
	asvsRow   = regexp.MustCompile(`(?m)^\| ([67]\.\d\.\d+) \| ([^|]+) \| ([123]) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$`)
	reference = regexp.MustCompile("`([a-z_/]+\\.go) (\\S+)`")
)

func TestTheTableOfRequirementsIsTrue(t *testing.T) {
	var wanted, found []string
	for _, s := range asvs {
		for i, level := range s.levels {
			wanted = append(wanted, s.section+"."+strconv.Itoa(i+1)+" at level "+string(level))
		}
	}
	declared := map[string][]string{}
	for _, row := range asvsRow.FindAllStringSubmatch(readDoc(t, "docs/security.md"), -1) {
		id, state, code, shown := row[1], row[4], row[5], row[6]
		found = append(found, id+" at level "+row[3])
		require.Regexp(t, `^(met|partly: .+|not met|not applicable|met: .+)$`, state, id)
		if strings.HasPrefix(state, "not ") {
			require.Equal(t, "–", code, id)
			require.Greater(t, len(shown), 10, "%s needs a reason", id)
			continue
		}
		for column, text := range map[string]string{"code": code, "test": shown} {
			references := reference.FindAllStringSubmatch(text, -1)
			require.NotEmpty(t, references, "%s names no %s", id, column)
			require.Empty(t, strings.Trim(reference.ReplaceAllString(text, ""), " ,"), id)
			for _, r := range references {
				file, name := r[1], r[2]
				if declared[file] == nil {
					declared[file] = declarations(t, file)
				}
				require.Contains(t, declared[file], name, "%s names what is not in %s", id, file)
				require.Equal(t, column == "test", strings.HasSuffix(file, "_test.go") && strings.HasPrefix(name, "Test"), "%s: %s", id, name)
			}
		}
	}
	require.Equal(t, wanted, found, "every requirement, in order, at its level")
}

// declarations returns what a file of ours declares, with methods as Type.Method.
func declarations(t *testing.T, file string) (names []string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", file), nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	ast.Inspect(parsed, func(node ast.Node) bool {
		switch d := node.(type) {
		case *ast.FuncDecl:
			name := d.Name.Name
			if d.Recv != nil {
				receiver := d.Recv.List[0].Type
				if pointer, ok := receiver.(*ast.StarExpr); ok {
					receiver = pointer.X
				}
				name = receiver.(*ast.Ident).Name + "." + name
			}
			names = append(names, name)
			return false
		case *ast.TypeSpec:
			names = append(names, d.Name.Name)
		case *ast.ValueSpec:
			for _, name := range d.Names {
				names = append(names, name.Name)
			}
		}
		return true
	})
	return names
}

func TestPasswordsDoNotExpire(t *testing.T) {
	site := newSite(t)
	site.register("ada@example.com")
	site.clock.advance(10 * 365 * 24 * time.Hour)
	require.True(t, site.signIn("ada@example.com").signedIn())
}

var passwordField = regexp.MustCompile(`<input[^>]* type="password"[^>]*>`)

func TestPasswordsCanBePasted(t *testing.T) {
	site := newSite(t, wide)
	ada := site.signUp("ada@example.com")
	for path, wanted := range map[string][]string{
		"/auth/login": {"current-password"}, "/auth/registration": {"new-password"}, "/auth/account": {"current-password", "new-password"},
	} {
		v := site.visitor()
		if path == "/auth/account" {
			v = ada
		}
		page := v.get(path, asPage)
		require.Equal(t, http.StatusOK, page.status)
		var told []string
		for _, field := range passwordField.FindAllString(page.body, -1) {
			_, rest, _ := strings.Cut(field, `autocomplete="`)
			told = append(told, rest[:strings.IndexByte(rest, '"')])
			require.NotRegexp(t, ` (maxlength|readonly|on\w+)=?`, field)
		}
		slices.Sort(told)
		require.Equal(t, wanted, told, path)
	}
	for _, script := range []string{"static/latchkey.js", "static/session.js"} {
		require.NotRegexp(t, `(?i)paste|beforeinput`, readDoc(t, script))
	}
}
