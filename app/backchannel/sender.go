package backchannel

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode"
)

const (
	sendTimeout    = 10 * time.Second // for all of it
	connectTimeout = 3 * time.Second  // with the look-up of the name
	tlsTimeout     = 5 * time.Second
	bodyTimeout    = 2 * time.Second

	maxHeader = 16 << 10 // bytes of an answer that are read
	maxBody   = 4 << 10
	maxNote   = 200 // characters
)

// An Outcome is what has become of a token that was sent.
type Outcome string

const (
	Delivered Outcome = "delivered" // the app took it: any 2xx
	Refused   Outcome = "refused"   // the app said that it is of no use: 400, so sending it again is as well
	Failed    Outcome = "failed"    // anything else: try again later
)

// A Result is what came of sending a token once.
type Result struct {
	Status  int // of the answer, or 0 if there was none
	Outcome Outcome
	// Note says what happened, for the delivery log and a person who looks for the
	// reason: one printable line of 200 characters at most. It has nothing of the token.
	Note string
}

// A Sender posts logout tokens to apps. It is safe for concurrent use, and an app
// that is slow delays nothing but what is sent to it.
type Sender struct {
	transport     http.RoundTripper
	timeout, body time.Duration
}

// NewSender returns a Sender. With publicOnly it connects to public addresses alone:
// whoever registers an app can't use it to reach this machine, or others near it.
func NewSender(publicOnly bool) *Sender {
	dialer := &net.Dialer{Timeout: connectTimeout}
	if publicOnly {
		dialer.Control = dialPublic
	}
	return &Sender{
		timeout: sendTimeout,
		body:    bodyTimeout,
		transport: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSHandshakeTimeout:    tlsTimeout,
			MaxResponseHeaderBytes: maxHeader,
			// Else an answer of a few bytes could unpack to millions.
			DisableCompression: true,
			// A kept connection that the app has closed meanwhile fails the post that
			// comes next, and a post must not be repeated unseen.
			DisableKeepAlives: true,
		},
	}
}

// Send posts the token to the URL as the standard says (§2.5). It follows no redirect,
// uses no proxy, reads no more than 4 KiB of an answer, and returns within ten seconds,
// or when ctx is done.
func (s *Sender) Send(ctx context.Context, url, token string) Result {
	if err := CheckURL(url); err != nil {
		return Result{Outcome: Failed, Note: note(err.Error(), token)}
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	req, err := newRequest(ctx, url, token)
	if err != nil {
		return Result{Outcome: Failed, Note: "no request can be made for the URL"}
	}
	res, err := s.transport.RoundTrip(req)
	if err != nil {
		return Result{Outcome: Failed, Note: note(reason(err), token)}
	}
	defer res.Body.Close()
	// What the answer's status says holds, even if its body never ends.
	defer time.AfterFunc(s.body, cancel).Stop()
	return resultOf(res, token)
}

func newRequest(ctx context.Context, to, token string) (*http.Request, error) {
	form := url.Values{"logout_token": {token}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(form))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "Latchkey")
	return req, nil
}

// resultOf judges an answer (§2.8). It reads the body of a 400 alone.
func resultOf(res *http.Response, token string) Result {
	// The text that came with the status is the app's, and can be anything.
	said := strings.TrimSpace(fmt.Sprintf("%d %s", res.StatusCode, http.StatusText(res.StatusCode)))
	r := Result{Status: res.StatusCode, Outcome: Failed, Note: said}
	switch {
	case res.StatusCode >= 200 && res.StatusCode <= 299:
		r.Outcome = Delivered
	case res.StatusCode >= 300 && res.StatusCode <= 399:
		r.Note = said + ": redirects are not followed, so register the URL that it leads to"
	case res.StatusCode == http.StatusBadRequest:
		r.Outcome = Refused
		body, _ := io.ReadAll(io.LimitReader(res.Body, maxBody)) // what came of it will do
		r.Note = refusal(said, body, token)
	}
	return r
}

// refusal is the note for a 400 with this body, in which the app may say why:
// RFC 6749 §5.2.
func refusal(said string, body []byte, token string) string {
	var why struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if json.Unmarshal(body, &why) != nil {
		return said
	}
	for _, text := range []string{why.Error, why.Description} {
		if text = printable(text); text != "" {
			said += ": " + text
		}
	}
	return note(said, token)
}

// reason says why there was no answer.
func reason(err error) string {
	var refused notPublic
	var dns *net.DNSError
	var plain tls.RecordHeaderError
	switch {
	case errors.As(err, &refused):
		return refused.Error()
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case errors.As(err, &dns):
		return "the host's name can't be looked up: " + dns.Err
	case isTimeout(err):
		return "no answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "the connection was closed before an answer"
	case errors.As(err, &plain):
		return "the host speaks no TLS at that port: it may be one for http://"
	}
	return strings.TrimPrefix(err.Error(), "net/http: HTTP/1.x transport connection broken: ")
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &timeout) && timeout.Timeout()
}

// note makes text, which may be the app's, fit for a line of a log.
func note(text, token string) string {
	text = without(printable(text), token)
	if runes := []rune(text); len(runes) > maxNote {
		text = strings.TrimRight(string(runes[:maxNote-1]), " ") + "…"
	}
	return text
}

// printable puts one space for all that has no shape of its own: control characters,
// line breaks, marks of direction, bytes that aren't UTF-8.
func printable(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool {
		return !unicode.IsPrint(r) || unicode.IsSpace(r) || r == unicode.ReplacementChar
	}), " ")
}

// tokenPart is how much of a token in a row makes it one.
const tokenPart = 16

// without leaves out the words in which the app repeats the token, or a part of it.
func without(text, token string) string {
	words := strings.Split(text, " ")
	for i, word := range words {
		for at := 0; at+tokenPart <= len(word); at++ {
			if strings.Contains(token, word[at:at+tokenPart]) {
				words[i] = "[token]"
				break
			}
		}
	}
	return strings.Join(words, " ")
}
