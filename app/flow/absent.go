package flow

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"latchkey/app/route"
	"latchkey/app/web"
)

// errAbsent has a status that doesn't make client libraries start the flow again.
var errAbsent = &web.Problem{Code: http.StatusBadRequest, ID: web.FlowDisabled, Title: "This isn’t available here",
	Visitor: "You can’t do this yourself here. Ask your administrator.",
	Reason:  "Latchkey has no settings, recovery or verification flows. People change what they can on the account page, and administrators with the command 'latchkey user'."}

// Absent answers requests for Kratos flows that don't exist here. It redirects browsers from the settings flow to the
// account page.
func (s *Flows) Absent(c *gin.Context) {
	if c.FullPath() == s.Path(route.SettingsBrowser) && web.PrefersHTML(c.Request) {
		web.SeeOther(c, s.Path(route.Account))
		return
	}
	p := *errAbsent
	if c.Request.Method != http.MethodPost && web.PrefersHTML(c.Request) && !s.JSONOnly(c.Request.URL.Path) {
		p.Code = http.StatusNotFound
	}
	s.Fail(c, &p)
}
