package app

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/gofrs/uuid/v5"

	"latchkey/app/returnto"
)

// flow is one attempt to sign in or to register. It is nowhere stored: its id is the flow itself,
// sealed. So opening pages writes nothing, nobody can fill a table with flows or empty it of
// others', and a page that was left open for a day still holds all that its form needs.
type flow struct {
	Kind     flowKind  `json:"k"`
	API      bool      `json:"a,omitempty"` // for a client that keeps its token itself
	Refresh  bool      `json:"r,omitempty"`
	IssuedAt time.Time `json:"t"`
	Nonce    uuid.UUID `json:"n"`           // no two flows have the same id
	CSRF     string    `json:"c,omitempty"` // of the browser that started it
	ReturnTo string    `json:"u,omitempty"`
	Setup    string    `json:"s,omitempty"` // the setup token that came with the link

	id string
}

type flowKind string

const (
	login        flowKind = "login"
	registration flowKind = "registration"
)

// flowLifetime is how long a JSON client may take. A person at a page may take longer.
const flowLifetime = time.Hour

// maxSetupToken is more bytes than the token has: what is longer is not it, cut off or not.
const maxSetupToken = 64

func (f *flow) expired(now time.Time) bool { return !lately(now, f.IssuedAt, flowLifetime) }

func (f *flow) typ() string {
	if f.API {
		return "api"
	}
	return "browser"
}

// newFlow begins a flow from the request's query, and binds one of a browser to it by a cookie.
func (a *App) newFlow(c *gin.Context, kind flowKind, api bool) (*flow, error) {
	query, err := a.query(c)
	if err != nil {
		return nil, err
	}
	returnTo, err := a.returnTo(c)
	if err != nil {
		return nil, err
	}
	f := &flow{Kind: kind, API: api, ReturnTo: returnTo,
		Refresh: query.Get("refresh") == "true", Setup: clip(query.Get("setup"), maxSetupToken)}
	return f, a.issue(c, f)
}

// issue gives the flow, new or again, a time and an id.
func (a *App) issue(c *gin.Context, f *flow) error {
	nonce, err := uuid.NewV4()
	if err != nil {
		return err
	}
	f.Nonce = nonce
	f.IssuedAt = a.Now().UTC().Truncate(time.Second)
	if !f.API {
		f.CSRF = a.csrfToken(c)
		if f.CSRF == "" {
			key := rand.Text()
			http.SetCookie(c.Writer, a.cookies.cookie(a.cookies.flowName, key, 0))
			// A page may issue more than one; they all belong to the same cookie.
			c.Request.AddCookie(&http.Cookie{Name: a.cookies.flowName, Value: key}) // #nosec G124 -- a request's, which has no attributes
			f.CSRF = csrfOf(key)
		}
	}
	var raw bytes.Buffer
	encoder := json.NewEncoder(&raw)
	encoder.SetEscapeHTML(false) // six bytes for an & could make the id too long for a URL
	if err := encoder.Encode(f); err != nil {
		return err
	}
	f.id = encode64(a.seal("flow", raw.Bytes()))
	return nil
}

// createFlow begins a flow, and answers with it or with a redirect to the page that shows it.
func (a *App) createFlow(c *gin.Context, kind flowKind, api bool) {
	f, err := a.newFlow(c, kind, api)
	if err != nil {
		a.fail(c, err)
		return
	}
	if kind == registration {
		if _, err := a.mayRegister(c.Request.Context(), f.Setup); err != nil {
			if !api {
				err = hiddenPage(c, err)
			}
			a.fail(c, err)
			return
		}
	}
	if !f.Refresh && !api {
		switch _, err := a.signedIn(c); {
		case err == nil && prefersHTML(c.Request):
			seeOther(c, a.afterLogin(f))
			return
		case err == nil:
			a.fail(c, errAlreadySignedIn)
			return
		case !errors.Is(err, errNoSession):
			a.fail(c, err)
			return
		}
	}
	if !api && prefersHTML(c.Request) {
		seeOther(c, "/auth/"+string(kind)+"?flow="+f.id)
		return
	}
	c.PureJSON(http.StatusOK, newForm(f).json(a.origin(c)))
}

// getFlow answers with the flow that the query names.
func (a *App) getFlow(c *gin.Context, kind flowKind) {
	id, err := a.flowID(c, "id")
	if err != nil {
		a.fail(c, err)
		return
	}
	f, err := a.openFlow(c, kind, id)
	if err == nil && f.expired(a.Now()) {
		err = a.renew(c, f)
	}
	if err != nil {
		a.fail(c, err)
		return
	}
	c.PureJSON(http.StatusOK, newForm(f).json(a.origin(c)))
}

// pageFlow returns the flow that a page is to show.
func (a *App) pageFlow(c *gin.Context, kind flowKind) (*flow, error) {
	query, err := a.query(c)
	if err != nil {
		return nil, err
	}
	id := query.Get("flow")
	if id == "" {
		return a.newFlow(c, kind, false)
	}
	f, err := a.openFlow(c, kind, id)
	switch {
	case errors.Is(err, errFlowUnknown), err == nil && f.API:
		f = &flow{Kind: kind}
	case err == nil && !f.expired(a.Now()):
		return f, nil
	case err != nil && !errors.Is(err, errOtherBrowser):
		return nil, err
	}
	return f, a.issue(c, f)
}

// openFlow returns the flow of an id, however old. It returns errFlowUnknown if the id is not one
// of ours, and errOtherBrowser with the flow if another browser started it.
func (a *App) openFlow(c *gin.Context, kind flowKind, id string) (*flow, error) {
	raw, err := a.unseal("flow", decode64(id))
	if err != nil {
		return nil, errFlowUnknown
	}
	f := &flow{id: id}
	if err := json.Unmarshal(raw, f); err != nil {
		return nil, err
	}
	if f.Kind != kind {
		return nil, errFlowUnknown
	}
	f.ReturnTo = a.stillAllowed(c, f.ReturnTo)
	if !f.API && !hmac.Equal([]byte(f.CSRF), []byte(a.csrfToken(c))) {
		return f, errOtherBrowser
	}
	return f, nil
}

// stillAllowed returns a return_to that was allowed when its flow began, "" if it no longer is.
func (a *App) stillAllowed(c *gin.Context, returnTo string) string {
	if returnTo == "" {
		return ""
	}
	target, err := a.checkReturnTo(c, returnTo)
	if err != nil {
		return ""
	}
	return target
}

// flowID returns the id that the query must have.
func (a *App) flowID(c *gin.Context, key string) (string, error) {
	query, err := a.query(c)
	if err != nil {
		return "", err
	}
	ids := query[key]
	if len(ids) != 1 || ids[0] == "" {
		return "", errBadRequest.because("The query needs %s, the id of a flow, once.", key)
	}
	return ids[0], nil
}

// renew answers for an expired flow: a fresh one of the same kind takes its place.
func (a *App) renew(c *gin.Context, old *flow) error {
	fresh := *old
	if err := a.issue(c, &fresh); err != nil {
		return err
	}
	expired := *errFlowExpired
	expired.useFlowID = fresh.id
	return &expired
}

// csrfToken returns what a form of this browser carries, "" if the browser has no cookie for it.
func (a *App) csrfToken(c *gin.Context) string {
	cookie, err := c.Request.Cookie(a.cookies.flowName)
	if err != nil || cookie.Value == "" {
		return ""
	}
	return csrfOf(cookie.Value)
}

func csrfOf(key string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte("csrf_token"))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// query returns the request's query, or a problem if it can't be read.
func (a *App) query(c *gin.Context) (url.Values, error) {
	if c.Request.URL.RawQuery == "" {
		return nil, nil
	}
	query, err := url.ParseQuery(c.Request.URL.RawQuery)
	if err != nil {
		return nil, errBadRequest.because("The query of the address can't be read. Percent-encode it.")
	}
	return query, nil
}

// returnTo returns the request's return_to after checking it, "" if there is none.
func (a *App) returnTo(c *gin.Context) (string, error) {
	query, err := a.query(c)
	if err != nil {
		return "", err
	}
	raw, given := query["return_to"]
	if !given {
		return "", nil
	}
	if len(raw) > 1 {
		return "", errReturnTo.because("return_to is given more than once. Give it once.")
	}
	return a.checkReturnTo(c, raw[0])
}

func (a *App) checkReturnTo(c *gin.Context, raw string) (string, error) {
	target, err := a.returns.Check(a.origin(c), raw)
	var refused *returnto.Refused
	if errors.As(err, &refused) {
		return "", errReturnTo.because("%s", refused.Reason)
	}
	return target, err
}
