package backchannel

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"latchkey/app/returnto"
)

// maxURL is the maximum length of an app's URL in bytes.
const maxURL = 2048

// CheckURL returns nil if raw is a URL that logout tokens can be posted to: absolute,
// http or https, with no user and no fragment (§2.2), and
// unambiguous. Its error is a sentence for a person, without the full stop, and repeats
// nothing of raw.
func CheckURL(raw string) error {
	switch {
	case raw == "":
		return errors.New("the URL is empty: give the address at which to notify the app")
	case len(raw) > maxURL:
		return fmt.Errorf("the URL is longer than %d bytes: shorten it", maxURL)
	case strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' }):
		return errors.New("the URL contains a space, a backslash, or a character outside ASCII: percent-encode it, or write a host in its xn-- form")
	case strings.Contains(raw, "#"):
		return errors.New("the URL has a fragment, which is never sent: end it before the #")
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return errors.New("the URL is invalid: write it like https://app.example.com/logged-out, and a % of its own as %25")
	case u.Scheme != "https" && u.Scheme != "http":
		return errors.New("the URL doesn't begin with https:// or http://: write it in full")
	case u.User != nil:
		return errors.New("the URL has a user name before its host: remove everything up to the @")
	case strings.Contains(u.Host, "*"):
		return errors.New("the URL has a wildcard in its host: name a single host")
	}
	if err := returnto.CheckOrigin(u.Scheme + "://" + u.Host); err != nil {
		return fmt.Errorf("the URL %w", err)
	}
	return nil
}
