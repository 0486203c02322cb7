package db_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"latchkey/db"
	"latchkey/models"
	"latchkey/test/kit"
)

func open(t testing.TB, path string) *db.DB {
	t.Helper()
	database, err := db.Open(t.Context(), "sqlite:"+path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, database.Close()) })
	return database
}

func TestPathIsTakenLiterally(t *testing.T) {
	for _, name := range []string{"plain.db", "with space.db", "100%.db", "%41.db", "what?.db", "a#b.db", "a&b=c;d.db", "a+b.db",
		"ünï.db", "?mode", ":memory:", "file:x.db"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), name)
			database := open(t, path)

			info, err := os.Stat(path)
			require.NoError(t, err)
			require.NotZero(t, info.Size(), "the tables are in that file")
			require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
			var file string
			require.NoError(t, database.Query(t.Context()).Raw("SELECT file FROM pragma_database_list WHERE name = 'main'").Scan(&file).Error)
			require.Equal(t, path, file)
		})
	}
}

func TestRelativePath(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, path := range []string{"latchkey.db", "./here.db", "a:b.db", "new/folder/latchkey.db"} {
		open(t, path)
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.NotZero(t, info.Size(), path)
	}
}

func TestRefusedAddresses(t *testing.T) {
	for _, dsn := range []string{"", "latchkey.db", "sqlite:", "mysql://localhost/latchkey", "sqlite3:latchkey.db"} {
		_, err := db.Open(t.Context(), dsn)
		require.ErrorContains(t, err, "sqlite:PATH", dsn)
	}
}

// What other programs take for something else than a path would make a file where nobody looks for it.
func TestRefusedPaths(t *testing.T) {
	t.Chdir(t.TempDir())
	for path, want := range map[string]string{
		"//x.db": "without //", "///x.db": "without //", ":memory:": "in memory", "file::memory:": "without file:", "file:x.db": "without file:",
		"x.db?mode=ro": "without file: and options", "x.db?mode=memory": "in memory", "x.db\n": "line break",
	} {
		for _, open := range []func(context.Context, string) (*db.DB, error){db.Open, db.OpenExisting} {
			_, err := open(t.Context(), "sqlite:"+path)
			require.ErrorContains(t, err, want, path)
		}
		require.ErrorContains(t, db.CheckURL("sqlite:"+path), want, path)
		_, err := db.OpenReadOnly(t.Context(), "sqlite:"+path)
		require.ErrorContains(t, err, want, path)
		require.ErrorContains(t, db.Create(t.Context(), "sqlite:"+path, func(*db.DB) error { return nil }), want, path)
	}
	left, err := filepath.Glob("*")
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestMissingFolderIsMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "folder", "latchkey.db")
	_, err := db.OpenExisting(t.Context(), "sqlite:"+path)
	require.ErrorContains(t, err, "there is no database at")
	require.NoDirExists(t, filepath.Dir(path))
	open(t, path)
	info, err := os.Stat(filepath.Dir(path))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
}

// A password with characters that have a meaning in URLs is taken for the host, the port or an option by one
// parser or another. Nothing of it may be printed.
func TestNoErrorHasAPartOfAPassword(t *testing.T) {
	for _, password := range kit.NastyPasswords {
		for _, format := range []string{
			"postgres://latchkey:%s@127.0.0.1:1/latchkey", "postgres://latchkey:%s@127.0.0.1:1,127.0.0.1:2/latchkey?sslmode=disable", "postgresql://%s@127.0.0.1:1/latchkey?sslmode=sometimes",
			"postgres://127.0.0.1:1/latchkey?user=latchkey&password=%s", "postgres://latchkey:%s@127.0.0.1:port/latchkey", "postgres://latchkey:%s@127.0.0.1:1/latchkey?pool_max_conns=many",
			"mysql://latchkey:%s@127.0.0.1:1/latchkey", "postgres:latchkey:%s@127.0.0.1", "latchkey:%s@127.0.0.1", "host=127.0.0.1 port=1 password=%s",
		} {
			dsn := fmt.Sprintf(format, password)
			_, err := db.Open(t.Context(), dsn)
			kit.RequireNothingNasty(t, err.Error())
			_, err = db.OpenReadOnly(t.Context(), dsn)
			kit.RequireNothingNasty(t, err.Error())
			if err := db.CheckURL(dsn); err != nil {
				kit.RequireNothingNasty(t, err.Error())
			}
		}
	}
}

func TestNotADatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "latchkey.db")
	require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("no database ", 1000)), 0o600))
	_, err := db.Open(t.Context(), "sqlite:"+path)
	require.ErrorContains(t, err, "not a database")
	_, err = db.Open(t.Context(), "sqlite:"+t.TempDir())
	require.ErrorContains(t, err, "is a directory")
}

// What is set on one connection holds for that one alone, so look at all that the pool may open.
func TestEveryConnectionHasTheSettings(t *testing.T) {
	pool := open(t, filepath.Join(t.TempDir(), "latchkey.db")).Pool()
	most := pool.Stats().MaxOpenConnections
	require.Positive(t, most)
	for range most {
		conn, err := pool.Conn(t.Context())
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close()) }() // at the end, so that each is another one
		for pragma, want := range map[string]string{
			"journal_mode": "wal",
			"synchronous":  "2", // FULL: what is committed survives a power cut
			"foreign_keys": "1",
			"busy_timeout": "5000", // milliseconds
		} {
			var got string
			require.NoError(t, conn.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got))
			require.Equal(t, want, got, pragma)
		}
	}
	require.Equal(t, most, pool.Stats().OpenConnections)
}

// A transaction that reads first and then writes must wait at its start, not fail in its middle.
func TestWritersWaitForOneAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "latchkey.db")
	open(t, path)
	var all sync.WaitGroup
	for range 4 {
		database := open(t, path) // as other processes do
		all.Go(func() {
			for range 25 {
				if err := addOne(t.Context(), database.Query(t.Context())); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	secret, err := gorm.G[models.Secret](open(t, path).Query(t.Context())).Take(t.Context())
	require.NoError(t, err)
	require.Len(t, secret.Value, 100)
}

// addOne reads a value and writes a longer one.
func addOne(ctx context.Context, database *gorm.DB) error {
	return database.Transaction(func(tx *gorm.DB) error {
		found, err := gorm.G[models.Secret](tx).Find(ctx)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return gorm.G[models.Secret](tx).Create(ctx, &models.Secret{Name: "count", Value: []byte{1}})
		}
		_, err = gorm.G[models.Secret](tx).Where("name = ?", "count").Update(ctx, "value", append(found[0].Value, 1))
		return err
	})
}

func TestMigrationsAreAppliedOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "latchkey.db")
	schemaOf := func() (all []string) {
		raw, err := sql.Open("sqlite", path)
		require.NoError(t, err)
		defer func() { require.NoError(t, raw.Close()) }()
		rows, err := raw.QueryContext(t.Context(), "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL UNION ALL SELECT id FROM migrations ORDER BY 1")
		require.NoError(t, err)
		defer rows.Close()
		for rows.Next() {
			var one string
			require.NoError(t, rows.Scan(&one))
			all = append(all, one)
		}
		require.NoError(t, rows.Err())
		return all
	}
	open(t, path)
	first := schemaOf()
	open(t, path)
	require.Equal(t, first, schemaOf())
	require.Contains(t, first, "202611220001_initial")
	require.Contains(t, first, "202611250001_locks")
}

// Migrations have their own copies of the tables, so they could drift from the models.
func TestSchemaMatchesModels(t *testing.T) {
	database := open(t, filepath.Join(t.TempDir(), "latchkey.db"))
	for _, model := range []any{&models.Identity{}, &models.Address{}, &models.Credential{}, &models.Session{}, &models.ReplacedToken{}, &models.Sweep{},
		&models.SingleUseValue{}, &models.Attempt{}, &models.Secret{}} {
		parsed, err := schema.Parse(model, &sync.Map{}, database.Query(t.Context()).NamingStrategy)
		require.NoError(t, err)
		var columns []struct {
			Name        string
			NotNull, PK int
		}
		require.NoError(t, database.Query(t.Context()).Raw(`SELECT name, "notnull" AS not_null, pk FROM pragma_table_info(?)`, parsed.Table).Scan(&columns).Error)
		var stored []string
		for _, column := range columns {
			stored = append(stored, column.Name)
			if field := parsed.LookUpField(column.Name); field != nil && column.PK == 0 {
				require.Equal(t, field.FieldType.Kind() == reflect.Pointer, column.NotNull == 0, "%s.%s", parsed.Table, column.Name)
			}
		}
		require.ElementsMatch(t, parsed.DBNames, stored, parsed.Table)
	}
}

func TestIndexesServeWhatIsAsked(t *testing.T) {
	database := open(t, filepath.Join(t.TempDir(), "latchkey.db"))
	for query, index := range map[string]string{
		"SELECT * FROM sessions WHERE token_hash = x'00'":                                                                                                     "token_hash",
		"SELECT * FROM sessions WHERE identity_id = 'x' ORDER BY authenticated_at DESC":                                                                       "person",
		"DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_at < '2026' LIMIT 500)":                                                      "expires_at",
		"DELETE FROM attempts WHERE key IN (SELECT key FROM attempts WHERE forget_at < '2026' LIMIT 500)":                                                     "forget_at",
		"SELECT * FROM identities WHERE email = 'ada@example.com'":                                                                                            "email",
		"SELECT * FROM credentials WHERE identity_id = 'x' AND method = 'password'":                                                                           "idx_credentials_person",
		"SELECT * FROM addresses WHERE value = 'ada@example.com'":                                                                                             "idx_addresses_value",
		"SELECT * FROM identities WHERE username = 'ada' AND username <> ''":                                                                                  "idx_identities_username",
		"SELECT count(*) FROM sessions WHERE identity_id = 'x' AND number >= 1 AND ended_at IS NULL AND expires_at > 1":                                       "COVERING INDEX idx_sessions_number",
		"SELECT number FROM sessions WHERE identity_id = 'x' AND number >= 1 AND ended_at IS NULL AND expires_at > 1 ORDER BY number DESC LIMIT 2 OFFSET 199": "COVERING INDEX idx_sessions_number",
		"SELECT id FROM sessions WHERE identity_id = 'x' AND number < 9 AND ended_at IS NULL ORDER BY number LIMIT 200":                                       "idx_sessions_number",
		"SELECT * FROM single_use_values WHERE hash = x'00' AND purpose = 'x'":                                                                                "hash",
		"SELECT * FROM single_use_values WHERE purpose = 'setup' AND expires_at IS NULL":                                                                      "lasting",
		"DELETE FROM single_use_values WHERE hash IN (SELECT hash FROM single_use_values WHERE expires_at <= 1 LIMIT 500)":                                    "expires_at",
		"SELECT * FROM sweeps ORDER BY at LIMIT 50":                                                                                                           "idx_sweeps_at",
	} {
		var plan []struct{ Detail string }
		require.NoError(t, database.Query(t.Context()).Raw("EXPLAIN QUERY PLAN "+query).Scan(&plan).Error)
		var details []string
		for _, step := range plan {
			details = append(details, step.Detail)
		}
		require.Contains(t, strings.Join(details, "\n"), index, query)
	}
}

func TestManyOpenANewDatabaseAtOnce(t *testing.T) {
	for range 20 {
		path := filepath.Join(t.TempDir(), "latchkey.db")
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				database, err := db.Open(t.Context(), "sqlite:"+path)
				if err == nil {
					err = database.Close()
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
}
