package main

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/stretchr/testify/require"
)

var (
	growthDocs = flag.String("growth-docs", "", "directory to which BenchmarkGrowth writes speed.md and speed.svg")
	growthMost = flag.Int("growth-most", 1_000_000, "benchmark growth up to that many sessions")
)

const (
	growthRounds = 3
	growthRound  = 500 * time.Millisecond
)

var (
	growthSessions    = []int{1_000, 10_000, 100_000, 1_000_000}
	growthConnections = []int{1, 4, 16, 64, 256}
)

// growth is one panel of the plot: an endpoint of one kind of set-up.
type growth struct {
	Title string
	Lines []growthLine
}

// growthLine is how an endpoint does with a number of sessions, at each number of connections.
type growthLine struct {
	Name   string
	Ratios []float64 // to the bare handler, with as many connections, in the same run
	Rates  []float64 // answers a second
}

// BenchmarkGrowth measures what the endpoints that apps ask most cost as there are more sessions and
// more connections, each against the bare handler in the same minute.
//
//	go test -run '^$' -bench Growth -timeout 2h . -growth-docs docs [-growth-most 100000]
func BenchmarkGrowth(b *testing.B) {
	panels := []growth{{Title: "whoami"}, {Title: "verify"}, {Title: "logout URL"}}
	paths := []string{whoamiPath, verifyPath, logoutURLPath}
	for _, sessions := range growthSessions {
		if sessions > *growthMost {
			break
		}
		s := newSeeded(b, sessions)
		s.server = s.start()
		bare := startBare(b, s)
		for i, path := range paths {
			line := growthLine{Name: humanize.Comma(int64(sessions)) + " sessions"}
			for _, connections := range growthConnections {
				rates := inTurns(growthRounds,
					func() float64 { return s.loadOn(b, bare, path, connections, growthRound) },
					func() float64 { return s.loadOn(b, s.address(), path, connections, growthRound) })
				line.Ratios = append(line.Ratios, medianRatio(rates[1], rates[0]))
				line.Rates = append(line.Rates, median(rates[1]))
			}
			panels[i].Lines = append(panels[i].Lines, line)
		}
		s.server.stop()
	}
	b.ReportMetric(0, "ns/op") // means nothing here
	fmt.Print(growthTables(panels))
	if *growthDocs != "" {
		page, err := os.ReadFile(filepath.Join(*growthDocs, "speed.md"))
		require.NoError(b, err)
		before, _, ok := bytes.Cut(page, []byte("<!-- growth -->\n"))
		require.True(b, ok, "speed.md has no place for the tables")
		_, after, ok := bytes.Cut(page, []byte("<!-- /growth -->\n"))
		require.True(b, ok, "speed.md has no end of the tables")
		page = fmt.Appendf(nil, "%s<!-- growth -->\n%s<!-- /growth -->\n%s", before, growthTables(panels), after)
		require.NoError(b, os.WriteFile(filepath.Join(*growthDocs, "speed.md"), page, 0o644))
		require.NoError(b, os.WriteFile(filepath.Join(*growthDocs, "speed.svg"), growthPlot(b, panels), 0o644))
	}
}

// growthTables writes a table a panel: the ratio, and below it in thousands the answers a second.
func growthTables(panels []growth) string {
	var out strings.Builder
	for _, panel := range panels {
		fmt.Fprintf(&out, "\n| %s |", panel.Title)
		for _, n := range growthConnections {
			fmt.Fprintf(&out, " %d conn. |", n)
		}
		fmt.Fprintf(&out, "\n| --- |%s\n", strings.Repeat(" ---: |", len(growthConnections)))
		for _, line := range panel.Lines {
			fmt.Fprintf(&out, "| %s |", line.Name)
			for i := range line.Ratios {
				fmt.Fprintf(&out, " %.2f (%.1fk/s) |", line.Ratios[i], line.Rates[i]/1000)
			}
			out.WriteString("\n")
		}
	}
	out.WriteString("\n")
	return out.String()
}

// The plot, in pixels.
const (
	panelWidth, panelHeight = 240, 200
	panelLeft, panelTop     = 40, 34
	panelGap                = 30
)

// growthPlot draws a panel for each endpoint: connections to the right, the ratio upwards.
func growthPlot(b *testing.B, panels []growth) []byte {
	b.Helper()
	x := func(i int) float64 { return float64(i) * panelWidth / float64(len(growthConnections)-1) }
	y := func(ratio float64) float64 { return panelHeight * (1 - math.Min(ratio, 1)) }
	var out bytes.Buffer
	err := template.Must(template.New("plot").Funcs(template.FuncMap{
		"left": func(panel int) int { return panelLeft + panel*(panelWidth+panelGap) },
		"x":    func(i int) string { return strconv.FormatFloat(x(i), 'f', 1, 64) },
		"y":    func(ratio float64) string { return strconv.FormatFloat(y(ratio), 'f', 1, 64) },
		"points": func(ratios []float64) string {
			var points []string
			for i, ratio := range ratios {
				points = append(points, fmt.Sprintf("%.1f,%.1f", x(i), y(ratio)))
			}
			return strings.Join(points, " ")
		},
		"below": func(i int) int { return panelHeight + 44 + i*16 },
	}).Parse(growthSVG)).Execute(&out, map[string]any{
		"Panels": panels, "Connections": growthConnections, "Ticks": []float64{0, 0.2, 0.4, 0.6, 0.8, 1},
		"Width":  panelLeft + len(panels)*(panelWidth+panelGap),
		"Height": panelTop + panelHeight + 60 + 16*len(growthSessions),
		"Right":  panelWidth, "Top": panelTop, "Bottom": panelHeight + 16,
	})
	require.NoError(b, err)
	return out.Bytes()
}

const growthSVG = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{.Width}} {{.Height}}" role="img">
<title>Answers a second, as a part of what a bare handler gives, by connections and sessions</title>
<style>
text { font: 12px system-ui, sans-serif; fill: #333 }
.grid { stroke: #999; stroke-opacity: .35 }
polyline { fill: none; stroke-width: 2 }
.s0 { stroke: #0072b2 } .s1 { stroke: #d55e00; stroke-dasharray: 8 3 } .s2 { stroke: #009e73; stroke-dasharray: 2 3 } .s3 { stroke: #cc79a7; stroke-dasharray: 10 3 2 3 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .s0 { stroke: #56b4e9 } .s1 { stroke: #e69f00 } }
</style>
{{range $p, $panel := .Panels}}<g transform="translate({{left $p}} {{$.Top}})">
<text x="0" y="-14" font-weight="bold">{{.Title}}</text>
{{range $.Ticks}}<line class="grid" x1="0" x2="{{$.Right}}" y1="{{y .}}" y2="{{y .}}"/>{{if eq $p 0}}<text x="-8" y="{{y .}}" dy="4" text-anchor="end">{{.}}</text>{{end}}
{{end}}{{range $i, $n := $.Connections}}<text x="{{x $i}}" y="{{$.Bottom}}" text-anchor="middle">{{$n}}</text>
{{end}}{{range $i, $line := .Lines}}<polyline class="s{{$i}}" points="{{points .Ratios}}"/>
{{if eq $p 0}}<line class="s{{$i}}" stroke-width="2" x1="0" x2="30" y1="{{below $i}}" y2="{{below $i}}"/><text x="38" y="{{below $i}}" dy="4">{{.Name}}</text>
{{end}}{{end}}</g>
{{end}}<text x="{{.Width}}" y="{{.Height}}" dy="-8" dx="-30" text-anchor="end">to the right: connections</text>
</svg>
`
