package cli

import (
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
)

// printTable prints the rows that fill adds in aligned columns; head has their names, separated by tabs.
func printTable(head string, fill func(row func(cells ...any)) error) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, head)
	err := fill(func(cells ...any) {
		for i, cell := range cells {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			fmt.Fprint(w, cell)
		}
		fmt.Fprintln(w)
	})
	return errors.Join(err, w.Flush())
}
