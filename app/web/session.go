package web

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gin-contrib/sessions"
	"github.com/gin-gonic/gin"
	gorilla "github.com/gorilla/sessions"

	"latchkey/app/config"
	"latchkey/app/route"
	"latchkey/models"
)

// sessionStore stores the sessions of gin-contrib/sessions as models.Session: the cookie contains only the
// token.
type sessionStore struct {
	sessions models.Sessions
	site     *Site
	cookie   string // its name
	// headers lets API clients send their token in X-Session-Token or Authorization.
	headers bool
}

// WithSession finds the session of every request by its cookie, or with bearer also by X-Session-Token or
// Authorization.
func (s *Site) WithSession(bearer bool) gin.HandlerFunc {
	name := s.CookieName(config.SessionCookie)
	return sessions.Sessions(name, &sessionStore{sessions: s.sessions, site: s, cookie: name, headers: bearer})
}

// The keys under which a session of gin-contrib/sessions holds what the store found.
type storeKey int

const (
	keySession storeKey = iota // models.Session, active or not
	keyFailure                 // error: the lookup failed
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
	traces := s.site.Traces
	start := traces.Now()
	found, err := s.sessions.ByToken(r.Context(), token)
	traces.Past(r.Context(), "find session", start, traces.Now(), err != nil && !errors.Is(err, models.ErrNotFound))
	switch {
	case err == nil:
		session.Values[keySession] = &found
	case !errors.Is(err, models.ErrNotFound):
		session.Values[keyFailure] = err
	}
	return session, nil
}

// Save writes the cookie of the session, or deletes it if there is none. The last call counts: a
// response sets a cookie only once (RFC 6265 §4.1.1).
func (s *sessionStore) Save(_ *http.Request, w http.ResponseWriter, session *gorilla.Session) error {
	w.Header()["Set-Cookie"] = slices.DeleteFunc(w.Header()["Set-Cookie"], func(cookie string) bool {
		return strings.HasPrefix(cookie, s.cookie+"=")
	})
	found, ok := session.Values[keySession].(*models.Session)
	if !ok {
		http.SetCookie(w, s.site.cookie(s.cookie, "", -1))
		return nil
	}
	http.SetCookie(w, s.site.cookie(s.cookie, found.Token, session.Options.MaxAge))
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
	cookie, err := r.Cookie(s.cookie)
	if err != nil {
		return ""
	}
	return cookie.Value
}

// Held returns the session of the request's token, active or not; nil if there is none.
func (s *Site) Held(c *gin.Context) (*models.Session, error) {
	stored := sessions.Default(c)
	if failure, ok := stored.Get(keyFailure).(error); ok {
		return nil, failure
	}
	session, _ := stored.Get(keySession).(*models.Session)
	return session, nil
}

// SignedIn returns the active session of the request and counts as its use. It returns ErrNoSession if
// there is none.
func (s *Site) SignedIn(c *gin.Context) (*models.Session, error) {
	session, err := s.Active(c)
	if err == nil {
		s.markSeen(session, s.Now())
	}
	return session, err
}

// Active is SignedIn for a request that doesn't count as use of the session.
func (s *Site) Active(c *gin.Context) (*models.Session, error) {
	session, err := s.Held(c)
	if err != nil {
		return nil, err
	}
	if session == nil || !session.Active(s.Now()) {
		return nil, ErrNoSession
	}
	return session, nil
}

// isSignedIn reports whether the request has an active session, for a page that has to know what to offer.
// It is false where sessions aren't looked up.
func (s *Site) isSignedIn(c *gin.Context) bool {
	if _, ok := c.Get(sessions.DefaultKey); !ok {
		return false
	}
	_, err := s.Active(c)
	return err == nil
}

// seenEvery is how far last_seen_at may lag behind; less if the session's idle timeout is short.
const seenEvery = 2 * time.Minute

// markSeen records the session's use in the background, once however many requests see it. If too many writes
// are waiting, it is left to the next use.
func (s *Site) markSeen(session *models.Session, now time.Time) {
	idle := time.Duration(session.IdleSeconds) * time.Second
	if now.Sub(session.LastSeenAt) < min(seenEvery, idle/4) {
		return
	}
	used := *session
	s.Uses.Enqueue(used.ID, now, func(ctx context.Context) error { return s.sessions.Seen(ctx, used, now) })
}

// SetSession sets the cookie of a session that has just got its token.
func (s *Site) SetSession(c *gin.Context, session *models.Session) error {
	maxAge := 0
	if session.Remember {
		maxAge = int(session.LatestExpiresAt.Sub(s.Now()) / time.Second)
	}
	stored := sessions.Default(c)
	stored.Set(keySession, session)
	stored.Options(sessions.Options{MaxAge: maxAge})
	return stored.Save()
}

// ClearSession deletes the browser's cookie.
func ClearSession(c *gin.Context) error {
	stored := sessions.Default(c)
	stored.Delete(keySession)
	return stored.Save()
}

// Recent reports whether the person has authenticated recently enough to manage sessions (ASVS 5.0 7.5.2).
func (s *Site) Recent(session *models.Session) bool {
	return s.Now().Sub(session.ConfirmedAt).Abs() <= s.ConfirmAfter // see Within
}

// Person returns the display name of a session's person.
func Person(session *models.Session) string {
	return cmp.Or(session.Identity.Name, session.Identity.Username, session.Identity.Email)
}

// LogoutURL returns the absolute URL that signs the session out when its browser opens it.
func (s *Site) LogoutURL(c *gin.Context, session *models.Session, returnTo string) string {
	u := s.Origin(c) + s.Path(route.DoLogout) + "?token=" + s.LogoutToken(session.ID) // of URL-safe characters
	if returnTo != "" {
		u += "&return_to=" + url.QueryEscape(returnTo)
	}
	return u
}

// AfterLogout returns where to redirect a browser that has signed out.
func (s *Site) AfterLogout(returnTo string) string {
	return cmp.Or(returnTo, s.LogoutReturnURL, s.Path(route.SignedOut))
}
