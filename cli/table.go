package cli

import (
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
)

// printTable prints the rows that fill adds in aligned columns; head has their names, separated by tabs. If there are no
// rows, it prints none on standard error, so that scripts get empty output.
func printTable(none, head string, fill func(row func(cells ...any)) error) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	rows := 0
	err := fill(func(cells ...any) {
		if rows == 0 {
			fmt.Fprintln(w, head)
		}
		rows++
		for i, cell := range cells {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			fmt.Fprint(w, cell)
		}
		fmt.Fprintln(w)
	})
	if err == nil && rows == 0 {
		fmt.Fprintln(os.Stderr, none)
	}
	return errors.Join(err, w.Flush())
}
