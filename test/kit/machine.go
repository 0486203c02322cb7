package kit

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Machine is a directory in which the program runs, with a database and hardly any environment.
type Machine struct {
	Dir         string
	DatabaseURL string
	Env         []string // besides HOME; of a name that is there twice, the last one counts
	Program     string   // what runs; "" for Binary

	t testing.TB
}

// NewMachine returns a machine with an empty database and cheap password hashes.
func NewMachine(t testing.TB) *Machine {
	t.Helper()
	if UsesPostgres() {
		return NewMachineAt(t, PostgresURL(t))
	}
	return NewSQLiteMachine(t)
}

// NewMachineAt is NewMachine with the database at a URL.
func NewMachineAt(t testing.TB, databaseURL string) *Machine {
	t.Helper()
	m := NewSQLiteMachine(t)
	m.DatabaseURL = databaseURL
	m.Env = append(m.Env, "DATABASE_URL="+databaseURL)
	return m
}

// NewSQLiteMachine is NewMachine for tests of what only SQLite has.
func NewSQLiteMachine(t testing.TB) *Machine {
	t.Helper()
	dir := t.TempDir()
	return &Machine{t: t, Dir: dir, DatabaseURL: "sqlite:" + filepath.Join(dir, "latchkey.db"),
		Env: []string{"PASSWORD_MEMORY=64", "PASSWORD_PASSES=1"}}
}

// DatabaseFile returns the path of the SQLite file.
func (m *Machine) DatabaseFile() string { return strings.TrimPrefix(m.DatabaseURL, "sqlite:") }

// basePath is what the paths of the server begin with.
func (m *Machine) basePath() string {
	base := "/auth"
	for _, variable := range m.Env {
		if value, ok := strings.CutPrefix(variable, "BASE_PATH="); ok && value != "" {
			base = strings.TrimSuffix(value, "/")
		}
	}
	return base
}

// Command returns a command that runs the program.
func (m *Machine) Command(args ...string) *exec.Cmd {
	m.t.Helper()
	program := m.Program
	if program == "" {
		program = Binary(m.t)
	}
	cmd := exec.Command(program, args...)
	cmd.Dir = m.Dir
	cmd.Env = append(environment(), append([]string{"HOME=" + m.Dir}, m.Env...)...)
	return cmd
}

// environment is what the program gets of the environment of the tests.
func environment() []string {
	if dir := coverageDir(); dir != "" {
		return []string{"GOCOVERDIR=" + dir}
	}
	return nil
}

// Shell runs shell lines that find the program as "latchkey", and returns what they print.
func (m *Machine) Shell(lines string) string {
	m.t.Helper()
	cmd := exec.Command("sh", "-euc", lines)
	cmd.Dir = m.Dir
	path := filepath.Dir(Binary(m.t)) + ":" + os.Getenv("PATH")
	cmd.Env = append(environment(), append([]string{"HOME=" + m.Dir, "PATH=" + path, "DATABASE_URL=" + m.DatabaseURL}, m.Env...)...)
	output, err := cmd.CombinedOutput()
	require.NoError(m.t, err, "%s\n%s", lines, output)
	return string(output)
}

// Result is how a command ended.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// Run runs the program to its end.
func (m *Machine) Run(stdin string, args ...string) Result {
	m.t.Helper()
	return m.Finish(m.Command(args...), stdin)
}

// Finish runs a command to its end.
func (m *Machine) Finish(cmd *exec.Cmd, stdin string) Result {
	m.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(m.t, err)
	}
	return Result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// Do runs a command that must succeed, and returns what it prints.
func (m *Machine) Do(stdin string, args ...string) string {
	m.t.Helper()
	r := m.Run(stdin, args...)
	require.Zero(m.t, r.Code, r.Stderr)
	require.Empty(m.t, r.Stderr)
	return r.Stdout
}

// Refuse runs a command that must fail with one sentence on standard error, and returns that. A server's is a
// line of its log.
func (m *Machine) Refuse(stdin string, args ...string) string {
	m.t.Helper()
	return m.RequireRefused(m.Run(stdin, args...))
}

// RequireRefused is Refuse for a command that has run.
func (m *Machine) RequireRefused(r Result) string {
	m.t.Helper()
	require.NotZero(m.t, r.Code, r.Stdout)
	require.Empty(m.t, r.Stdout)
	var line struct{ Level, Error string }
	if json.Unmarshal([]byte(r.Stderr), &line) == nil {
		require.Equal(m.t, "ERROR", line.Level)
		require.NotEmpty(m.t, line.Error)
		return line.Error
	}
	require.Regexp(m.t, `^latchkey: error: [^\n]+\n$`, r.Stderr)
	return r.Stderr
}

// AddUser creates an account with GoodPassword.
func (m *Machine) AddUser(address string) {
	m.t.Helper()
	m.Do(GoodPassword+"\n", "user", "add", address)
}

// Start starts a server on a free port and waits until it is ready.
func (m *Machine) Start(args ...string) *Server {
	m.t.Helper()
	return m.Launch(m.Command(args...))
}

// StartMany starts servers side by side.
func (m *Machine) StartMany(n int) []*Server {
	m.t.Helper()
	all := make([]*Server, n)
	var starting sync.WaitGroup
	for i := range all {
		starting.Go(func() { all[i] = m.Start() })
	}
	starting.Wait()
	if m.t.Failed() {
		m.t.FailNow()
	}
	return all
}
