package app_test

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/app/config"
	"latchkey/test/kit"
)

// withElements is a front-end whose sign-in and registration pages are Ory's React components, by the
// document's script.
func withElements(t *testing.T, configure ...func(*config.Config)) *frontEnd {
	t.Helper()
	const doc = "docs/own-ui.md"
	_, err := os.Stat("testdata/elements/node_modules")
	kit.Need(t, err == nil, "npm packages: npm ci --prefix app/testdata/elements")
	f := newFrontEnd(t, append([]func(*config.Config){func(c *config.Config) {
		app := c.CORSAllowedOrigins[0]
		c.LoginUIURL, c.RegistrationUIURL, c.LoginReturnURL, c.AllowedReturnURLs = app+"/login", app+"/registration", app+"/", []string{app}
	}}, configure...)...)
	page := filepath.Join(t.TempDir(), "app.jsx")
	require.NoError(t, os.WriteFile(page, []byte(adapt(t, codeIn(t, doc, "js", "@ory/elements-react"), "https://login.example.com", f.latchkey)), 0o600))
	f.script = bundle(t, page, "iife", "testdata/elements/node_modules")
	f.page = `<!DOCTYPE html><title>App</title><main></main>
		<script>unhandled = []; addEventListener("unhandledrejection", ({ reason }) => unhandled.push(String(reason)))</script>
		<script src="/app.js"></script>`
	return f
}

// sees waits until the page says something, and returns all that it says.
func (b *tab) sees(text string) string {
	b.t.Helper()
	b.until(fmt.Sprintf(`document.querySelector("main form") && document.body.innerText.includes(%q)`, text))
	said := b.text()
	for _, wrong := range []string{"{", "}", "undefined", "[object"} {
		require.NotContains(b.t, said, wrong)
	}
	require.Empty(b.t, eval[[]string](b, "unhandled"), "Ory's components handle every answer")
	return said
}

// submits fills in the form of Ory's components and sends it.
func (b *tab) submits(fields map[string]string) {
	b.t.Helper()
	for name, value := range fields {
		b.fill(fmt.Sprintf("input[name=%q]", name), value)
	}
	b.click("button[name=method]")
}

func TestOryElementsSignInAndOut(t *testing.T) {
	f := withElements(t)
	f.site.register("ada@example.com")
	b := f.browser(f.app)
	b.open(f.app + "/login?return_to=" + url.QueryEscape(f.app+"/wiki"))

	b.sees("Email address or username")
	b.submits(nil)
	b.sees("Please enter the password and try again.")
	b.submits(map[string]string{"identifier": "ada@example.com", "password": "wrong"})
	b.sees("The provided credentials are invalid")
	for range 6 {
		f.site.visitor().tryLogin("bob@example.com", "wrong")
	}
	b.submits(map[string]string{"identifier": "bob@example.com", "password": "wrong"})
	b.sees("Too many wrong passwords. Try again in 1 second.")
	b.submits(map[string]string{"identifier": "ada@example.com", "password": goodPassword})
	b.until(`location.pathname === "/wiki"`)

	b.open(f.latchkey + "/auth/self-service/login/browser?refresh=true&return_to=" + url.QueryEscape(f.app+"/wiki"))
	said := b.sees("Reauthenticate")
	require.NotContains(t, said, "Email address or username", "who it is is known")
	b.submits(map[string]string{"password": "wrong"})
	b.sees("The provided credentials are invalid")
	b.submits(map[string]string{"password": goodPassword})
	b.until(`location.pathname === "/wiki"`)

	b.open(f.latchkey + "/auth/self-service/login/browser?refresh=true")
	b.sees("Logout")
	const logout = `main [data-testid="ory/screen/login/action/logout"][href*="/self-service/logout?token="]`
	b.until(fmt.Sprintf(`document.querySelector(%q)`, logout)) // it asks for the URL
	b.click(logout)
	b.arrives("You are signed out")
}

func TestOryElementsRegister(t *testing.T) {
	f := withElements(t)
	f.site.register("ada@example.com")
	b := f.browser(f.app)
	b.open(f.app + "/login?return_to=" + url.QueryEscape(f.app+"/wiki"))
	b.sees("Don't have an account?")
	b.click("main a[href*='/self-service/registration/browser']")

	said := b.sees("Register an account")
	for _, label := range []string{"Email address", "Username", "Name", "Password"} {
		require.Contains(t, said, label)
	}
	b.submits(map[string]string{"traits.email": "ada@example.com", "password": "short"})
	b.sees("because this password has 5 characters, but needs at least 8: add more, or use a few words.")
	b.submits(map[string]string{"password": goodPassword})
	b.sees("An account with the same identifier")
	b.submits(map[string]string{"traits.email": "eve", "password": goodPassword})
	b.sees("Enter a valid email address")
	b.submits(map[string]string{"traits.email": "eve@example.com", "traits.name": "Eve", "password": goodPassword})
	b.until(`location.pathname === "/wiki"`)
}
