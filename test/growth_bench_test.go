package test

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/template"
	"time"

	"latchkey/test/kit"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/stretchr/testify/require"
)

var (
	growthDocs = flag.Bool("growth-docs", false, "have BenchmarkGrowth write docs/speed.md and docs/speed.svg")
	growthMax  = flag.Int("growth-max", 1_000_000, "benchmark growth up to that many sessions")
)

const (
	growthRounds = 3
	growthRound  = 300 * time.Millisecond
)

var (
	growthSessions    = []int{1_000, 10_000, 100_000, 1_000_000}
	growthConnections = []int{1, 4, 16, 64, 256}
	growthInstances   = []int{1, 2, 4}
)

// growth is one panel of the plot: an endpoint of one kind of set-up.
type growth struct {
	Title string
	Lines []growthLine
}

// growthLine is an endpoint at each number of connections, for one number of sessions or instances.
type growthLine struct {
	Name   string
	Ratios []float64 // to the bare handler, with as many connections, in the same run
	Rates  []float64 // answers a second
}

// BenchmarkGrowth compares the endpoints that apps use most with the bare handler, as the number of sessions,
// connections and, on PostgreSQL, instances grows.
//
//	go test -run '^$' -bench Growth -timeout 1h ./test -growth-docs [-growth-max 100000]
func BenchmarkGrowth(b *testing.B) {
	endpoints := []struct{ name, path string }{{"whoami", whoamiPath}, {"verify", verifyPath}, {"logout URL", logoutURLPath}}
	onSQLite, onPostgres := make([]growth, len(endpoints)), make([]growth, len(endpoints))
	for i, endpoint := range endpoints {
		onSQLite[i].Title, onPostgres[i].Title = endpoint.name+", SQLite", endpoint.name+", PostgreSQL"
	}
	for _, sessions := range growthSessions {
		if sessions > *growthMax {
			break
		}
		s := newSeeded(b, sessions)
		s.server = s.Start()
		bare := startBare(b, s)
		for i, endpoint := range endpoints {
			line := s.measure(b, endpoint.path, bare, []string{s.address()})
			line.Name = humanize.Comma(int64(sessions)) + " sessions"
			onSQLite[i].Lines = append(onSQLite[i].Lines, line)
		}
		s.server.Stop()
	}
	s, bare := newSeededPostgres(b, min(postgresSessions, *growthMax))
	for _, instances := range growthInstances {
		addresses := s.instances(instances)
		for i, endpoint := range endpoints {
			line := s.measure(b, endpoint.path, bare, addresses)
			line.Name = english.Plural(instances, "instance", "")
			onPostgres[i].Lines = append(onPostgres[i].Lines, line)
		}
	}
	panels := slices.Concat(onSQLite, onPostgres)
	b.ReportMetric(0, "ns/op") // meaningless here
	fmt.Print(growthTables(panels))
	if *growthDocs {
		docs := filepath.Join(kit.Root(b), "docs")
		page, err := os.ReadFile(filepath.Join(docs, "speed.md"))
		require.NoError(b, err)
		before, _, ok := bytes.Cut(page, []byte("<!-- growth -->\n"))
		require.True(b, ok, "speed.md has no place for the tables")
		_, after, ok := bytes.Cut(page, []byte("<!-- /growth -->\n"))
		require.True(b, ok, "speed.md has no end of the tables")
		page = fmt.Appendf(nil, "%s<!-- growth -->\n%s<!-- /growth -->\n%s", before, growthTables(panels), after)
		require.NoError(b, os.WriteFile(filepath.Join(docs, "speed.md"), page, 0o644))
		require.NoError(b, os.WriteFile(filepath.Join(docs, "speed.svg"), growthPlot(b, panels), 0o644))
	}
}

// measure measures a line of a panel.
func (s *seeded) measure(b *testing.B, path, bare string, addresses []string) (line growthLine) {
	b.Helper()
	for _, connections := range growthConnections {
		rates := alternate(growthRounds,
			func() float64 { return s.loadOn(b, []string{bare}, path, connections, growthRound) },
			func() float64 { return s.loadOn(b, addresses, path, connections, growthRound) })
		line.Ratios = append(line.Ratios, medianRatio(rates[1], rates[0]))
		line.Rates = append(line.Rates, median(rates[1]))
	}
	return line
}

// growthTables writes a table a panel: the ratios, and thousands of answers a second.
func growthTables(panels []growth) string {
	var out strings.Builder
	out.WriteString("\n![Answers a second, as a part of what the bare handler gives, by connections](speed.svg)\n")
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
	panelsInRow             = 3
)

// growthPlot draws a row of panels for each database, one for each endpoint: ratios over connections.
func growthPlot(b *testing.B, panels []growth) []byte {
	b.Helper()
	x := func(i int) float64 { return float64(i) * panelWidth / float64(len(growthConnections)-1) }
	y := func(ratio float64) float64 { return panelHeight * (1 - math.Min(ratio, 1)) }
	rowHeight := panelTop + panelHeight + 60 + 16*len(growthSessions)
	var out bytes.Buffer
	err := template.Must(template.New("plot").Funcs(template.FuncMap{
		"left":  func(panel int) int { return panelLeft + panel%panelsInRow*(panelWidth+panelGap) },
		"top":   func(panel int) int { return panelTop + panel/panelsInRow*rowHeight },
		"first": func(panel int) bool { return panel%panelsInRow == 0 },
		"x":     func(i int) string { return strconv.FormatFloat(x(i), 'f', 1, 64) },
		"y":     func(ratio float64) string { return strconv.FormatFloat(y(ratio), 'f', 1, 64) },
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
		"Width": panelLeft + panelsInRow*(panelWidth+panelGap), "Height": len(panels) / panelsInRow * rowHeight,
		"Right": panelWidth, "Bottom": panelHeight + 16,
	})
	require.NoError(b, err)
	return out.Bytes()
}

const growthSVG = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{.Width}} {{.Height}}" role="img">
<title>Answers a second, as a part of what a bare handler gives, by connections, sessions and instances</title>
<style>
text { font: 12px system-ui, sans-serif; fill: #333 }
.grid { stroke: #999; stroke-opacity: .35 }
polyline { fill: none; stroke-width: 2 }
.s0 { stroke: #0072b2 } .s1 { stroke: #d55e00; stroke-dasharray: 8 3 } .s2 { stroke: #009e73; stroke-dasharray: 2 3 } .s3 { stroke: #cc79a7; stroke-dasharray: 10 3 2 3 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .s0 { stroke: #56b4e9 } .s1 { stroke: #e69f00 } }
</style>
{{range $p, $panel := .Panels}}<g transform="translate({{left $p}} {{top $p}})">
<text x="0" y="-14" font-weight="bold">{{.Title}}</text>
{{range $.Ticks}}<line class="grid" x1="0" x2="{{$.Right}}" y1="{{y .}}" y2="{{y .}}"/>{{if first $p}}<text x="-8" y="{{y .}}" dy="4" text-anchor="end">{{.}}</text>{{end}}
{{end}}{{range $i, $n := $.Connections}}<text x="{{x $i}}" y="{{$.Bottom}}" text-anchor="middle">{{$n}}</text>
{{end}}{{range $i, $line := .Lines}}<polyline class="s{{$i}}" fill="none" points="{{points .Ratios}}"/>
{{if first $p}}<line class="s{{$i}}" stroke-width="2" x1="0" x2="30" y1="{{below $i}}" y2="{{below $i}}"/><text x="38" y="{{below $i}}" dy="4">{{.Name}}</text>
{{end}}{{end}}</g>
{{end}}<text x="{{.Width}}" y="{{.Height}}" dy="-8" dx="-30" text-anchor="end">to the right: connections</text>
</svg>
`
