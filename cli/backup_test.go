package cli

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

var shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// shellIn returns the one block of shell lines in a document that contains the text, with replacements
// for what differs between a test and production.
func shellIn(t *testing.T, path, text string, oldnew ...string) string {
	t.Helper()
	document, err := os.ReadFile(filepath.Join("..", path))
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

// TestBackupUnderLoadIsRestored makes a backup while people sign in and out, restores it elsewhere
// by the steps of the document, and asks the server there who is signed in.
func TestBackupUnderLoadIsRestored(t *testing.T) {
	m := kit.NewSQLiteMachine(t)
	m.AddUser("ada@example.com")
	s := m.Start("--clear-site-data=off")
	m.Do("", "app", "add", "wiki", "http://127.0.0.1:1/logout")
	var stay, left []string
	for range 5 {
		stay = append(stay, s.SignIn("ada@example.com"))
		gone := s.SignIn("ada@example.com")
		require.Equal(t, http.StatusNoContent, s.Logout(gone).Status)
		left = append(left, gone)
	}
	keys := s.Get("/auth/.well-known/jwks.json", "").Body
	require.Contains(t, keys, `"kid"`)

	// People keep signing in and out; what was answered before the backup began must be in it.
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
				in := s.Login("ada@example.com", kit.GoodPassword)
				token := in.Text("session_token")
				out := s.Logout(token)
				mu.Lock()
				if in.Status == http.StatusOK && out.Status == http.StatusNoContent && !began.Load() {
					left = append(left, token)
				}
				mu.Unlock()
				if in.Status == http.StatusOK && out.Status == http.StatusNoContent {
					turns.Add(1)
				}
			}
		})
	}
	s.Await("sign-ins", func() bool { return turns.Load() > 20 })

	mu.Lock()
	began.Store(true)
	mu.Unlock()
	before := turns.Load()
	said := m.Shell(shellIn(t, "docs/backup.md", "latchkey backup", "/var/lib/latchkey/", "", "/var/backups/", "", "$(date +%F)", "2026-11-22"))
	require.Regexp(t, `^latchkey-2026-11-22\.db is complete: \d+ KiB, 1 account, \d+ active sessions, schema \S+\.\n$`, said)
	s.Await("sign-ins after it", func() bool { return turns.Load() > before+20 })
	close(done)
	load.Wait()
	ended := stay[0]
	require.Equal(t, http.StatusNoContent, s.Logout(ended).Status, "after the backup")
	s.Stop()

	file := filepath.Join(m.Dir, "latchkey-2026-11-22.db")
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	leftovers, err := filepath.Glob(filepath.Join(m.Dir, "*.partial*"))
	require.NoError(t, err)
	require.Empty(t, leftovers)

	restore := func(elsewhere *kit.Machine) {
		require.NoError(t, os.WriteFile(elsewhere.DatabaseFile(), []byte("another one"), 0o600))
		elsewhere.Shell(shellIn(t, "docs/backup.md", "chown", "systemctl stop latchkey.socket latchkey.service", ":", "/var/lib/latchkey", elsewhere.Dir, "/var/backups/latchkey-2026-11-22.db", file))
	}

	// Moved to another machine: everybody stays signed in.
	moved := kit.NewSQLiteMachine(t)
	restore(moved)
	there := moved.Start()
	for _, token := range stay {
		require.Equal(t, http.StatusOK, there.Whoami(token))
	}
	require.NotEmpty(t, left)
	for _, token := range left {
		require.Equal(t, http.StatusUnauthorized, there.Whoami(token), "the logout was answered before the backup began")
	}
	require.Equal(t, keys, there.Get("/auth/.well-known/jwks.json", "").Body, "the keys are the same")
	require.Contains(t, moved.Do("", "app", "list"), "wiki")
	require.NotEmpty(t, there.SignIn("ada@example.com"))
	there.Stop()

	// Restored after a loss: nobody does.
	signOut := shellIn(t, "docs/backup.md", "DATABASE_URL=sqlite:latchkey.db latchkey session", "systemctl start latchkey.socket latchkey.service", ":")
	lost := kit.NewSQLiteMachine(t)
	restore(lost)
	require.Regexp(t, `^Sessions ended: \d+\.\n$`, lost.Shell(signOut))
	there = lost.Start()
	for _, token := range append(stay, left...) {
		require.Equal(t, http.StatusUnauthorized, there.Whoami(token))
	}
}

func TestLogoutLinksHoldInARestoredBackup(t *testing.T) {
	m := kit.NewSQLiteMachine(t)
	m.AddUser("ada@example.com")
	s := m.Start()
	token, logoutToken := signInWithBrowser(t, s, "ada@example.com")
	m.Do("", "backup", "copy.db")
	s.Stop()

	elsewhere := kit.NewSQLiteMachine(t)
	require.NoError(t, os.Rename(filepath.Join(m.Dir, "copy.db"), elsewhere.DatabaseFile()))
	there := elsewhere.Start()

	require.Equal(t, logoutToken, getLogoutToken(there, token), "the key that derives them is in the copy")
	require.Equal(t, http.StatusNoContent, there.GetWithCookie("/auth/self-service/logout?token="+logoutToken, token).Status)
}

// signInWithBrowser returns the session's token, from its cookie, and its logout token.
func signInWithBrowser(t *testing.T, s *kit.Server, address string) (token, logoutToken string) {
	t.Helper()
	flow := s.GetWithCookie("/auth/self-service/login/browser", "")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, flow.Text("ui", "action"),
		strings.NewReader(fmt.Sprintf(`{"method":"password","identifier":%q,"password":%q}`, address, kit.GoodPassword)))
	require.NoError(t, err)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", "application/json")
	for _, c := range cookies(flow) {
		req.AddCookie(c)
	}
	login := kit.Do(req)
	require.Equal(t, http.StatusOK, login.Status, login.Body)
	for _, c := range cookies(login) {
		if c.Name == "latchkey_session" {
			token = c.Value
		}
	}
	require.NotEmpty(t, token)
	logoutToken = getLogoutToken(s, token)
	require.NotEmpty(t, logoutToken)
	return token, logoutToken
}

func cookies(a kit.Answer) []*http.Cookie { return (&http.Response{Header: a.Header}).Cookies() }

func getLogoutToken(s *kit.Server, token string) string {
	return s.GetWithCookie("/auth/self-service/logout/browser", token).Text("logout_token")
}

func TestBackupNeverOverwrites(t *testing.T) {
	m := kit.NewSQLiteMachine(t)
	m.AddUser("ada@example.com")
	taken := filepath.Join(m.Dir, "taken.db")
	require.NoError(t, os.WriteFile(taken, []byte("precious"), 0o600))
	require.NoError(t, os.Symlink("nowhere", filepath.Join(m.Dir, "link.db")))

	require.Contains(t, m.Refuse("", "backup", "taken.db"), "already exists")
	require.Contains(t, m.Refuse("", "backup", "link.db"), "already exists")
	require.Contains(t, m.Refuse("", "backup", "latchkey.db"), "already exists")
	require.Contains(t, m.Refuse("", "backup", "-"), "give a file")
	require.Contains(t, m.Refuse("", "backup", "no/such/directory.db"), "no such file or directory")

	kept, err := os.ReadFile(taken)
	require.NoError(t, err)
	require.Equal(t, "precious", string(kept))
	require.NoFileExists(t, filepath.Join(m.Dir, "nowhere"))
	leftovers, err := filepath.Glob(filepath.Join(m.Dir, "*.partial*"))
	require.NoError(t, err)
	require.Empty(t, leftovers)
}

func TestBackupOfADamagedDatabaseFails(t *testing.T) {
	m := kit.NewSQLiteMachine(t)
	require.Contains(t, m.Refuse("", "backup", "copy.db"), "DATABASE_URL")
	require.NoFileExists(t, m.DatabaseFile(), "it creates no database")

	m.AddUser("ada@example.com")
	database := openDatabase(t, m)
	require.NoError(t, database.Query(t.Context()).Exec("PRAGMA foreign_keys = 0; INSERT INTO credentials (identity_id, method, hash, created_at, updated_at) VALUES ('x', 'password', 'x', 0, 0)").Error)
	require.Contains(t, m.Refuse("", "backup", "copy.db"), "1 rows refer to missing")
	require.NoFileExists(t, filepath.Join(m.Dir, "copy.db"))
}

func TestBackupOfPostgreSQLNamesTheCommand(t *testing.T) {
	m := kit.NewMachine(t)
	for dsn, want := range map[string]string{
		"postgres://ada:s3cret@db.example.com:5433/latchkey?sslmode=require&pool_max_conns=7": `'postgres://ada@db.example.com:5433/latchkey?sslmode=require'`,
		"postgres://db.example.com/it's?password=s3cret":                                      `'postgres://db.example.com/it'\''s'`,
		"postgres://ada:s3cret@one:5432,two:5432/latchkey":                                    "pg_dump",
	} {
		sentence := m.Refuse("", "backup", "--database-url="+dsn, "copy of it")
		require.Contains(t, sentence, "pg_dump --format=custom --file='copy of it' ")
		require.Contains(t, sentence, want)
		require.NotContains(t, sentence, "s3cret")
	}
}
