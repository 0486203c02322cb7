package app_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/stretchr/testify/require"

	"latchkey/app/config"
	"latchkey/app/live"
	"latchkey/db"
	"latchkey/models"
)

// soon is how long what is sure to come may take, on however slow a machine.
const soon = 30 * time.Second

// event is a server-sent one.
type event struct{ name, data string }

func readEvents(stream string) (events []event) {
	for block := range strings.SplitSeq(stream, "\n\n") {
		var e event
		for line := range strings.SplitSeq(block, "\n") {
			switch field, value, _ := strings.Cut(line, ": "); field {
			case "event":
				e.name = value
			case "data":
				e.data = value
			}
		}
		if e.name != "" {
			events = append(events, e)
		}
	}
	return events
}

// readAll reads the body of an answer, of an event stream only its beginning.
func readAll(res *http.Response) ([]byte, error) {
	if res.Header.Get("Content-Type") != "text/event-stream" || res.Request.Method == http.MethodHead {
		return io.ReadAll(res.Body)
	}
	block, err := readBlock(bufio.NewReader(res.Body))
	return []byte(block), err
}

// readBlock reads up to the next empty line.
func readBlock(in *bufio.Reader) (string, error) {
	var block strings.Builder
	for {
		line, err := in.ReadString('\n')
		block.WriteString(line)
		if err != nil || line == "\n" {
			return block.String(), err
		}
	}
}

// listener is somebody with an open event stream.
type listener struct {
	t     testing.TB
	res   *http.Response
	in    *bufio.Reader
	close func()
}

// listen opens a stream, which must begin with its session.
func (v *visitor) listen(headers ...header) *listener {
	v.site.t.Helper()
	ctx, cancel := context.WithCancel(v.site.t.Context())
	v.site.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.site.url+"/auth/sessions/events", nil)
	require.NoError(v.site.t, err)
	for _, change := range headers {
		change(req.Header)
	}
	res, err := v.client.Do(req)
	require.NoError(v.site.t, err)
	v.site.t.Cleanup(func() { res.Body.Close() })
	l := &listener{t: v.site.t, res: res, in: bufio.NewReader(res.Body), close: cancel}
	if res.StatusCode != http.StatusOK {
		return l
	}
	first, err := readBlock(l.in)
	require.NoError(v.site.t, err)
	require.True(v.site.t, strings.HasPrefix(first, "retry: 1000\nevent: session\n"), first)
	require.NoError(v.site.t, conforms(req, res.StatusCode, res.Header, first))
	return l
}

// rest is what came of a stream until it closed.
type rest struct {
	text string
	err  error
}

// rest returns what comes until the stream closes.
func (l *listener) rest() (string, error) {
	l.t.Helper()
	done := make(chan rest, 1)
	go func() {
		raw, err := io.ReadAll(l.in)
		done <- rest{string(raw), err}
	}()
	select {
	case r := <-done:
		return r.text, r.err
	case <-time.After(soon):
		require.FailNow(l.t, "the stream stays open")
		return "", nil
	}
}

// hears waits for the end of the session, which must be the last event, and returns the reason.
func (l *listener) hears() models.Reason {
	l.t.Helper()
	text, err := l.rest()
	require.NoError(l.t, err)
	events := readEvents(text)
	require.Len(l.t, events, 1, text)
	require.Equal(l.t, "ended", events[0].name)
	spec, err := specified()
	require.NoError(l.t, err)
	require.NoError(l.t, spec.matchesEvents(text))
	reason := answer{t: l.t, body: events[0].data}.text("reason")
	return models.Reason(reason)
}

// command is what another process does: 'latchkey session end' and the like.
func (s *site) command() *models.Store {
	s.t.Helper()
	database, err := db.Open(s.t.Context(), s.dsn)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { require.NoError(s.t, database.Close()) })
	return models.New(database, s.clock.Now)
}

func TestStreamTellsWhatEndedTheSession(t *testing.T) {
	const email = "ada@example.com"
	ada := func(t *testing.T, s *models.Store) models.Identity {
		identity, err := s.Identities.ByEmail(t.Context(), email)
		require.NoError(t, err)
		return identity
	}
	for name, c := range map[string]struct {
		end func(t *testing.T, site *site, v *visitor)
		why models.Reason
	}{
		"a logout in another tab": {func(t *testing.T, _ *site, v *visitor) {
			require.Equal(t, http.StatusNoContent, v.get(v.logoutURL(), asJSON).status)
		}, models.EndedByLogout},
		"a logout of an API client": {func(t *testing.T, site *site, v *visitor) {
			res := site.visitor().delete("/auth/self-service/logout/api", fmt.Sprintf(`{"session_token":%q}`, v.cookie("latchkey_session")), with("Content-Type", typeJSON))
			require.Equal(t, http.StatusNoContent, res.status)
		}, models.EndedByLogout},
		"ended from another device": {func(t *testing.T, site *site, v *visitor) {
			id := v.sessionID()
			require.Equal(t, http.StatusNoContent, site.signIn(email).delete("/auth/sessions/"+id, "").status)
		}, models.EndedByPerson},
		"all others ended": {func(t *testing.T, site *site, _ *visitor) {
			require.Equal(t, http.StatusOK, site.signIn(email).delete("/auth/sessions", "").status)
		}, models.EndedByPerson},
		"a new sign-in in the same browser": {func(t *testing.T, _ *site, v *visitor) {
			require.Equal(t, http.StatusOK, v.submitLogin(email, goodPassword).status)
		}, models.EndedByNewLogin},
		"a new password": {func(t *testing.T, site *site, _ *visitor) {
			res := site.signIn(email).postForm("/auth/account/password", map[string][]string{"password": {goodPassword},
				"new_password": {"another good password"}, "end_others": {"on"}})
			require.Equal(t, http.StatusSeeOther, res.status, res.body)
		}, models.EndedByPasswordChange},
		"the operator": {func(t *testing.T, site *site, _ *visitor) {
			command := site.command()
			_, err := command.Sessions.EndAll(t.Context(), ada(t, command).ID)
			require.NoError(t, err)
		}, models.EndedByOperator},
		"the account is disabled": {func(t *testing.T, site *site, _ *visitor) {
			command := site.command()
			require.NoError(t, command.Identities.Disable(t.Context(), ada(t, command).ID))
		}, models.EndedByDisabling},
		"the account is deleted": {func(t *testing.T, site *site, _ *visitor) {
			command := site.command()
			require.NoError(t, command.Identities.Delete(t.Context(), ada(t, command).ID))
		}, models.EndedByDeletion},
		"its time": {func(_ *testing.T, site *site, _ *visitor) { site.clock.advance(13 * time.Hour) }, models.Expired},
	} {
		t.Run(name, func(t *testing.T) {
			site := newSite(t)
			v := site.signUp(email)
			listening, other := v.listen(), site.signUp("bob@example.com").listen()

			c.end(t, site, v)

			require.Equal(t, c.why, listening.hears())
			if c.why != models.Expired {
				require.Equal(t, 1, site.app.Live().Streams(), "nobody else's")
			}
			other.close()
		})
	}
}

func TestStreamBeginsWithItsSession(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	session := ada.get("/auth/sessions/whoami")

	res := ada.get("/auth/sessions/events", asPage)

	require.Equal(t, http.StatusOK, res.status)
	require.Equal(t, "text/event-stream", res.header.Get("Content-Type"))
	require.Equal(t, "no-store", res.header.Get("Cache-Control"))
	require.Equal(t, "no", res.header.Get("X-Accel-Buffering"))
	events := readEvents(res.body)
	require.Len(t, events, 1)
	require.JSONEq(t, fmt.Sprintf(`{"id":%q,"expires_at":%q}`, session.text("id"), session.text("expires_at")), events[0].data)

	head := ada.send(http.MethodHead, "/auth/sessions/events", "")
	require.Equal(t, http.StatusOK, head.status)
	require.Empty(t, head.body)
	token := site.apiToken("ada@example.com")
	listening := site.visitor().listen(with("X-Session-Token", token))
	_, err := site.store.Sessions.EndAll(t.Context(), uuid.Nil)
	require.NoError(t, err)
	require.Equal(t, models.EndedByOperator, listening.hears())
}

func TestStrangersGetNoStream(t *testing.T) {
	site := newSite(t)
	ended := site.signUp("ada@example.com")
	cookie := with("Cookie", "latchkey_session="+ended.cookie("latchkey_session"))
	ended.open(ended.logoutURL())
	for _, as := range []header{asJSON, asPage, with("Accept", "text/event-stream")} {
		site.visitor().get("/auth/sessions/events", as).requireError(http.StatusUnauthorized, "session_inactive")
		site.visitor().get("/auth/sessions/events", as, cookie).requireError(http.StatusUnauthorized, "session_inactive")
	}
	require.Equal(t, http.StatusUnauthorized, site.visitor().send(http.MethodHead, "/auth/sessions/events", "").status)
	require.Zero(t, site.app.Live().Streams())
}

func TestListeningIsNoUseOfTheSession(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	site.clock.advance(time.Hour)
	writes := site.writes()
	listening := ada.listen()
	site.clock.advance(11*time.Hour - time.Second)
	require.Zero(t, writes())
	require.Equal(t, 1, site.app.Live().Streams())
	site.clock.advance(time.Second)
	require.Equal(t, models.Expired, listening.hears())
}

func TestStreamOutlastsTheExpiryThatItBeganWith(t *testing.T) {
	site := newSite(t, func(c *config.Config) { c.SessionIdle = time.Hour })
	ada := site.signUp("ada@example.com")
	listening := ada.listen()
	for range 4 {
		site.clock.advance(40 * time.Minute)
		require.True(t, ada.signedIn())
		require.Eventually(t, func() bool { // the use is noted after the answer
			return ada.get("/auth/sessions/whoami").text("expires_at") == site.clock.Now().Add(time.Hour).Format(time.RFC3339)
		}, soon, 10*time.Millisecond)
	}
	require.Equal(t, 1, site.app.Live().Streams())
	require.Equal(t, http.StatusNoContent, ada.get(ada.logoutURL(), asJSON).status)
	require.Equal(t, models.EndedByLogout, listening.hears())
}

func TestStreamsOfASessionAreLimited(t *testing.T) {
	site := newSite(t)
	ada, bob := site.signUp("ada@example.com"), site.signUp("bob@example.com")
	var open []*listener
	for range live.MaxStreamsOfSession {
		open = append(open, ada.listen())
	}
	refused := ada.get("/auth/sessions/events")
	refused.requireError(http.StatusTooManyRequests, "too_many_attempts")
	require.NotEmpty(t, refused.header.Get("Retry-After"))
	bob.listen()

	open[7].close()

	site.streams(len(open))
	ada.listen()
}

func TestAllStreamsAreLimited(t *testing.T) {
	site := newSite(t)
	ada, bob := site.signUp("ada@example.com"), site.signUp("bob@example.com")
	site.app.Live().Limit(2)
	first := ada.listen()
	ada.listen()
	refused := bob.get("/auth/sessions/events")
	refused.requireError(http.StatusServiceUnavailable, "")
	require.NotEmpty(t, refused.header.Get("Retry-After"))
	first.close()
	site.streams(1)
	bob.listen()
}

// streams waits for so many to be open.
func (s *site) streams(n int) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return s.app.Live().Streams() == n }, soon, 5*time.Millisecond, "%d streams", n)
}

func TestStreamsThatCloseLeaveNothingBehind(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	for range 20 {
		var open []*listener
		for range live.MaxStreamsOfSession {
			open = append(open, ada.listen())
		}
		for _, l := range open {
			l.close()
		}
		site.streams(0)
	}
	require.Eventually(t, func() bool { return !strings.Contains(stacks(), "latchkey/app.(*stream)") }, soon, 10*time.Millisecond, "goroutines are left")
}

func TestStreamsCloseWhenTheServerStops(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	listening := ada.listen()

	site.stop()

	text, err := listening.rest()
	require.NoError(t, err)
	require.Empty(t, text, "no word of an end")
	again := ada.get("/auth/sessions/events")
	again.requireError(http.StatusServiceUnavailable, "")
	require.Equal(t, "1", again.header.Get("Retry-After"))
	require.True(t, ada.signedIn())
}

func TestRestartedServerTellsOfAnEnd(t *testing.T) {
	before := newSite(t)
	ada := before.signUp("ada@example.com")
	ada.listen()
	before.stop()
	after := before.restart()
	ada = before.sameBrowser(ada)
	ada.site = after
	listening := ada.listen()

	require.Equal(t, http.StatusNoContent, ada.get(ada.logoutURL(), asJSON).status)

	require.Equal(t, models.EndedByLogout, listening.hears())
}

func TestWithoutStreamsTheDatabaseIsLeftAlone(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	require.False(t, site.app.Live().Following())
	listening := ada.listen()
	require.True(t, site.app.Live().Following())
	listening.close()
	require.Eventually(t, func() bool { return !site.app.Live().Following() }, soon, 10*time.Millisecond)
}

func TestStreamsOutlastAFailureOfTheDatabase(t *testing.T) {
	site := newSite(t)
	ada, bob := site.signUp("ada@example.com"), site.signUp("bob@example.com")
	toAda, toBob := ada.listen(), bob.listen()
	id := bob.sessionID()

	require.NoError(t, site.db.Exec("ALTER TABLE ends RENAME TO away").Error)
	require.Eventually(t, site.app.Live().Failing, soon, 10*time.Millisecond)
	require.NoError(t, site.db.Exec("DELETE FROM sessions WHERE id = ?", id).Error, "an end whose word is lost")
	require.Equal(t, 2, site.app.Live().Streams())
	require.NoError(t, site.db.Exec("ALTER TABLE away RENAME TO ends").Error)

	require.Equal(t, models.EndedByDeletion, toBob.hears(), "all are looked at afterwards")
	require.Equal(t, http.StatusNoContent, ada.get(ada.logoutURL(), asJSON).status)
	require.Equal(t, models.EndedByLogout, toAda.hears())
	site.stop()
	require.Equal(t, 1, strings.Count(site.logged(), "reading the ends of sessions failed"), "a line for each outage")
}

func TestEndsThatBecomeVisibleLateAreNotMissed(t *testing.T) {
	site := newSite(t)
	ada, bob := site.signUp("ada@example.com"), site.signUp("bob@example.com")
	toAda, toBob := ada.listen(), bob.listen()
	last, err := site.store.Ends.Last(t.Context())
	require.NoError(t, err)
	put := func(seq int64, v *visitor) {
		require.NoError(t, site.db.Create(&models.End{Seq: seq, SessionID: uuid.FromStringOrNil(v.sessionID()), Reason: models.EndedByOperator, At: site.clock.Now()}).Error)
	}

	put(last+2, ada) // as where two transactions on PostgreSQL commit in the other order
	require.Equal(t, models.EndedByOperator, toAda.hears())
	put(last+1, bob)
	require.Equal(t, models.EndedByOperator, toBob.hears())
}

// stacks returns what every goroutine is doing.
func stacks() string {
	raw := make([]byte, 1<<20)
	for {
		n := runtime.Stack(raw, true)
		if n < len(raw) {
			return string(raw[:n])
		}
		raw = make([]byte, 2*len(raw))
	}
}

func TestClientThatTalksIsCut(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	conn, err := net.Dial("tcp", strings.TrimPrefix(site.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	fmt.Fprintf(conn, "GET /auth/sessions/events HTTP/1.1\r\nHost: localhost\r\nCookie: latchkey_session=%s\r\n\r\n", ada.cookie("latchkey_session"))
	site.streams(1)
	fmt.Fprint(conn, "GET /auth/health/alive HTTP/1.1\r\nHost: localhost\r\n\r\n")
	site.streams(0)
}
