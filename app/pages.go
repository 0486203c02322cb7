package app

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"

	"github.com/a-h/templ"
	"github.com/gin-gonic/gin"

	"latchkey/models"
	"latchkey/views"
)

// page answers with a page.
func (a *App) page(c *gin.Context, status int, component templ.Component) {
	a.pageHeaders(c.Writer.Header())
	render(c, status, component)
}

// pageElsewhere answers with a page that a proxy shows on another host, from pageDataElsewhere.
func (a *App) pageElsewhere(c *gin.Context, status int, component templ.Component) {
	a.pageHeaders(c.Writer.Header())
	c.Header("Content-Security-Policy", fmt.Sprintf("default-src 'none'; style-src %[1]s; img-src %[1]s; "+
		"base-uri 'none'; frame-ancestors 'none'; form-action 'none'", a.origin(c)))
	render(c, status, component)
}

func render(c *gin.Context, status int, component templ.Component) {
	c.Header("Content-Type", "text/html; charset=utf-8")
	c.Status(status)
	if err := component.Render(c.Request.Context(), c.Writer); err != nil {
		// The reader has gone, or will see that the page is not whole.
		_ = c.Error(fmt.Errorf("write the page: %w", err))
		c.Abort()
	}
}

// seeOther sends the browser to that very place: http.Redirect would tidy up the path, and what
// looks like one in a fragment.
func seeOther(c *gin.Context, to string) {
	c.Header("Location", to)
	c.Status(http.StatusSeeOther)
}

// personalPage is pageData for a page that is to be left when its session ends.
func (a *App) personalPage(session *models.Session) views.Page {
	p := a.pageData()
	p.Session = session.ID.String()
	return p
}

// pageData is what every page shows.
func (a *App) pageData() views.Page {
	return views.Page{SiteName: a.SiteName, Logo: a.assets.logo, Icon: a.assets.icon, Styles: a.assets.styles, Script: a.assets.script, SessionScript: a.assets.session}
}

// pageDataElsewhere is pageData for another host, where our paths may be the app's. It has no script:
// browsers do not take one from there.
func (a *App) pageDataElsewhere(c *gin.Context) views.Page {
	p, origin := a.pageData(), a.origin(c)
	p.Icon, p.Script = origin+p.Icon, ""
	if p.Logo != "" {
		p.Logo = origin + p.Logo
	}
	p.Styles = slices.Clone(p.Styles)
	for i := range p.Styles {
		p.Styles[i] = origin + p.Styles[i]
	}
	return p
}

func encode64(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }

// decode64 returns nil for what encode64 can't have made: whoever reads on will refuse that.
func decode64(text string) []byte {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || encode64(raw) != text { // the decoder skips line breaks
		return nil
	}
	return raw
}
