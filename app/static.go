package app

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"path"
	"strings"

	"github.com/gin-gonic/gin"

	"latchkey/static"
)

// assets are the files that pages refer to. Each has a hash of its content in its name, so that a
// browser may keep it for ever.
type assets struct {
	files  map[string]file // by what follows /auth/static/
	styles []string        // the URLs, in the order in which they apply
	docs   string          // the style that only the documentation has
	script string
	// session is the script that keeps a page true, for our own pages.
	session string
	icon    string
	logo    string // "" for none
}

type file struct {
	contentType string
	body        []byte
	gzipped     []byte // nil where it would not be smaller
}

func newAssets(s settings) (assets, error) {
	a := assets{files: map[string]file{}}
	for _, name := range []string{"pico.css", "latchkey.css", "docs.css", "session.js", "latchkey.js", "icon.svg"} {
		body, err := static.Files.ReadFile(name)
		if err != nil {
			return a, fmt.Errorf("read an asset: %w", err)
		}
		url, err := a.add(name, body)
		if err != nil {
			return a, err
		}
		switch {
		case name == "docs.css":
			a.docs = url
		case name == "session.js":
			a.session = url
		case path.Ext(name) == ".js":
			a.script = url
		case path.Ext(name) == ".svg":
			a.icon = url
		default:
			a.styles = append(a.styles, url)
		}
	}
	if s.SiteAccent != "" {
		url, err := a.add("accent.css", accentCSS(s.SiteAccent))
		if err != nil {
			return a, err
		}
		a.styles = append(a.styles, url)
	}
	if s.logo != nil {
		url, err := a.add("logo"+strings.ToLower(path.Ext(s.SiteLogo)), s.logo)
		if err != nil {
			return a, err
		}
		a.logo = url
	}
	return a, nil
}

// add registers a file and returns its URL.
func (a *assets) add(name string, body []byte) (string, error) {
	ext := path.Ext(name)
	f, err := newFile(contentTypes[ext], body)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	sum := sha256.Sum256(body)
	name = strings.TrimSuffix(name, ext) + "." + hex.EncodeToString(sum[:6]) + ext
	a.files[name] = f
	return "/auth/static/" + name, nil
}

func newFile(contentType string, body []byte) (file, error) {
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err == nil {
		_, err = w.Write(body)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return file{}, fmt.Errorf("compress: %w", err)
	}
	f := file{contentType: contentType, body: body}
	if packed.Len() < len(body) {
		f.gzipped = packed.Bytes()
	}
	return f, nil
}

// contentTypes do not depend on what the machine has in /etc.
var contentTypes = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
	".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}

// asset answers GET /auth/static/*name.
func (a *App) asset(c *gin.Context) {
	f, ok := a.assets.files[strings.TrimPrefix(c.Param("name"), "/")]
	if !ok {
		a.fail(c, errNotFound)
		return
	}
	c.Header("Cache-Control", "public, max-age=31536000, immutable")
	c.Header("Cross-Origin-Resource-Policy", "same-site")
	f.send(c)
}

// sessionScript answers GET /auth/session.js: the same file as for our own pages, at an address that
// an app can write into its pages.
func (a *App) sessionScript(c *gin.Context) {
	name := strings.TrimPrefix(a.assets.session, "/auth/static/")
	tag := `"` + strings.Split(name, ".")[1] + `"` // the hash
	c.Header("Cache-Control", "public, max-age=300")
	c.Header("ETag", tag)
	// There is nothing in it to keep from anybody, and to Chromium two ports of 127.0.0.1 are not the
	// same site.
	c.Header("Cross-Origin-Resource-Policy", "cross-origin")
	if matchesTag(c.Request, tag) {
		c.Header("Vary", "Accept-Encoding")
		c.Status(http.StatusNotModified)
		return
	}
	a.assets.files[name].send(c)
}

// matchesTag reports whether the client has the version with that tag: RFC 9110 §13.1.2.
func matchesTag(r *http.Request, tag string) bool {
	for known := range strings.SplitSeq(strings.Join(r.Header.Values("If-None-Match"), ","), ",") {
		known = strings.TrimPrefix(strings.TrimSpace(known), "W/") // a proxy that compresses weakens it
		if known == tag || known == "*" {
			return true
		}
	}
	return false
}

// send answers with the file.
func (f file) send(c *gin.Context) {
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
