package db

import (
	"errors"
	"net/url"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
)

// CheckURL returns an error if dsn is not a valid database URL. The error has no part of a password in it, and
// so have those of all functions here that take a URL.
func CheckURL(dsn string) error {
	if path, ok := SQLitePath(dsn); ok {
		return checkPath(path)
	}
	_, err := postgresConfig(dsn)
	return err
}

// SQLitePath returns the path in url, and false if url doesn't name a SQLite database.
func SQLitePath(url string) (string, bool) {
	path, ok := strings.CutPrefix(url, "sqlite:")
	return path, ok && path != ""
}

// query is how SQLite takes options after the path.
var query = regexp.MustCompile(`\?[A-Za-z_]+=`)

// checkPath refuses what other programs take for something else than a path.
func checkPath(path string) error {
	switch {
	case strings.HasPrefix(path, "//"):
		return errors.New("a SQLite database is given without //: sqlite:latchkey.db in the working directory, or sqlite:/var/lib/latchkey/latchkey.db")
	case path == ":memory:" || strings.Contains(path, "mode=memory"):
		return errors.New("a database in memory would forget all accounts and sessions: name a file, such as sqlite:latchkey.db")
	case strings.HasPrefix(path, "file:"), query.MatchString(path):
		return errors.New("a SQLite database is given by its path alone, without file: and options: sqlite:latchkey.db")
	case strings.ContainsFunc(path, func(r rune) bool { return r < ' ' }):
		return errors.New("the path of the SQLite database has a line break or another control character: remove it")
	}
	return nil
}

const (
	giveURL  = "give the database as sqlite:PATH, for example sqlite:latchkey.db, or as postgres://USER:PASSWORD@HOST/DATABASE"
	escapeIt = "percent-encode the special characters of user name and password: %40 for @, %2F for /, %3F for ?, %23 for #, %25 for %"
)

// parsePostgresURL is pgxpool.ParseConfig with errors that have no part of the password in them. Those of pgx
// and net/url have, where a character in it ends the password for them: they take the rest for the host, the
// port, the database or options.
func parsePostgresURL(dsn string) (*pgxpool.Config, error) {
	scheme, rest, _ := strings.Cut(dsn, "://")
	if scheme != "postgres" && scheme != "postgresql" {
		return nil, errors.New(giveURL)
	}
	authority := rest
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		authority = rest[:end]
	}
	if strings.Count(rest, "@") > min(1, strings.Count(authority, "@")) {
		return nil, errors.New("the URL has an @ that does not end the password: " + escapeIt)
	}
	config, err := pgxpool.ParseConfig(dsn)
	if err == nil {
		return config, nil
	}
	u, parseErr := url.Parse(dsn)
	if parseErr != nil {
		return nil, errors.New("the URL can't be read: write it as postgres://USER:PASSWORD@HOST:PORT/DATABASE, and " + escapeIt)
	}
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	options := u.Query()
	for _, secret := range []string{"password", "sslpassword"} {
		options.Del(secret)
	}
	u.RawQuery = options.Encode()
	if _, err := pgxpool.ParseConfig(u.String()); err != nil {
		return nil, errors.New("the URL is wrong: " + reasonOf(err))
	}
	return nil, errors.New("the URL is wrong: " + escapeIt)
}

// reasonOf returns what pgx says of a URL, without the URL.
func reasonOf(err error) string {
	text := err.Error()
	if _, reason, ok := strings.Cut(text, "`: "); ok { // cannot parse `postgres://…`: reason
		text = reason
	}
	return text
}
