package activity

import (
	"strings"
	"unicode"

	"github.com/mileusna/useragent"
)

// Device says what a User-Agent header stands for: "Firefox on Linux". It is safe to print.
func Device(userAgent string) string {
	ua := useragent.Parse(userAgent)
	browser, system := clip(printable(ua.Name), 60), clip(printable(ua.OS), 60)
	switch {
	case userAgent == "":
		return "An unnamed program"
	case browser == "":
		return "An unknown browser"
	case system == "" || ua.Bot:
		return browser
	}
	return browser + " on " + system
}

// printable drops what could steer a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			return r
		}
		return -1
	}, s)
}

// clip shortens a text from outside to at most n bytes, at a character's boundary.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}
