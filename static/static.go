// Package static holds the files that the pages refer to.
package static

import "embed"

// Files are the style sheets, the script and the icon.
//
//go:embed *.css *.js *.svg
var Files embed.FS
