package app_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/gofrs/uuid/v5"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"latchkey/app/config"
	"latchkey/app/keys"
	"latchkey/models"
)

// receiver is an app that is told when sessions end. It keeps the tokens it has been sent.
type receiver struct {
	t      testing.TB
	server *httptest.Server
	url    string

	mu     sync.Mutex
	answer http.HandlerFunc // nil for 200
	tokens []string
}

func newReceiver(t testing.TB) *receiver {
	r := &receiver{t: t}
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		form := req.FormValue("logout_token")
		r.mu.Lock()
		r.tokens = append(r.tokens, form)
		answer := r.answer
		r.mu.Unlock()
		if answer != nil {
			answer(w, req)
		}
	}))
	t.Cleanup(r.server.Close)
	r.url = r.server.URL
	return r
}

func (r *receiver) answers(answer http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func answerWith(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.tokens)
}

// told returns the claims of the nth token, verified with the keys that the site publishes by a
// library that is not the one that signs.
func (r *receiver) told(s *site, n int) jwt.MapClaims {
	r.t.Helper()
	eventually(r.t, func() bool { return r.count() > n }, "it was not told")
	keys := s.visitor().get("/auth/.well-known/jwks.json")
	require.Equal(r.t, http.StatusOK, keys.status, keys.body)
	known, err := keyfunc.NewJWKSetJSON(json.RawMessage(keys.body))
	require.NoError(r.t, err)
	r.mu.Lock()
	raw := r.tokens[n]
	r.mu.Unlock()
	token, err := jwt.Parse(raw, known.Keyfunc, jwt.WithValidMethods([]string{"ES256"}), jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(), jwt.WithTimeFunc(s.clock.Now))
	require.NoError(r.t, err)
	require.Equal(r.t, "logout+jwt", token.Header["typ"])
	return token.Claims.(jwt.MapClaims)
}

// eventually waits for what happens in the background.
func eventually(t testing.TB, done func() bool, otherwise string) {
	t.Helper()
	require.Eventually(t, done, 30*time.Second, 10*time.Millisecond, otherwise)
}

// addApp registers an app as 'latchkey app add' does.
func (s *site) addApp(name, url string, send models.Send) {
	s.t.Helper()
	require.NoError(s.t, s.store.Apps.Add(s.t.Context(), models.App{Name: name, LogoutURL: url, Send: send}))
}

// deliveries returns the log of an app, the newest first.
func (s *site) deliveries(name string) []models.Delivery {
	s.t.Helper()
	log, err := s.store.Deliveries.Log(s.t.Context(), name, "", 1000)
	require.NoError(s.t, err)
	return log
}

// awaitDelivery waits until the only delivery to an app is as it should be.
func (s *site) awaitDelivery(name string, state models.DeliveryState, attempts int) models.Delivery {
	s.t.Helper()
	var d models.Delivery
	eventually(s.t, func() bool {
		log := s.deliveries(name)
		if len(log) != 1 {
			return false
		}
		d = log[0]
		return d.State == state && d.Attempts == attempts && (state != models.Pending || !d.LeasedUntil.After(s.clock.Now()))
	}, fmt.Sprintf("%s after %d attempts; got %+v", state, attempts, d))
	return d
}

func (v *visitor) session() (session, person string) {
	v.site.t.Helper()
	res := v.get("/auth/sessions/whoami")
	require.Equal(v.site.t, http.StatusOK, res.status, res.body)
	return res.text("id"), res.text("identity.id")
}

func TestAppIsToldOfALogout(t *testing.T) {
	s := newSite(t)
	wiki := newReceiver(t)
	s.addApp("wiki", wiki.url, models.SendBoth)
	s.register("ada@example.com")
	token := s.apiToken("ada@example.com")
	s.stop()
	s = s.restart(func(c *config.Config) { c.BaseURL = "https://login.example.com" })
	who := s.visitor().get("/auth/sessions/whoami", with("X-Session-Token", token))

	s.visitor().delete("/auth/self-service/logout/api", `{"session_token": "`+token+`"}`, with("Content-Type", "application/json"))

	claims := wiki.told(s, 0)
	require.Equal(t, "https://login.example.com", claims["iss"])
	require.Equal(t, "wiki", claims["aud"])
	require.Equal(t, who.text("id"), claims["sid"])
	require.Equal(t, who.text("identity.id"), claims["sub"])
	require.Equal(t, map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}, claims["events"])
	require.NotContains(t, claims, "nonce")
	require.Equal(t, float64(s.clock.Now().Add(2*time.Minute).Unix()), claims["exp"])
	d := s.awaitDelivery("wiki", models.Delivered, 1)
	require.Equal(t, models.EndedByLogout, d.Reason)
	require.Equal(t, http.StatusOK, d.Status)
}

func TestAppIsToldOnlyWhatItIsToKnow(t *testing.T) {
	s := newSite(t)
	whose, which := newReceiver(t), newReceiver(t)
	s.addApp("whose", whose.url, models.SendSubject)
	s.addApp("which", which.url, models.SendSession)
	ada := s.signUp("ada@example.com")
	session, person := ada.session()

	ada.open(ada.logoutURL())

	require.Equal(t, person, whose.told(s, 0)["sub"])
	require.NotContains(t, whose.told(s, 0), "sid")
	require.Equal(t, session, which.told(s, 0)["sid"])
	require.NotContains(t, which.told(s, 0), "sub")
	require.True(t, strings.HasPrefix(whose.told(s, 0)["iss"].(string), "http://localhost:"), "without BASE_URL")
}

func TestAppIsToldWhateverEndsASession(t *testing.T) {
	for reason, end := range map[models.Reason]func(s *site, ada *visitor, session, person uuid.UUID){
		models.EndedByLogout:   func(_ *site, ada *visitor, _, _ uuid.UUID) { ada.open(ada.logoutURL()) },
		models.EndedByPerson:   func(s *site, _ *visitor, _, _ uuid.UUID) { s.signIn("ada@example.com").delete("/auth/sessions", "") },
		models.EndedByNewLogin: func(_ *site, ada *visitor, _, _ uuid.UUID) { ada.submitLogin("ada@example.com", goodPassword) },
		models.EndedByPasswordChange: func(s *site, _ *visitor, _, person uuid.UUID) {
			s.setPassword(person, "x", true)
		},
		models.EndedByDisabling: func(s *site, _ *visitor, _, person uuid.UUID) {
			require.NoError(s.t, s.store.Identities.Disable(s.t.Context(), person))
		},
		models.EndedByOperator: func(s *site, _ *visitor, session, _ uuid.UUID) {
			// As the command line does, from a process of its own.
			require.NoError(s.t, models.New(s.database, s.clock.Now).Sessions.End(s.t.Context(), session, models.EndedByOperator))
		},
		models.EndedByDeletion: func(s *site, _ *visitor, _, person uuid.UUID) {
			require.NoError(s.t, models.New(s.database, s.clock.Now).Identities.Delete(s.t.Context(), person))
		},
		models.Expired: func(s *site, _ *visitor, _, _ uuid.UUID) { s.clock.advance(13 * time.Hour) },
	} {
		t.Run(string(reason), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			wiki := newReceiver(t)
			s.addApp("wiki", wiki.url, models.SendBoth)
			ada := s.signUp("ada@example.com")
			session, person := ada.session()

			end(s, ada, uuid.Must(uuid.FromString(session)), uuid.Must(uuid.FromString(person)))

			claims := wiki.told(s, 0)
			require.Equal(t, session, claims["sid"])
			require.Equal(t, person, claims["sub"])
			require.Equal(t, reason, s.awaitDelivery("wiki", models.Delivered, 1).Reason)
		})
	}
}

func TestNoAppIsToldOfWhatHasNotEnded(t *testing.T) {
	s := newSite(t)
	wiki := newReceiver(t)
	s.addApp("wiki", wiki.url, models.SendBoth)
	ada, bob := s.signUp("ada@example.com"), s.signUp("bob@example.com")
	tokenOfAda := ada.get("/auth/self-service/logout/browser").text("logout_token")

	bob.open("/auth/self-service/logout?token=" + tokenOfAda)
	bob.send(http.MethodHead, bob.logoutURL(), "")
	bob.get(bob.logoutURL(), with("Sec-Purpose", "prefetch"))

	require.Empty(t, s.deliveries(""))
	require.True(t, ada.signedIn())
	require.True(t, bob.signedIn())
}

func TestAppThatFailsIsToldAgainEverMoreRarely(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	wiki := newReceiver(t)
	wiki.answers(answerWith(http.StatusInternalServerError))
	s.addApp("wiki", wiki.url, models.SendBoth)
	ada := s.signUp("ada@example.com")
	ada.open(ada.logoutURL())

	var pauses []time.Duration
	for attempt := 1; ; attempt++ {
		var d models.Delivery
		eventually(t, func() bool {
			d = s.deliveries("wiki")[0]
			return d.Attempts == attempt && d.Status == http.StatusInternalServerError && !d.LeasedUntil.After(s.clock.Now())
		}, "the attempt was not made")
		if d.State != models.Pending {
			require.Equal(t, models.GivenUp, d.State)
			break
		}
		pauses = append(pauses, d.NextAt.Sub(s.clock.Now()))
		s.clock.advance(pauses[len(pauses)-1])
	}

	require.Equal(t, []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second}, pauses[:4])
	require.Equal(t, time.Hour, pauses[len(pauses)-1])
	var whole time.Duration
	seen := map[any]bool{}
	for i, pause := range pauses {
		whole += pause
		if i > 0 {
			require.GreaterOrEqual(t, pause, pauses[i-1])
		}
	}
	require.Greater(t, whole, 23*time.Hour)
	require.LessOrEqual(t, whole, 24*time.Hour)
	parser := jwt.NewParser(jwt.WithoutClaimsValidation())
	for _, raw := range wiki.tokens {
		token, _, err := parser.ParseUnverified(raw, jwt.MapClaims{})
		require.NoError(t, err)
		seen[token.Claims.(jwt.MapClaims)["jti"]] = true
	}
	require.Len(t, seen, len(pauses)+1, "each attempt has an id of its own")
}

func TestAppThatComesBackIsTold(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"fails":      answerWith(http.StatusServiceUnavailable),
		"redirects":  func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) },
		"dies":       func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"is unknown": answerWith(http.StatusNotFound),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			wiki := newReceiver(t)
			wiki.answers(answer)
			s.addApp("wiki", wiki.url, models.SendBoth)
			ada := s.signUp("ada@example.com")
			ada.open(ada.logoutURL())
			s.awaitDelivery("wiki", models.Pending, 1)
			require.Equal(t, 1, wiki.count())

			wiki.answers(nil)
			s.clock.advance(time.Minute)

			s.awaitDelivery("wiki", models.Delivered, 2)
		})
	}
}

func TestAppThatRefusesIsToldOnce(t *testing.T) {
	s := newSite(t)
	wiki := newReceiver(t)
	wiki.answers(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error": "invalid_request", "error_description": "no such\u001b[2J user"}`)
	})
	s.addApp("wiki", wiki.url, models.SendBoth)
	ada := s.signUp("ada@example.com")

	ada.open(ada.logoutURL())

	d := s.awaitDelivery("wiki", models.Refused, 1)
	require.Contains(t, d.Note, "invalid_request")
	require.NotContains(t, d.Note, "\x1b")
	s.clock.advance(2 * time.Hour)
	require.NoError(t, s.store.Deliveries.Retry(t.Context(), d.ID), "an operator can")
	eventually(t, func() bool { return wiki.count() == 2 }, "it was not told again")
	s.awaitDelivery("wiki", models.Refused, 1)
}

func TestKeyThatCannotBeReadIsNoEndlessTrying(t *testing.T) {
	s := newSite(t)
	wiki := newReceiver(t)
	s.addApp("wiki", wiki.url, models.SendBoth)
	ada := s.signUp("ada@example.com")
	require.NoError(t, s.db.Exec("UPDATE signing_keys SET private_key = ?", []byte{0}).Error)

	ada.open(ada.logoutURL())

	require.Contains(t, s.awaitDelivery("wiki", models.Pending, 1).Note, "no token could be made")
	require.False(t, ada.signedIn())
	s.visitor().get("/auth/.well-known/jwks.json").requireError(http.StatusInternalServerError, "")
	_, err := keys.Rotate(t.Context(), s.store, nil, keys.Rotation{Revoke: true})
	require.NoError(t, err)
	s.clock.advance(time.Minute)
	s.awaitDelivery("wiki", models.Delivered, 2)
}

func TestAppThatHangsHoldsUpNobody(t *testing.T) {
	s := newSite(t)
	wiki, stuck := newReceiver(t), newReceiver(t)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	stuck.answers(func(http.ResponseWriter, *http.Request) { <-release })
	s.addApp("wiki", wiki.url, models.SendBoth)
	s.addApp("stuck", stuck.url, models.SendBoth)
	const people = 30 // more than an app is told of at a time

	for i := range people {
		somebody := s.signUp(fmt.Sprintf("p%d@example.com", i))
		require.Equal(t, http.StatusSeeOther, somebody.open(somebody.logoutURL()).status)
	}

	eventually(t, func() bool { return wiki.count() == people }, "the app that works was not told")
	require.Less(t, stuck.count(), people)
}

func TestTwoInstancesNeverTellTheSameAtTheSameTime(t *testing.T) {
	s := newSite(t)
	other := s.restart() // both run
	wiki := newReceiver(t)
	var mu sync.Mutex
	at := map[any]int{}
	wiki.answers(func(_ http.ResponseWriter, r *http.Request) {
		token, _, err := jwt.NewParser().ParseUnverified(r.FormValue("logout_token"), jwt.MapClaims{})
		if err != nil {
			panic(err)
		}
		sid := token.Claims.(jwt.MapClaims)["sid"]
		mu.Lock()
		at[sid]++
		mu.Unlock()
	})
	s.addApp("wiki", wiki.url, models.SendBoth)
	const sessions = 60
	s.register("ada@example.com")
	for range sessions {
		s.apiToken("ada@example.com")
	}

	ada, err := s.store.Identities.ByEmail(t.Context(), "ada@example.com")
	require.NoError(t, err)
	n, err := other.store.Sessions.EndAll(t.Context(), ada.ID)

	require.NoError(t, err)
	require.Equal(t, sessions, n)
	eventually(t, func() bool {
		delivered, err := s.store.Deliveries.Log(t.Context(), "wiki", models.Delivered, 1000)
		require.NoError(t, err)
		return len(delivered) == sessions
	}, "not all was delivered")
	mu.Lock()
	defer mu.Unlock()
	require.Len(t, at, sessions)
	for sid, times := range at {
		require.Equal(t, 1, times, sid)
	}
}

func TestWhatADeadInstanceHadClaimedIsDeliveredByAnother(t *testing.T) {
	s := newSite(t)
	wiki := newReceiver(t)
	wiki.answers(answerWith(http.StatusServiceUnavailable))
	s.addApp("wiki", wiki.url, models.SendBoth)
	ada := s.signUp("ada@example.com")
	ada.open(ada.logoutURL())
	s.awaitDelivery("wiki", models.Pending, 1)
	wiki.answers(nil)

	// One that claims it a moment before it is due to others, and is never heard of again.
	dead := models.New(s.database, func() time.Time { return s.clock.Now().Add(5 * time.Second) })
	claimed, err := dead.Deliveries.Claim(t.Context(), "wiki", 10, time.Minute)
	require.NoError(t, err)
	require.Len(t, claimed, 1)
	again, err := dead.Deliveries.Claim(t.Context(), "wiki", 10, time.Minute)
	require.NoError(t, err)
	require.Empty(t, again, "nobody else gets it meanwhile")
	s.clock.advance(2 * time.Minute)

	s.awaitDelivery("wiki", models.Delivered, 3)
	claimed[0].State, claimed[0].Note = models.Refused, "late"
	require.NoError(t, dead.Deliveries.Settle(t.Context(), claimed[0].Job))
	require.Equal(t, models.Delivered, s.deliveries("wiki")[0].State, "what it says late counts no more")
}

func TestWhatIsUnderWayWhenTheServerStopsIsNotLost(t *testing.T) {
	s := newSite(t)
	wiki := newReceiver(t)
	arrived, release := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(release) })
	wiki.answers(func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-release })
	s.addApp("wiki", wiki.url, models.SendBoth)
	ada := s.signUp("ada@example.com")
	ada.open(ada.logoutURL())
	<-arrived
	wiki.answers(nil)

	s.stop()

	s.awaitDelivery("wiki", models.Pending, 0)
	s.restart()
	s.awaitDelivery("wiki", models.Delivered, 1)
}

func TestAppThatIsRemovedIsToldNoMore(t *testing.T) {
	s := newSite(t)
	wiki := newReceiver(t)
	wiki.answers(answerWith(http.StatusServiceUnavailable))
	s.addApp("wiki", wiki.url, models.SendBoth)
	ada := s.signUp("ada@example.com")
	ada.open(ada.logoutURL())
	s.awaitDelivery("wiki", models.Pending, 1)

	require.NoError(t, s.store.Apps.Remove(t.Context(), "wiki"))

	require.Empty(t, s.deliveries("wiki"))
	require.ErrorIs(t, s.store.Apps.Remove(t.Context(), "wiki"), models.ErrNotFound)
}

func TestPrivateAddressesAreRefusedWhereTheSettingSaysSo(t *testing.T) {
	s := newSite(t, func(c *config.Config) { c.AppsPublicOnly = true })
	wiki := newReceiver(t)
	u, err := url.Parse(wiki.url)
	require.NoError(t, err)
	port := u.Port()
	for name, host := range map[string]string{"address": "127.0.0.1", "name": "localhost"} {
		s.addApp(name, "http://"+host+":"+port, models.SendBoth)
	}
	ada := s.signUp("ada@example.com")

	ada.open(ada.logoutURL())

	for _, name := range []string{"address", "name"} {
		require.Contains(t, s.awaitDelivery(name, models.Pending, 1).Note, "isn't a public address")
	}
	require.Zero(t, wiki.count())
}

func TestKeysRotateWithBothGoodForAWhile(t *testing.T) {
	s := newSite(t)
	wiki := newReceiver(t)
	s.addApp("wiki", wiki.url, models.SendBoth)
	signOut := func(n int) string {
		ada := s.signIn("ada@example.com")
		ada.open(ada.logoutURL())
		wiki.told(s, n) // verified, by its key
		token, _, err := jwt.NewParser().ParseUnverified(wiki.tokens[n], jwt.MapClaims{})
		require.NoError(t, err)
		return token.Header["kid"].(string)
	}
	published := func() (ids []string) {
		for _, key := range s.visitor().get("/auth/.well-known/jwks.json").field("keys").([]any) {
			ids = append(ids, key.(map[string]any)["kid"].(string))
			require.NotContains(t, key, "d")
		}
		return ids
	}
	s.register("ada@example.com")
	first := signOut(0)
	require.Equal(t, []string{first}, published())
	require.Equal(t, first, published()[0], "a restart makes no new key")

	second, err := s.rotateKeys(false)

	require.NoError(t, err)
	require.Equal(t, second, signOut(1))
	require.Equal(t, []string{second, first}, published())
	s.clock.advance(25 * time.Hour)
	require.Equal(t, []string{second}, published())
	third, err := s.rotateKeys(true)
	require.NoError(t, err)
	require.Equal(t, []string{third}, published(), "what has become known is good no more")
	require.Equal(t, third, s.restart().visitor().get("/auth/.well-known/jwks.json").text("keys.0.kid"), "a restart makes no new key")
}

func TestKeysForAppsMayBeCached(t *testing.T) {
	s := newSite(t)

	res := s.visitor().get("/auth/.well-known/jwks.json", asPage)

	require.Equal(t, http.StatusOK, res.status)
	require.Equal(t, "application/json; charset=utf-8", res.header.Get("Content-Type"))
	require.Equal(t, "public, max-age=300", res.header.Get("Cache-Control"))
}

func TestLogoutIsNotTheSlowerForAnAppThatIsDown(t *testing.T) {
	s := newSite(t)
	down := newReceiver(t)
	down.server.Close()
	s.addApp("down", down.url, models.SendBoth)
	ada := s.signUp("ada@example.com")

	require.Equal(t, http.StatusSeeOther, ada.open(ada.logoutURL()).status)

	require.False(t, ada.signedIn())
	require.Zero(t, s.awaitDelivery("down", models.Pending, 1).Status)
}

// rotateKeys replaces the keys and returns the id of the one that signs.
func (s *site) rotateKeys(revoke bool) (string, error) {
	made, err := keys.Rotate(s.t.Context(), s.store, nil, keys.Rotation{Revoke: revoke, LongestSession: time.Hour})
	if err != nil {
		return "", err
	}
	return made[0].ID, nil
}
