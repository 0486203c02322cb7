package config

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOperatorContact(t *testing.T) {
	for raw, want := range map[string]Link{
		"":                          {},
		" help@example.com ":        {"help@example.com", "mailto:help@example.com"},
		"mailto:help@example.com":   {"help@example.com", "mailto:help@example.com"},
		"a+b?c@example.com":         {"a+b?c@example.com", "mailto:a+b%3Fc@example.com"},
		"https://example.com/help/": {"example.com/help", "https://example.com/help/"},
		"http://nas.lan":            {"nas.lan", "http://nas.lan"},
		"tel:+49-30-1234567":        {"+49-30-1234567", "tel:+49-30-1234567"},
		"Ada, room 3, ext. 42":      {Text: "Ada, room 3, ext. 42"},
		"javascript:alert(1)":       {Text: "javascript:alert(1)"},
		"Ask @ada on Matrix":        {Text: "Ask @ada on Matrix"},
	} {
		got, err := parseContact(raw)
		require.NoError(t, err, raw)
		require.Equal(t, want, got, raw)
	}
	for _, raw := range []string{"ada@", "@example.com", "mailto:", "mailto:ada@example.com?subject=x", "mailto:Ada <ada@example.com>", "ada@example.com,bob@example.com",
		"ftp://example.com", "https://", "https://user@example.com/", "https://example.com/a b", "javascript://example.com/%0aalert(1)", "tel:", "tel:x", "tel:112",
		"a\nb", "a\x00", "a\u202eb", "\xff", strings.Repeat("x", 201)} {
		_, err := parseContact(raw)
		require.Error(t, err, raw)
	}
}

func TestSiteLinks(t *testing.T) {
	got, err := parseLinks("Privacy=https://example.com/privacy?a=b  Terms of use=/terms\nKontakt=mailto:help@example.com")
	require.NoError(t, err)
	require.Equal(t, []Link{{"Privacy", "https://example.com/privacy?a=b"}, {"Terms of use", "/terms"}, {"Kontakt", "mailto:help@example.com"}}, got)
	none, err := parseLinks(" ")
	require.NoError(t, err)
	require.Empty(t, none)
	for _, raw := range []string{"Privacy", "=https://example.com", "Privacy=", "Privacy= https://example.com", "Privacy=example.com", "Privacy=//example.com", "Privacy=javascript:alert(1)",
		"Privacy=data:text/html,x", "Privacy=mailto:", "Privacy=https://example.com Imprint", "a\u202eb=/x", strings.Repeat("x", 41) + "=/x", strings.Repeat("A=/a ", 11)} {
		_, err := parseLinks(raw)
		require.Error(t, err, raw)
	}
}
