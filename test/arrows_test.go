package test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

// goPackage is what 'go list' says of a package.
type goPackage struct {
	ImportPath string
	GoFiles    []string
	Imports    []string // not those of its tests
	Deps       []string // what it imports, directly or not
}

// packages returns all packages by their names below the module's; "" is the program.
func packages(t *testing.T) map[string]goPackage {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,GoFiles,Imports,Deps", "./...")
	list.Dir = kit.Root(t)
	out, err := list.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		require.NoError(t, err, "%s", exit.Stderr)
	}
	require.NoError(t, err)
	all := map[string]goPackage{}
	for in := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := in.Decode(&p); err == io.EOF {
			return all
		} else {
			require.NoError(t, err)
		}
		all[strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, "latchkey"), "/")] = p
	}
}

// below reports whether a path is that of a package or of one below it.
func below(path, name string) bool { return path == name || strings.HasPrefix(path, name+"/") }

func anyBelow(paths []string, names ...string) string {
	for _, path := range paths {
		if slices.ContainsFunc(names, func(name string) bool { return below(path, name) }) {
			return path
		}
	}
	return ""
}

// ours returns those of the paths that are packages of this module, by their names below it.
func ours(paths []string) (names []string) {
	for _, path := range paths {
		if name, ok := strings.CutPrefix(path, "latchkey/"); ok {
			names = append(names, name)
		}
	}
	return names
}

var (
	ginNames   = []string{"github.com/gin-gonic", "github.com/gin-contrib"}
	sqlDrivers = []string{"github.com/jackc/pgx", "modernc.org/sqlite", "zombiezen.com/go/sqlite", "gorm.io/driver"}
)

// rooms are the packages of app that answer requests or send messages, each for one purpose, with who
// may import them besides app.
var rooms = map[string][]string{
	"app/account":      {},
	"app/apidocs":      {},
	"app/assets":       {"app/apidocs"},               // which links to the script and the styles
	"app/confirm":      {"app/account", "app/logout"}, // both ask for the password before they end other sessions
	"app/forwardauth":  {},
	"app/health":       {"cli/check"}, // it asks a server how it sees the request
	"app/live":         {},
	"app/login":        {},
	"app/logout":       {},
	"app/outbox":       {"cli"}, // 'app test' notifies an app
	"app/registration": {},
	"app/sessions":     {"app/account", "app/login", "app/registration"}, // the one form of a session in JSON
}

// What is below knows nothing of what is above: main → cli → app → rooms → web → models → db.
func TestArrowsPointDownwards(t *testing.T) {
	all := packages(t)
	require.Greater(t, len(all), 25)

	require.Equal(t, []string{"main.go"}, all[""].GoFiles, "the root has main.go alone")
	for name, p := range all {
		imports := ours(p.Imports)
		if below(name, "app") {
			require.Empty(t, anyBelow(ours(p.Deps), "cli"), "%s knows the command line", name)
		}
		if !below(name, "cli") && name != "" && !below(name, "test") {
			require.NotContains(t, imports, "app", "%s is below app", name)
		}
		if !below(name, "db") && !below(name, "test") {
			require.Empty(t, anyBelow(p.Imports, sqlDrivers...), "%s knows a database's driver", name)
		}
		if !below(name, "test") {
			require.Empty(t, anyBelow(ours(p.Deps), "test"), "%s needs what is for tests", name)
		}
	}
	require.Equal(t, []string{"db"}, ours(all["models"].Imports))
	require.Empty(t, ours(all["db"].Imports))
	require.Equal(t, []string{"app/route"}, ours(all["views"].Imports))
	for _, leaf := range []string{"app/route", "app/outage", "app/password", "app/returnto", "app/background", "app/clientaddr"} {
		require.Contains(t, all, leaf)
		require.Empty(t, ours(all[leaf].Imports), "%s stands alone", leaf)
	}
	for _, name := range []string{"app/authn", "app/keys", "app/config", "app/activity", "app/outbox", "models", "db",
		"app/audit", "app/password", "app/returnto", "app/backchannel", "app/metrics", "app/tracing", "app/access", "app/outage", "app/background", "app/route", "app/clientaddr"} {
		require.Contains(t, all, name)
		require.Empty(t, anyBelow(all[name].Deps, ginNames...), "%s needs no HTTP framework", name)
	}
	// app/tracing is a plugin of GORM's besides, which has to import it.
	for _, name := range []string{"app/password", "app/returnto", "app/backchannel", "app/metrics", "app/access", "app/outage"} {
		require.Empty(t, anyBelow(all[name].Imports, "gorm.io"), "%s needs no database", name)
	}
}

func TestOnlyAppKnowsTheRooms(t *testing.T) {
	all := packages(t)
	for room, others := range rooms {
		require.Contains(t, all, room)
		importers := []string{}
		for name, p := range all {
			if name != "app" && slices.Contains(ours(p.Imports), room) {
				importers = append(importers, name)
			}
		}
		slices.Sort(importers)
		require.Equal(t, others, importers, "who imports %s", room)
	}
}

// An App that has everything in it hides what depends on what.
func TestAppIsSmall(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(kit.Root(t), "app", "app.go"), nil, 0)
	require.NoError(t, err)
	fields := 0
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok && spec.Name.Name == "App" {
			for _, field := range spec.Type.(*ast.StructType).Fields.List {
				fields += max(1, len(field.Names))
			}
		}
		return true
	})
	require.Positive(t, fields)
	require.Less(t, fields, 10)
}
