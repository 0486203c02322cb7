package assets

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"latchkey/app/route"
	"latchkey/app/web"
)

// securityTextLifetime is how far ahead security.txt expires: RFC 9116 §2.5.5 recommends less than a year.
const securityTextLifetime = 180 * 24 * time.Hour

// daily is the Cache-Control of files at fixed URLs that seldom change.
const daily = "public, max-age=86400"

// Robots answers GET /robots.txt: there is nothing here for search engines.
func (h *Handler) Robots(c *gin.Context) {
	c.Header("Cache-Control", daily)
	c.Data(http.StatusOK, "text/plain; charset=utf-8", []byte("User-agent: *\nDisallow: /\n"))
}

// Favicon answers GET /favicon.ico, for programs that don't read the icon's URL from the page.
func (h *Handler) Favicon(c *gin.Context) { h.sendIcon(c, h.files.page.Icon) }

// TouchIcon answers GET /apple-touch-icon.png.
func (h *Handler) TouchIcon(c *gin.Context) { h.sendIcon(c, h.files.page.TouchIcon) }

func (h *Handler) sendIcon(c *gin.Context, url string) {
	c.Header("Cache-Control", daily)
	c.Header("Cross-Origin-Resource-Policy", "same-site")
	h.files.files[url[strings.LastIndex(url, "/")+1:]].Send(c)
}

// SecurityText answers GET /.well-known/security.txt: where to report a vulnerability (RFC 9116). It answers 404
// without a contact that programs understand.
func (h *Handler) SecurityText(c *gin.Context) {
	contact := h.Contact.URL
	if contact == "" || strings.HasPrefix(contact, "http:") { // §2.5.3
		h.Fail(c, web.ErrNotFound)
		return
	}
	expires := h.Now().UTC().Add(securityTextLifetime).Truncate(24 * time.Hour)
	c.Header("Cache-Control", daily)
	c.Data(http.StatusOK, "text/plain; charset=utf-8", fmt.Appendf(nil, "Contact: %s\nExpires: %s\nPreferred-Languages: en\nCanonical: %s\n",
		contact, expires.Format(time.RFC3339), h.Origin(c)+h.Path(route.SecurityText)))
}
