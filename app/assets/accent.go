package assets

import (
	"fmt"
	"math"
	"strconv"
)

// colour is an sRGB colour, each component from 0 to 1.
type colour [3]float64

var (
	white = colour{1, 1, 1}
	black = colour{}
	// The backgrounds of links in static/latchkey.css, light and dark.
	lightCard = parseColour("#ffffff")
	darkCard  = parseColour("#1b1f27")
)

// readable is the contrast that WCAG 2.2 §1.4.3 requires for text, and a little more for rounding.
const readable = 4.6

// accentCSS returns the style sheet that gives buttons and links the site's colour, moved towards
// black on light pages and towards white on dark ones until it is readable.
func accentCSS(hex string) []byte {
	accent := parseColour(hex)
	theme := func(card, towards colour) string {
		text := legible(accent, card, towards)
		hover := text.mix(towards, 0.2)
		return fmt.Sprintf("--accent:%s;--accent-hover:%s;--on-accent:%s;", text.hex(), hover.hex(), on(text).hex())
	}
	light, dark := theme(lightCard, black), theme(darkCard, white)
	return fmt.Appendf(nil, ":root{%s}@media(prefers-color-scheme:dark){:root{%s}}", light, dark)
}

// legible moves a colour towards another until it is readable on the background.
func legible(c, background, towards colour) colour {
	for step := 0.0; step <= 1; step += 0.02 {
		if moved := c.mix(towards, step); contrast(moved, background) >= readable {
			return moved
		}
	}
	return towards
}

func (c colour) mix(with colour, share float64) colour {
	for i := range c {
		c[i] += (with[i] - c[i]) * share
	}
	return c
}

// luminance is the relative luminance of WCAG 2.2.
func (c colour) luminance() float64 {
	linear := func(v float64) float64 {
		if v <= 0.04045 {
			return v / 12.92
		}
		return math.Pow((v+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(c[0]) + 0.7152*linear(c[1]) + 0.0722*linear(c[2])
}

func contrast(a, b colour) float64 {
	lighter, darker := max(a.luminance(), b.luminance()), min(a.luminance(), b.luminance())
	return (lighter + 0.05) / (darker + 0.05)
}

func (c colour) hex() string {
	return fmt.Sprintf("#%02x%02x%02x", int(math.Round(c[0]*255)), int(math.Round(c[1]*255)), int(math.Round(c[2]*255)))
}

// parseColour reads #rrggbb; the setting has been checked.
func parseColour(hex string) colour {
	n, _ := strconv.ParseUint(hex[1:], 16, 32)
	return colour{float64(n>>16) / 255, float64(n>>8&255) / 255, float64(n&255) / 255}
}
