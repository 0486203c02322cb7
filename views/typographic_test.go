package views

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTypographicQuotes(t *testing.T) {
	for typed, printed := range map[string]string{
		"":                              "",
		"No quotes.":                    "No quotes.",
		"It isn't":                      "It isn’t",
		`"a" and ("b"), "c's"`:          `“a” and (“b”), “c’s”`,
		"the apps' 'own' pages":         "the apps’ ‘own’ pages",
		`a –"b"`:                        `a –“b”`,
		"already “so”, it’s left alone": "already “so”, it’s left alone",
	} {
		require.Equal(t, printed, typographic(typed))
	}
}
