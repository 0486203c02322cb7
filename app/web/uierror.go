package web

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"latchkey/app/route"
)

// flowError is an error that the operator's own page shows, as the client libraries know it. It is not stored
// anywhere: its id is the error itself, sealed.
type flowError struct {
	ID        string    `json:"id"`
	Error     errorBody `json:"error"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// sealedError is the content of the id of a flowError.
type sealedError struct {
	Error errorBody `json:"e"`
	At    time.Time `json:"t"`
}

// purposeError is what a sealedError is sealed for.
const purposeError = "error"

// stubError is the id of a made-up error for trying out a page, as in Kratos.
const stubError = "stub:500"

// errorPage returns where the operator's own page shows a problem, "" if ours does: there is none, the
// request isn't about a flow, a second try may help, or the request's host isn't one to be trusted.
func (s *Site) errorPage(c *gin.Context, p *Problem) string {
	r := s.route(c)
	if s.ErrorUI == nil || r == nil || !strings.HasPrefix(r.Path, route.SelfService) || p.Code == http.StatusMisdirectedRequest || s.retryURI(c, p) != "" {
		return ""
	}
	raw, err := json.Marshal(sealedError{At: s.Now().UTC().Truncate(time.Second), Error: errorBody{
		Code: p.Code, Status: http.StatusText(p.Code), Request: RequestID(c), ID: p.ID, Message: p.title(), Reason: p.Words()}})
	if err != nil {
		return ""
	}
	return s.ErrorUI.With("id", s.Seal(purposeError, raw))
}

// FlowError answers GET /auth/self-service/errors?id=ID with an error for the operator's own page.
func (s *Site) FlowError(c *gin.Context) {
	query, err := s.Query(c)
	if err != nil {
		s.Fail(c, err)
		return
	}
	id := query.Get("id")
	if id == "" {
		s.Fail(c, ErrBadRequest.Because("The query must contain the id of an error."))
		return
	}
	found := sealedError{At: s.Now().UTC().Truncate(time.Second), Error: errorBody{Code: http.StatusInternalServerError, Request: RequestID(c),
		Status: http.StatusText(http.StatusInternalServerError), Message: "This is a stub error.", Reason: "Use it to try out an error page."}}
	if id != stubError {
		raw, err := s.Open(purposeError, id)
		if err != nil || json.Unmarshal(raw, &found) != nil {
			s.Fail(c, ErrNotFound.Because("There is no such error."))
			return
		}
	}
	c.PureJSON(http.StatusOK, flowError{ID: id, Error: found.Error, CreatedAt: found.At, UpdatedAt: found.At})
}
