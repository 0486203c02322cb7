package kit

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/stretchr/testify/require"
)

// Client is what all requests of this package are sent with.
var Client = &http.Client{Transport: transport()}

func transport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 16 // as many as a test has clients
	return t
}

// Answer is what came back from a server.
type Answer struct {
	Status int
	Header http.Header
	Body   string
	Err    error // if nothing came back
}

// Text returns the string at a path of names in the JSON body, "" if there is none.
func (a Answer) Text(path ...string) string {
	var value any
	if json.Unmarshal([]byte(a.Body), &value) != nil {
		return ""
	}
	for _, name := range path {
		object, _ := value.(map[string]any)
		value = object[name]
	}
	text, _ := value.(string)
	return text
}

// Do sends a request.
func Do(req *http.Request) Answer {
	res, err := Client.Do(req)
	if err != nil {
		return Answer{Err: err}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return Answer{Status: res.StatusCode, Header: res.Header, Body: string(body), Err: err}
}

// The methods that return an Answer don't fail the test, and are safe for concurrent use.

// Get sends a GET request for a path or URL, with a session token unless that is "".
func (s *Server) Get(target, token string) Answer {
	return s.Send(s.t.Context(), http.MethodGet, target, token, nil)
}

// Send sends a request with a JSON body, or none if that is nil.
func (s *Server) Send(ctx context.Context, method, target, token string, body any) Answer {
	if strings.HasPrefix(target, "/") {
		target = s.URL + target
	}
	var encoded bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&encoded).Encode(body); err != nil {
			return Answer{Err: err}
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, target, &encoded)
	if err != nil {
		return Answer{Err: err}
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("X-Session-Token", token)
	}
	return Do(req)
}

var origin = regexp.MustCompile(`^http://[^/]+`)

// GetWithCookie sends a GET request with the token as the session cookie, or none if that is "". The target is a path; of a
// URL, which may be another instance's, the origin is replaced by the server's.
func (s *Server) GetWithCookie(target, token string) Answer {
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.URL+origin.ReplaceAllString(target, ""), nil)
	if err != nil {
		return Answer{Err: err}
	}
	req.Header.Set("Accept", "application/json")
	if token != "" {
		req.AddCookie(&http.Cookie{Name: "latchkey_session", Value: token})
	}
	return Do(req)
}

// Register creates an account with GoodPassword; setup is a setup link or "".
func (s *Server) Register(address, setup string) Answer {
	query := url.Values{}
	if u, err := url.Parse(setup); err == nil && setup != "" {
		query = u.Query()
	}
	flow := s.Get("/auth/self-service/registration/api?"+query.Encode(), "")
	if flow.Status != http.StatusOK {
		return flow
	}
	return s.Send(s.t.Context(), http.MethodPost, flow.Text("ui", "action"), "",
		map[string]string{"method": "password", "traits.email": address, "password": GoodPassword})
}

// Login signs in by the API.
func (s *Server) Login(address, password string) Answer {
	flow := s.Get("/auth/self-service/login/api", "")
	if flow.Status != http.StatusOK {
		return flow
	}
	return s.Send(s.t.Context(), http.MethodPost, flow.Text("ui", "action"), "",
		map[string]string{"method": "password", "identifier": address, "password": password})
}

// Logout ends the session of a token.
func (s *Server) Logout(token string) Answer {
	return s.Send(s.t.Context(), http.MethodDelete, "/auth/self-service/logout/api", "", map[string]string{"session_token": token})
}

// Whoami returns the status of whoami for a session token.
func (s *Server) Whoami(token string) int { return s.Get("/auth/sessions/whoami", token).Status }

// SignIn signs in with GoodPassword, which must work, and returns the session token.
func (s *Server) SignIn(address string) string {
	s.t.Helper()
	a := s.Login(address, GoodPassword)
	require.Equal(s.t, http.StatusOK, a.Status, "%s %v", a.Body, a.Err)
	return a.Text("session_token")
}
