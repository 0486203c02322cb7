package assets

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnyAccentCanBeRead(t *testing.T) {
	rule := regexp.MustCompile(`--accent:(#\w{6});--accent-hover:(#\w{6});--on-accent:(#\w{6});`)
	for _, hex := range []string{"#000000", "#ffffff", "#ffd400", "#0066cc", "#808080", "#ff0000", "#00ff00", "#7f7fff", "#111111", "#FAFAFA"} {
		themes := rule.FindAllStringSubmatch(string(accentCSS(hex)), -1)
		require.Len(t, themes, 2, "light and dark")
		for i, card := range []colour{lightCard, darkCard} {
			accent, hover, on := parseColour(themes[i][1]), parseColour(themes[i][2]), parseColour(themes[i][3])
			require.GreaterOrEqual(t, contrast(accent, card), 4.5, "%s as a link", hex)
			require.GreaterOrEqual(t, contrast(accent, on), 4.5, "%s as a button", hex)
			require.GreaterOrEqual(t, contrast(hover, on), 4.5, "%s as a button under the mouse", hex)
		}
	}
}
