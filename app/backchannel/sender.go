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
	sendTimeout    = 10 * time.Second // in total
	connectTimeout = 3 * time.Second  // with the DNS lookup
	tlsTimeout     = 5 * time.Second
	bodyTimeout    = 2 * time.Second

	maxHeader = 16 << 10 // bytes read of a response
	maxBody   = 4 << 10
	maxNote   = 200 // characters
)

// An Outcome is the outcome of sending a token.
type Outcome string

const (
	Delivered Outcome = "delivered" // the app accepted it: any 2xx
	Refused   Outcome = "refused"   // the app rejected it with 400: don't try again
	Failed    Outcome = "failed"    // anything else: try again later
)

// A Result is the result of one attempt to send a token.
type Result struct {
	Status  int // of the response, or 0 if there was none
	Outcome Outcome
	// Note says what happened, for the delivery log: one printable line of at most
	// 200 characters. It contains no part of the token.
	Note string
}

// A Sender posts logout tokens to apps. It is safe for concurrent use, and a slow
// app only delays what is sent to it.
type Sender struct {
	transport     http.RoundTripper
	timeout, body time.Duration
}

// NewSender returns a Sender. With publicOnly it only connects to public addresses:
// somebody who registers an app can't use it to reach this machine or its network.
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
			// A response of a few bytes could decompress to millions.
			DisableCompression: true,
			// The next post fails on an idle connection that the app has closed, and a
			// post must not be retried silently.
			DisableKeepAlives: true,
		},
	}
}

// Send posts the token to the URL (§2.5). It follows no redirects, uses no proxy, reads
// at most 4 KiB of a response, and returns within ten seconds,
// or when ctx is done.
func (s *Sender) Send(ctx context.Context, url, token string) Result {
	if err := CheckURL(url); err != nil {
		return Result{Outcome: Failed, Note: clean(err.Error(), token)}
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	req, err := newRequest(ctx, url, token)
	if err != nil {
		return Result{Outcome: Failed, Note: "no request can be made for the URL"}
	}
	res, err := s.transport.RoundTrip(req)
	if err != nil {
		return Result{Outcome: Failed, Note: clean(reason(err), token)}
	}
	defer res.Body.Close()
	// The status decides, even if the body never ends.
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

// resultOf returns the result of a response (§2.8). It only reads the body of a 400.
func resultOf(res *http.Response, token string) Result {
	// Not res.Status: its text comes from the app, and can be anything.
	status := strings.TrimSpace(fmt.Sprintf("%d %s", res.StatusCode, http.StatusText(res.StatusCode)))
	r := Result{Status: res.StatusCode, Outcome: Failed, Note: status}
	switch {
	case res.StatusCode >= 200 && res.StatusCode <= 299:
		r.Outcome = Delivered
	case res.StatusCode >= 300 && res.StatusCode <= 399:
		r.Note = status + ": redirects aren't followed, so register the URL that it leads to"
	case res.StatusCode == http.StatusBadRequest:
		r.Outcome = Refused
		body, _ := io.ReadAll(io.LimitReader(res.Body, maxBody)) // as much as could be read
		r.Note = refusal(status, body, token)
	}
	return r
}

// refusal returns the note for a 400 whose body may contain the reason: RFC 6749 §5.2.
func refusal(note string, body []byte, token string) string {
	var why struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if json.Unmarshal(body, &why) != nil {
		return note
	}
	for _, text := range []string{why.Error, why.Description} {
		if text = printable(text); text != "" {
			note += ": " + text
		}
	}
	return clean(note, token)
}

// reason says why there was no response.
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
		return "the host doesn't use TLS on that port: the URL may have to begin with http://"
	}
	return strings.TrimPrefix(err.Error(), "net/http: HTTP/1.x transport connection broken: ")
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &timeout) && timeout.Timeout()
}

// clean makes text, which may come from the app, safe for a line of a log.
func clean(text, token string) string {
	text = without(printable(text), token)
	if runes := []rune(text); len(runes) > maxNote {
		text = strings.TrimRight(string(runes[:maxNote-1]), " ") + "…"
	}
	return text
}

// printable replaces runs of invisible characters by one space: control characters, line
// breaks, direction marks, bytes that aren't UTF-8.
func printable(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool {
		return !unicode.IsPrint(r) || unicode.IsSpace(r) || r == unicode.ReplacementChar
	}), " ")
}

// tokenPart is how many consecutive bytes count as a part of the token.
const tokenPart = 16

// without replaces the words that contain the token or a part of it.
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
