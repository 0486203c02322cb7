package cli

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
)

// hidden replaces text that may contain a password.
const hidden = "(a URL that may contain a password)"

// redacted is an error without the URLs in its text.
type redacted struct {
	error
	text string
}

func (r redacted) Error() string { return r.text }

func (r redacted) Unwrap() error { return r.error }

// withoutURLs hides arguments and settings that may contain a password in the text of an error: the parser and the
// settings quote invalid values.
func withoutURLs(err error, model *kong.Application) error {
	text := err.Error()
	for _, secret := range mayBeSecret(model) {
		quoted := strconv.Quote(secret)
		for _, form := range []string{secret, quoted[1 : len(quoted)-1]} {
			text = strings.ReplaceAll(text, form, hidden)
		}
	}
	if text == err.Error() {
		return err
	}
	return redacted{err, strings.Join(strings.Fields(text), " ")}
}

// minSecret is the length of the shortest part of a value that is hidden.
const minSecret = 4

// mayBeSecret returns the arguments and the values of settings that have an @ after a colon, which may end a password, and
// their parts, since some are lists. Longer ones come first.
func mayBeSecret(model *kong.Application) (values []string) {
	add := func(value string) {
		if !strings.Contains(value, "@") || !strings.Contains(value, ":") {
			return
		}
		values = append(values, value)
		for _, part := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' }) {
			if len(part) >= minSecret {
				values = append(values, part)
			}
		}
	}
	for _, arg := range os.Args[1:] {
		add(arg)
		if _, value, ok := strings.Cut(arg, "="); ok {
			add(value)
		}
	}
	for _, flag := range model.Flags {
		for _, name := range flag.Envs {
			add(os.Getenv(name))
		}
	}
	slices.SortFunc(values, func(x, y string) int { return len(y) - len(x) })
	return values
}
