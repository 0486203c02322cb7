package web

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/a-h/templ"
	"github.com/gin-gonic/gin"

	"latchkey/models"
	"latchkey/views"
)

// Page responds with a page.
func (s *Site) Page(c *gin.Context, status int, component templ.Component) {
	s.SetPageHeaders(c.Writer.Header())
	render(c, status, component)
}

// PageElsewhere responds with a page that a proxy shows on another host. Use PageDataElsewhere for it.
func (s *Site) PageElsewhere(c *gin.Context, status int, component templ.Component) {
	s.SetPageHeaders(c.Writer.Header())
	c.Header("Content-Security-Policy", fmt.Sprintf("default-src 'none'; style-src %[1]s; img-src %[1]s; "+
		"base-uri 'none'; frame-ancestors 'none'; form-action 'none'", s.Origin(c)))
	render(c, status, component)
}

func render(c *gin.Context, status int, component templ.Component) {
	c.Header("Content-Type", "text/html; charset=utf-8")
	c.Status(status)
	// The page may be about a request that has run out of time, which templ would show by an empty one.
	if err := component.Render(context.WithoutCancel(c.Request.Context()), c.Writer); err != nil {
		// The client has disconnected, or will notice that the page is incomplete.
		_ = c.Error(fmt.Errorf("write the page: %w", err))
		c.Abort()
	}
}

// SeeOther redirects to exactly that URL: http.Redirect would clean the path, and what looks like one in a
// fragment.
func SeeOther(c *gin.Context, to string) {
	c.Header("Location", to)
	c.Status(http.StatusSeeOther)
}

// PersonalPage is PageData for a page that the browser leaves when its session ends.
func (s *Site) PersonalPage(session *models.Session) views.Page {
	p := s.page
	p.Session = session.ID.String()
	return p
}

// PageData returns what every page shows.
func (s *Site) PageData() views.Page {
	return s.page
}

// PageDataElsewhere is PageData for another host, where our paths may be the app's. It has no script:
// browsers wouldn't load it cross-origin.
func (s *Site) PageDataElsewhere(c *gin.Context) views.Page {
	p, origin := s.PageData(), s.Origin(c)
	p.Icon, p.TouchIcon, p.Script = origin+p.Icon, origin+p.TouchIcon, ""
	if p.Logo != "" {
		p.Logo = origin + p.Logo
	}
	p.Links = slices.Clone(p.Links)
	for i, link := range p.Links {
		if strings.HasPrefix(link.URL, "/") {
			p.Links[i].URL = origin + link.URL
		}
	}
	p.Styles = slices.Clone(p.Styles)
	for i := range p.Styles {
		p.Styles[i] = origin + p.Styles[i]
	}
	return p
}
