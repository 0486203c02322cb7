// Package assets serves the files that pages refer to: style sheets, scripts, images.
package assets

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"path"
	"strings"

	"github.com/gin-gonic/gin"

	"latchkey/app/config"
	"latchkey/app/route"
	"latchkey/app/web"
	"latchkey/static"
	"latchkey/views"
)

// Files are the files that pages refer to. Each has a hash of its content in its name, so that
// browsers may cache it forever.
type Files struct {
	base       route.Base
	files      map[string]File // by name, with the hash
	page       views.Page      // with the files' URLs
	docs       string          // URL of the style sheet that only the documentation has
	docsScript string          // URL of the script that only the documentation has
	session    File            // session.js for the pages of apps
	tag        string          // its entity tag
}

// File is a file with its compressed form.
type File struct {
	contentType string
	body        []byte
	gzipped     []byte // nil if it wouldn't be smaller
}

// Load reads the embedded files, and creates those that depend on the settings.
func Load(s *config.Settings) (*Files, error) {
	f := &Files{base: s.BasePath, files: map[string]File{}, page: views.Page{Base: s.BasePath, SiteName: s.SiteName, Contact: views.Link(s.Contact)}}
	for _, link := range s.Links {
		f.page.Links = append(f.page.Links, views.Link(link))
	}
	for _, name := range []string{"pico.css", "latchkey.css", "docs.css", "docs.js", "session.js", "latchkey.js", "icon.svg"} {
		body, err := static.Files.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read an asset: %w", err)
		}
		if name == "session.js" {
			if err := f.addForApps(body, s.BaseOrigin); err != nil {
				return nil, err
			}
		}
		if name == "icon.svg" && s.SiteAccent != "" {
			body = recolour(body, s.SiteAccent)
		}
		if path.Ext(name) == ".js" {
			body = f.fillIn(body, "")
		}
		url, err := f.add(name, body)
		if err != nil {
			return nil, err
		}
		switch name {
		case "docs.css":
			f.docs = url
		case "docs.js":
			f.docsScript = url
		case "session.js":
			f.page.SessionScript = url
		case "latchkey.js":
			f.page.Script = url
		case "icon.svg":
			f.page.Icon = url
		default:
			f.page.Styles = append(f.page.Styles, url)
		}
	}
	if s.SiteAccent != "" {
		url, err := f.add("accent.css", accentCSS(s.SiteAccent))
		if err != nil {
			return nil, err
		}
		f.page.Styles = append(f.page.Styles, url)
	}
	icon, err := touchIcon(cmp.Or(s.SiteAccent, iconColour))
	if err != nil {
		return nil, fmt.Errorf("draw the icon: %w", err)
	}
	if f.page.TouchIcon, err = f.add("touch-icon.png", icon); err != nil {
		return nil, err
	}
	if s.Logo != nil {
		url, err := f.add("logo"+strings.ToLower(path.Ext(s.SiteLogo)), s.Logo)
		if err != nil {
			return nil, err
		}
		f.page.Logo, f.page.Icon = url, url
		if strings.EqualFold(path.Ext(s.SiteLogo), ".png") { // the only kind that all home screens take
			f.page.TouchIcon = url
		}
	}
	return f, nil
}

// scriptPaths are the routes that scripts use, by the placeholders for their paths.
var scriptPaths = map[string]*route.Route{
	"{{whoami}}": route.Whoami, "{{events}}": route.Events, "{{signed-out}}": route.SignedOut, "{{create-logout-url}}": route.CreateLogoutURL,
}

// fillIn replaces the placeholders in a script. Without an origin, the script uses that of its own URL.
func (f *Files) fillIn(script []byte, origin string) []byte {
	script = bytes.ReplaceAll(script, []byte("{{base-url}}"), []byte(origin))
	for name, r := range scriptPaths {
		script = bytes.ReplaceAll(script, []byte(name), []byte(f.base.Path(r)))
	}
	return script
}

// addForApps registers session.js for the pages of apps. It contains the origin, because a page's <base> element can
// change what the script takes for its own URL.
func (f *Files) addForApps(script []byte, origin string) error {
	body := f.fillIn(script, origin)
	file, err := NewFile(contentTypes[".js"], body)
	f.session, f.tag = file, `"`+hash(body)+`"`
	return err
}

// hash identifies a version of a file.
func hash(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:6])
}

// Page returns what every page shows, with the URLs of the files.
func (f *Files) Page() views.Page { return f.page }

// DocsScript returns the URL of the script that only the documentation has.
func (f *Files) DocsScript() string { return f.docsScript }

// DocsStyle returns the URL of the style sheet that only the documentation has.
func (f *Files) DocsStyle() string { return f.docs }

// add registers a file and returns its URL.
func (f *Files) add(name string, body []byte) (string, error) {
	ext := path.Ext(name)
	file, err := NewFile(contentTypes[ext], body)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	hashed := strings.TrimSuffix(name, ext) + "." + hash(body) + ext
	f.files[hashed] = file
	return f.base.Path(route.Static, hashed), nil
}

// NewFile compresses a file.
func NewFile(contentType string, body []byte) (File, error) {
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err == nil {
		_, err = w.Write(body)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return File{}, fmt.Errorf("compress: %w", err)
	}
	f := File{contentType: contentType, body: body}
	if packed.Len() < len(body) {
		f.gzipped = packed.Bytes()
	}
	return f, nil
}

// contentTypes is used rather than package mime, which depends on files in /etc.
var contentTypes = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
	".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}

// Handler serves the files.
type Handler struct {
	*web.Site
	files *Files
}

// New returns a Handler.
func New(site *web.Site, files *Files) *Handler { return &Handler{site, files} }

// Static answers GET /auth/static/*name.
func (h *Handler) Static(c *gin.Context) {
	f, ok := h.files.files[strings.TrimPrefix(c.Param("name"), "/")]
	if !ok {
		h.Fail(c, web.ErrNotFound)
		return
	}
	c.Header("Cache-Control", "public, max-age=31536000, immutable")
	c.Header("Cross-Origin-Resource-Policy", "same-site")
	f.Send(c)
}

// SessionScript answers GET /auth/session.js: session.js at a fixed URL, for the pages of apps.
func (h *Handler) SessionScript(c *gin.Context) {
	c.Header("Cache-Control", "public, max-age=300")
	c.Header("ETag", h.files.tag)
	// It contains no secrets, and Chromium doesn't treat two ports of 127.0.0.1 as the same site.
	c.Header("Cross-Origin-Resource-Policy", "cross-origin")
	if matchesTag(c.Request, h.files.tag) {
		c.Header("Vary", "Accept-Encoding")
		c.Status(http.StatusNotModified)
		return
	}
	h.files.session.Send(c)
}

// matchesTag reports whether the client has the version with that tag: RFC 9110 §13.1.2.
func matchesTag(r *http.Request, tag string) bool {
	for known := range strings.SplitSeq(strings.Join(r.Header.Values("If-None-Match"), ","), ",") {
		known = strings.TrimPrefix(strings.TrimSpace(known), "W/") // a compressing proxy makes it weak
		if known == tag || known == "*" {
			return true
		}
	}
	return false
}

// Send sends the file.
func (f File) Send(c *gin.Context) {
	h := c.Writer.Header()
	body := f.body
	if f.gzipped != nil {
		h.Add("Vary", "Accept-Encoding")
		if acceptsGzip(c.Request) {
			h.Set("Content-Encoding", "gzip")
			body = f.gzipped
		}
	}
	c.Data(http.StatusOK, f.contentType, body)
}

func acceptsGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		coding, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			return strings.Trim(strings.TrimPrefix(strings.TrimSpace(params), "q="), "0.") != "" || params == ""
		}
	}
	return false
}
