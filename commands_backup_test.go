package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

var shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// shellIn returns the one block of shell lines of a document that holds the text, with replacements
// for what can't be the same in a test as in production.
func shellIn(t *testing.T, path, text string, oldnew ...string) string {
	t.Helper()
	document, err := os.ReadFile(path)
	require.NoError(t, err)
	var found []string
	for _, block := range shellBlock.FindAllStringSubmatch(string(document), -1) {
		if strings.Contains(block[1], text) {
			found = append(found, block[1])
		}
	}
	require.Len(t, found, 1, "blocks with %q in %s", text, path)
	for i := 0; i < len(oldnew); i += 2 {
		require.Contains(t, found[0], oldnew[i])
	}
	return strings.NewReplacer(oldnew...).Replace(found[0])
}

// shell runs lines of a document on the machine.
func (m *machine) shell(lines string) string {
	m.t.Helper()
	path, err := binary()
	require.NoError(m.t, err)
	cmd := exec.Command("sh", "-euc", lines)
	cmd.Dir = m.dir
	cmd.Env = append([]string{"HOME=" + m.dir, "PATH=" + filepath.Dir(path) + ":" + os.Getenv("PATH"), "DATABASE_URL=" + m.dsn}, m.env...)
	output, err := cmd.CombinedOutput()
	require.NoError(m.t, err, "%s\n%s", lines, output)
	return string(output)
}

// TestBackupUnderLoadIsRestored makes a backup while people sign in and out, restores it elsewhere
// by the steps of the document, and asks the server there who is signed in.
func TestBackupUnderLoadIsRestored(t *testing.T) {
	m := newSQLiteMachine(t)
	m.addUser("ada@example.com")
	s := m.start("--clear-site-data=off")
	m.do("", "app", "add", "wiki", "http://127.0.0.1:1/logout")
	var stay, left []string
	for range 5 {
		stay = append(stay, s.signIn("ada@example.com"))
		gone := s.signIn("ada@example.com")
		require.Equal(t, http.StatusNoContent, s.logout(gone).status)
		left = append(left, gone)
	}
	keys := s.get("/auth/.well-known/jwks.json", "").body
	require.Contains(t, keys, `"kid"`)

	// People sign in and out all the time, and each answer is held against the moment of the backup.
	var mu sync.Mutex
	var began atomic.Bool
	var turns atomic.Int64
	done := make(chan struct{})
	var load sync.WaitGroup
	for range 3 {
		load.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				in := s.tryLogin("ada@example.com", goodPassword)
				token := in.text("session_token")
				out := s.logout(token)
				mu.Lock()
				if in.status == http.StatusOK && out.status == http.StatusNoContent && !began.Load() {
					left = append(left, token)
				}
				mu.Unlock()
				if in.status == http.StatusOK && out.status == http.StatusNoContent {
					turns.Add(1)
				}
			}
		})
	}
	s.await("sign-ins", func() bool { return turns.Load() > 20 })

	mu.Lock()
	began.Store(true)
	mu.Unlock()
	before := turns.Load()
	said := m.shell(shellIn(t, "docs/backup.md", "latchkey backup", "/var/lib/latchkey/", "", "/var/backups/", "", "$(date +%F)", "2026-11-22"))
	require.Regexp(t, `^latchkey-2026-11-22\.db is whole: \d+ KiB, 1 account, \d+ active sessions, schema \S+\.\n$`, said)
	s.await("sign-ins after it", func() bool { return turns.Load() > before+20 })
	close(done)
	load.Wait()
	ended := stay[0]
	require.Equal(t, http.StatusNoContent, s.logout(ended).status, "after the backup")
	s.stop()

	file := filepath.Join(m.dir, "latchkey-2026-11-22.db")
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	leftovers, err := filepath.Glob(filepath.Join(m.dir, "*.partial*"))
	require.NoError(t, err)
	require.Empty(t, leftovers)

	restore := func(elsewhere *machine) {
		require.NoError(t, os.WriteFile(elsewhere.database(), []byte("another one"), 0o600))
		elsewhere.shell(shellIn(t, "docs/backup.md", "chown", "systemctl stop latchkey.socket latchkey.service", ":", "/var/lib/latchkey", elsewhere.dir, "/var/backups/latchkey-2026-11-22.db", file))
	}

	// As on a move: everybody stays.
	moved := newSQLiteMachine(t)
	restore(moved)
	there := moved.start()
	for _, token := range stay {
		require.Equal(t, http.StatusOK, there.whoami(token))
	}
	require.NotEmpty(t, left)
	for _, token := range left {
		require.Equal(t, http.StatusUnauthorized, there.whoami(token), "the logout was answered before the backup began")
	}
	require.Equal(t, keys, there.get("/auth/.well-known/jwks.json", "").body, "the keys are the same")
	require.Contains(t, moved.do("", "app", "list"), "wiki")
	require.NotEmpty(t, there.signIn("ada@example.com"))
	there.stop()

	// As after a loss: nobody does.
	signOut := shellIn(t, "docs/backup.md", "DATABASE_URL=sqlite:latchkey.db latchkey session", "systemctl start latchkey.socket latchkey.service", ":")
	lost := newSQLiteMachine(t)
	restore(lost)
	require.Regexp(t, `^Sessions ended: \d+\.\n$`, lost.shell(signOut))
	there = lost.start()
	for _, token := range append(stay, left...) {
		require.Equal(t, http.StatusUnauthorized, there.whoami(token))
	}
}

func TestLogoutLinksHoldInARestoredBackup(t *testing.T) {
	m := newSQLiteMachine(t)
	m.addUser("ada@example.com")
	s := m.start()
	cookie, link := s.browserSignIn("ada@example.com")
	m.do("", "backup", "copy.db")
	s.stop()

	elsewhere := newSQLiteMachine(t)
	require.NoError(t, os.Rename(filepath.Join(m.dir, "copy.db"), elsewhere.database()))
	there := elsewhere.start()

	require.Equal(t, link, there.logoutToken(cookie), "the key that makes them is in the copy")
	require.Equal(t, http.StatusNoContent, there.withCookie(http.MethodGet, "/auth/self-service/logout?token="+link, cookie).StatusCode)
}

// withCookie asks as a browser with that cookie does.
func (s *server) withCookie(method, path, cookie string) *http.Response {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, nil)
	require.NoError(s.t, err)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Cookie", cookie)
	res, err := http.DefaultClient.Do(req)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { res.Body.Close() })
	return res
}

func (s *server) logoutToken(cookie string) string {
	s.t.Helper()
	res := s.withCookie(http.MethodGet, "/auth/self-service/logout/browser", cookie)
	var body bytes.Buffer
	_, err := body.ReadFrom(res.Body)
	require.NoError(s.t, err)
	return answer{body: body.String()}.text("logout_token")
}

// browserSignIn returns the session's cookie and its logout token.
func (s *server) browserSignIn(address string) (cookie, logoutToken string) {
	s.t.Helper()
	flow := s.withCookie(http.MethodGet, "/auth/self-service/login/browser", "")
	var body bytes.Buffer
	_, err := body.ReadFrom(flow.Body)
	require.NoError(s.t, err)
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, answer{body: body.String()}.text("ui", "action"),
		strings.NewReader(fmt.Sprintf(`{"method":"password","identifier":%q,"password":%q}`, address, goodPassword)))
	require.NoError(s.t, err)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", "application/json")
	for _, c := range flow.Cookies() {
		req.AddCookie(c)
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(s.t, err)
	defer res.Body.Close()
	require.Equal(s.t, http.StatusOK, res.StatusCode)
	for _, c := range res.Cookies() {
		if strings.HasSuffix(c.Name, "latchkey_session") {
			cookie = c.Name + "=" + c.Value
		}
	}
	require.NotEmpty(s.t, cookie)
	logoutToken = s.logoutToken(cookie)
	require.NotEmpty(s.t, logoutToken)
	return cookie, logoutToken
}

func TestBackupNeverOverwrites(t *testing.T) {
	m := newSQLiteMachine(t)
	m.addUser("ada@example.com")
	taken := filepath.Join(m.dir, "taken.db")
	require.NoError(t, os.WriteFile(taken, []byte("precious"), 0o600))
	require.NoError(t, os.Symlink("nowhere", filepath.Join(m.dir, "link.db")))

	require.Contains(t, m.refuse("", "backup", "taken.db"), "is there already")
	require.Contains(t, m.refuse("", "backup", "link.db"), "is there already")
	require.Contains(t, m.refuse("", "backup", "latchkey.db"), "is there already")
	require.Contains(t, m.refuse("", "backup", "-"), "give a file")
	require.Contains(t, m.refuse("", "backup", "no/such/directory.db"), "no such file or directory")

	kept, err := os.ReadFile(taken)
	require.NoError(t, err)
	require.Equal(t, "precious", string(kept))
	require.NoFileExists(t, filepath.Join(m.dir, "nowhere"))
	leftovers, err := filepath.Glob(filepath.Join(m.dir, "*.partial*"))
	require.NoError(t, err)
	require.Empty(t, leftovers)
}

func TestBackupOfWhatIsDamagedIsNone(t *testing.T) {
	m := newSQLiteMachine(t)
	require.Contains(t, m.refuse("", "backup", "copy.db"), "DATABASE_URL")
	require.NoFileExists(t, m.database(), "it makes no database")

	m.addUser("ada@example.com")
	database := m.open()
	require.NoError(t, database.Exec("PRAGMA foreign_keys = 0; INSERT INTO credentials VALUES ('x', 'password', 'x', 0, 0)").Error)
	require.Contains(t, m.refuse("", "backup", "copy.db"), "1 rows refer to others")
	require.NoFileExists(t, filepath.Join(m.dir, "copy.db"))
}

func TestBackupOfPostgreSQLNamesTheCommand(t *testing.T) {
	m := newMachine(t)
	for dsn, want := range map[string]string{
		"postgres://ada:s3cret@db.example.com:5433/latchkey?sslmode=require&pool_max_conns=7": `'postgres://ada@db.example.com:5433/latchkey?sslmode=require'`,
		"postgres://db.example.com/it's?password=s3cret":                                      `'postgres://db.example.com/it'\''s'`,
		"postgres://ada:s3cret@one:5432,two:5432/latchkey":                                    "pg_dump",
	} {
		sentence := m.refuse("", "backup", "--database-url="+dsn, "copy of it")
		require.Contains(t, sentence, "pg_dump --format=custom --file='copy of it' ")
		require.Contains(t, sentence, want)
		require.NotContains(t, sentence, "s3cret")
	}
}
