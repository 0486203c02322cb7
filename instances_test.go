package main

import (
	"encoding/json"
	"math"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"latchkey/db/pgtest"
	"latchkey/models"
)

// Several instances on one PostgreSQL, each reached by whoever likes: nothing sticks to one of them.
func TestInstances(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, "-F") // no power is cut here
	for _, c := range []struct {
		name string
		test func(*testing.T, *machine)
	}{
		{"StartAtOnceOnAnEmptyDatabase", instancesStartAtOnce},
		{"KnowOfALogoutAtTheNextRequest", instancesKnowOfALogout},
		{"TellStreamsOfEndsElsewhere", instancesTellStreams},
		{"CountWrongPasswordsTogether", instancesCountWrongPasswords},
		{"TellEachAppOnce", instancesTellEachAppOnce},
		{"EndAndRemoveWhatHasExpired", instancesExpire},
		{"RunThroughTheMigrationOfANewerVersion", instancesOfTwoVersions},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, newMachineAt(t, server.NewDatabase(t))) })
	}
	t.Run("BehindPgBouncer", func(t *testing.T) {
		database := server.NewDatabase(t)
		_, name, _ := strings.Cut(strings.TrimPrefix(database, "postgres://"), "/")
		name, _, _ = strings.Cut(name, "?")
		url, _ := server.Bouncer(t, name)
		instancesBehindPgBouncer(t, newMachineAt(t, url))
	})
}

// startMany starts instances side by side.
func (m *machine) startMany(n int) []*server {
	m.t.Helper()
	all := make([]*server, n)
	var starting sync.WaitGroup
	for i := range all {
		starting.Go(func() { all[i] = m.start() })
	}
	starting.Wait()
	if m.t.Failed() {
		m.t.FailNow()
	}
	return all
}

// carrying opens a URL of another instance here, as the browser that has the token as its cookie.
func (s *server) carrying(target, token string) answer {
	path := regexp.MustCompile(`^http://[^/]+`).ReplaceAllString(target, "")
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url+path, nil)
	if err != nil {
		return answer{err: err}
	}
	req.Header.Set("Accept", "application/json")
	req.AddCookie(&http.Cookie{Name: "latchkey_session", Value: token})
	return do(req)
}

// number returns what a query counts.
func (m *machine) number(query string) (n int) {
	m.t.Helper()
	conn, err := pgx.Connect(m.t.Context(), m.dsn)
	require.NoError(m.t, err)
	require.NoError(m.t, conn.QueryRow(m.t.Context(), query).Scan(&n))
	require.NoError(m.t, conn.Close(m.t.Context()))
	return n
}

func instancesStartAtOnce(t *testing.T, m *machine) {
	all := m.startMany(8)

	_, setup, _ := strings.Cut(all[0].setup, "?setup=")
	keys := all[0].get("/auth/.well-known/jwks.json", "").body
	require.Len(t, setup, 26)
	require.Equal(t, 1, strings.Count(keys, `"kid"`))
	for _, s := range all {
		require.True(t, strings.HasSuffix(s.setup, setup), s.setup)
		require.Equal(t, keys, s.get("/auth/.well-known/jwks.json", "").body)
	}
	require.Equal(t, 1, m.number("SELECT count(*) FROM migrations WHERE id LIKE '%initial'"))
	require.Equal(t, 1, m.number("SELECT count(*) FROM signing_keys"))

	require.Equal(t, http.StatusOK, all[3].register("ada@example.com", all[5].setup).status)
	for i, s := range all {
		next, last := all[(i+1)%len(all)], all[(i+2)%len(all)]
		// What browsers carry for one of them is read by all.
		flow := s.get("/auth/self-service/login/api", "")
		login := next.send(t.Context(), http.MethodPost, strings.Replace(flow.text("ui", "action"), s.url, next.url, 1), "",
			map[string]string{"method": "password", "identifier": "ada@example.com", "password": goodPassword})
		require.Equal(t, http.StatusOK, login.status, login.body)
		token := login.text("session_token")
		logout := s.carrying("/auth/self-service/logout/browser", token).text("logout_url")
		require.Equal(t, http.StatusNoContent, last.carrying(logout, token).status)
		require.Equal(t, http.StatusUnauthorized, s.whoami(token))
	}
}

func instancesKnowOfALogout(t *testing.T, m *machine) {
	const people, rounds = 6, 10
	for i := range people {
		m.addUser(person(i))
	}
	all := m.startMany(3)
	var working sync.WaitGroup
	for i := range people {
		working.Go(func() {
			for round := range rounds {
				a, b, c := all[(i+round)%3], all[(i+round+1)%3], all[(i+round+2)%3]
				token := a.tryLogin(person(i), goodPassword).text("session_token")
				who := b.get("/auth/sessions/whoami", token)
				if got := who.text("identity", "traits", "email"); got != person(i) {
					t.Errorf("%s is %q: %s", person(i), got, who.body)
				}
				if status := c.logout(token).status; status != http.StatusNoContent {
					t.Errorf("a logout was answered %d", status)
				}
				var asking sync.WaitGroup
				for _, s := range all {
					asking.Go(func() {
						for _, got := range []int{s.whoami(token), s.carrying("/auth/verify", token).status,
							s.carrying("/auth/self-service/logout/browser", token).status} {
							if got != http.StatusUnauthorized {
								t.Errorf("the next request after a logout was answered %d", got)
							}
						}
					})
				}
				asking.Wait()
			}
		})
	}
	working.Wait()
}

func instancesTellStreams(t *testing.T, m *machine) {
	m.addUser("ada@example.com")
	all := m.startMany(2)
	a, b := all[0], all[1]
	const listening = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %'"
	listen := func() { b.await("both to listen", func() bool { return m.number("SELECT count(*) "+listening) == 2 }) }
	hears := func(token, reason string, end func()) {
		in := b.stream(token)
		end()
		ended, err := readUntil(in, "event: ended")
		require.NoError(t, err)
		require.Contains(t, ended, `"reason":"`+reason+`"`)
	}
	listen()
	token := a.signIn("ada@example.com")
	hears(token, "logout", func() { require.Equal(t, http.StatusNoContent, a.logout(token).status) })
	token = a.signIn("ada@example.com")
	hears(token, "operator", func() { m.do("", "session", "end", "--user=ada@example.com") })

	lines := func(s *server, end string) int {
		return len(regexp.MustCompile(`"msg":"notice of ends on other instances[^"]* `+end+`"`).FindAllString(s.logged(), -1))
	}
	failed, worked := lines(b, "fails; trying on"), lines(b, "works again")
	token = a.signIn("ada@example.com")
	hears(token, "logout", func() {
		require.Equal(t, 2, m.number("SELECT count(pg_terminate_backend(pid)) "+listening))
		require.Equal(t, http.StatusNoContent, a.logout(token).status)
	})
	b.await("word that notices work again", func() bool { return lines(b, "works again") == worked+1 })
	require.Equal(t, failed+1, lines(b, "fails; trying on"))
	listen()
	token = a.signIn("ada@example.com")
	hears(token, "logout", func() { require.Equal(t, http.StatusNoContent, a.logout(token).status) })
}

func instancesCountWrongPasswords(t *testing.T, m *machine) {
	m.addUser("ada@example.com")
	all := m.startMany(2)
	begin := time.Now()
	var wrong, mustWait atomic.Int64
	var trying sync.WaitGroup
	for i := range 40 {
		trying.Go(func() {
			switch a := all[i%2].tryLogin("ada@example.com", "a wrong password"); a.status {
			case http.StatusBadRequest:
				wrong.Add(1)
			case http.StatusTooManyRequests:
				mustWait.Add(1)
			case http.StatusServiceUnavailable: // too many at once
			default:
				t.Errorf("answered %d: %s", a.status, a.body)
			}
		})
	}
	trying.Wait()

	// Five are free; after the sixth one has to wait for a second, and twice as long each time.
	most := 6 + int64(math.Log2(time.Since(begin).Seconds()+1))
	t.Logf("%d wrong passwords were looked at, %d had to wait", wrong.Load(), mustWait.Load())
	require.LessOrEqual(t, wrong.Load(), most)
	require.Positive(t, wrong.Load())
	require.EqualValues(t, wrong.Load(), m.number("SELECT max(failures) FROM attempts"))
	require.NotZero(t, mustWait.Load())
}

func instancesTellEachAppOnce(t *testing.T, m *machine) {
	const sessions = 60
	m.addUser("ada@example.com")
	slow := newWiki(t)
	slow.pause = 200 * time.Millisecond
	m.do("", "app", "add", "wiki", slow.url)
	all := m.startMany(3)
	var ids []string
	for i := range sessions {
		login := all[i%3].tryLogin("ada@example.com", goodPassword)
		require.Equal(t, http.StatusOK, login.status, login.body)
		ids = append(ids, login.text("session", "id"))
		if i%2 == 0 {
			require.Equal(t, http.StatusNoContent, all[(i+1)%3].logout(login.text("session_token")).status)
		}
	}
	m.do("", "session", "end", "--user=ada@example.com")

	all[0].await("all to be delivered", func() bool {
		return m.number("SELECT count(*) FROM deliveries WHERE state = 'delivered'") == sessions
	})
	heard := map[any]int{}
	for _, token := range slow.told() {
		heard[token["sid"]]++
	}
	for _, id := range ids {
		require.Equal(t, 1, heard[id], id)
	}
	require.Len(t, heard, sessions)
}

func instancesExpire(t *testing.T, m *machine) {
	const sessions = 100
	m.addUser("ada@example.com")
	first := m.start()
	database := m.open()
	for range sessions {
		first.signIn("ada@example.com")
	}
	// What has been kept long enough, for several to remove at once, in more than one batch.
	for _, statement := range []string{
		`INSERT INTO ends (session_id, reason, at) SELECT gen_random_uuid(), 'logout', now() - interval '1 day' FROM generate_series(1, 1200)`,
		`INSERT INTO attempts (key, failures, retry_at, forget_at) SELECT decode(md5(n::text), 'hex'), 1, now(), now() - interval '1 day' FROM generate_series(1, 1200) n`,
	} {
		require.NoError(t, database.Exec(statement).Error)
	}
	all := append(m.startMany(3), first)
	require.NoError(t, database.Exec("UPDATE sessions SET expires_at = now()").Error)

	first.await("all to end", func() bool {
		n, err := gorm.G[models.Session](database).Where("ended_at IS NULL").Count(t.Context(), "id")
		return err == nil && n == 0
	})
	first.await("the old to be removed", func() bool {
		var n int
		err := database.Raw("SELECT (SELECT count(*) FROM ends WHERE reason = 'logout') + (SELECT count(*) FROM attempts WHERE forget_at < now())").Scan(&n).Error
		return err == nil && n == 0
	})
	require.Equal(t, sessions, m.number("SELECT count(*) FROM ends WHERE reason = 'expired'"))
	require.Equal(t, sessions, m.number("SELECT count(DISTINCT session_id) FROM ends WHERE reason = 'expired'"))
	for _, s := range all {
		s.stop()
		requireNoErrors(t, s)
	}
}

// requireNoErrors reads a log.
func requireNoErrors(t *testing.T, s *server) {
	t.Helper()
	for line := range strings.Lines(s.logged()) {
		var entry struct{ Level string }
		require.NoError(t, json.Unmarshal([]byte(line), &entry), line)
		require.NotEqual(t, "ERROR", entry.Level, line)
	}
}

// A newer version adds to the tables while this one is at work, and this one can be started again.
func instancesOfTwoVersions(t *testing.T, m *machine) {
	addPeople(m)
	s := m.start()
	c := newCrowd(s)
	c.start()
	c.await("sign-ins and sign-outs", c.working())

	// Whoever waits for the migration and has locked what it needs next tries again, or it does.
	migrate := func() error {
		return m.open().Transaction(func(tx *gorm.DB) error {
			for _, table := range []string{"sessions", "identities", "credentials", "attempts", "ends", "deliveries", "apps", "secrets", "signing_keys", "failures"} {
				if err := tx.Exec("ALTER TABLE " + table + " ADD COLUMN news text NOT NULL DEFAULT 'none'").Error; err != nil {
					return err
				}
			}
			if err := tx.Exec("CREATE TABLE news (id bigint PRIMARY KEY)").Error; err != nil {
				return err
			}
			return tx.Exec("INSERT INTO migrations (id) VALUES ('203001010001_news')").Error
		})
	}
	s.await("the migration", func() bool {
		err := migrate()
		return err == nil || !strings.Contains(err.Error(), "40P01")
	})
	require.Equal(t, 1, m.number("SELECT count(*) FROM migrations WHERE id LIKE '%news'"))

	c.await("sign-ins and sign-outs to go on", c.working())
	second := m.start()
	require.Equal(t, http.StatusOK, second.whoami(c.lasts[0]))
	require.NoError(t, second.tryLogin(person(0), goodPassword).err)
	c.stop()
	t.Log(c)
	require.Zero(t, c.turnedAway.Load()+c.readersTurnedAway.Load(), "no request has failed")
	requireKept(t, second, c.sessions)
	requireNoErrors(t, s)
}

func instancesBehindPgBouncer(t *testing.T, m *machine) {
	addPeople(m)
	all := m.startMany(2)
	const noNotices = "the database passes on no notices"
	for _, s := range all {
		s.await("word that there are no notices", func() bool { return strings.Contains(s.logged(), noNotices) })
	}
	// Many more clients than the pooler has connections.
	crowds := []*crowd{newCrowd(all[0]), newCrowd(all[1]), newCrowd(all[1])}
	for _, c := range crowds {
		c.start()
	}
	token := all[0].signIn(person(0))
	in := all[1].stream(token)
	require.Equal(t, http.StatusNoContent, all[0].logout(token).status)
	_, err := readUntil(in, "event: ended")
	require.NoError(t, err)
	for _, c := range crowds {
		c.await("sign-ins and sign-outs", c.working())
	}
	require.Contains(t, m.do("", "session", "list"), person(0))
	for _, c := range crowds {
		c.stop()
		t.Log(c) // a busy machine may keep somebody waiting for too long
		requireKept(t, all[0], c.sessions)
	}
	for _, s := range all {
		s.stop()
		require.NotContains(t, s.logged(), "prepared statement")
		require.Equal(t, 1, strings.Count(s.logged(), noNotices))
	}
}
