package web

import (
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"latchkey/app/returnto"
	"latchkey/app/route"
)

// Query returns the request's query, or a Problem if it can't be read. An empty value counts as absent, since
// clients send every parameter they know.
func (s *Site) Query(c *gin.Context) (url.Values, error) {
	if c.Request.URL.RawQuery == "" {
		return nil, nil
	}
	query, err := url.ParseQuery(c.Request.URL.RawQuery)
	if err != nil {
		return nil, ErrBadRequest.Because("The query string is invalid. Percent-encode it.")
	}
	for name, values := range query {
		if values = slices.DeleteFunc(values, func(value string) bool { return value == "" }); len(values) == 0 {
			delete(query, name)
		} else {
			query[name] = values
		}
	}
	return query, nil
}

// WithQuery returns the path of a route with the request's query.
func (s *Site) WithQuery(c *gin.Context, r *route.Route) string {
	if c.Request.URL.RawQuery == "" {
		return s.Path(r)
	}
	return s.Path(r) + "?" + c.Request.URL.RawQuery
}

// ReturnTo returns the request's return_to after checking it, "" if there is none.
func (s *Site) ReturnTo(c *gin.Context) (string, error) {
	query, err := s.Query(c)
	if err != nil {
		return "", err
	}
	raw, given := query["return_to"]
	if !given {
		return "", nil
	}
	if len(raw) > 1 {
		return "", ErrReturnTo.Because("return_to is given more than once. Give it once.")
	}
	return s.CheckReturnTo(c, raw[0])
}

// CheckReturnTo returns the normalized URL to redirect to, or a Problem if it isn't allowed.
func (s *Site) CheckReturnTo(c *gin.Context, raw string) (string, error) {
	target, err := s.Returns.Check(s.Origin(c), raw)
	var refused *returnto.Refused
	if errors.As(err, &refused) {
		return "", ErrReturnTo.Because("%s", refused.Reason)
	}
	return target, err
}

// StillAllowed returns a return_to that was checked before, "" if it is no longer allowed.
func (s *Site) StillAllowed(c *gin.Context, returnTo string) string {
	if returnTo == "" {
		return ""
	}
	target, err := s.CheckReturnTo(c, returnTo)
	if err != nil {
		return ""
	}
	return target
}

// Clip shortens untrusted text to at most n bytes, at a character boundary.
func Clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}
