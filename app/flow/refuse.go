package flow

import (
	"cmp"
	"errors"
	"maps"
	"net/http"

	"github.com/gin-gonic/gin"

	"latchkey/app/web"
)

// Refuse answers a flow that did not succeed: with the flow as JSON, or with a redirect to its page, where its messages
// are shown. err is a problem outside of the form; nil if the flow's own messages say what is wrong.
func (s *Flows) Refuse(c *gin.Context, kind Kind, f *Flow, err error) {
	asPage := web.PrefersHTML(c.Request) && !f.API
	if err == nil && !asPage {
		c.PureJSON(http.StatusBadRequest, s.json(c, kind, f))
		return
	}
	if err != nil {
		p := s.Explain(c, err)
		if !asPage {
			s.refuseClient(c, kind, f, p)
			return
		}
		if p.Code == http.StatusInternalServerError {
			s.Fail(c, p)
			return
		}
		if errors.Is(p, errUnknown) || errors.Is(p, web.ErrOtherBrowser) {
			if elsewhere := s.Misplaced(c.Request); elsewhere != nil {
				s.Fail(c, elsewhere)
				return
			}
			p = p.Telling("Your browser didn't send this page's cookie. Submit the form again; " +
				"if that doesn't help, allow cookies for this site.")
		}
		web.SetRetryAfter(c, p)
		f.Complain("", Invalid(p.Words()))
	}
	// The page's form is a fresh flow, to be sure that the next try can work.
	if err := s.issue(c, f); err != nil {
		s.Fail(c, err)
		return
	}
	web.SeeOther(c, s.pageURL(kind, f))
}

// refuseClient answers a JSON client. Client libraries can show a flow with a message, but not most other responses to
// a submission.
func (s *Flows) refuseClient(c *gin.Context, kind Kind, f *Flow, p *web.Problem) {
	switch {
	case f.id == "":
	case p.Code == http.StatusBadRequest, p.Code == http.StatusTooManyRequests, errors.Is(p, web.ErrBusy):
		web.SetRetryAfter(c, p)
		f.Complain("", Invalid(cmp.Or(p.Visitor, p.Reason)))
		c.PureJSON(http.StatusBadRequest, s.json(c, kind, f))
		return
	}
	s.Respond(c, p, nil)
}

// replace issues a new flow in place of an expired one, and returns errExpired with its id.
func (s *Flows) replace(c *gin.Context, kind Kind, old *Flow) error {
	fresh := *old
	at := old.IssuedAt.Add(lifetime)
	fresh.Values, fresh.Messages = maps.Clone(old.Values), map[string][]Text{"": {expired(kind, at)}}
	if err := s.issue(c, &fresh); err != nil {
		return err
	}
	p := *errExpired
	p.Flow = &web.ReplacedFlow{UseFlowID: fresh.id, ExpiredAt: at, Since: max(0, s.Now().Sub(at))}
	p.Details = map[string]any{"redirect_to": s.Origin(c) + s.begin(kind, &fresh)}
	return &p
}
