package access

import (
	"errors"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// pattern is a path: the same, or with a "*" at the end everything below it.
type pattern string

// parsePattern accepts only what plainPath does, without percent-encoding, so that there is one way to write it.
func parsePattern(text string) (pattern, error) {
	path := strings.TrimSuffix(text, "/*")
	if path != text {
		path += "/"
	}
	if _, plain := plainPath(path); !plain || strings.ContainsAny(path, "*%?") {
		return "", errors.New("the path must be written as in the address bar, without dot segments, empty segments and encoded characters, such as /robots.txt, or /assets/* for everything below /assets/")
	}
	return pattern(text), nil
}

// matches reports whether a path from plainPath is the pattern's, or below it.
func (p pattern) matches(path string) bool {
	if above, below := strings.CutSuffix(string(p), "*"); below {
		return strings.HasPrefix(path, above)
	}
	return path == string(p)
}

// plainPath returns the path of a request's target, and whether there is only one way to read it. Proxies and
// apps differ in how they decode, clean and split paths: some take "/assets/..;/admin", "/assets/%2e%2e/admin" or
// "/assets/..\\admin" for "/admin". None of those is plain.
func plainPath(target string) (path string, plain bool) {
	path, _, _ = strings.Cut(target, "?")
	rest, rooted := strings.CutPrefix(path, "/")
	if !rooted || strings.ContainsFunc(path, func(r rune) bool { return !isPlain(r) && r != '/' && r != '%' }) {
		return "", false
	}
	for rest != "" {
		var segment string
		segment, rest, _ = strings.Cut(rest, "/")
		text, err := url.PathUnescape(segment)
		if err != nil || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !isPlainText(r) }) {
			return "", false
		}
		if strings.Trim(text, ". ") == "" { // "", ".", "..", and "..." and ".. ", which Windows takes for them
			return "", false
		}
	}
	return path, true
}

// isPlain reports whether a character may be in a path unencoded, and no server takes it for a separator:
// RFC 3986 §3.3 without the semicolon.
func isPlain(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-._~!$&'()*+,=:@", r)
}

// isPlainText reports whether a character may be in a path, encoded or not.
func isPlainText(r rune) bool {
	return isPlain(r) || r == ' ' || r > 0x7f && unicode.In(r, unicode.L, unicode.M, unicode.Nd)
}
