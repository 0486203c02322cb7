package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// confirm asks on a terminal whether to do something, and returns an error unless the answer is yes. Scripts aren't
// asked.
func confirm(ctx context.Context, question string) error {
	if !isTerminal(os.Stdin) {
		return nil
	}
	if !isTerminal(os.Stderr) {
		return errors.New("nothing was changed: the question can't be seen, since standard error isn't the terminal – run it with --yes")
	}
	// Reading can't be interrupted: exit while it blocks.
	stop := context.AfterFunc(ctx, func() {
		fmt.Fprintln(os.Stderr)
		os.Exit(exitInterrupted)
	})
	defer stop()
	fmt.Fprintf(os.Stderr, "%s [y/N] ", question)
	answer, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if answer = strings.ToLower(strings.TrimSpace(answer)); err == nil && (answer == "y" || answer == "yes") {
		return nil
	}
	return errors.New("nothing was changed")
}
