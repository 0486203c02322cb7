package check

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"latchkey/app/clientaddr"
	"latchkey/app/config"
	"latchkey/app/health"
	"latchkey/app/keys"
	"latchkey/app/route"
	"latchkey/app/web"
)

// renewBefore is when a certificate should have been renewed: ACME clients do so a month before it expires.
const renewBefore = 14 * 24 * time.Hour

// forgedClients claim an address that nobody has (RFC 5737). If the server believes that a request comes from there, it
// trusts any client.
var forgedClients = map[string]string{
	clientaddr.XForwardedFor: "203.0.113.99", clientaddr.Forwarded: "for=203.0.113.99", clientaddr.XRealIP: "203.0.113.99",
}

// checkRequests sends requests to the server, directly and by BASE_URL, and checks how it sees them. The
// key is that of the database; known is false if that can't be read.
func (r *report) checkRequests(ctx context.Context, settings *config.Settings, ring *keys.Ring, known bool) {
	client := &http.Client{Timeout: 10 * time.Second,
		Transport:     http.DefaultTransport.(*http.Transport).Clone(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()

	here := "http://" + config.Reachable(settings.Address())
	ready := settings.BasePath.Path(route.Ready)
	res, err := get(ctx, client, here+ready, nil)
	switch {
	case err != nil:
		r.warn("server", "nothing answers at %s: the checks that need a running server were skipped – start it", here)
		if settings.BaseURL == "" {
			return
		}
	case res.status != http.StatusOK:
		r.fail("server", "%s answers %d at %s: %s", here, res.status, ready, res.reason())
	default:
		r.ok("server", "ready at %s", here)
	}
	if ring == nil {
		if known && err == nil {
			r.fail("server", "the one at %s has another database – set DATABASE_URL to that of the server", here)
		}
		return
	}
	token := health.SeenToken(ring, time.Now())
	base := settings.BaseOrigin
	if base == "" {
		if seen, ok := r.requestSeen(ctx, client, settings, here, token); ok && seen.BaseURL != "" {
			r.fail("BASE_URL", "it is unset here and %s at the server – check with the server's settings", seen.BaseURL)
		}
		return
	}
	if seen, ok := r.requestSeen(ctx, client, settings, base, token); ok {
		r.checkProxy(settings, seen)
		if seen.BaseURL == base && seen.CookieDomain == settings.CookieDomain && !seen.OtherOrigin {
			r.checkCookies(ctx, client, settings)
		}
		r.checkHTTP(ctx, client, base, settings.BasePath.Path(route.Login))
	}
}

// requestSeen sends a request to an origin, and returns how the server there sees it. It checks the
// certificate and the server's clock on the way.
func (r *report) requestSeen(ctx context.Context, client *http.Client, settings *config.Settings, origin, token string) (seen health.Seen, ok bool) {
	before, path := time.Now(), settings.BasePath.Path(route.HealthRequest)
	header := asBrowser(origin)
	header.Set(health.SeenHeader, token)
	for name, claim := range forgedClients {
		header.Set(name, claim)
	}
	res, err := get(ctx, client, origin+path, header)
	if err != nil {
		r.failRequest(settings, origin, err)
		return seen, false
	}
	switch {
	case res.status == http.StatusForbidden:
		r.fail("BASE_URL", "%s leads to a Latchkey with another database, or whose clock is minutes off – check with the server's settings", origin)
	case res.status != http.StatusOK || json.Unmarshal(res.body, &seen) != nil || seen.Time.IsZero():
		r.fail("BASE_URL", "%s answers %d for %s, not as Latchkey of this version does – have the proxy pass everything below BASE_PATH to it, paths unchanged", origin, res.status, path)
	default:
		ok = true
	}
	if !res.certificateExpires.IsZero() {
		left := time.Until(res.certificateExpires)
		days := Plural(int64(left.Hours()/24), "day")
		if left < renewBefore {
			r.warn("certificate", "that of %s expires in %s – is it renewed automatically?", origin, days)
		} else {
			r.ok("certificate", "valid for %s", days)
		}
	}
	if ok {
		r.checkClock("the server", seen.Time, before)
	}
	return seen, ok
}

// failRequest reports why a request got no answer.
func (r *report) failRequest(settings *config.Settings, origin string, err error) {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		r.fail("BASE_URL", "%s can't be resolved (%v) – create its DNS record", origin, err)
	case errors.As(err, &unknown), errors.As(err, &name), errors.As(err, &invalid):
		r.fail("certificate", "%s: %v – get one for that name that browsers accept", origin, err)
	default:
		r.fail("BASE_URL", "%s does not answer (%v) – start the proxy, and have it pass %s/ to Latchkey", origin, err, settings.BasePath)
	}
}

// checkProxy compares how a request to BASE_URL was seen with how it was sent.
func (r *report) checkProxy(settings *config.Settings, seen health.Seen) {
	base := settings.BaseOrigin
	https := strings.HasPrefix(base, "https://")
	host := strings.TrimPrefix(strings.TrimPrefix(base, "https://"), "http://")
	failures := r.failures
	if seen.BaseURL != base {
		r.fail("BASE_URL", "it is %s here and %q at the server – check with the server's settings", base, seen.BaseURL)
	}
	if seen.CookieDomain != settings.CookieDomain {
		r.fail("cookies", "COOKIE_DOMAIN is %q here and %q at the server – check with the server's settings", settings.CookieDomain, seen.CookieDomain)
	}
	r.checkClient(https, seen)
	switch {
	case seen.Host == host:
	case seen.OtherOrigin:
		r.fail("proxy", "it sends Host %q for %s: people can't sign in, because that is not BASE_URL's host – have it pass on the Host header", seen.Host, host)
	default:
		r.warn("proxy", "it sends Host %q for %s – have it pass on the Host header", seen.Host, host)
	}
	if https && seen.ForwardedProto != "https" {
		r.warn("proxy", "it sends X-Forwarded-Proto %q for https: Latchkey can't tell people who open a page over http – have it send the scheme", seen.ForwardedProto)
	}
	if r.failures == failures {
		r.ok("BASE_URL", "%s leads here; this machine is seen as %s", base, seen.Client)
	}
}

// checkClient compares the client's address as the server sees it with what was sent.
func (r *report) checkClient(https bool, seen health.Seen) {
	changed := seen.ForwardedFor != forgedClients[seen.ClientHeader] // something has replaced or dropped what was sent
	switch {
	case !seen.Trusted && (https || changed): // Latchkey itself speaks no TLS
		r.fail("proxy", "requests come from %s, which is not in TRUSTED_PROXIES: everybody counts as one client – set TRUSTED_PROXIES=%[1]s", seen.Peer)
	case seen.Trusted && !changed:
		r.fail("proxy", "%s passes on the client's own %s – have it overwrite that with the client's address, or set CLIENT_IP_HEADER to the header that it overwrites: docs/behind-a-proxy.md", seen.Peer, seen.ClientHeader)
	case seen.Trusted && seen.ForwardedFor == "":
		r.fail("proxy", "%s sends no %s: everybody counts as one client – have it send the client's address, or set CLIENT_IP_HEADER to the header that it sends: docs/behind-a-proxy.md", seen.Peer, seen.ClientHeader)
	case seen.ClientProblem != "":
		r.fail("proxy", "everybody counts as one client: %s – have it send the client's address, or set CLIENT_IP_HEADER to the header that has it: docs/behind-a-proxy.md", seen.ClientProblem)
	}
}

// checkHTTP checks that plain http redirects to https, as at a path.
func (r *report) checkHTTP(ctx context.Context, client *http.Client, base, path string) {
	host, https := strings.CutPrefix(base, "https://")
	if u, err := url.Parse(base); err != nil || !https || u.Port() != "" {
		return // only https on its own port implies http on its
	}
	res, err := get(ctx, client, "http://"+host+path, nil)
	switch {
	case err != nil:
		r.ok("http", "nothing answers at http://%s", host)
	case res.status/100 == 3 && strings.HasPrefix(res.location, "https://"):
		r.ok("http", "redirects to https")
	default:
		r.fail("http", "http://%s answers %d: passwords may travel in the clear – have the proxy redirect to https", host, res.status)
	}
}

// response is what the checks look at.
type response struct {
	status             int
	location           string
	cookies            []*http.Cookie
	body               []byte
	certificateExpires time.Time // zero without TLS
}

// is reports whether an error answer has the id of a problem.
func (r response) is(p *web.Problem) bool {
	id, _ := r.problem()
	return id == p.ID
}

// reason returns the reason that an error answer gives.
func (r response) reason() string {
	_, reason := r.problem()
	return cmp.Or(reason, "see its log")
}

func (r response) problem() (id, reason string) {
	var body struct {
		Error struct{ ID, Reason string }
	}
	if json.Unmarshal(r.body, &body) != nil {
		return "", ""
	}
	return body.Error.ID, body.Error.Reason
}

// asBrowser returns what browsers send to an origin by https alone. The server goes by it.
func asBrowser(origin string) http.Header {
	if strings.HasPrefix(origin, "https://") {
		return http.Header{"Sec-Fetch-Site": {"none"}}
	}
	return http.Header{}
}

// get sends a request.
func get(ctx context.Context, client *http.Client, url string, header http.Header) (response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return response{}, err
	}
	if header != nil {
		req.Header = header
	}
	req.Header.Set("Accept", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return response{}, err
	}
	defer res.Body.Close()
	r := response{status: res.StatusCode, location: res.Header.Get("Location"), cookies: res.Cookies()}
	if res.TLS != nil && len(res.TLS.PeerCertificates) > 0 {
		r.certificateExpires = res.TLS.PeerCertificates[0].NotAfter
	}
	r.body, err = io.ReadAll(io.LimitReader(res.Body, 64<<10))
	return r, err
}
