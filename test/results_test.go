package test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
)

// results reports values as metrics of the benchmark, and collects them in a table.
type results struct {
	b    *testing.B
	rows bytes.Buffer
}

func (r *results) add(what, against string, perSecond, value float64, unit string) {
	r.b.ReportMetric(value, unit)
	if against == "" {
		fmt.Fprintf(&r.rows, "%s\t\t%.0f %s\t\n", what, value, unit[strings.LastIndex(unit, "-")+1:])
		return
	}
	fmt.Fprintf(&r.rows, "%s\t%.0f a second\t%.2f of\t%s\n", what, perSecond, value, against)
}

func (r *results) String() string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s\n", r.rows.String())
	if err := w.Flush(); err != nil {
		r.b.Error(err)
	}
	return out.String()
}

// alternate calls the functions in turn, n times, and returns the values of each.
func alternate(n int, measure ...func() float64) [][]float64 {
	all := make([][]float64, len(measure))
	for range n {
		for i := range measure {
			all[i] = append(all[i], measure[i]())
		}
	}
	return all
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

func medianRatio(of, to []float64) float64 {
	ratios := make([]float64, len(of))
	for i := range of {
		ratios[i] = of[i] / to[i]
	}
	return median(ratios)
}
