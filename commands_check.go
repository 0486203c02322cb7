package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"gorm.io/gorm"

	"latchkey/app"
	"latchkey/app/backchannel"
	"latchkey/db"
	"latchkey/models"
)

type checkCmd struct{}

// report is what a check prints, a line for each finding.
type report struct{ wrong int }

func (r *report) ok(subject, format string, args ...any) { r.line("ok", subject, format, args...) }

func (r *report) warn(subject, format string, args ...any) { r.line("warn", subject, format, args...) }

func (r *report) fail(subject, format string, args ...any) {
	r.wrong++
	r.line("FAIL", subject, format, args...)
}

func (r *report) line(mark, subject, format string, args ...any) {
	text := strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " ") // errors of others may have lines
	fmt.Printf("%-4s %-11s %s\n", mark, subject, text)
}

func (r *report) result() error {
	if r.wrong == 0 {
		return nil
	}
	return fmt.Errorf("%s wrong", counted(int64(r.wrong), "thing")+map[bool]string{true: " is", false: " are"}[r.wrong == 1])
}

// wrongSettings is what 'latchkey check' says where it can't go further.
func wrongSettings(err error) error {
	r := &report{}
	r.fail("settings", "%v – nothing else was checked", err)
	return r.result()
}

// Run prints what is wrong and what to do. It changes nothing.
func (checkCmd) Run(ctx context.Context, config *app.Config) error {
	r := &report{}
	r.settings(config)
	seal := r.database(ctx, config)
	r.requests(ctx, config, seal)
	return r.result()
}

func (r *report) settings(config *app.Config) {
	r.ok("settings", "each is valid")
	advice := config.Advise()
	for _, a := range advice {
		if a.Warning {
			r.warn("cookies", "%s", a.Text)
		} else {
			r.fail("cookies", "%s", a.Text)
		}
	}
	if len(advice) == 0 {
		r.ok("cookies", "%s", config.CookieInWords())
	}
}

// database checks the database and what is in it, and returns the key for app.SeenToken: empty if
// there is none, nil where it could not be read.
func (r *report) database(ctx context.Context, config *app.Config) []byte {
	path, isFile := db.SQLitePath(config.DatabaseURL)
	if isFile && !r.files(path) {
		return nil
	}
	database, err := db.Look(ctx, config.DatabaseURL)
	if err != nil {
		r.fail("database", "%v – is DATABASE_URL that of the server, and may you read it?", err)
		return nil
	}
	defer db.Close(database)
	if isFile {
		if err := db.Verify(ctx, database); err != nil {
			r.fail("database", "%v – restore a backup: docs/backup.md", err)
			return nil
		}
	} else {
		r.server(ctx, config, database)
	}
	schema, err := db.SchemaOf(ctx, database)
	switch {
	case err != nil:
		r.fail("schema", "%v", err)
		return nil
	case schema.Latest == "":
		r.warn("schema", "the database is empty: the first start makes its tables")
		return nil
	case len(schema.Unknown) > 0:
		r.warn("schema", "a newer version has been here (%s): fine during an upgrade – else use that one", schema.Latest)
	case len(schema.Missing) > 0:
		r.warn("schema", "the next start brings it up to date (%s) – make a backup first", strings.Join(schema.Missing, ", "))
	default:
		r.ok("schema", "%s", schema.Latest)
	}
	held, err := contentsOf(ctx, database)
	if err != nil {
		r.fail("database", "it can't be read: %v", err)
		return nil
	}
	r.ok("database", "whole: %s, %s", counted(held.accounts, "account"), counted(held.sessions, "active session"))
	r.newest(ctx, database)
	store := models.New(database, time.Now)
	r.keys(ctx, store)
	r.apps(ctx, config, store)
	seal, err := gorm.G[models.Secret](database).Where("name = ?", "seal").Take(ctx)
	if err != nil {
		return []byte{} // no server has started yet
	}
	return seal.Value
}

const (
	// leastFree is what a server needs to go on writing for a while.
	leastFree = 64 << 20
	// largeWAL is many times what SQLite lets its log grow to before it writes it back.
	largeWAL = 64 << 20
)

// files checks the files of a SQLite database, and reports whether there is one.
func (r *report) files(path string) bool {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		r.fail("database", "there is none at %s – start the server once, or set DATABASE_URL to that of the server", path)
		return false
	}
	if err != nil || !info.Mode().IsRegular() {
		r.fail("database", "%s can't be used: %v – set DATABASE_URL to that of the server", path, err)
		return false
	}
	total := info.Size()
	wrong := r.wrong
	for _, suffix := range []string{"", "-wal", "-shm"} {
		part, err := os.Stat(path + suffix)
		if err != nil {
			continue // SQLite makes it when it is needed
		}
		if open := part.Mode().Perm() &^ 0o600; open != 0 && ownedByUsers {
			r.fail("files", "others can read or write %s (%s) – chmod 600 %[1]s", part.Name(), part.Mode().Perm())
		}
		if owner := ownerOf(part); owner != ownerOf(info) {
			r.fail("files", "%s belongs to another user than %s, so the server can't use it – chown --reference=%s %s", part.Name(), info.Name(), path, path+suffix)
		}
		if suffix == "-wal" {
			total += part.Size()
			if part.Size() > largeWAL {
				r.warn("files", "%s has %s: something has been reading for long, such as a backup – if it stays, restart the server", part.Name(), bytesOf(part.Size()))
			}
		}
	}
	dir := filepath.Dir(path)
	if in, err := os.Stat(dir); err == nil && in.Mode().Perm()&0o022 != 0 && ownedByUsers {
		r.fail("files", "others can write in the directory %s (%s), and so replace the database – chmod go-w %[1]s", dir, in.Mode().Perm())
	}
	if r.wrong == wrong {
		r.ok("files", "%s, %s, its owner's alone", path, bytesOf(total))
	}
	free, ok := freeSpace(dir)
	switch {
	case !ok:
	case free < leastFree:
		r.fail("disk", "%s free in %s: soon nobody can sign in or out – make room", humanize.IBytes(free), dir)
	case free-leastFree < unsigned(total):
		r.warn("disk", "%s free in %s: a backup of %s does not fit there – make room", humanize.IBytes(free), dir, bytesOf(total))
	default:
		r.ok("disk", "%s free", humanize.IBytes(free))
	}
	return true
}

// oldestPostgres is the oldest version that its makers still mend.
const oldestPostgres = 14

// server checks a PostgreSQL server.
func (r *report) server(ctx context.Context, config *app.Config, database *gorm.DB) {
	var s struct {
		Version      int
		Replica      bool
		Lasting      string
		Fsync        string
		Connections  int
		ReservedRoot int
		Now          time.Time
	}
	asked := time.Now()
	err := database.WithContext(ctx).Raw(`SELECT current_setting('server_version_num')::int / 10000 AS version,
		pg_is_in_recovery() AS replica, current_setting('synchronous_commit') AS lasting, current_setting('fsync') AS fsync,
		current_setting('max_connections')::int AS connections, current_setting('superuser_reserved_connections')::int AS reserved_root,
		clock_timestamp() AS now`).Scan(&s).Error
	if err != nil {
		r.warn("server", "it does not say how it is set up: %v", err)
		return
	}
	wrong := r.wrong
	if s.Replica {
		r.fail("server", "it is a replica, which takes no writes – name the primary in DATABASE_URL")
	}
	if s.Lasting == "off" || s.Fsync == "off" {
		r.fail("server", "a power cut undoes what was answered, sign-outs too (synchronous_commit=%s, fsync=%s) – set both to on", s.Lasting, s.Fsync)
	}
	if s.Version < oldestPostgres {
		r.warn("server", "PostgreSQL %d is no longer mended – upgrade it", s.Version)
	}
	if r.wrong == wrong {
		r.ok("server", "PostgreSQL %d, a commit is on its disk", s.Version)
	}
	r.clock("the database", s.Now, asked)
	if size, err := db.PoolSize(config.DatabaseURL); err == nil {
		size += 2 // one listens for ends, one brings the schema up to date
		most := s.Connections - s.ReservedRoot
		if size > most {
			r.fail("connections", "an instance opens up to %d and the server takes %d – set pool_max_conns in DATABASE_URL or raise max_connections", size, most)
		} else {
			r.ok("connections", "an instance opens up to %d of %d: there is room for %s", size, most, counted(int64(most/size), "instance"))
		}
	}
}

const (
	// clockWarn and clockFail are how far clocks may be apart.
	clockWarn = 5 * time.Second
	clockFail = time.Minute
)

// clock compares this machine's clock with another one, which was read between asked and now.
func (r *report) clock(whose string, says, asked time.Time) {
	off := time.Duration(0)
	if now := time.Now(); says.After(now) {
		off = says.Sub(now)
	} else if says.Before(asked) {
		off = says.Sub(asked)
	}
	off = off.Round(time.Second)
	switch {
	case off.Abs() >= clockFail:
		r.fail("clock", "that of %s is %s away from this machine's – set both by NTP: timedatectl set-ntp true", whose, off)
	case off.Abs() >= clockWarn:
		r.warn("clock", "that of %s is %s away from this machine's – is NTP on?", whose, off)
	default:
		r.ok("clock", "as that of %s", whose)
	}
}

// newest looks for what was written in the future.
func (r *report) newest(ctx context.Context, database *gorm.DB) {
	var newest time.Time
	sessions, err := gorm.G[models.Session](database).Select("last_seen_at").Order("last_seen_at DESC").Limit(1).Find(ctx)
	if err == nil && len(sessions) > 0 {
		newest = sessions[0].LastSeenAt
	}
	ends, err2 := gorm.G[models.End](database).Select("at").Order("at DESC").Limit(1).Find(ctx)
	if err2 == nil && len(ends) > 0 && ends[0].At.After(newest) {
		newest = ends[0].At
	}
	switch ahead := time.Until(newest).Round(time.Second); {
	case errors.Join(err, err2) != nil:
		r.fail("clock", "%v", errors.Join(err, err2))
	case ahead >= clockFail:
		r.fail("clock", "the newest entry of the database is of %s in the future – set the clock: timedatectl set-ntp true", ahead)
	default:
		r.ok("clock", "nothing in the database is of the future")
	}
}

func (r *report) keys(ctx context.Context, store *models.Store) {
	keys, err := store.SigningKeys.List(ctx)
	if err != nil {
		r.fail("keys", "%v", err)
		return
	}
	if len(keys) == 0 {
		r.warn("keys", "there is no signing key yet: the start of the server makes one")
		return
	}
	for _, key := range keys {
		if _, err := backchannel.ParseKey(key.PrivateKey); err != nil {
			r.fail("keys", "%s is damaged: %v – make another: latchkey key rotate", key.ID, err)
			return
		}
	}
	if keys[0].RetiresAt != nil {
		r.fail("keys", "none of them signs – make one: latchkey key rotate")
		return
	}
	r.ok("keys", "%s signs what apps are told", keys[0].ID)
}

// apps looks up the hosts of apps. Nothing is sent to them.
func (r *report) apps(ctx context.Context, config *app.Config, store *models.Store) {
	apps, err := store.Apps.List(ctx)
	if err != nil {
		r.fail("apps", "%v", err)
		return
	}
	for _, a := range apps {
		u, err := url.Parse(a.LogoutURL)
		if err == nil {
			err = backchannel.CheckURL(a.LogoutURL)
		}
		if err != nil {
			r.fail("apps", "%s: %v – latchkey app remove %s, and add it anew", a.Name, err, a.Name)
			continue
		}
		limited, cancel := context.WithTimeout(ctx, 10*time.Second)
		addresses, err := net.DefaultResolver.LookupNetIP(limited, "ip", u.Hostname())
		cancel()
		switch {
		case err != nil:
			r.fail("apps", "%s is told at %s, and there is no such host (%v) – mend its DNS, or add the app anew", a.Name, u.Host, err)
		case config.AppsPublicOnly && !slices.ContainsFunc(addresses, backchannel.IsPublic):
			r.fail("apps", "%s is told at %s, which is no public address, and APPS_PUBLIC_ONLY is set – leave that out, or add the app anew", a.Name, u.Host)
		default:
			r.ok("apps", "%s is told at %s", a.Name, u.Host)
		}
	}
}

// claimed is an address that nobody has (RFC 5737): if the server believes that a request is from
// there, it believes everybody.
const claimed = "203.0.113.99"

// expiresSoon is when a certificate should have been renewed: ACME clients do so a month before.
const expiresSoon = 14 * 24 * time.Hour

// requests asks the server, directly and by BASE_URL, how it sees a request.
func (r *report) requests(ctx context.Context, config *app.Config, seal []byte) {
	client := &http.Client{Timeout: 10 * time.Second,
		Transport:     http.DefaultTransport.(*http.Transport).Clone(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()

	here := "http://" + app.Reachable(config.Address())
	answer, err := askFor(ctx, client, here+"/auth/health/ready", "")
	switch {
	case err != nil:
		r.warn("server", "nothing answers at %s: what needs a running server was not checked – start it", here)
		if config.BaseURL == "" {
			return
		}
	case answer.status != http.StatusOK:
		r.fail("server", "%s answers %d at /auth/health/ready: %s", here, answer.status, answer.message())
	default:
		r.ok("server", "ready at %s", here)
	}
	if len(seal) == 0 {
		if seal != nil && err == nil {
			r.fail("server", "the one at %s has another database – set DATABASE_URL to that of the server", here)
		}
		return
	}
	token, err := app.SeenToken(seal, time.Now())
	if err != nil {
		r.fail("keys", "%v – restore a backup", err)
		return
	}
	base := strings.TrimSuffix(config.BaseURL, "/")
	if base == "" {
		if seen, ok := r.seen(ctx, client, here, token); ok && seen.BaseURL != "" {
			r.fail("BASE_URL", "it is unset here and %s at the server – check with the server's settings", seen.BaseURL)
		}
		return
	}
	if seen, ok := r.seen(ctx, client, base, token); ok {
		r.judge(base, seen)
		r.plain(ctx, client, base)
	}
}

// seen asks how a request to an origin looks to the server there.
func (r *report) seen(ctx context.Context, client *http.Client, origin, token string) (seen app.Seen, ok bool) {
	subject := "BASE_URL"
	asked := time.Now()
	answer, err := askFor(ctx, client, origin+app.PathSeen, token)
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		r.fail(subject, "%s can't be found (%v) – make its DNS record", origin, err)
	case errors.As(err, &unknown), errors.As(err, &name), errors.As(err, &invalid):
		r.fail("certificate", "%s: %v – get one for that name that browsers take", origin, err)
	case err != nil:
		r.fail(subject, "%s does not answer (%v) – start the proxy, and have it pass /auth/ to Latchkey", origin, err)
	case answer.status == http.StatusForbidden:
		r.fail(subject, "%s leads to a Latchkey with another database, or whose clock is minutes away – check with the server's settings", origin)
	case answer.status != http.StatusOK || json.Unmarshal(answer.body, &seen) != nil || seen.Time.IsZero():
		r.fail(subject, "%s answers %d for %s, not as Latchkey of this version does – have the proxy pass /auth/ to it, paths unchanged", origin, answer.status, app.PathSeen)
	default:
		ok = true
	}
	if err != nil {
		return seen, false
	}
	if !answer.certified.IsZero() {
		left := time.Until(answer.certified)
		days := counted(int64(left.Hours()/24), "day")
		if left < expiresSoon {
			r.warn("certificate", "that of %s ends in %s – is it renewed by itself?", origin, days)
		} else {
			r.ok("certificate", "good for %s", days)
		}
	}
	if ok {
		r.clock("the server", seen.Time, asked)
	}
	return seen, ok
}

// judge compares how a request to BASE_URL was seen with how it was sent.
func (r *report) judge(base string, seen app.Seen) {
	https := strings.HasPrefix(base, "https://")
	host := strings.TrimPrefix(strings.TrimPrefix(base, "https://"), "http://")
	wrong := r.wrong
	if seen.BaseURL != base {
		r.fail("BASE_URL", "it is %s here and %q at the server – check with the server's settings", base, seen.BaseURL)
	}
	forwarded := seen.ForwardedFor != claimed // something has changed what was sent, or dropped it
	switch {
	case !seen.Trusted && (https || forwarded): // Latchkey itself speaks no TLS
		r.fail("proxy", "requests come by %s, which is not in TRUSTED_PROXIES: all people count as one – set TRUSTED_PROXIES=%[1]s", seen.Peer)
	case seen.Trusted && !forwarded:
		r.fail("proxy", "%s passes on what anybody claims in X-Forwarded-For – have it set that to the address of who connects: docs/nginx.md", seen.Peer)
	case seen.Trusted && seen.ForwardedFor == "":
		r.fail("proxy", "%s sends no X-Forwarded-For: all people count as one – have it send the address of who connects: docs/nginx.md", seen.Peer)
	}
	if seen.Host != host {
		r.warn("proxy", "it sends Host %q for %s – have it pass on the header Host", seen.Host, host)
	}
	if https && seen.ForwardedProto != "https" {
		r.warn("proxy", "it sends X-Forwarded-Proto %q for https – have it send the scheme", seen.ForwardedProto)
	}
	if r.wrong == wrong {
		r.ok("BASE_URL", "%s leads here; this machine is seen as %s", base, seen.Client)
	}
}

// plain checks that http leads to https.
func (r *report) plain(ctx context.Context, client *http.Client, base string) {
	host, https := strings.CutPrefix(base, "https://")
	if u, err := url.Parse(base); err != nil || !https || u.Port() != "" {
		return // only the port of https has a well-known one beside it
	}
	answer, err := askFor(ctx, client, "http://"+host+"/auth/login", "")
	switch {
	case err != nil:
		r.ok("http", "nothing answers at http://%s", host)
	case answer.status/100 == 3 && strings.HasPrefix(answer.location, "https://"):
		r.ok("http", "leads to https")
	default:
		r.fail("http", "http://%s answers %d: passwords may travel for all to read – have the proxy redirect to https", host, answer.status)
	}
}

// asked is an answer to a question of a check.
type asked struct {
	status    int
	location  string
	body      []byte
	certified time.Time // until when
}

// message returns what an error says.
func (a asked) message() string {
	var body struct {
		Error struct{ Reason string }
	}
	if json.Unmarshal(a.body, &body) != nil {
		return "see its log"
	}
	return body.Error.Reason
}

func askFor(ctx context.Context, client *http.Client, url, token string) (asked, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return asked{}, err
	}
	req.Header.Set("Accept", "application/json")
	if token != "" {
		req.Header.Set(app.SeenHeader, token)
		req.Header.Set("X-Forwarded-For", claimed)
	}
	res, err := client.Do(req)
	if err != nil {
		return asked{}, err
	}
	defer res.Body.Close()
	a := asked{status: res.StatusCode, location: res.Header.Get("Location")}
	if res.TLS != nil && len(res.TLS.PeerCertificates) > 0 {
		a.certified = res.TLS.PeerCertificates[0].NotAfter
	}
	a.body, err = io.ReadAll(io.LimitReader(res.Body, 64<<10))
	return a, err
}
