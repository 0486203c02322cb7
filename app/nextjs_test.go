package app_test

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/app/config"
	"latchkey/test/kit"
)

// These tests drive Latchkey through what Ory makes for Next.js, unchanged. Both keep of ORY_SDK_URL only the
// host, pass on a few headers, and put a Domain on every cookie.

const nextApp = "https://app.example.com"

// nextVisitor returns a browser at an app that passes requests on to Latchkey, at the root of its host.
func nextVisitor(t *testing.T) *visitor {
	t.Helper()
	dir, err := filepath.Abs("testdata/nextjs")
	require.NoError(t, err)
	_, err = os.Stat(filepath.Join(dir, "node_modules"))
	kit.Need(t, err == nil, "npm packages: npm ci --prefix app/testdata/nextjs")
	kit.NeedProgram(t, "node", "nodejs")

	server := httptest.NewUnstartedServer(nil)
	t.Cleanup(server.Close)
	origin := "https://login.example.com:" + portOf(server.Listener.Addr().String())
	site := newSite(t, func(c *config.Config) {
		c.BaseURL, c.BasePath, c.CookieDomain, c.TrustedProxies = origin, "/", "example.com", []string{"127.0.0.1"}
		c.AllowedReturnURLs, c.LoginReturnURL, c.LogoutReturnURL = []string{nextApp}, nextApp+"/", nextApp+"/bye"
		c.Registration = "open"
	})
	server.Config.Handler = site.checkedApp()
	server.StartTLS()

	node := exec.Command("node", "--require", "../resolve.cjs", "serve.cjs")
	node.Dir, node.Stderr = dir, os.Stderr
	node.Env = append(os.Environ(), "ORY_SDK_URL="+origin, "NODE_TLS_REJECT_UNAUTHORIZED=0", "NODE_NO_WARNINGS=1")
	stdout, err := node.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, node.Start())
	t.Cleanup(func() {
		_ = node.Process.Kill()
		_ = node.Wait()
	})
	port, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)

	v := site.visitor()
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:"+strings.TrimSpace(port))
	}
	v.client.Transport = &http.Transport{DialTLSContext: dial} // the app's own proxy has the certificate
	t.Cleanup(v.client.CloseIdleConnections)
	return v
}

func TestOryProxiesForNextJS(t *testing.T) {
	v := nextVisitor(t)
	v.site.register("ada@example.com")
	viaProxy := []header{with("X-Forwarded-Proto", "https"), with("X-Forwarded-Host", "app.example.com"), with("X-Forwarded-For", "203.0.113.7")}
	as := func(more ...header) []header { return append(more, viaProxy...) }

	for _, proxy := range []struct {
		name, below string // what its paths begin with
		ui          string // where the sign-in page is
	}{
		{"@ory/nextjs", "", nextApp + "/sign-in"},
		{"@ory/integrations", "/api/.ory", "/login"},
	} {
		t.Run(proxy.name, func(t *testing.T) {
			own := nextApp + proxy.below
			absolute := func(to string) string {
				u, err := url.Parse(nextApp + "/")
				require.NoError(t, err)
				u, err = u.Parse(to)
				require.NoError(t, err)
				return u.String()
			}
			flowAt := func(res answer) answer {
				t.Helper()
				require.Equal(t, http.StatusSeeOther, res.status, res.body)
				to := res.header.Get("Location")
				require.True(t, strings.HasPrefix(to, proxy.ui+"?flow="), to)
				u, err := url.Parse(to)
				require.NoError(t, err)
				flow := v.get(own+"/self-service/login/flows?id="+url.QueryEscape(u.Query().Get("flow")), as(asJSON)...)
				require.Equal(t, http.StatusOK, flow.status, flow.body)
				require.True(t, strings.HasPrefix(absolute(flow.text("ui.action")), own+"/self-service/login?flow="), flow.text("ui.action"))
				return flow
			}
			whoami := func() answer { return v.get(own+"/sessions/whoami", as(asJSON)...) }
			require.Equal(t, http.StatusUnauthorized, whoami().status)

			started := v.get(own+"/self-service/login/browser?return_to="+url.QueryEscape(nextApp+"/wiki"), as(asPage)...)
			cookie := started.setCookies()["__Secure-latchkey_flow"]
			require.Contains(t, cookie, "Domain=example.com", started.header)
			require.Contains(t, cookie, "Secure")
			flow := flowAt(started)
			form := url.Values{"csrf_token": {flow.csrfToken()}, "method": {"password"}, "identifier": {"ada@example.com"}, "password": {"wrong"}}
			flow = flowAt(v.postForm(absolute(flow.text("ui.action")), form, as()...))
			require.EqualValues(t, 4000006, flow.field("ui.messages.0.id"))
			require.Equal(t, "ada@example.com", flow.node("identifier")["attributes"].(map[string]any)["value"])

			wrong := v.postJSON(absolute(flow.text("ui.action")), map[string]string{"method": "password", "identifier": "ada@example.com", "password": "wrong"}, as()...)
			require.Equal(t, http.StatusBadRequest, wrong.status)
			form.Set("password", goodPassword)
			form.Set("csrf_token", flow.csrfToken())
			signedIn := v.postForm(absolute(flow.text("ui.action")), form, as()...)
			require.Equal(t, nextApp+"/wiki", signedIn.header.Get("Location"), signedIn.body)
			require.Equal(t, http.StatusOK, whoami().status)
			require.Equal(t, "ada@example.com", whoami().text("identity.traits.email"))
			require.Equal(t, "203.0.113.7", whoami().text("devices.0.ip_address"))

			logout := v.get(own+"/self-service/logout/browser", as(asJSON)...)
			require.True(t, strings.HasPrefix(absolute(logout.text("logout_url")), own+"/self-service/logout?token="), logout.body)
			require.Equal(t, nextApp+"/bye", v.get(absolute(logout.text("logout_url")), as(asPage)...).header.Get("Location"))
			require.Equal(t, http.StatusUnauthorized, whoami().status)
		})
	}
}
