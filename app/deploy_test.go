package app_test

import (
	"debug/elf"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

// shell runs a line of a document, in a directory.
func shell(t *testing.T, dir, line string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
	cmd.Dir = dir
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s\n%s", line, output)
	return string(output)
}

func TestTheBinaryOfTheREADMEIsStatic(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "latchkey")
	shell(t, "..", adapt(t, codeIn(t, "README.md", "sh", "go build"), "-o latchkey", "-o "+binary))

	file, err := elf.Open(binary)
	require.NoError(t, err)
	defer file.Close()
	libraries, err := file.ImportedLibraries()
	require.NoError(t, err)
	require.Empty(t, libraries)
}

var (
	installLine = regexp.MustCompile(`(?m)^// \+heroku install (.*)$`)
	webLine     = regexp.MustCompile(`(?m)^web: (.*)$`)
	setupLink   = regexp.MustCompile(`"msg":"make the first account","url":"(\S+)"`)
)

// TestAHerokuStyleHost builds and starts Latchkey as the Go buildpack and the router of such a host do.
func TestAHerokuStyleHost(t *testing.T) {
	t.Parallel()
	home, address := t.TempDir(), freeAddress(t)
	install, web := installLine.FindStringSubmatch(readDoc(t, "go.mod")), webLine.FindStringSubmatch(readDoc(t, "Procfile"))
	require.NotNil(t, install)
	require.NotNil(t, web)
	shell(t, "..", "CGO_ENABLED=0 GOBIN="+home+"/bin go install -tags heroku "+install[1])
	start := exec.Command("sh", "-c", "exec "+web[1])
	start.Dir = home
	start.Env = append(os.Environ(), "HOME="+home, "PATH="+home+"/bin:"+os.Getenv("PATH"), "PORT="+portOf(address))
	settings := adapt(t, codeIn(t, "README.md", "sh", "config:set"), "10.0.0.0/8", "127.0.0.0/8")
	for name, value := range settingsIn(t, settings) {
		start.Env = append(start.Env, name+"="+value)
	}
	output := startProgram(t, start, address)
	v := (&site{t: t, url: "http://" + address, base: "/auth"}).visitor()
	require.Equal(t, http.StatusOK, v.get("/auth/health/alive").status) // all has been printed before it answers
	said, err := os.ReadFile(output)
	require.NoError(t, err)
	setup := setupLink.FindSubmatch(said)
	require.NotNil(t, setup, string(said))
	link, err := url.Parse(string(setup[1]))
	require.NoError(t, err)

	flow := v.get("/auth/self-service/registration/api?" + link.RawQuery)
	action, err := url.Parse(flow.text("ui.action"))
	require.NoError(t, err)
	require.Equal(t, "https://your-app.herokuapp.com", action.Scheme+"://"+action.Host)
	// The router adds the address that it sees to what the client claims.
	res := v.postJSON(action.RequestURI(), map[string]any{"method": "password", "password": goodPassword,
		"traits": map[string]any{"email": "ada@example.com"}}, with("X-Forwarded-For", "203.0.113.9, 198.51.100.7"))

	require.Equal(t, http.StatusOK, res.status, res.body)
	require.Equal(t, "198.51.100.7", res.text("session.devices.0.ip_address"))
}

func TestTheSystemdUnitIsSound(t *testing.T) {
	kit.NeedProgram(t, "systemd-analyze", "systemd")
	text := readDoc(t, "docs/latchkey.service")
	unit := filepath.Join(t.TempDir(), "latchkey.service")
	require.NoError(t, os.WriteFile(unit, []byte(adapt(t, text, "/usr/local/bin/latchkey", "/bin/true")), 0o600))
	socket := filepath.Join(filepath.Dir(unit), "latchkey.socket")
	require.NoError(t, os.WriteFile(socket, []byte(readDoc(t, "docs/latchkey.socket")), 0o600))

	require.Empty(t, shell(t, ".", "systemd-analyze verify "+unit+" "+socket))
	// Of 100, which is a unit that may do everything.
	shell(t, ".", "systemd-analyze security --no-pager --offline=true --threshold=15 "+unit)

	for line := range strings.Lines(text) {
		if setting, ok := strings.CutPrefix(strings.TrimSpace(line), "Environment="); ok {
			name, value, _ := strings.Cut(setting, "=")
			t.Setenv(name, value)
		}
	}
	config, err := defaults(t).Parse()
	require.NoError(t, err)
	require.NotEmpty(t, config.BaseURL)
	require.Equal(t, "sqlite:/var/lib/latchkey/latchkey.db", config.DatabaseURL)
	_, port, err := net.SplitHostPort(config.Address())
	require.NoError(t, err)
	require.Contains(t, readDoc(t, "docs/latchkey.socket"), ":"+port+"\n", "where 'latchkey healthcheck' asks")
}
