package check

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"

	"golang.org/x/net/publicsuffix"

	"latchkey/app/config"
	"latchkey/app/route"
	"latchkey/app/web"
)

// Advice about proxies that change cookies.
const (
	leaveSetCookie = "have it pass on Set-Cookie unchanged: in nginx without proxy_cookie_domain, proxy_cookie_path and proxy_cookie_flags"
	leaveCookie    = "have it, and any firewall before it, pass on the Cookie header unchanged"
)

// checkCookies starts a sign-in at BASE_URL like a browser, and checks that its cookie reaches the browser and comes
// back as the settings say.
func (r *report) checkCookies(ctx context.Context, client *http.Client, settings *config.Settings) {
	flow, got := r.startSignIn(ctx, client, settings)
	if got == nil {
		return
	}
	if _, again := r.startSignIn(ctx, client, settings); again == nil {
		return
	} else if again.Value == got.Value {
		r.fail("cookies", "two visitors get the same cookie: the proxy answers from a cache – have it obey Latchkey's Cache-Control")
		return
	}
	failures := r.failures
	if r.checkSetCookie(settings, got) {
		r.checkCookieSentBack(ctx, client, settings, flow, got)
	}
	if r.failures == failures {
		r.ok("cookies", "they reach the browser from %s, and come back", settings.BaseOrigin)
	}
}

// startSignIn returns the id and the cookie of a new flow, or reports why there is none.
func (r *report) startSignIn(ctx context.Context, client *http.Client, settings *config.Settings) (id string, cookie *http.Cookie) {
	start := settings.BaseOrigin + settings.BasePath.Path(route.LoginBrowser)
	res, err := get(ctx, client, start, asBrowser(settings.BaseOrigin))
	if err != nil {
		r.failRequest(settings, settings.BaseOrigin, err)
		return "", nil
	}
	var flow struct{ ID string }
	if res.status != http.StatusOK || json.Unmarshal(res.body, &flow) != nil || flow.ID == "" {
		r.fail("cookies", "%s answers %d (%s): nobody can sign in – have the proxy pass that path to Latchkey", start, res.status, res.reason())
		return "", nil
	}
	cookie = flowCookie(settings, res.cookies)
	if cookie == nil {
		r.fail("cookies", "the proxy drops the cookie that %s sets: nobody can sign in – have it pass on Set-Cookie, and not answer from a cache", start)
	}
	return flow.ID, cookie
}

// flowCookie returns the cookie of a sign-in form: the one with the right name, or else one with a name from other
// settings.
func flowCookie(settings *config.Settings, cookies []*http.Cookie) (found *http.Cookie) {
	for _, cookie := range cookies {
		if cookie.Name == settings.CookieName(web.FlowCookie) {
			return cookie
		}
		if is, _ := settings.IsCookie(cookie.Name, web.FlowCookie); is {
			found = cookie
		}
	}
	return found
}

// checkSetCookie compares a cookie that came through the proxy with the one that the server, whose settings have already
// been compared, sets. It reports whether browsers send the cookie back.
func (r *report) checkSetCookie(settings *config.Settings, got *http.Cookie) bool {
	changes := cookieChanges(settings.NewCookie(settings.CookieName(web.FlowCookie), got.Value, 0), got)
	if len(changes) == 0 {
		return true // Advise checks the settings themselves
	}
	comesBack, lost := followCookie(settings, got)
	what := "the proxy changes the cookies on their way to the browser, " + strings.Join(changes, ", ")
	switch {
	case !comesBack:
		r.fail("cookies", "%s: browsers refuse them or don't send them back, and nobody can sign in – %s", what, leaveSetCookie)
	case len(lost) > 0:
		r.fail("cookies", "%s: browsers don't send them to every page of %s, and an app there keeps redirecting to the sign-in page – %s",
			what, strings.Join(lost, ", "), leaveSetCookie)
	default:
		r.fail("cookies", "%s: their scope or protection isn't what the settings say – %s", what, leaveSetCookie)
	}
	return comesBack
}

// cookieChanges says how a cookie differs from what it should be, without its value.
func cookieChanges(want, got *http.Cookie) (changes []string) {
	compare := func(attribute string, want, got any) {
		if want != got {
			changes = append(changes, fmt.Sprintf("%s from %q to %q", attribute, fmt.Sprint(want), fmt.Sprint(got)))
		}
	}
	compare("the name", want.Name, got.Name)
	compare("Domain", strings.ToLower(want.Domain), strings.ToLower(strings.TrimPrefix(got.Domain, ".")))
	compare("Path", want.Path, got.Path)
	compare("Secure", want.Secure, got.Secure)
	compare("HttpOnly", want.HttpOnly, got.HttpOnly)
	compare("SameSite", sameSite(want), sameSite(got))
	return changes
}

func sameSite(c *http.Cookie) string {
	switch c.SameSite {
	case http.SameSiteLaxMode:
		return "Lax"
	case http.SameSiteStrictMode:
		return "Strict"
	case http.SameSiteNoneMode:
		return "None"
	}
	return ""
}

// followCookie puts a cookie from BASE_URL into a browser's cookie jar. It reports whether a sign-in gets it back, and
// which of the settings' hosts don't get it on all paths.
func followCookie(settings *config.Settings, cookie *http.Cookie) (comesBack bool, lost []string) {
	base, err := url.Parse(settings.BaseOrigin)
	if err != nil || refusedByPrefix(cookie) {
		return false, nil
	}
	jar, _ := cookiejar.New(&cookiejar.Options{PublicSuffixList: publicsuffix.List}) // never fails
	signIn := &url.URL{Scheme: base.Scheme, Host: base.Host, Path: settings.BasePath.Path(route.LoginBrowser)}
	jar.SetCookies(signIn, []*http.Cookie{cookie})
	for _, host := range settings.CookieHosts() {
		at := &url.URL{Scheme: base.Scheme, Host: host, Path: "/"}
		if host == base.Hostname() {
			at.Host = base.Host
		}
		if len(jar.Cookies(at)) == 0 {
			lost = append(lost, host)
		}
	}
	return len(jar.Cookies(signIn)) > 0, lost
}

// refusedByPrefix reports whether browsers refuse a cookie because it isn't what its name promises: RFC 6265bis §5.7.
// Go's cookie jar doesn't know that.
func refusedByPrefix(c *http.Cookie) bool {
	name := strings.ToLower(c.Name)
	host := strings.HasPrefix(name, "__host-")
	return (host || strings.HasPrefix(name, "__secure-")) && !c.Secure || host && (c.Domain != "" || c.Path != "/")
}

// checkCookieSentBack sends a cookie back, and checks that its flow is found: alone, and with another cookie before or
// after it, which another installation or a neighbouring host may have set.
func (r *report) checkCookieSentBack(ctx context.Context, client *http.Client, settings *config.Settings, flow string, cookie *http.Cookie) {
	at := settings.BaseOrigin + settings.BasePath.Path(route.LoginFlow) + "?" + url.Values{"id": {flow}}.Encode()
	ours := cookie.Name + "=" + cookie.Value
	other := cookie.Name + "=x"
	if strings.HasPrefix(cookie.Name, "__Host-") { // a browser never has two of these
		other = settings.OwnCookieName(web.FlowCookie) + "=x"
	}
	for _, sent := range []struct{ cookies, what, who string }{
		{ours, "the proxy doesn't pass our cookies on", "nobody can sign in"},
		{ours + "; " + other, "the proxy drops a cookie that comes before another of the same name", "people who have both can't sign in"},
		{other + "; " + ours, "the proxy drops a cookie that comes after another of the same name", "people who have both can't sign in"},
	} {
		header := asBrowser(settings.BaseOrigin)
		header.Set("Cookie", sent.cookies)
		res, err := get(ctx, client, at, header)
		switch {
		case err != nil:
			r.failRequest(settings, settings.BaseOrigin, err)
			return
		case res.status == http.StatusOK:
			continue
		case res.is(web.ErrOtherBrowser):
			r.fail("cookies", "%s: %s – %s", sent.what, sent.who, leaveCookie)
		default:
			r.fail("cookies", "a request with the cookies of a sign-in gets %d (%s): %s – %s", res.status, res.reason(), sent.who, leaveCookie)
			return
		}
		if sent.cookies == ours {
			return
		}
	}
}
