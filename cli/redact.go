package cli

import (
	"os"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
)

// hidden replaces what may have a password in it.
const hidden = "(a URL that may have a password in it)"

// redacted is an error without the URLs in its text.
type redacted struct {
	error
	text string
}

func (r redacted) Error() string { return r.text }

func (r redacted) Unwrap() error { return r.error }

// withoutURLs hides in the text of an error the arguments and settings that may have a password in them: the
// parser and the settings quote what is wrong.
func withoutURLs(err error, model *kong.Application) error {
	text := err.Error()
	for _, given := range givenValues(model) {
		if !strings.Contains(given, "@") {
			continue
		}
		quoted := strconv.Quote(given)
		for _, form := range []string{given, quoted[1 : len(quoted)-1]} {
			text = strings.ReplaceAll(text, form, hidden)
		}
	}
	if text == err.Error() {
		return err
	}
	return redacted{err, strings.Join(strings.Fields(text), " ")}
}

// givenValues returns the arguments and the values of settings, as a whole and the entries of lists.
func givenValues(model *kong.Application) (values []string) {
	add := func(value string) {
		values = append(values, value)
		values = append(values, strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })...)
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
	return values
}
