package app

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gin-contrib/sessions"
	"github.com/gin-gonic/gin"
	gorilla "github.com/gorilla/sessions"

	"latchkey/app/tracing"
	"latchkey/models"
)

// sessionStore keeps the sessions of gin-contrib/sessions as rows of models.Session: the cookie
// holds the token and nothing else.
type sessionStore struct {
	sessions models.Sessions
	cookies  cookies
	traces   *tracing.Tracer
	// headers lets an API client carry its token in X-Session-Token or Authorization.
	headers bool
}

// The keys under which a session of gin-contrib/sessions holds what the store found.
type storeKey int

const (
	keySession storeKey = iota // models.Session, active or not
	keyFailure                 // error: the database did not answer
)

func (s *sessionStore) Options(sessions.Options) {} // the cookie's attributes follow from the settings

func (s *sessionStore) Get(r *http.Request, name string) (*gorilla.Session, error) {
	return s.New(r, name)
}

// New reads the request's token and finds its session. A failure is a value of the session rather
// than an error, since gin-contrib/sessions would only log it.
func (s *sessionStore) New(r *http.Request, name string) (*gorilla.Session, error) {
	session := gorilla.NewSession(s, name)
	token := s.token(r)
	if token == "" {
		return session, nil
	}
	asked := s.traces.Now()
	found, err := s.sessions.ByToken(r.Context(), token)
	s.traces.Past(r.Context(), "find session", asked, s.traces.Now(), err != nil && !errors.Is(err, models.ErrNotFound))
	switch {
	case err == nil:
		session.Values[keySession] = &found
	case !errors.Is(err, models.ErrNotFound):
		session.Values[keyFailure] = err
	}
	return session, nil
}

// Save writes the cookie of the session, or deletes it where there is none any more. The last one
// counts: an answer sets a cookie once (RFC 6265 §4.1.1).
func (s *sessionStore) Save(_ *http.Request, w http.ResponseWriter, session *gorilla.Session) error {
	w.Header()["Set-Cookie"] = slices.DeleteFunc(w.Header()["Set-Cookie"], func(cookie string) bool {
		return strings.HasPrefix(cookie, s.cookies.sessionName+"=")
	})
	found, ok := session.Values[keySession].(*models.Session)
	if !ok {
		http.SetCookie(w, s.cookies.session("", -1))
		return nil
	}
	http.SetCookie(w, s.cookies.session(found.Token, session.Options.MaxAge))
	return nil
}

func (s *sessionStore) token(r *http.Request) string {
	if s.headers {
		if token := r.Header.Get("X-Session-Token"); token != "" {
			return token
		}
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if strings.EqualFold(scheme, "Bearer") {
			return strings.TrimSpace(token)
		}
	}
	cookie, err := r.Cookie(s.cookies.sessionName)
	if err != nil {
		return ""
	}
	return cookie.Value
}

// held returns the session whose token the request carries, active or not; nil if there is none.
func (a *App) held(c *gin.Context) (*models.Session, error) {
	stored := sessions.Default(c)
	if failure, ok := stored.Get(keyFailure).(error); ok {
		return nil, failure
	}
	session, _ := stored.Get(keySession).(*models.Session)
	return session, nil
}

// signedIn returns the active session of the request, which is in use by it, or errNoSession.
func (a *App) signedIn(c *gin.Context) (*models.Session, error) {
	session, err := a.active(c)
	if err == nil {
		a.markSeen(session, a.Now())
	}
	return session, err
}

// active is signedIn for a request that is no use of the session.
func (a *App) active(c *gin.Context) (*models.Session, error) {
	session, err := a.held(c)
	if err != nil {
		return nil, err
	}
	if session == nil || !session.Active(a.Now()) {
		return nil, errNoSession
	}
	return session, nil
}

// seenEvery is how far last_seen_at may lag behind; less where a session idles out sooner.
const seenEvery = 2 * time.Minute

// markSeen has the session's use noted, later and elsewhere: no answer waits for it, and where
// too many are waiting the next use will do.
func (a *App) markSeen(session *models.Session, now time.Time) {
	idle := time.Duration(session.IdleSeconds) * time.Second
	if now.Sub(session.LastSeenAt) < min(seenEvery, idle/4) {
		return
	}
	used := *session
	used.LastSeenAt = now
	a.later(func(ctx context.Context) error { return a.store.Sessions.Seen(ctx, used) })
}

// setSession gives the browser the cookie of a session that has just got its token.
func (a *App) setSession(c *gin.Context, session *models.Session) error {
	maxAge := 0
	if session.Remember {
		maxAge = int(session.LatestExpiresAt.Sub(a.Now()) / time.Second)
	}
	stored := sessions.Default(c)
	stored.Set(keySession, session)
	stored.Options(sessions.Options{MaxAge: maxAge})
	return stored.Save()
}

// clearSession deletes the browser's cookie.
func clearSession(c *gin.Context) error {
	stored := sessions.Default(c)
	stored.Delete(keySession)
	return stored.Save()
}

// cookies makes every cookie of the product, so that setting and deleting one never differ.
type cookies struct {
	sessionName string // the token of the session
	flowName    string // binds flows to the browser that started them
	deviceName  string // a browser that somebody has signed in with before
	receiptName string // what was signed out of here just now
	domain      string
	secure      bool
}

func newCookies(s settings) cookies {
	prefix := ""
	switch {
	case s.https && s.CookieDomain == "":
		prefix = "__Host-"
	case s.https:
		prefix = "__Secure-"
	}
	return cookies{
		sessionName: prefix + "latchkey_session",
		flowName:    prefix + "latchkey_flow",
		deviceName:  prefix + "latchkey_device",
		receiptName: prefix + "latchkey_receipt",
		domain:      s.CookieDomain,
		secure:      s.https,
	}
}

// session returns the session cookie. A maxAge of 0 makes it end with the browser session; a
// negative one deletes it.
func (k cookies) session(token string, maxAge int) *http.Cookie {
	return k.cookie(k.sessionName, token, maxAge)
}

func (k cookies) cookie(name, value string, maxAge int) *http.Cookie {
	// #nosec G124 -- Secure wherever BASE_URL is https; elsewhere browsers would refuse it
	return &http.Cookie{Name: name, Value: value, Path: "/", Domain: k.domain, MaxAge: maxAge,
		Secure: k.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode}
}
