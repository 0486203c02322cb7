package app_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/app/config"
)

// failing are requests that can't do without the database.
func (s *site) failing(ada *visitor, session string) map[string]func(as header) answer {
	flow := ada.get("/auth/self-service/login/browser?refresh=true", asJSON).text("ui.action")
	api := ada.get("/auth/self-service/login/api").text("ui.action")
	registration := ada.get("/auth/self-service/registration/browser?refresh=true", asJSON).text("ui.action")
	logout := ada.logoutURL()
	requests := map[string]func(header) answer{}
	for _, path := range []string{"/auth/sessions/whoami", "/auth/sessions/events", "/auth/sessions", "/auth/self-service/logout/browser", "/auth/self-service/logout",
		"/auth/login", "/auth/registration", "/auth/account", "/auth/account/activity", "/auth/logout", "/auth/signed-out", "/auth/verify",
		"/auth/self-service/login/browser", "/auth/self-service/registration/browser"} {
		requests["GET "+path] = func(as header) answer { return ada.get(path, as) }
	}
	requests["the logout URL"] = func(as header) answer { return ada.get(logout, as) }
	requests["DELETE /auth/sessions"] = func(as header) answer { return ada.delete("/auth/sessions", "", as) }
	requests["DELETE /auth/sessions/{id}"] = func(as header) answer { return ada.delete("/auth/sessions/"+session, "", as) }
	requests["DELETE logout/api"] = func(as header) answer {
		return ada.delete("/auth/self-service/logout/api", `{"session_token":"`+strings.Repeat("A", 26)+`"}`, as, with("Content-Type", typeJSON))
	}
	for name, to := range map[string]string{"login": flow, "login/api": api, "registration": registration, "name": "/auth/account/name", "password": "/auth/account/password",
		"sessions/end": "/auth/account/sessions/end", "sessions/end/id": "/auth/account/sessions/end/" + session, "sign-out-everywhere": everywhere, "signed-out/everywhere": endFromReceipt} {
		requests["POST "+name] = func(as header) answer {
			return ada.send(http.MethodPost, to, "method=password&identifier=ada%40example.com&password=correct+horse+battery&traits.email=bob%40example.com"+
				"&name=Ada&new_password=another+good+one", as, with("Content-Type", typeForm))
		}
	}
	return requests
}

func TestFailingDatabaseIsOurFaultAndLeaksNothing(t *testing.T) {
	for why, fail := range map[string]func(s *site){
		"the connections are closed": func(s *site) { require.NoError(t, s.database.Close()) },
		"the tables are gone": func(s *site) {
			for _, table := range []string{"replaced_tokens", "sessions", "attempts", "credentials", "failures", "addresses", "sweeps", "identities"} {
				require.NoError(t, s.db.Exec("DROP TABLE "+table).Error)
			}
		},
	} {
		t.Run(why, func(t *testing.T) {
			site := newSite(t, wide)
			ada := site.signUp("ada@example.com")
			session := site.signIn("ada@example.com").get("/auth/sessions/whoami").text("id")
			requests := site.failing(ada, session)
			fail(site)

			for name, request := range requests {
				for _, as := range []header{asPage, asJSON} {
					res := request(as).in(t)
					t.Log(name)
					res.requireError(http.StatusInternalServerError, "")
					requireNoLeak(t, site, res)
					require.NotContains(t, res.header.Get("Set-Cookie"), "latchkey_session", "nobody is signed out by it")
				}
			}
			ready := ada.get("/auth/health/ready", asPage).in(t)
			ready.requireError(http.StatusServiceUnavailable, "")
			requireNoLeak(t, site, ready)
			alive := ada.get("/auth/health/alive")
			require.Equal(t, http.StatusOK, alive.status)
			require.JSONEq(t, `{"status": "ok"}`, alive.body)
			require.Equal(t, http.StatusOK, site.visitor().open("/auth/login").status, "a stranger's page needs no database")
			require.Contains(t, site.logged(), `"level":"ERROR"`)
		})
	}
}

// Who asks and goes does not have the log say that the database is in trouble.
func TestReadyDoesNotBlameTheDatabaseForAClientThatGoes(t *testing.T) {
	site := newSite(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	res := httptest.NewRecorder()
	site.app.ServeHTTP(res, httptest.NewRequestWithContext(gone, http.MethodGet, site.url+"/auth/health/ready", nil))
	require.Equal(t, http.StatusOK, res.Code)
	require.NotContains(t, site.logged(), "the database can't be used")
}

// requireNoLeak checks that an answer says nothing of the inside.
func requireNoLeak(t *testing.T, site *site, res answer) {
	t.Helper()
	for _, inside := range []string{"SQL", "sql", "no such table", "SELECT", "sessions WHERE", "closed", "malformed", "disk", site.file(), "gorm", ".go:", "goroutine", "runtime error"} {
		require.NotContains(t, res.body, inside)
	}
}

func TestDevelopmentModeTellsTheCause(t *testing.T) {
	site := newSite(t, func(c *config.Config) { c.Dev = true })
	ada := site.signUp("ada@example.com")
	require.NoError(t, site.database.Close())
	require.Contains(t, ada.get("/auth/sessions/whoami").text("error.debug"), "closed")
}

func TestSessionOutlivesAFailureOfTheDatabase(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	require.NoError(t, site.db.Exec("ALTER TABLE sessions RENAME TO away").Error)
	ada.get("/auth/sessions/whoami").requireError(http.StatusInternalServerError, "")
	ada.open("/auth/login").requireError(http.StatusInternalServerError, "")
	require.NoError(t, site.db.Exec("ALTER TABLE away RENAME TO sessions").Error)
	require.True(t, ada.signedIn())
}

func TestDatabaseThatCantBeWrittenTurnsAwayWritersAlone(t *testing.T) {
	site := newSQLiteSite(t, wide)
	ada := site.signUp("ada@example.com")
	bob := site.visitor()
	flow := bob.get("/auth/self-service/login/browser", asJSON)
	logout := ada.logoutURL()
	login := func(as header) answer {
		return bob.send(http.MethodPost, flow.text("ui.action"), "method=password&identifier=ada%40example.com&password=correct+horse+battery&csrf_token="+flow.csrfToken(),
			as, with("Content-Type", typeForm))
	}
	pool, err := site.db.DB()
	require.NoError(t, err)
	pool.SetMaxOpenConns(1) // which the next line is for
	require.NoError(t, site.db.Exec("PRAGMA query_only = 1").Error)

	for _, as := range []header{asPage, asJSON} {
		for range 3 {
			res := ada.get(logout, as).in(t)
			res.requireError(http.StatusServiceUnavailable, "")
			require.Equal(t, "5", res.header.Get("Retry-After"))
			require.Empty(t, res.header.Get("Set-Cookie"), "nobody is signed out by it")
			requireNoLeak(t, site, res)
			require.True(t, ada.signedIn())
		}
		res := login(as).in(t)
		require.Equal(t, "5", res.header.Get("Retry-After"))
		if res.status == http.StatusSeeOther {
			res = bob.shownAfter(res)
		} else {
			require.Equal(t, http.StatusServiceUnavailable, res.status)
		}
		require.Contains(t, res.body, "Try again in a few seconds")
		requireNoLeak(t, site, res)
	}

	require.NoError(t, site.db.Exec("PRAGMA query_only = 0").Error)
	require.Equal(t, http.StatusOK, login(asJSON).status)
	require.Equal(t, http.StatusNoContent, ada.get(logout, asJSON).status)
	require.False(t, ada.signedIn())
	require.Equal(t, 1, strings.Count(site.logged(), "database unavailable"), "the log is not filled")
}
