package backchannel

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// aToken has the shape and length of a real one.
var aToken = strings.Repeat("eyJhbGciOiJFUzI1NiIsImtpZCI6IlR3bWNQ", 5) + "." +
	strings.Repeat("eyJpc3MiOiJodHRwczovL2xvZ2luLmV4YW1w", 9) + "." + strings.Repeat("Q3mT-x_0aZ9kLw7v", 5)

// patient is a Sender that a busy machine can't make give up.
func patient() *Sender {
	s := NewSender(false)
	s.timeout, s.body = time.Minute, time.Minute
	transport := s.transport.(*http.Transport)
	transport.DialContext, transport.TLSHandshakeTimeout = new(net.Dialer).DialContext, 0
	return s
}

// receiver is an app that is told by HTTP.
func receiver(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return server.URL + "/told"
}

// raw is an app that speaks to the connection itself, once a whole request has come,
// until the test is over.
func raw(t *testing.T, answer func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var open sync.WaitGroup
	t.Cleanup(open.Wait)
	t.Cleanup(func() { listener.Close() })
	open.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer conn.Close()
				req, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				if _, err := io.Copy(io.Discard, req.Body); err == nil {
					answer(conn)
				}
			})
		}
	})
	return "http://" + listener.Addr().String() + "/told"
}

// untilClosed returns when the other side has gone.
func untilClosed(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

func TestTokenIsPostedAsAForm(t *testing.T) {
	var form, line string
	var header http.Header
	url := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		form, line, header = string(body), r.Method+" "+r.RequestURI+" "+strconv.FormatInt(r.ContentLength, 10), r.Header
	})

	result := patient().Send(t.Context(), url+"?tenant=7", "a.b-c_d+&=")

	require.Equal(t, Result{Status: 200, Outcome: Delivered, Note: "200 OK"}, result)
	require.Equal(t, "logout_token=a.b-c_d%2B%26%3D", form)
	require.Equal(t, "POST /told?tenant=7 "+strconv.Itoa(len(form)), line)
	require.Equal(t, "application/x-www-form-urlencoded", header.Get("Content-Type"))
	for _, name := range []string{"Accept-Encoding", "Cookie", "Authorization", "Referer"} {
		require.Empty(t, header.Values(name), name)
	}
}

func TestAnswersAreJudged(t *testing.T) {
	because := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, body)
		}
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		want   Result
	}{
		"200":               {status(200), Result{200, Delivered, "200 OK"}},
		"202":               {status(202), Result{202, Delivered, "202 Accepted"}},
		"204":               {status(204), Result{204, Delivered, "204 No Content"}},
		"401":               {status(401), Result{401, Failed, "401 Unauthorized"}},
		"404":               {status(404), Result{404, Failed, "404 Not Found"}},
		"429":               {status(429), Result{429, Failed, "429 Too Many Requests"}},
		"500":               {status(500), Result{500, Failed, "500 Internal Server Error"}},
		"503":               {status(503), Result{503, Failed, "503 Service Unavailable"}},
		"one of their own":  {status(799), Result{799, Failed, "799"}},
		"304 with no place": {status(304), Result{304, Failed, "304 Not Modified: redirects aren't followed, so register the URL that it leads to"}},
		"the standard's error": {because(`{"error": "invalid_request", "error_description": "The token has expired."}`),
			Result{400, Refused, "400 Bad Request: invalid_request: The token has expired."}},
		"an error without description": {because(`{"error": "invalid_request"}`), Result{400, Refused, "400 Bad Request: invalid_request"}},
		"a description alone":          {because(`{"error_description": "no"}`), Result{400, Refused, "400 Bad Request: no"}},
		"nothing":                      {because(``), Result{400, Refused, "400 Bad Request"}},
		"an error of another shape":    {because(`{"error": {"code": 7}}`), Result{400, Refused, "400 Bad Request"}},
		"a list":                       {because(`[{"error": "x"}]`), Result{400, Refused, "400 Bad Request"}},
		"null":                         {because(`null`), Result{400, Refused, "400 Bad Request"}},
		"HTML":                         {because(`<h1>Bad</h1><script>alert(1)</script>`), Result{400, Refused, "400 Bad Request"}},
		"garbage":                      {because("\x00\xff\x1b[2J\x7f\n"), Result{400, Refused, "400 Bad Request"}},
		"control characters": {because(`{"error": "a\u0000\u001b[31mb\r\n2026 INFO forged", "error_description": "\u202eevil\u2028\u0085 \ud800 x\t"}`),
			Result{400, Refused, "400 Bad Request: a [31mb 2026 INFO forged: evil x"}},
		"a long description": {because(`{"error_description": "` + strings.Repeat("ä", 1000) + `"}`),
			Result{400, Refused, "400 Bad Request: " + strings.Repeat("ä", 200-17-1) + "…"}},
		"one that is too long to read": {because(`{"error": "x", "error_description": "` + strings.Repeat("x", maxBody) + `"}`),
			Result{400, Refused, "400 Bad Request"}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.want, patient().Send(t.Context(), receiver(t, test.answer), aToken))
		})
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var contacted atomic.Int32
	elsewhere := receiver(t, func(http.ResponseWriter, *http.Request) { contacted.Add(1) })
	for _, to := range []string{elsewhere, "/told", "http://[", "", "file:///etc/passwd"} {
		for _, code := range []int{300, 301, 302, 303, 307, 308} {
			var asked atomic.Int32
			url := receiver(t, func(w http.ResponseWriter, _ *http.Request) {
				asked.Add(1)
				w.Header().Set("Location", to)
				w.WriteHeader(code)
			})

			result := patient().Send(t.Context(), url, aToken)

			require.Equal(t, code, result.Status)
			require.Equal(t, Failed, result.Outcome)
			require.Contains(t, result.Note, "redirects aren't followed")
			require.EqualValues(t, 1, asked.Load())
		}
	}
	require.Zero(t, contacted.Load())
}

func TestNoAnswerIsAFailure(t *testing.T) {
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nobody.Close()
	for name, test := range map[string]struct {
		url, note string
	}{
		"closed before an answer": {raw(t, func(net.Conn) {}), "the connection was closed before an answer"},
		"closed in the status":    {raw(t, func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 2") }), "malformed HTTP status"},
		"closed in the header":    {raw(t, func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-") }), "malformed MIME header"},
		"no HTTP":                 {raw(t, func(c net.Conn) { fmt.Fprint(c, "SSH-2.0-x\x1b[2J\r\n") }), "malformed HTTP"},
		"a header without end": {raw(t, func(c net.Conn) {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nX: ")
			_, _ = io.Copy(c, endless{})
		}), "header"},
		"nobody there":             {"http://" + nobody.Addr().String(), "connection refused"},
		"no address":               {"http://nowhere.onion/", "no suitable address"},
		"a URL that can't be":      {"ftp://a.example/", "the URL doesn't begin with https://"},
		"a secret in the URL":      {"https://ada:pw@a.example/", "the URL has a user name"},
		"HTTPS where there's HTTP": {strings.Replace(receiver(t, func(http.ResponseWriter, *http.Request) {}), "http:", "https:", 1), "the host doesn't use TLS on that port"},
	} {
		t.Run(name, func(t *testing.T) {
			result := patient().Send(t.Context(), test.url, aToken)

			require.Zero(t, result.Status)
			require.Equal(t, Failed, result.Outcome)
			require.Contains(t, result.Note, test.note)
			requireNote(t, result.Note, aToken)
		})
	}
}

func TestNameThatIsNotFound(t *testing.T) {
	nameless := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no name server")
	}}
	s := patient()
	s.transport.(*http.Transport).DialContext = (&net.Dialer{Resolver: nameless}).DialContext

	result := s.Send(t.Context(), "http://app.example/", aToken)

	require.Zero(t, result.Status)
	require.Equal(t, Failed, result.Outcome)
	require.Contains(t, result.Note, "the host's name can't be looked up: ")
}

// endless is a body that never ends.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

func TestUnknownCertificateIsNotTrusted(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was told") }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()

	result := patient().Send(t.Context(), server.URL, aToken)

	require.Zero(t, result.Status)
	require.Equal(t, Failed, result.Outcome)
	require.Contains(t, result.Note, "certificate signed by unknown authority")
}

func TestKnownCertificateIs(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	s := patient()
	s.transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}

	require.Equal(t, Delivered, s.Send(t.Context(), server.URL, aToken).Outcome)
}

func TestAppThatHangsIsGivenUp(t *testing.T) {
	s := patient()
	s.timeout = 300 * time.Millisecond
	silent := raw(t, untilClosed)
	require.Equal(t, Result{0, Failed, "no answer in time"}, s.Send(t.Context(), silent, aToken))

	s = patient()
	ctx, cancel := context.WithCancel(t.Context())
	stopped := raw(t, func(c net.Conn) { cancel(); untilClosed(c) })
	require.Equal(t, Result{0, Failed, "interrupted"}, s.Send(ctx, stopped, aToken))
}

func TestStatusHoldsWhateverBecomesOfTheBody(t *testing.T) {
	hangs := func(answer string) string {
		return raw(t, func(c net.Conn) { fmt.Fprint(c, answer); untilClosed(c) })
	}
	streams := func(answer string) string {
		return raw(t, func(c net.Conn) { fmt.Fprint(c, answer); _, _ = io.Copy(c, endless{}) })
	}
	ends := func(answer string) string { return raw(t, func(c net.Conn) { fmt.Fprint(c, answer) }) }
	s := patient()
	s.body = 100 * time.Millisecond
	for name, test := range map[string]struct {
		url  string
		want Result
	}{
		"taken, then it hangs":        {hangs("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n12"), Result{200, Delivered, "200 OK"}},
		"taken, then it streams":      {streams("HTTP/1.1 200 OK\r\n\r\n"), Result{200, Delivered, "200 OK"}},
		"taken, then it breaks":       {ends("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n12"), Result{200, Delivered, "200 OK"}},
		"refused, then it hangs":      {hangs("HTTP/1.1 400 No\r\nContent-Length: 99\r\n\r\n{"), Result{400, Refused, "400 Bad Request"}},
		"refused, then it streams":    {streams("HTTP/1.1 400 No\r\n\r\n"), Result{400, Refused, "400 Bad Request"}},
		"refused, and sent as a bomb": {ends("HTTP/1.1 400 No\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08"), Result{400, Refused, "400 Bad Request"}},
		"failed, then it streams":     {streams("HTTP/1.1 500 \x1b[2J\r\n\r\n"), Result{500, Failed, "500 Internal Server Error"}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.want, s.Send(t.Context(), test.url, aToken))
		})
	}
}

func TestSlowAppDelaysNoOther(t *testing.T) {
	s := patient()
	ctx, cancel := context.WithCancel(t.Context())
	const posts = 50
	var waiting sync.WaitGroup
	waiting.Add(posts)
	slow := raw(t, func(c net.Conn) { waiting.Done(); untilClosed(c) })
	quick := receiver(t, func(http.ResponseWriter, *http.Request) {})
	var sent sync.WaitGroup
	for range posts {
		sent.Go(func() { s.Send(ctx, slow, aToken) })
	}
	waiting.Wait()

	result := s.Send(t.Context(), quick, aToken)

	require.Equal(t, Delivered, result.Outcome, "while %d posts hang", posts)
	cancel()
	sent.Wait()
}

func TestConnectionsAreNotKept(t *testing.T) {
	gone := make(chan struct{}, 1)
	url := raw(t, func(c net.Conn) {
		fmt.Fprint(c, "HTTP/1.1 204 No Content\r\n\r\n")
		untilClosed(c)
		gone <- struct{}{}
	})

	require.Equal(t, Delivered, patient().Send(t.Context(), url, aToken).Outcome)

	<-gone
}

func TestPublicOnlyReachesNothingNearby(t *testing.T) {
	var contacted atomic.Int32
	url := receiver(t, func(http.ResponseWriter, *http.Request) { contacted.Add(1) })
	port := url[strings.LastIndexByte(url, ':'):]
	for host, address := range map[string]string{
		"127.0.0.1": "127.0.0.1", "localhost": "(127.0.0.1|::1)", "[::1]": "::1", "0.0.0.0": "(0.0.0.0|127.0.0.1)", "[::]": "(::|::1)",
		"10.0.0.1": "10.0.0.1", "169.254.169.254": "169.254.169.254", "[fd00::1]": "fd00::1", "[64:ff9b::7f00:1]": "64:ff9b::7f00:1",
	} {
		var result Result
		require.Eventually(t, func() bool { // a busy machine may first run out of time
			result = NewSender(true).Send(t.Context(), "http://"+host+port, aToken)
			return result.Note != "no answer in time"
		}, time.Minute, time.Millisecond)

		require.Zero(t, result.Status, host)
		require.Equal(t, Failed, result.Outcome, host)
		require.Regexp(t, `^`+address+` isn't a public address, and APPS_PUBLIC_ONLY is set$|address family not supported`, result.Note)
	}
	require.Zero(t, contacted.Load())
	require.Equal(t, Delivered, patient().Send(t.Context(), "http://localhost"+port, aToken).Outcome, "without publicOnly")
	require.EqualValues(t, 1, contacted.Load())
}

func TestNoProxyIsUsed(t *testing.T) {
	require.Nil(t, NewSender(true).transport.(*http.Transport).Proxy)
}

func TestTokenIsNotInTheNote(t *testing.T) {
	parts := strings.Split(aToken, ".")
	for name, echo := range map[string]string{
		"whole":          aToken,
		"quoted":         `cannot use "` + aToken + `"`,
		"a part":         "bad signature " + parts[2],
		"its beginning":  "got " + aToken[:40] + "...",
		"in a form":      "logout_token=" + aToken + "&x=y",
		"far at the end": strings.Repeat("x ", 90) + aToken,
	} {
		description, err := json.Marshal(map[string]string{"error": "invalid_request", "error_description": echo})
		require.NoError(t, err)
		url := receiver(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write(description)
		})

		result := patient().Send(t.Context(), url, aToken)

		require.Equal(t, Refused, result.Outcome, name)
		requireNote(t, result.Note, aToken)
		require.Contains(t, result.Note, "invalid_request: ", name)
	}
	url := raw(t, func(c net.Conn) { fmt.Fprint(c, aToken+"\r\n\r\n") })
	requireNote(t, patient().Send(t.Context(), url, aToken).Note, aToken)
}

// requireNote fails if the note is unfit for a line of a log.
func requireNote(t *testing.T, note, token string) {
	t.Helper()
	require.LessOrEqual(t, utf8.RuneCountInString(note), maxNote)
	require.True(t, utf8.ValidString(note))
	require.NotEmpty(t, note)
	for _, r := range note {
		require.True(t, unicode.IsPrint(r), "%q in %q", r, note)
	}
	for at := 0; at+tokenPart <= len(note); at++ {
		require.NotContains(t, token, note[at:at+tokenPart], "a part of the token in %q", note)
	}
}

func FuzzNote(f *testing.F) {
	f.Add([]byte(`{"error": "invalid_request", "error_description": "The token has expired."}`))
	f.Add([]byte(`{"error": "` + aToken + `"}`))
	f.Add([]byte("{\"error\": \"\x1b[2J\\u202e\\r\\n\xff\"}"))
	f.Add([]byte(`{"error": 1}`))
	f.Add([]byte("<html>"))
	f.Fuzz(func(t *testing.T, body []byte) {
		requireNote(t, refusal("400 Bad Request", body, aToken), aToken)
		requireNote(t, clean("x"+string(body), aToken), aToken)
	})
}
