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
	// headers lets API clients send their token in X-Session-Token or Authorization.
	headers bool
}

// WithSession finds the session of every request by its cookies, or with bearer also by X-Session-Token or
// Authorization.
func (s *Site) WithSession(bearer bool) gin.HandlerFunc {
	return sessions.Sessions(config.SessionCookie, &sessionStore{sessions: s.sessions, site: s, headers: bearer})
}

// The keys under which a session of gin-contrib/sessions holds what the store found.
type storeKey int

const (
	keySession storeKey = iota // *models.Session, active or not
	keySeveral                 // true: the cookies have active sessions of several people
	keyFailure                 // error: the lookup failed
	keyCookies                 // []*http.Cookie: what Save sets
)

func (s *sessionStore) Options(sessions.Options) {} // the cookie's attributes follow from the settings

func (s *sessionStore) Get(r *http.Request, name string) (*gorilla.Session, error) {
	return s.New(r, name)
}

// New finds the session of a request: by X-Session-Token if it is there, else by the cookies, and else by
// Authorization, which may be the app's own. A failure is a value of the session rather than an error, because
// gin-contrib/sessions would only log an error.
func (s *sessionStore) New(r *http.Request, name string) (*gorilla.Session, error) {
	session := gorilla.NewSession(s, name)
	if s.headers {
		if token := r.Header.Get("X-Session-Token"); token != "" {
			s.find(r, session, token)
			return session, nil
		}
	}
	s.findByCookies(r, session)
	if s.headers && !s.settled(session) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if token = strings.TrimSpace(token); strings.EqualFold(scheme, "Bearer") && models.IsToken(token) {
			bearer := gorilla.NewSession(s, name)
			if s.find(r, bearer, token); s.settled(bearer) || len(session.Values) == 0 {
				return bearer, nil
			}
		}
	}
	return session, nil
}

// settled reports whether the search for the request's session is over.
func (s *sessionStore) settled(session *gorilla.Session) bool {
	found, _ := session.Values[keySession].(*models.Session)
	return session.Values[keyFailure] != nil || found != nil && found.Active(s.site.Now())
}

// find finds the session of a token.
func (s *sessionStore) find(r *http.Request, session *gorilla.Session, token string) {
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
}

// findByCookies finds the session of the cookies. There is rarely more than one.
func (s *sessionStore) findByCookies(r *http.Request, session *gorilla.Session) {
	first, more := "", []string(nil)
	for cookie := range s.site.sent(r, config.SessionCookie, true) {
		switch {
		case !models.IsToken(cookie.value) || cookie.value == first:
		case first == "":
			first = cookie.value
		default:
			more = append(more, cookie.value)
		}
	}
	if first == "" {
		return
	}
	if len(more) == 0 {
		s.find(r, session, first)
		return
	}
	found, err := s.sessions.ByTokens(r.Context(), append(more, first))
	if err != nil {
		session.Values[keyFailure] = err
		return
	}
	chosen, several := choose(found, s.site.Now())
	if chosen != nil {
		session.Values[keySession] = chosen
	}
	if several {
		session.Values[keySeveral] = true
	}
}

// choose returns which of several sessions is the browser's: the newest active one, or else the newest. If the
// active ones belong to several people, another host may have set a cookie to make this person act in somebody else's
// account, so it returns nil and true.
func choose(found []models.Session, now time.Time) (chosen *models.Session, several bool) {
	for i := range found {
		session := &found[i]
		active := session.Active(now)
		switch {
		case chosen == nil || active && !chosen.Active(now):
			chosen = session
		case active != chosen.Active(now):
		case active && session.IdentityID != chosen.IdentityID:
			return nil, true
		case session.AuthenticatedAt.After(chosen.AuthenticatedAt):
			chosen = session
		}
	}
	return chosen, false
}

// Save sets the cookies from the last call of SetSession or ClearSession.
func (s *sessionStore) Save(_ *http.Request, w http.ResponseWriter, session *gorilla.Session) error {
	w.Header()["Set-Cookie"] = slices.DeleteFunc(w.Header()["Set-Cookie"], func(cookie string) bool {
		name, _, _ := strings.Cut(cookie, "=")
		is, _ := s.site.IsCookie(name, config.SessionCookie)
		return is
	})
	cookies, _ := session.Values[keyCookies].([]*http.Cookie)
	for _, cookie := range cookies {
		http.SetCookie(w, cookie)
	}
	return nil
}

// Held returns the session of the request's token, active or not. It returns nil if there is none, or if the cookies
// belong to several people.
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
	if session != nil && session.Active(s.Now()) {
		return session, nil
	}
	if s.SeveralPeople(c) {
		return nil, ErrSeveralPeople
	}
	return nil, ErrNoSession
}

// SeveralPeople reports whether the browser's cookies have active sessions of several people.
func (s *Site) SeveralPeople(c *gin.Context) bool { return sessions.Default(c).Get(keySeveral) != nil }

// passiveHeader marks a request that doesn't count as use of the session, such as an app's polling.
const passiveHeader = "X-Latchkey-Passive"

// SignedInOrPassive is SignedIn for the endpoints that apps poll, where a client can say that a request doesn't
// count as use of the session.
func (s *Site) SignedInOrPassive(c *gin.Context) (*models.Session, error) {
	if c.Request.Header.Get(passiveHeader) == "1" {
		return s.Active(c)
	}
	return s.SignedIn(c)
}

// isSignedIn reports whether the request has an active session, for pages that depend on it.
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

// markSeen records the session's use in the background, once for simultaneous requests. If too many writes are waiting,
// it is left to the next use.
func (s *Site) markSeen(session *models.Session, now time.Time) {
	idle := time.Duration(session.IdleSeconds) * time.Second
	if now.Sub(session.LastSeenAt) < min(seenEvery, idle/4) {
		return
	}
	used := *session
	s.Uses.Enqueue(used.ID, now, func(ctx context.Context) error { return s.sessions.Seen(ctx, used, now) })
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
