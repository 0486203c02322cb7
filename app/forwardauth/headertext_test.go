package forwardauth

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func FuzzHeaderText(f *testing.F) {
	for _, seed := range []string{"", " ", "  ", "Ada", `Ada "☃" <b>%0d%0a`, "a\r\nX: y", "\x00\xff", "%", " é "} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		written := headerText(text)
		require.Equal(t, strings.TrimSpace(written), written)
		require.NotRegexp(t, `[^ -~]`, written)
		back, err := url.PathUnescape(written)
		require.NoError(t, err)
		require.Equal(t, text, back)
	})
}
