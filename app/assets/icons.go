package assets

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"math"
)

// iconColour is the colour of static/icon.svg.
const iconColour = "#1f5fbf"

// recolour replaces the colours of the icon, a key on a tile.
func recolour(icon []byte, accent string) []byte {
	ground := parseColour(accent)
	icon = bytes.ReplaceAll(icon, []byte(iconColour), []byte(ground.hex()))
	return bytes.ReplaceAll(icon, []byte(`stroke="#fff"`), []byte(`stroke="`+on(ground).hex()+`"`))
}

// on returns white or black, whichever has more contrast with a colour.
func on(ground colour) colour {
	if contrast(ground, black) > contrast(ground, white) {
		return black
	}
	return white
}

// touchSize is the width of a touch icon in pixels, as iPhones want it.
const touchSize = 180

// touchIcon draws the icon as a PNG: home screens take no SVG. They round the corners themselves.
func touchIcon(accent string) ([]byte, error) {
	ground := parseColour(accent)
	ink := on(ground)
	picture := image.NewRGBA(image.Rect(0, 0, touchSize, touchSize))
	const scale = 32.0 / touchSize // to the units of static/icon.svg
	for y := range touchSize {
		for x := range touchSize {
			distance := keyDistance(point{(float64(x) + 0.5) * scale, (float64(y) + 0.5) * scale})
			covered := min(1, max(0, 0.5-distance/scale))
			mixed := ground.mix(ink, covered)
			picture.SetRGBA(x, y, color.RGBA{channel(mixed[0]), channel(mixed[1]), channel(mixed[2]), 0xff})
		}
	}
	var out bytes.Buffer
	err := png.Encode(&out, picture)
	return out.Bytes(), err
}

func channel(v float64) uint8 { return uint8(math.Round(v * 255)) }

type point struct{ x, y float64 }

// keyDistance returns how far a point is from the strokes of the key in static/icon.svg, negative within one.
func keyDistance(p point) float64 {
	const half = 1.5 // of the stroke
	bow := math.Abs(math.Hypot(p.x-12, p.y-13) - 4.5)
	return min(bow, toSegment(p, point{15.5, 16.5}, point{24, 25}), toSegment(p, point{20.5, 21.5}, point{23.5, 18.5})) - half
}

// toSegment returns the distance of a point from a line between two others.
func toSegment(p, a, b point) float64 {
	dx, dy := b.x-a.x, b.y-a.y
	along := min(1, max(0, ((p.x-a.x)*dx+(p.y-a.y)*dy)/(dx*dx+dy*dy)))
	return math.Hypot(p.x-a.x-along*dx, p.y-a.y-along*dy)
}
