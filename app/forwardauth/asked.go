package forwardauth

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"

	"latchkey/app/access"
	"latchkey/app/config"
	"latchkey/app/route"
	"latchkey/app/web"
)

// asked is the original request, as the proxy describes it.
type asked struct {
	method, proto, host, uri string // "" if unknown
	problem                  string // why something is unknown, as a sentence; "" if it just wasn't sent
}

// complete reports whether everything is known. A proxy that sends all of it passes our response on to the browser.
func (a asked) complete() bool {
	return a.method != "" && a.proto != "" && a.host != "" && a.uri != ""
}

// page reports whether a browser is going to show the response as a page.
func (a asked) page(r *http.Request) bool {
	mode := r.Header.Get("Sec-Fetch-Mode")
	return a.complete() && web.PrefersHTML(r) && (mode == "" || mode == "navigate") && r.Header.Get("X-Requested-With") == ""
}

// asked reads what a trusted proxy says; anybody else is ignored.
//
// There are three ways to describe the request. A proxy that uses one may pass on what clients send in the headers of
// the others, and clients must not be able to add to its description, let alone replace it. So if several ways are
// used, they must agree in everything.
func (h *Handler) asked(r *http.Request, rest bool) asked {
	if !h.FromTrustedProxy(r) {
		return asked{}
	}
	a, way := inXForwarded(r.Header), "X-Forwarded-Host"
	if _, sent := r.Header["X-Original-Url"]; sent {
		a, way = a.and(inXOriginal(r.Header), way, "X-Original-URL"), "X-Original-URL"
	}
	if rest {
		return a.and(h.inPath(r), way, "the path after "+h.Path(route.Verify))
	}
	// A proxy that asks with another method than GET asks with the request's own.
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		if a.method == "" {
			a.method = r.Method
		}
		if a.method != r.Method {
			a.problem = fmt.Sprintf("The proxy asks with %s, but sends %s as the request's method: have it send the request's own method as X-Forwarded-Method.", r.Method, a.method)
			a.method = ""
		}
	}
	return a
}

// and combines two descriptions. X-Forwarded-Proto goes with any of them.
func (a asked) and(b asked, way, other string) asked {
	a.proto, b.proto = cmp.Or(a.proto, b.proto), cmp.Or(b.proto, a.proto)
	switch {
	case b.silent():
		return a
	case a.problem != "" || b.problem != "":
		return asked{problem: cmp.Or(a.problem, b.problem)}
	case a == b || a.silent() && a.proto == b.proto:
		return b
	}
	return asked{problem: fmt.Sprintf("The proxy describes the request in two ways, %s and %s, and they don't agree: have it remove the headers that it doesn't set itself.", way, other)}
}

// silent reports whether nothing is known but the scheme.
func (a asked) silent() bool { return a.problem == "" && a.method == "" && a.host == "" && a.uri == "" }

// part is a part of a request with its rule.
type part struct {
	name  string
	value *string
	valid func(string) bool
}

// read reads the parts from their headers.
func (a *asked) read(header http.Header, parts ...part) {
	for _, part := range parts {
		switch values := header[part.name]; {
		case len(values) == 0 || len(values) == 1 && values[0] == "":
		case len(values) > 1:
			a.problem = fmt.Sprintf("The proxy sends %s more than once: have it overwrite the header.", part.name)
		case !part.valid(values[0]):
			a.problem = fmt.Sprintf("The proxy sends an invalid %s: have it overwrite the header.", part.name)
		default:
			*part.value = values[0]
		}
	}
}

func isMethod(s string) bool { return strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") == "" }
func isProto(s string) bool  { return s == "http" || s == "https" || s == "ws" || s == "wss" }
func isHost(s string) bool   { return access.HostName(s) != "" }
func isURI(s string) bool    { return strings.HasPrefix(s, "/") }

// inXForwarded reads what Caddy and Traefik send, and the configurations in docs.
func inXForwarded(header http.Header) (a asked) {
	a.read(header, part{"X-Forwarded-Method", &a.method, isMethod}, part{"X-Forwarded-Proto", &a.proto, isProto},
		part{"X-Forwarded-Host", &a.host, isHost}, part{"X-Forwarded-Uri", &a.uri, isURI})
	return a
}

// inXOriginal reads what ingress-nginx sends: the whole URL in one header.
func inXOriginal(header http.Header) (a asked) {
	var target string
	a.read(header, part{"X-Original-Method", &a.method, isMethod}, part{"X-Original-Url", &target, func(s string) bool {
		proto, rest, _ := strings.Cut(s, "://")
		host, _, _ := strings.Cut(rest, "/")
		return isProto(proto) && isHost(host)
	}})
	if target == "" {
		return a
	}
	var rest string
	a.proto, rest, _ = strings.Cut(target, "://")
	a.host, a.uri, _ = strings.Cut(rest, "/")
	a.uri = "/" + a.uri
	return a
}

// inPath reads what Envoy sends: the request itself, without its body, and our path before its own.
func (h *Handler) inPath(r *http.Request) (a asked) {
	uri, ok := strings.CutPrefix(r.RequestURI, h.Path(route.Verify))
	if !ok || !isURI(uri) {
		return asked{problem: fmt.Sprintf("The path that the proxy appends to %s can't be read: have it append the path unchanged.", h.Path(route.Verify))}
	}
	a.read(r.Header, part{"X-Forwarded-Proto", &a.proto, isProto})
	a.method, a.uri = r.Method, uri
	if !isHost(r.Host) {
		a.problem = "The proxy sends an invalid Host: have it send the request's."
		return a
	}
	a.host = r.Host
	return a
}

// cookieReaches reports whether a browser that signs in sends the cookie to that app. If it doesn't,
// redirects would loop forever.
func (h *Handler) cookieReaches(request asked) bool {
	if h.BaseOrigin == "" {
		return true // unknown
	}
	if h.HTTPS && request.proto != "https" {
		return false
	}
	if h.CookieDomain == "" {
		return access.HostName(request.host) == h.own
	}
	return config.Covers(h.CookieDomain, access.HostName(request.host))
}
