package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"latchkey/app/password"
)

// readPassword asks twice for a password on a terminal, or else reads a line from standard input.
func readPassword(ctx context.Context) (string, error) {
	if !isTerminal(os.Stdin) {
		line, err := bufio.NewReader(io.LimitReader(os.Stdin, password.MaxBytes+2)).ReadString('\n')
		if err != nil && err != io.EOF {
			return "", fmt.Errorf("read the password: %w", err)
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
	first, err := promptPassword(ctx, "Password: ")
	if err != nil {
		return "", err
	}
	second, err := promptPassword(ctx, "Once more: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", errors.New("the two passwords differ; nothing was changed")
	}
	return first, nil
}

// promptPassword reads a line from the terminal without showing it.
func promptPassword(ctx context.Context, prompt string) (string, error) {
	stdin := int(os.Stdin.Fd())
	state, err := term.GetState(stdin)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	// Reading can't be interrupted: exit while it blocks, with the terminal restored.
	stop := context.AfterFunc(ctx, func() {
		fmt.Fprintln(os.Stderr)
		if err := term.Restore(stdin, state); err != nil {
			fmt.Fprintln(os.Stderr, "latchkey: error: restore the terminal:", err)
		}
		os.Exit(1)
	})
	defer stop()
	fmt.Fprint(os.Stderr, prompt)
	line, err := term.ReadPassword(stdin)
	fmt.Fprintln(os.Stderr)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return string(line), nil
}
