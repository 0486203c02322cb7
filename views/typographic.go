package views

import (
	"strings"
	"unicode"
)

// typographic returns a text with the quotes and apostrophes of print: "it isn't" becomes “it isn’t”. Texts that
// pages share with the API have those of a typewriter.
func typographic(text string) string { return quotes(text, true) }

// quotes is typographic for a part of a text; opens says that a quote at its beginning is an opening one.
func quotes(text string, opens bool) string {
	if !strings.ContainsAny(text, `"'`) {
		return text
	}
	var out strings.Builder
	for _, r := range text {
		switch {
		case r == '"' && opens:
			out.WriteRune('“')
		case r == '"':
			out.WriteRune('”')
		case r == '\'' && opens:
			out.WriteRune('‘')
		case r == '\'':
			out.WriteRune('’')
		default:
			out.WriteRune(r)
			opens = unicode.IsSpace(r) || unicode.In(r, unicode.Ps, unicode.Pd)
		}
	}
	return out.String()
}
