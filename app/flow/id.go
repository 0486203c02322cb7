package flow

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/gofrs/uuid/v5"

	"latchkey/app/web"
)

// issue gives a new or reused flow a time and an id.
func (s *Flows) issue(c *gin.Context, f *Flow) error {
	nonce, err := uuid.NewV4()
	if err != nil {
		return err
	}
	f.Nonce = nonce
	f.IssuedAt = s.Now().UTC().Truncate(time.Second)
	if !f.API {
		f.CSRF = s.csrfToken(c)
		if f.CSRF == "" {
			key := rand.Text()
			s.SetCookie(c, web.FlowCookie, key, 0)
			// A page may issue more than one; they all belong to the same cookie.
			c.Request.AddCookie(&http.Cookie{Name: s.CookieName(web.FlowCookie), Value: key}) // #nosec G124 -- a request cookie has no attributes
			f.CSRF = csrfOf(key)
		}
	}
	var raw bytes.Buffer
	encoder := json.NewEncoder(&raw)
	encoder.SetEscapeHTML(false) // six bytes for an & could make the id too long for a URL
	if err := encoder.Encode(f); err != nil {
		return err
	}
	f.id = s.Seal("flow", raw.Bytes())
	return nil
}

// open returns the flow of an id, however old. It returns errUnknown if the id isn't valid, and
// web.ErrOtherBrowser with the flow if another browser started it.
func (s *Flows) open(c *gin.Context, kind Kind, id string) (*Flow, error) {
	raw, err := s.Open("flow", id)
	if err != nil {
		return nil, errUnknown
	}
	f := &Flow{id: id}
	if err := json.Unmarshal(raw, f); err != nil {
		return nil, err
	}
	if f.Kind != kind.Name() {
		return nil, errUnknown
	}
	f.ReturnTo = s.StillAllowed(c, f.ReturnTo)
	if !f.API && !s.startedHere(c, f) {
		f.Refresh = false
		return f, web.ErrOtherBrowser
	}
	return f, s.setPerson(c, f)
}

// startedHere reports whether this browser started a flow.
func (s *Flows) startedHere(c *gin.Context, f *Flow) bool {
	return slices.ContainsFunc(s.Cookies(c, web.FlowCookie), func(key string) bool {
		return key != "" && hmac.Equal([]byte(f.CSRF), []byte(csrfOf(key)))
	})
}

// csrfToken returns the CSRF token of this browser's forms, "" if it has no flow cookie.
func (s *Flows) csrfToken(c *gin.Context) string {
	key := s.Cookie(c, web.FlowCookie)
	if key == "" {
		return ""
	}
	return csrfOf(key)
}

func csrfOf(key string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte("csrf_token"))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
