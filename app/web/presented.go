package web

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/gin-contrib/sessions"
	"github.com/gin-gonic/gin"
	"github.com/gofrs/uuid/v5"

	"latchkey/app/config"
	"latchkey/app/returnto"
	"latchkey/models"
)

// presented is everything about sessions that a browser sends, including what doesn't sign it in: replaced tokens, and
// cookies with names from other settings. A sign-in or sign-out ends all of it.
type presented struct {
	cookies []sentCookie
	byToken map[string]models.Session
}

// presentedKey is its key in the gin context, so that it is looked up only once.
const presentedKey = "latchkey/presented"

func (s *Site) presented(c *gin.Context) (presented, error) {
	if p, ok := c.Get(presentedKey); ok {
		return p.(presented), nil
	}
	p := presented{cookies: slices.Collect(s.sent(c.Request, config.SessionCookie, false))}
	var tokens []string
	for _, cookie := range p.cookies {
		if models.IsToken(cookie.value) && !slices.Contains(tokens, cookie.value) {
			tokens = append(tokens, cookie.value)
		}
	}
	held, err := s.Held(c)
	switch {
	case err != nil:
	case len(tokens) == 1 && held != nil && held.Token == tokens[0]: // the usual case
		p.byToken = map[string]models.Session{held.Token: *held}
	case len(tokens) > 0:
		p.byToken, err = s.sessions.ToEnd(c.Request.Context(), tokens)
	}
	if err == nil {
		c.Set(presentedKey, p)
	}
	return p, err
}

// isForeign reports whether a value seems to be another installation's token.
func (p presented) isForeign(value string) bool {
	_, ours := p.byToken[value]
	return models.IsToken(value) && !ours
}

// ToEnd returns the active sessions that the browser may end, newest first. Its cookies may have several, of several
// people, and none of them needs to sign it in.
func (s *Site) ToEnd(c *gin.Context) ([]models.Session, error) {
	p, err := s.presented(c)
	if err != nil {
		return nil, err
	}
	now, active := s.Now(), map[uuid.UUID]models.Session{}
	for _, session := range p.byToken {
		if session.Active(now) && active[session.ID].Token == "" { // a session may be there by a replaced token too
			active[session.ID] = session
		}
	}
	return slices.SortedFunc(maps.Values(active), func(a, b models.Session) int { return b.AuthenticatedAt.Compare(a.AuthenticatedAt) }), nil
}

// IDs returns the ids of sessions.
func IDs(of []models.Session) []uuid.UUID {
	ids := make([]uuid.UUID, len(of))
	for i := range of {
		ids[i] = of[i].ID
	}
	return ids
}

// SetSession sets the cookie for a session's new token, and deletes the browser's other session cookies.
func (s *Site) SetSession(c *gin.Context, session *models.Session) error {
	p, err := s.presented(c)
	if err != nil {
		return err
	}
	name := s.CookieName(config.SessionCookie)
	taken := func(cookie sentCookie) bool { return cookie.name == name && p.isForeign(cookie.value) }
	if slices.ContainsFunc(p.cookies, taken) {
		name = s.OwnCookieName(config.SessionCookie)
	}
	return saveCookies(c, session, append(s.deletions(c, p.cookies, name, p.isForeign), s.sessionCookie(name, session)))
}

func (s *Site) sessionCookie(name string, session *models.Session) *http.Cookie {
	maxAge := 0
	if session.Remember {
		maxAge = int(session.LatestExpiresAt.Sub(s.Now()) / time.Second)
	}
	return s.NewCookie(name, session.Token, maxAge)
}

// GoOn redirects a browser that is already signed in. If the target is another host, it sets the cookie again: one from
// other settings may not reach that host, whose proxy would keep redirecting back here. The browser's other cookies
// stay, because their sessions do.
func (s *Site) GoOn(c *gin.Context, session *models.Session, to string) {
	if returnto.Host(to) != "" {
		http.SetCookie(c.Writer, s.sessionCookie(s.CookieName(config.SessionCookie), session))
	}
	SeeOther(c, to)
}

// ClearSession deletes the browser's session cookies.
func (s *Site) ClearSession(c *gin.Context) error {
	p, err := s.presented(c)
	if err != nil {
		return err
	}
	deletions := s.deletions(c, p.cookies, "", p.isForeign)
	if len(p.cookies) == 0 { // confirmed in this request, or the browser's cookie has expired
		deletions = []*http.Cookie{s.NewCookie(s.CookieName(config.SessionCookie), "", -1)}
	}
	return saveCookies(c, nil, deletions)
}

// saveCookies sets cookies instead of the session cookies that the response already sets.
func saveCookies(c *gin.Context, session *models.Session, cookies []*http.Cookie) error {
	stored := sessions.Default(c)
	if session != nil {
		stored.Set(keySession, session)
	} else {
		stored.Delete(keySession)
	}
	stored.Set(keyCookies, cookies)
	return stored.Save()
}
