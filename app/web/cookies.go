package web

import (
	"net/http"

	"github.com/gin-gonic/gin"
)

// The names of the cookies besides that of the session, without their prefix.
const (
	FlowCookie    = "latchkey_flow"    // binds flows to the browser that started them
	DeviceCookie  = "latchkey_device"  // a browser in which somebody has signed in before
	ReceiptCookie = "latchkey_receipt" // what the browser has just signed out of
)

// Cookie returns the value of a cookie, "" if the browser sent none.
func (s *Site) Cookie(c *gin.Context, name string) string {
	cookie, err := c.Request.Cookie(s.CookieName(name))
	if err != nil {
		return ""
	}
	return cookie.Value
}

// SetCookie sets a cookie for maxAge seconds, or with 0 until the browser is closed.
func (s *Site) SetCookie(c *gin.Context, name, value string, maxAge int) {
	http.SetCookie(c.Writer, s.cookie(s.CookieName(name), value, maxAge))
}

// DeleteCookie deletes a cookie if the browser sent it.
func (s *Site) DeleteCookie(c *gin.Context, name string) {
	if s.Cookie(c, name) != "" {
		s.SetCookie(c, name, "", -1)
	}
}

// cookie creates every cookie, so that the attributes for setting and deleting one never differ.
func (s *Site) cookie(name, value string, maxAge int) *http.Cookie {
	// #nosec G124 -- Secure wherever BASE_URL is https; elsewhere browsers would refuse it
	return &http.Cookie{Name: name, Value: value, Path: "/", Domain: s.CookieDomain, MaxAge: maxAge,
		Secure: s.HTTPS, HttpOnly: true, SameSite: http.SameSiteLaxMode}
}
