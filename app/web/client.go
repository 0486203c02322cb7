package web

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"latchkey/app/authn"
	"latchkey/app/clientaddr"
	"latchkey/app/config"
	"latchkey/models"
)

// maxUserAgent is the number of bytes kept of a User-Agent header.
const maxUserAgent = 512

// Client returns where a request comes from.
func (s *Site) Client(c *gin.Context) authn.Client {
	return authn.Client{IP: s.ClientIP(c.Request), UserAgent: Clip(c.Request.UserAgent(), maxUserAgent), Devices: s.devices(c), RequestID: RequestID(c)}
}

// ClientIP returns the address that a request comes from.
func (s *Site) ClientIP(r *http.Request) string {
	ip, err := s.Clients.Client(r.RemoteAddr, r.Header)
	if err != nil {
		s.clients.Report(r.Context(), err)
	}
	return ip
}

// FromTrustedProxy reports whether a request comes from one of TRUSTED_PROXIES.
func (s *Site) FromTrustedProxy(r *http.Request) bool {
	return len(s.Clients.Trusted) > 0 && s.Clients.Trusts(clientaddr.Peer(r.RemoteAddr))
}

// maxDevices is how many cookies are opened: each takes some work.
const maxDevices = 8

// devices returns the Devices in the browser's cookies.
func (s *Site) devices(c *gin.Context) (devices []authn.Device) {
	sent := s.Cookies(c, DeviceCookie)
	for _, value := range sent[:min(len(sent), maxDevices)] {
		if raw, err := s.Open(devicePurpose, value); err == nil {
			var device authn.Device
			if json.Unmarshal(raw, &device) == nil {
				devices = append(devices, device)
			}
		}
	}
	return devices
}

// devicePurpose is what the cookie is sealed for.
const devicePurpose = "device"

// Hold sets the cookies for a session's new token.
func (s *Site) Hold(c *gin.Context, started *authn.Started) error {
	if err := s.SetSession(c, started.Session); err != nil {
		return err
	}
	if started.Device == nil {
		return nil
	}
	raw, err := json.Marshal(started.Device)
	if err != nil {
		return err
	}
	s.SetCookie(c, DeviceCookie, s.Seal(devicePurpose, raw), int(authn.DeviceLifetime/time.Second))
	return nil
}

// SendsToken reports whether a request uses an API client's session in flows. Authorization doesn't count: it may be
// meant for a proxy in front of a browser's request.
func SendsToken(r *http.Request) bool { return r.Header.Get("X-Session-Token") != "" }

// OfFlow returns the session, active or not, of the client that submits a flow, or nil. An API client's is the one in
// X-Session-Token. A browser's is the one in its cookies, whatever token its script or a proxy sends.
func (s *Site) OfFlow(c *gin.Context, api bool) (*models.Session, error) {
	if api && !SendsToken(c.Request) {
		return nil, nil
	}
	held, err := s.Held(c)
	if err != nil || held == nil || api {
		return held, err
	}
	for cookie := range s.sent(c.Request, config.SessionCookie, true) {
		if cookie.value == held.Token {
			return held, nil
		}
	}
	return nil, nil
}

// SignInOptions returns the options of the session to start: api is for a client that keeps its token
// itself, refresh for a person who confirms who they are.
func (s *Site) SignInOptions(c *gin.Context, api, remember, refresh bool) (authn.Options, error) {
	options := authn.Options{Token: api, Remember: remember}
	if refresh {
		session, err := s.OfFlow(c, api)
		if err != nil {
			return options, err
		}
		if session != nil && session.Active(s.Now()) {
			options.Confirms = session
		}
	}
	if api {
		return options, nil
	}
	presented, err := s.ToEnd(c)
	options.Replaces = IDs(presented)
	return options, err
}

// continueWith is what a client does next after a success.
type continueWith struct {
	Action            string `json:"action"`
	RedirectBrowserTo string `json:"redirect_browser_to,omitempty"`
	SessionToken      string `json:"ory_session_token,omitempty"`
}

// SetToken is the continue_with for an API client that has registered.
func SetToken(token string) []any {
	return []any{continueWith{Action: "set_ory_session_token", SessionToken: token}}
}

// AnswerSignedIn responds with the session that has just started: as JSON, with the token if the client
// keeps it itself, or with a redirect.
func (s *Site) AnswerSignedIn(c *gin.Context, api bool, started *authn.Started, body gin.H, redirectTo string) {
	if api {
		body["session_token"] = started.Session.Token
		c.JSON(http.StatusOK, body)
		return
	}
	if err := s.Hold(c, started); err != nil {
		s.Fail(c, err)
		return
	}
	s.DeleteCookie(c, ReceiptCookie) // it belongs to another session
	if PrefersHTML(c.Request) {
		SeeOther(c, redirectTo)
		return
	}
	if strings.HasPrefix(redirectTo, "/") {
		redirectTo = s.Origin(c) + redirectTo
	}
	body["continue_with"] = []any{continueWith{Action: "redirect_browser_to", RedirectBrowserTo: redirectTo}}
	c.PureJSON(http.StatusOK, body)
}
