package app_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/gofrs/uuid/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"latchkey/app"
	"latchkey/app/config"
	"latchkey/app/password"
	"latchkey/app/web"
	"latchkey/db"
	"latchkey/models"
	"latchkey/test/kit"
)

// goodPassword is everybody's in these tests.
const goodPassword = "correct horse battery"

// site is a running Latchkey on a database of its own, with a clock that the test sets.
type site struct {
	t        testing.TB
	url      string // of the server, which is also the origin while BASE_URL is unset
	base     string // of all paths; tests write /auth, whatever it is
	host     string // of BASE_URL; "" while it is unset
	app      *app.App
	db       *gorm.DB // for a test's own statements
	database *db.DB
	store    *models.Store
	clock    *clock
	dsn      string
	options  app.Options
	log      *bytes.Buffer // what was logged; read it after the requests are done

	watch  *sql.DB // for dataVersion
	server *httptest.Server
	stop   func() // ends what is done in the background
}

// newSite starts a site with default settings, cheap password hashes and what configure changes.
func newSite(t testing.TB, configure ...func(*config.Config)) *site {
	t.Helper()
	return newSiteOn(t, kit.DatabaseURL(t, filepath.Join(t.TempDir(), "latchkey.db")), configure...)
}

// newSiteWith is newSite with options besides the settings.
func newSiteWith(t testing.TB, options app.Options, configure ...func(*config.Config)) *site {
	t.Helper()
	s := newUnstartedSite(t, kit.DatabaseURL(t, filepath.Join(t.TempDir(), "latchkey.db")))
	s.options = options
	s.start(configure...)
	return s
}

// newSQLiteSite is newSite for what only SQLite has.
func newSQLiteSite(t testing.TB, configure ...func(*config.Config)) *site {
	t.Helper()
	return newSiteOn(t, "sqlite:"+filepath.Join(t.TempDir(), "latchkey.db"), configure...)
}

func newSiteOn(t testing.TB, dsn string, configure ...func(*config.Config)) *site {
	t.Helper()
	s := newUnstartedSite(t, dsn)
	s.start(configure...)
	return s
}

func newUnstartedSite(t testing.TB, dsn string) *site {
	return &site{t: t, dsn: dsn, clock: &clock{now: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)}, log: &bytes.Buffer{}}
}

// restart starts another site with other settings on the database and the clock of this one.
func (s *site) restart(configure ...func(*config.Config)) *site {
	s.t.Helper()
	next := &site{t: s.t, clock: s.clock, log: &bytes.Buffer{}, dsn: s.dsn}
	next.start(configure...)
	return next
}

// sameBrowser is a visitor's browser at a restarted site.
func (s *site) sameBrowser(v *visitor) *visitor {
	return &visitor{site: s, jar: v.jar, client: v.client}
}

func (s *site) start(configure ...func(*config.Config)) {
	s.t.Helper()
	t := s.t
	settings := defaults(t)
	settings.PasswordMemory, settings.PasswordPasses = 8, 1
	s.options.Now = s.clock.Now
	s.options.Log = slog.New(slog.NewJSONHandler(&lockedWriter{w: s.log}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for _, change := range configure {
		change(&settings)
	}
	var err error
	s.database, err = db.Open(t.Context(), s.dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.database.Close()) })
	s.db = s.database.Query(context.Background())
	s.store = models.New(s.database, s.clock.Now)
	parsed, err := settings.Parse()
	require.NoError(t, err)
	_, s.host, _ = strings.Cut(parsed.BaseOrigin, "://")
	s.base = string(parsed.BasePath)
	s.app, err = app.New(t.Context(), parsed, s.database, s.options)
	require.NoError(t, err)

	background, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.app.Run(background) })
	s.stop = func() {
		stop()
		running.Wait()
	}
	t.Cleanup(s.stop)

	s.server = httptest.NewUnstartedServer(s.app)
	s.server.Config.MaxHeaderBytes = web.MaxHeaderBytes // as of the program
	s.server.Start()
	t.Cleanup(s.server.Close)
	s.url = s.server.URL
}

// writes returns a function that tells whether anything was written to the database since: zero if not.
func (s *site) writes() func() int64 {
	s.t.Helper()
	version := s.dataVersion
	if !strings.HasPrefix(s.dsn, "sqlite:") {
		version = s.rowVersions
	}
	before := version()
	return func() int64 { return version() - before }
}

// file is where the SQLite database is.
func (s *site) file() string { return strings.TrimPrefix(s.dsn, "sqlite:") }

// dataVersion moves with everybody's writes to a SQLite file.
func (s *site) dataVersion() (v int64) {
	s.t.Helper()
	if s.watch == nil {
		// It must be asked on a connection that writes nothing itself.
		conn, err := sql.Open("sqlite", s.file())
		require.NoError(s.t, err)
		conn.SetMaxOpenConns(1)
		s.t.Cleanup(func() { require.NoError(s.t, conn.Close()) })
		s.watch = conn
	}
	require.NoError(s.t, s.watch.QueryRow("PRAGMA data_version").Scan(&v))
	return v
}

// rowVersions is of all rows of a PostgreSQL database, each of which a write gives a new place and number.
func (s *site) rowVersions() (v int64) {
	s.t.Helper()
	var tables []string
	require.NoError(s.t, s.db.Raw("SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()").Scan(&tables).Error)
	require.NotEmpty(s.t, tables)
	for _, table := range tables {
		var sum int64
		require.NoError(s.t, s.db.Raw("SELECT coalesce(sum(hashtext(xmin::text || ctid::text)), 0) + 1000003 * count(*) FROM "+table).Scan(&sum).Error)
		v += sum
	}
	return v
}

// defaults returns the settings of a server that is started without any.
func defaults(t testing.TB) config.Config {
	var settings config.Config
	parser, err := kong.New(&settings, kong.Writers(io.Discard, io.Discard))
	require.NoError(t, err)
	_, err = parser.Parse(nil)
	require.NoError(t, err)
	return settings
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.w.Write(p)
}

// visitor is somebody with a browser, which keeps cookies and follows no redirect by itself.
type visitor struct {
	site   *site
	jar    http.CookieJar
	client *http.Client
}

func (s *site) visitor() *visitor {
	jar, err := cookiejar.New(nil)
	require.NoError(s.t, err)
	return &visitor{site: s, jar: jar, client: &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}}
}

// register makes an account as 'latchkey user add' does.
func (s *site) register(email string) models.Identity {
	s.t.Helper()
	hash, err := password.NewHasher(password.Params{MemoryKiB: 8, Passes: 1, Lanes: 1}).Hash(s.t.Context(), goodPassword)
	require.NoError(s.t, err)
	identity, _, err := s.store.Identities.Create(s.t.Context(), models.NewIdentity{Email: email,
		Credential: models.NewCredential{Method: models.MethodPassword, Secret: hash}})
	require.NoError(s.t, err)
	return identity
}

// signUp makes an account and signs its person in, in a browser of their own.
func (s *site) signUp(email string) *visitor {
	s.t.Helper()
	s.register(email)
	return s.signIn(email)
}

// signIn signs a person in, in a new browser.
func (s *site) signIn(email string) *visitor {
	s.t.Helper()
	v := s.visitor()
	res := v.submitLogin(email, goodPassword)
	require.Equal(s.t, http.StatusOK, res.status, res.body)
	return v
}

// submitLogin goes through the JSON flow of a browser.
func (v *visitor) submitLogin(email, pass string, headers ...header) answer {
	v.site.t.Helper()
	flow := v.get("/auth/self-service/login/browser?refresh=true", asJSON)
	require.Equal(v.site.t, http.StatusOK, flow.status, flow.body)
	if flow.field("refresh") == true { // instead as a tab does that was opened before
		tab := v.site.visitor()
		tab.client.Transport = v.client.Transport
		flow = tab.get("/auth/self-service/login/browser", asJSON)
		cookie, _, _ := strings.Cut(flow.header.Get("Set-Cookie"), ";")
		headers = append(headers, with("Cookie", cookie))
	}
	return v.postJSON(flow.text("ui.action"), map[string]any{"method": "password", "identifier": email,
		"password": pass, "csrf_token": flow.csrfToken()}, headers...)
}

// apiToken signs in natively and returns the session token.
func (s *site) apiToken(email string) string {
	s.t.Helper()
	v := s.visitor()
	flow := v.get("/auth/self-service/login/api")
	res := v.postJSON(flow.text("ui.action"), map[string]any{"method": "password", "identifier": email, "password": goodPassword})
	require.Equal(s.t, http.StatusOK, res.status, res.body)
	return res.text("session_token")
}

// signedIn reports what whoami says.
func (v *visitor) signedIn() bool {
	v.site.t.Helper()
	switch res := v.get("/auth/sessions/whoami"); res.status {
	case http.StatusOK:
		return true
	case http.StatusUnauthorized:
		return false
	default:
		require.FailNow(v.site.t, "whoami neither 200 nor 401", res.body)
		return false
	}
}

// logoutURL asks for one.
func (v *visitor) logoutURL() string {
	v.site.t.Helper()
	res := v.get("/auth/self-service/logout/browser")
	require.Equal(v.site.t, http.StatusOK, res.status, res.body)
	return res.text("logout_url")
}

// open opens a URL as a browser does when a link is followed.
func (v *visitor) open(url string) answer {
	v.site.t.Helper()
	return v.get(url, asPage)
}

type header func(http.Header)

func with(name, value string) header { return func(h http.Header) { h.Set(name, value) } }

var (
	asJSON = with("Accept", "application/json")
	asPage = with("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
)

func (v *visitor) get(target string, headers ...header) answer {
	v.site.t.Helper()
	return v.send(http.MethodGet, target, "", headers...)
}

func (v *visitor) delete(target, body string, headers ...header) answer {
	v.site.t.Helper()
	return v.send(http.MethodDelete, target, body, headers...)
}

func (v *visitor) postJSON(target string, body any, headers ...header) answer {
	v.site.t.Helper()
	raw, err := json.Marshal(body)
	require.NoError(v.site.t, err)
	return v.send(http.MethodPost, target, string(raw), append([]header{with("Content-Type", "application/json"), asJSON}, headers...)...)
}

// postForm submits a form as a browser does.
func (v *visitor) postForm(target string, values url.Values, headers ...header) answer {
	v.site.t.Helper()
	return v.send(http.MethodPost, target, values.Encode(),
		append([]header{with("Content-Type", "application/x-www-form-urlencoded"), asPage, with("Sec-Fetch-Site", "same-origin")}, headers...)...)
}

// refusedForm submits the form of a flow, which must be refused, and returns the page that says why.
func (v *visitor) refusedForm(target string, values url.Values, headers ...header) answer {
	v.site.t.Helper()
	return v.shownAfter(v.postForm(target, values, headers...))
}

// shownAfter follows the answer to a refused form to its page.
func (v *visitor) shownAfter(refused answer) answer {
	v.site.t.Helper()
	require.Equal(v.site.t, http.StatusSeeOther, refused.status, refused.body)
	require.Regexp(v.site.t, `^`+v.site.base+`/(login|registration)\?flow=[\w-]+$`, refused.header.Get("Location"))
	page := v.open(refused.header.Get("Location"))
	require.Equal(v.site.t, http.StatusOK, page.status, page.body)
	require.Contains(v.site.t, page.body, "<title>Error: ")
	return page
}

// send sends a request to a path of the site or an absolute URL.
func (v *visitor) send(method, target, body string, headers ...header) answer {
	v.site.t.Helper()
	if strings.HasPrefix(target, "/") {
		target = v.site.url + v.site.rebased(target)
	}
	req, err := http.NewRequestWithContext(v.site.t.Context(), method, target, strings.NewReader(body))
	require.NoError(v.site.t, err)
	for _, change := range headers {
		change(req.Header)
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	} else if v.client.Transport == nil && v.site.host != "" && strings.HasPrefix(target, v.site.url) {
		req.Host = v.site.host
	}
	res, err := v.client.Do(req)
	require.NoError(v.site.t, err)
	defer res.Body.Close()
	raw, err := readAll(res)
	require.NoError(v.site.t, err)
	proxied := v.client.Transport != nil && (req.URL.Scheme == "http" || !strings.HasPrefix(req.URL.Path, "/auth/"))
	if !proxied { // else the answer is the proxy's or an app's
		require.NoError(v.site.t, conforms(v.site.documented(req), res.StatusCode, res.Header, string(raw)), "the answer to %s %s is not as documented", method, target)
		if strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") && !strings.HasSuffix(req.URL.Path, "/docs") {
			require.NoError(v.site.t, checkWords(res.StatusCode, string(raw)), "%s %s", method, target)
		}
	}
	return answer{t: v.site.t, status: res.StatusCode, header: res.Header, body: string(raw)}
}

// rebased returns a path that a test writes, below the site's base.
func (s *site) rebased(path string) string {
	if below, ok := strings.CutPrefix(path, "/auth"); ok && s.base != "/auth" && (below == "" || strings.ContainsAny(below[:1], "/?")) {
		return s.base + below
	}
	return path
}

// documented returns a request as the document writes its path.
func (s *site) documented(req *http.Request) *http.Request {
	if s.base == "/auth" || !strings.HasPrefix(req.URL.Path, s.base+"/") {
		return req
	}
	req = req.Clone(req.Context())
	req.URL.Path = "/auth" + strings.TrimPrefix(req.URL.Path, s.base)
	return req
}

// cookie returns a cookie that the browser holds for the site, "" if there is none.
func (v *visitor) cookie(name string) string {
	u, err := url.Parse(v.site.url)
	require.NoError(v.site.t, err)
	for _, cookie := range v.jar.Cookies(u) {
		if cookie.Name == name {
			return cookie.Value
		}
	}
	return ""
}

// answer is what came back.
type answer struct {
	t      testing.TB
	status int
	header http.Header
	body   string
}

// member returns a member of the JSON object, nil if there is none.
func (r answer) member(name string) any {
	var object map[string]any
	_ = json.Unmarshal([]byte(r.body), &object)
	return object[name]
}

// field returns a member of the JSON body by its path ("ui.action", "devices.0.id").
func (r answer) field(path string) any {
	r.t.Helper()
	var value any
	require.NoError(r.t, json.Unmarshal([]byte(r.body), &value), r.body)
	for name := range strings.SplitSeq(path, ".") {
		switch v := value.(type) {
		case map[string]any:
			value = v[name]
		case []any:
			var index int
			require.NoError(r.t, json.Unmarshal([]byte(name), &index))
			require.Less(r.t, index, len(v), "%s in %s", path, r.body)
			value = v[index]
		default:
			require.FailNow(r.t, "no such member", "%s in %s", path, r.body)
		}
	}
	return value
}

func (r answer) text(path string) string {
	r.t.Helper()
	text, ok := r.field(path).(string)
	require.True(r.t, ok, "%s is not a text in %s", path, r.body)
	return text
}

// node returns a node of a flow by its name.
func (r answer) node(name string) map[string]any {
	r.t.Helper()
	flow := r.field("ui.nodes").([]any)
	for _, node := range flow {
		if node := node.(map[string]any); node["attributes"].(map[string]any)["name"] == name {
			return node
		}
	}
	require.FailNow(r.t, "no such node", "%s in %s", name, r.body)
	return nil
}

func (r answer) csrfToken() string {
	r.t.Helper()
	token, _ := r.node("csrf_token")["attributes"].(map[string]any)["value"].(string)
	return token
}

var formAction = regexp.MustCompile(`<form method="post" action="([^"]*)"`)

// action returns where the page's first form goes.
func (r answer) action() string {
	r.t.Helper()
	found := formAction.FindStringSubmatch(r.body)
	require.NotNil(r.t, found, r.body)
	return found[1]
}

// password returns the person's password as it is stored.
func (s *site) password(person uuid.UUID) models.Credential {
	s.t.Helper()
	found, err := s.store.Credentials.Of(s.t.Context(), person, models.MethodPassword)
	require.NoError(s.t, err)
	require.Len(s.t, found, 1)
	return found[0]
}

// setPassword gives the person another hash, as 'latchkey user password' does.
func (s *site) setPassword(person uuid.UUID, hash string, endSessions bool) {
	s.t.Helper()
	_, err := s.store.Credentials.Replace(s.t.Context(), models.CredentialChange{Credential: s.password(person).ID, Secret: hash, EndSessions: endSessions})
	require.NoError(s.t, err)
}
