package test

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

	"latchkey/models"
	"latchkey/test/kit"
)

// Several instances on one PostgreSQL: nothing depends on which of them answers a request.
func TestInstances(t *testing.T) {
	t.Parallel()
	server := kit.StartPostgres(t, "-F") // no test of a power cut
	for _, c := range []struct {
		name string
		test func(*testing.T, *kit.Machine)
	}{
		{"StartAtOnceOnAnEmptyDatabase", instancesStartAtOnce},
		{"KnowOfALogoutAtTheNextRequest", instancesKnowOfALogout},
		{"TellStreamsOfEndsElsewhere", instancesTellStreams},
		{"CountWrongPasswordsTogether", instancesCountWrongPasswords},
		{"TellEachAppOnce", instancesTellEachAppOnce},
		{"EndAndRemoveWhatHasExpired", instancesExpire},
		{"RunThroughTheMigrationOfANewerVersion", instancesOfTwoVersions},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, kit.NewMachineAt(t, server.NewDatabase(t))) })
	}
	t.Run("BehindPgBouncer", func(t *testing.T) {
		database := server.NewDatabase(t)
		_, name, _ := strings.Cut(strings.TrimPrefix(database, "postgres://"), "/")
		name, _, _ = strings.Cut(name, "?")
		url, _ := server.Bouncer(t, name)
		instancesBehindPgBouncer(t, kit.NewMachineAt(t, url))
	})
}

// number returns the number that a query on PostgreSQL selects.
func number(t *testing.T, m *kit.Machine, query string) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), m.DatabaseURL)
	require.NoError(t, err)
	require.NoError(t, conn.QueryRow(t.Context(), query).Scan(&n))
	require.NoError(t, conn.Close(t.Context()))
	return n
}

func instancesStartAtOnce(t *testing.T, m *kit.Machine) {
	all := m.StartMany(8)

	_, setup, _ := strings.Cut(all[0].Setup, "?setup=")
	keys := all[0].Get("/auth/.well-known/jwks.json", "").Body
	require.Len(t, setup, 26)
	require.Equal(t, 1, strings.Count(keys, `"kid"`))
	for _, s := range all {
		require.True(t, strings.HasSuffix(s.Setup, setup), s.Setup)
		require.Equal(t, keys, s.Get("/auth/.well-known/jwks.json", "").Body)
	}
	require.Equal(t, 1, number(t, m, "SELECT count(*) FROM migrations WHERE id LIKE '%initial'"))
	require.Equal(t, 1, number(t, m, "SELECT count(*) FROM signing_keys"))

	require.Equal(t, http.StatusOK, all[3].Register("ada@example.com", all[5].Setup).Status)
	for i, s := range all {
		next, last := all[(i+1)%len(all)], all[(i+2)%len(all)]
		// All of them read the flows and cookies of each.
		flow := s.Get("/auth/self-service/login/api", "")
		login := next.Send(t.Context(), http.MethodPost, strings.Replace(flow.Text("ui", "action"), s.URL, next.URL, 1), "",
			map[string]string{"method": "password", "identifier": "ada@example.com", "password": kit.GoodPassword})
		require.Equal(t, http.StatusOK, login.Status, login.Body)
		token := login.Text("session_token")
		logout := s.GetWithCookie("/auth/self-service/logout/browser", token).Text("logout_url")
		require.Equal(t, http.StatusNoContent, last.GetWithCookie(logout, token).Status)
		require.Equal(t, http.StatusUnauthorized, s.Whoami(token))
	}
}

func instancesKnowOfALogout(t *testing.T, m *kit.Machine) {
	const people, rounds = 6, 10
	for i := range people {
		m.AddUser(person(i))
	}
	all := m.StartMany(3)
	var working sync.WaitGroup
	for i := range people {
		working.Go(func() {
			for round := range rounds {
				a, b, c := all[(i+round)%3], all[(i+round+1)%3], all[(i+round+2)%3]
				token := a.Login(person(i), kit.GoodPassword).Text("session_token")
				who := b.Get("/auth/sessions/whoami", token)
				if got := who.Text("identity", "traits", "email"); got != person(i) {
					t.Errorf("%s is %q: %s", person(i), got, who.Body)
				}
				if status := c.Logout(token).Status; status != http.StatusNoContent {
					t.Errorf("a logout was answered %d", status)
				}
				var asking sync.WaitGroup
				for _, s := range all {
					asking.Go(func() {
						for _, got := range []int{s.Whoami(token), s.GetWithCookie("/auth/verify", token).Status,
							s.GetWithCookie("/auth/self-service/logout/browser", token).Status} {
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

func instancesTellStreams(t *testing.T, m *kit.Machine) {
	m.AddUser("ada@example.com")
	all := m.StartMany(2)
	a, b := all[0], all[1]
	const listening = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %'"
	listen := func() {
		b.Await("both to listen", func() bool { return number(t, m, "SELECT count(*) "+listening) == 2 })
	}
	hears := func(token, reason string, end func()) {
		in := b.Stream(token)
		end()
		ended, err := in.ReadUntil("event: ended")
		require.NoError(t, err)
		require.Contains(t, ended, `"reason":"`+reason+`"`)
	}
	listen()
	token := a.SignIn("ada@example.com")
	hears(token, "logout", func() { require.Equal(t, http.StatusNoContent, a.Logout(token).Status) })
	token = a.SignIn("ada@example.com")
	hears(token, "operator", func() { m.Do("", "session", "end", "--user=ada@example.com") })

	lines := func(s *kit.Server, end string) int {
		return len(regexp.MustCompile(`"msg":"listening for ends on other instances[^"]* `+end+`"`).FindAllString(s.Log(), -1))
	}
	failed, worked := lines(b, "failed; retrying"), lines(b, "works again")
	token = a.SignIn("ada@example.com")
	hears(token, "logout", func() {
		require.Equal(t, 2, number(t, m, "SELECT count(pg_terminate_backend(pid)) "+listening))
		require.Equal(t, http.StatusNoContent, a.Logout(token).Status)
	})
	b.Await("word that notices work again", func() bool { return lines(b, "works again") == worked+1 })
	require.Equal(t, failed+1, lines(b, "failed; retrying"))
	listen()
	token = a.SignIn("ada@example.com")
	hears(token, "logout", func() { require.Equal(t, http.StatusNoContent, a.Logout(token).Status) })
}

func instancesCountWrongPasswords(t *testing.T, m *kit.Machine) {
	m.AddUser("ada@example.com")
	all := m.StartMany(2)
	begin := time.Now()
	var wrong, mustWait atomic.Int64
	var trying sync.WaitGroup
	for i := range 40 {
		trying.Go(func() {
			switch a := all[i%2].Login("ada@example.com", "a wrong password"); {
			case a.Status == http.StatusBadRequest && a.Header.Get("Retry-After") == "":
				wrong.Add(1)
			case a.Status == http.StatusBadRequest && strings.Contains(a.Body, "Too many wrong passwords"):
				mustWait.Add(1)
			case a.Status == http.StatusBadRequest: // too many at once
			default:
				t.Errorf("answered %d: %s", a.Status, a.Body)
			}
		})
	}
	trying.Wait()

	// Five are allowed; the sixth is followed by a wait of a second, which doubles each time.
	limit := 6 + int64(math.Log2(time.Since(begin).Seconds()+1))
	t.Logf("%d wrong passwords were looked at, %d had to wait", wrong.Load(), mustWait.Load())
	require.LessOrEqual(t, wrong.Load(), limit)
	require.Positive(t, wrong.Load())
	require.EqualValues(t, wrong.Load(), number(t, m, "SELECT max(failures) FROM attempts"))
	require.NotZero(t, mustWait.Load())
}

func instancesTellEachAppOnce(t *testing.T, m *kit.Machine) {
	const sessions = 60
	m.AddUser("ada@example.com")
	slow := kit.NewReceiver(t)
	slow.Pause = 200 * time.Millisecond
	m.Do("", "app", "add", "wiki", slow.URL)
	all := m.StartMany(3)
	var ids []string
	for i := range sessions {
		login := all[i%3].Login("ada@example.com", kit.GoodPassword)
		require.Equal(t, http.StatusOK, login.Status, login.Body)
		ids = append(ids, login.Text("session", "id"))
		if i%2 == 0 {
			require.Equal(t, http.StatusNoContent, all[(i+1)%3].Logout(login.Text("session_token")).Status)
		}
	}
	m.Do("", "session", "end", "--user=ada@example.com")

	all[0].Await("all to be delivered", func() bool {
		return number(t, m, "SELECT count(*) FROM deliveries WHERE state = 'delivered'") == sessions
	})
	heard := map[any]int{}
	for _, token := range slow.Tokens() {
		heard[token["sid"]]++
	}
	for _, id := range ids {
		require.Equal(t, 1, heard[id], id)
	}
	require.Len(t, heard, sessions)
}

func instancesExpire(t *testing.T, m *kit.Machine) {
	const sessions = 100
	addPeople(t, m)
	first := m.Start()
	database := openDatabase(t, m)
	for i := range sessions {
		first.SignIn(person(i))
	}
	// Rows that are due for removal, by several instances at once and in more than one batch.
	for _, statement := range []string{
		`INSERT INTO ends (session_id, reason, at) SELECT gen_random_uuid(), 'logout', now() - interval '1 day' FROM generate_series(1, 1200)`,
		`INSERT INTO attempts (key, failures, retry_at, forget_at) SELECT decode(md5(n::text), 'hex'), 1, now(), now() - interval '1 day' FROM generate_series(1, 1200) n`,
	} {
		require.NoError(t, database.Query(t.Context()).Exec(statement).Error)
	}
	all := append(m.StartMany(3), first)
	require.NoError(t, database.Query(t.Context()).Exec("UPDATE sessions SET expires_at = now()").Error)

	first.Await("all to end", func() bool {
		n, err := gorm.G[models.Session](database.Query(t.Context())).Where("ended_at IS NULL").Count(t.Context(), "id")
		return err == nil && n == 0
	})
	first.Await("the old to be removed", func() bool {
		var n int
		err := database.Query(t.Context()).Raw("SELECT (SELECT count(*) FROM ends WHERE reason = 'logout') + (SELECT count(*) FROM attempts WHERE forget_at < now())").Scan(&n).Error
		return err == nil && n == 0
	})
	require.Equal(t, sessions, number(t, m, "SELECT count(*) FROM ends WHERE reason = 'expired'"))
	require.Equal(t, sessions, number(t, m, "SELECT count(DISTINCT session_id) FROM ends WHERE reason = 'expired'"))
	for _, s := range all {
		s.Stop()
		requireNoErrors(t, s)
	}
}

// requireNoErrors checks that nothing was logged as an error.
func requireNoErrors(t *testing.T, s *kit.Server) {
	t.Helper()
	for line := range strings.Lines(s.Log()) {
		var entry struct{ Level string }
		require.NoError(t, json.Unmarshal([]byte(line), &entry), line)
		require.NotEqual(t, "ERROR", entry.Level, line)
	}
}

// A newer version adds columns and tables while this one runs, and this one can be started again.
func instancesOfTwoVersions(t *testing.T, m *kit.Machine) {
	addPeople(t, m)
	s := m.Start()
	c := newCrowd(t, s)
	c.start()
	c.await("sign-ins and sign-outs", c.moreLogins())

	// In a deadlock with a request, either that is retried or the migration is.
	migrate := func() error {
		return openDatabase(t, m).Query(t.Context()).Transaction(func(tx *gorm.DB) error {
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
	s.Await("the migration", func() bool {
		err := migrate()
		return err == nil || !strings.Contains(err.Error(), "40P01")
	})
	require.Equal(t, 1, number(t, m, "SELECT count(*) FROM migrations WHERE id LIKE '%news'"))

	c.await("sign-ins and sign-outs to go on", c.moreLogins())
	second := m.Start()
	require.Equal(t, http.StatusOK, second.Whoami(c.kept[0]))
	require.NoError(t, second.Login(person(0), kit.GoodPassword).Err)
	c.stop()
	t.Log(c)
	require.Zero(t, c.unavailable.Load()+c.readsUnavailable.Load(), "no request has failed")
	requireAsAnswered(t, second, c.sessions)
	requireNoErrors(t, s)
}

func instancesBehindPgBouncer(t *testing.T, m *kit.Machine) {
	addPeople(t, m)
	all := m.StartMany(2)
	const noNotices = "the database doesn't deliver notifications, as behind a pooler"
	for _, s := range all {
		s.Await("word that there are no notices", func() bool { return strings.Contains(s.Log(), noNotices) })
	}
	// Many more clients than the pooler has connections.
	crowds := []*crowd{newCrowd(t, all[0]), newCrowd(t, all[1]), newCrowd(t, all[1])}
	for _, c := range crowds {
		c.start()
	}
	token := all[0].SignIn(person(0))
	in := all[1].Stream(token)
	require.Equal(t, http.StatusNoContent, all[0].Logout(token).Status)
	_, err := in.ReadUntil("event: ended")
	require.NoError(t, err)
	for _, c := range crowds {
		c.await("sign-ins and sign-outs", c.moreLogins())
	}
	require.Contains(t, m.Do("", "session", "list"), person(0))
	for _, c := range crowds {
		c.stop()
		t.Log(c) // on a busy machine some may get 503
		requireAsAnswered(t, all[0], c.sessions)
	}
	for _, s := range all {
		s.Stop()
		require.NotContains(t, s.Log(), "prepared statement")
		require.Equal(t, 1, strings.Count(s.Log(), noNotices))
	}
}
