package app_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

func TestOwnPageOfTheDocument(t *testing.T) {
	kit.NeedProgram(t, "node", "nodejs")
	kit.NeedProgram(t, "chromium", "chromium")
	settings, port := codeIn(t, "docs/own-ui.md", "sh", "LOGIN_UI_URL="), kit.FreePort(t)
	app := "http://app.example.localhost:" + port
	server := httptest.NewUnstartedServer(nil)
	t.Cleanup(server.Close)
	origin := "http://login.example.localhost:" + portOf(server.Listener.Addr().String())
	for name, value := range settingsIn(t, adapt(t, settings, "https://login.example.com", origin, "https://app.example.com", app, "=example.com", "=example.localhost")) {
		t.Setenv(name, value)
	}
	site := newSite(t, open)
	server.Config.Handler = site.checkedApp()
	server.Start()
	site.register("ada@example.com")

	file := filepath.Join(t.TempDir(), "server.mjs")
	require.NoError(t, os.WriteFile(file, []byte(codeIn(t, "docs/own-ui.md", "js", "server.mjs")), 0o600))
	node := exec.Command("node", file)
	node.Stderr = os.Stderr
	resolver, err := filepath.Abs("testdata/resolve.cjs")
	require.NoError(t, err)
	node.Env = append(os.Environ(), "PORT="+port, "LATCHKEY="+origin+"/auth", "NODE_OPTIONS=--require "+resolver)
	require.NoError(t, node.Start())
	t.Cleanup(func() {
		_ = node.Process.Kill()
		_ = node.Wait()
	})
	require.Eventually(t, func() bool {
		res, err := http.Get("http://127.0.0.1:" + port + "/")
		if err == nil {
			res.Body.Close()
		}
		return err == nil
	}, kit.Timeout, 10*time.Millisecond)

	f := &frontEnd{site: site, latchkey: origin}
	b := f.browser(app)
	b.open(origin + "/auth/account")
	b.until(`document.querySelector("main form")`)
	require.Contains(t, b.value("body", "baseURI"), app+"/login?flow=")
	b.fill("input[name=identifier]", "ada@example.com")
	b.fill("input[name=password]", "wrong")
	b.click("button[name=method]")
	b.until(`document.querySelector("main > [role=alert]")`)
	require.Equal(t, "ada@example.com", b.value("input[name=identifier]", "value"))
	b.fill("input[name=password]", goodPassword)
	b.click("button[name=method]")
	b.arrives("ada@example.com")

	other := f.browser(app)
	other.open(origin + "/auth/registration?return_to=" + url.QueryEscape(app+"/registration"))
	other.until(`document.querySelector("main form")`)
	other.fill(`input[name="traits.email"]`, "bob@example.com")
	other.fill("input[name=password]", "short")
	other.click("button[name=method]")
	other.until(`document.querySelector("form [role=alert]")`)
	other.fill("input[name=password]", goodPassword)
	other.click("button[name=method]")
	other.until(`!document.querySelector("main")`)
	other.open(origin + "/auth/account")
	other.arrives("bob@example.com")
	other.open(app + "/login?flow=x")
	require.Contains(t, other.text(), "This form has expired. Start again")
}
