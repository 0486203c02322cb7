package cli

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"latchkey/test/kit"
)

// terminal is a pseudo-terminal with the program on it.
type terminal struct {
	t    *testing.T
	file *os.File // the side of the person
	cmd  *exec.Cmd

	mu    sync.Mutex
	shown bytes.Buffer
	done  chan struct{} // closed when nothing more will be shown
}

// onTerminal starts the command with a terminal as its standard input, output and error, unless that is set.
func onTerminal(t *testing.T, cmd *exec.Cmd) *terminal {
	t.Helper()
	file, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { file.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(file.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(file.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	its, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	defer its.Close()

	cmd.Stdin, cmd.Stdout = its, its
	if cmd.Stderr == nil {
		cmd.Stderr = its
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, cmd.Start())
	term := &terminal{t: t, file: file, cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(term.done)
		_, _ = io.Copy(term, file) // ends with EIO once the program has left the terminal
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it may have ended
	return term
}

func (term *terminal) Write(p []byte) (int, error) {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.shown.Write(p)
}

func (term *terminal) screen() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return strings.ReplaceAll(term.shown.String(), "\r\n", "\n")
}

// echoes reports whether the terminal shows what is typed.
func (term *terminal) echoes() bool {
	state, err := unix.IoctlGetTermios(int(term.file.Fd()), unix.TCGETS)
	require.NoError(term.t, err)
	return state.Lflag&unix.ECHO != 0
}

// answer types a line, which the terminal must not show, at a prompt.
func (term *terminal) answer(prompt, line string) {
	term.t.Helper()
	term.await(prompt)
	require.Eventually(term.t, func() bool { return !term.echoes() }, kit.Timeout, time.Millisecond)
	_, err := term.file.WriteString(line)
	require.NoError(term.t, err)
}

// await waits until the screen ends with a text.
func (term *terminal) await(text string) {
	term.t.Helper()
	require.Eventually(term.t, func() bool { return strings.HasSuffix(term.screen(), text) }, kit.Timeout, time.Millisecond,
		"waiting for %q", text)
}

// ended waits for the program to end and returns its exit status.
func (term *terminal) ended() int {
	_ = term.cmd.Wait() // ProcessState says how it ended
	<-term.done
	return term.cmd.ProcessState.ExitCode()
}

func TestPasswordPrompt(t *testing.T) {
	m := kit.NewMachine(t)
	term := onTerminal(t, m.Command("user", "add", "ada@example.com"))

	term.answer("Password: ", kit.GoodPassword+"\n")
	term.answer("Once more: ", kit.GoodPassword+"\n")

	require.Zero(t, term.ended(), term.screen())
	require.Equal(t, "Password: \nOnce more: \nada@example.com can sign in now.\n", term.screen())
	m.Start().SignIn("ada@example.com")
}

func TestPasswordPromptMismatch(t *testing.T) {
	m := kit.NewMachine(t)
	m.AddUser("ada@example.com")
	term := onTerminal(t, m.Command("user", "password", "ada@example.com"))

	term.answer("Password: ", "another good one\n")
	term.answer("Once more: ", "another god one\n")

	require.NotZero(t, term.ended())
	require.Contains(t, term.screen(), "latchkey: error: the two passwords differ; nothing was changed\n")
	m.Start().SignIn("ada@example.com")
}

func TestPasswordPromptInterrupted(t *testing.T) {
	m := kit.NewSQLiteMachine(t)
	term := onTerminal(t, m.Command("user", "add", "ada@example.com"))
	require.True(t, term.echoes())
	const interrupt = "\x03" // what Ctrl-C sends

	term.answer("Password: ", interrupt)

	require.NotZero(t, term.ended())
	require.True(t, term.echoes(), "the terminal is as it was")
	require.Contains(t, m.Refuse("", "user", "list"), "there is no database at", "nor was anything written")
}

func TestLogsForPeopleOnATerminal(t *testing.T) {
	m := kit.NewMachine(t)
	cmd := m.Command()
	cmd.Env = append(cmd.Env, "LISTEN=localhost:0")
	term := onTerminal(t, cmd)
	url := ""
	require.Eventually(t, func() bool {
		for line := range strings.Lines(term.screen()) {
			if address, ok := strings.CutPrefix(line, "Latchkey is at "); ok {
				url = strings.TrimSpace(address)
			}
		}
		return url != ""
	}, kit.Timeout, time.Millisecond)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/auth/nowhere", nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusNotFound, kit.Do(req).Status)

	_, err = term.file.WriteString("\x03")
	require.NoError(t, err)

	require.Zero(t, term.ended(), term.screen())
	require.Regexp(t, `time=\S+ level=INFO msg=request method=GET path=/auth/nowhere status=404 `, term.screen())
	require.Regexp(t, `level=INFO msg=stopping`, term.screen())
}

func TestCopyShowsProgressOnATerminal(t *testing.T) {
	m := kit.NewSQLiteMachine(t)
	m.AddUser("ada@example.com")
	term := onTerminal(t, m.Command("copy", "--from="+m.DatabaseURL, "--to=sqlite:copy.db"))

	require.Zero(t, term.ended(), term.screen())

	require.Regexp(t, `4 of 4 rows, 100 % \(\w+\)\r\x1b\[KTABLE +ROWS\n`, term.screen())
	require.NotContains(t, m.Do("", "copy", "--from="+m.DatabaseURL, "--to=sqlite:other.db"), "%")
}

func TestDeletingAsksOnATerminal(t *testing.T) {
	m := kit.NewMachine(t)
	m.AddUser("ada@example.com")
	m.AddUser("bob@example.com")
	const question = "Delete the account of ada@example.com, with its sessions and activity? [y/N] "
	for answer, deleted := range map[string]bool{"\n": false, "n\n": false, "Yes\n": true} {
		term := onTerminal(t, m.Command("user", "delete", "ada@example.com"))
		term.await(question)
		_, err := term.file.WriteString(answer)
		require.NoError(t, err)
		require.Equal(t, deleted, term.ended() == 0, term.screen())
		require.Equal(t, deleted, !strings.Contains(m.Do("", "user", "list"), "ada@example.com"))
		if deleted {
			m.AddUser("ada@example.com")
		}
	}
	unseen := m.Command("user", "delete", "bob@example.com")
	var stderr bytes.Buffer
	unseen.Stderr = &stderr
	require.NotZero(t, onTerminal(t, unseen).ended(), "it doesn't wait for the answer to a question that nobody sees")
	require.Contains(t, stderr.String(), "run it with --yes")
	require.Contains(t, m.Do("", "user", "list"), "bob@example.com")
	term := onTerminal(t, m.Command("user", "delete", "--yes", "bob@example.com"))
	require.Zero(t, term.ended())
	require.Equal(t, "bob@example.com is deleted and signed out everywhere.\n", term.screen())
}
