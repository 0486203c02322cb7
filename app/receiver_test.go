package app_test

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"latchkey/app/backchannel"
	"latchkey/test/kit"
)

const receiverDoc = "docs/back-channel-logout.md"

// documentedReceiver is the receiver of the document, run by Node.js, with three sessions
// of its own: Ada's laptop and phone, and Bob's tablet.
type documentedReceiver struct {
	t      *testing.T
	issuer string // where the keys are
	url    string
	list   string // a URL that answers with the sessions
	keys   []backchannel.Key
	close  func() // the server of the keys
}

// beside imports the receiver as an app does, and lets the test look at its sessions.
const beside = `
import { createServer } from 'node:http'
import { once } from 'node:events'
import { server, sessions, startSession } from './signed-out.mjs'

startSession('laptop', { id: 'ada-1', identity: { id: 'ada' } })
startSession('phone', { id: 'ada-2', identity: { id: 'ada' } })
startSession('tablet', { id: 'bob-1', identity: { id: 'bob' } })
const list = createServer((_, response) => response.end(JSON.stringify([...sessions.keys()]))).listen(0, '127.0.0.1')
if (!list.listening) await once(list, 'listening')
if (!server.listening) await once(server, 'listening')
console.log(JSON.stringify([server.address().port, list.address().port]))
process.stdin.on('end', () => process.exit()).resume() // not to outlive the test
`

func startReceiver(t *testing.T) *documentedReceiver {
	t.Helper()
	kit.NeedProgram(t, "node", "nodejs")
	modules, err := filepath.Abs("testdata/node_modules")
	require.NoError(t, err)
	_, err = os.Stat(filepath.Join(modules, "jose"))
	kit.Need(t, err == nil, "npm packages: npm ci --prefix app/testdata")

	r := &documentedReceiver{t: t, keys: []backchannel.Key{newSigningKey(t), newSigningKey(t)}}
	document, err := backchannel.JWKS(r.keys)
	require.NoError(t, err)
	latchkey := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != "/auth/.well-known/jwks.json" {
			http.NotFound(w, req)
			return
		}
		w.Header().Set("Content-Type", "application/jwk-set+json")
		_, _ = w.Write(document)
	}))
	t.Cleanup(latchkey.Close)
	r.issuer, r.close = latchkey.URL, latchkey.Close

	dir := t.TempDir()
	code := adapt(t, codeIn(t, receiverDoc, "js", "jwtVerify"),
		"https://login.example.com", r.issuer, ".listen(3000)", ".listen(0, '127.0.0.1')")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "signed-out.mjs"), []byte(code), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "beside.mjs"), []byte(beside), 0o600))
	require.NoError(t, os.Symlink(modules, filepath.Join(dir, "node_modules")))
	r.run(dir)
	return r
}

func newSigningKey(t *testing.T) backchannel.Key {
	t.Helper()
	key, _, err := backchannel.NewKey(backchannel.ES256)
	require.NoError(t, err)
	return key
}

func (r *documentedReceiver) run(dir string) {
	r.t.Helper()
	node := exec.Command("node", "beside.mjs")
	node.Dir = dir
	node.Stderr = r.t.Output()
	stdin, err := node.StdinPipe()
	require.NoError(r.t, err)
	stdout, err := node.StdoutPipe()
	require.NoError(r.t, err)
	require.NoError(r.t, node.Start())
	r.t.Cleanup(func() {
		stdin.Close()
		_ = node.Process.Kill()
		_ = node.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	require.NoError(r.t, err, "node ended")
	var ports []json.Number
	require.NoError(r.t, json.Unmarshal(line, &ports))
	r.url = "http://127.0.0.1:" + ports[0].String() + "/signed-out"
	r.list = "http://127.0.0.1:" + ports[1].String()
}

// told is a token of now about a session of Ada.
func (r *documentedReceiver) told() backchannel.Token {
	now := time.Now()
	return backchannel.Token{Issuer: r.issuer, Audience: "notes", ID: rand.Text(),
		Subject: "ada", Session: "ada-1", IssuedAt: now, ExpiresAt: now.Add(2 * time.Minute)}
}

// sign signs the token as changed.
func (r *documentedReceiver) sign(key backchannel.Key, change func(*backchannel.Token)) string {
	r.t.Helper()
	told := r.told()
	change(&told)
	signed, err := key.Sign(told)
	require.NoError(r.t, err)
	return signed
}

// forge signs what our own package never would, with the right key.
func (r *documentedReceiver) forge(change func(header map[string]any, claims jwt.MapClaims)) string {
	r.t.Helper()
	told := r.told()
	forged := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"iss": told.Issuer, "aud": told.Audience, "jti": told.ID, "sub": told.Subject, "sid": told.Session,
		"iat": told.IssuedAt.Unix(), "exp": told.ExpiresAt.Unix(),
		"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
	})
	forged.Header["typ"], forged.Header["kid"] = "logout+jwt", r.keys[0].ID
	change(forged.Header, forged.Claims.(jwt.MapClaims))
	signed, err := forged.SignedString(r.keys[0].Private)
	require.NoError(r.t, err)
	return signed
}

// post returns the status and the body of the receiver's answer.
func (r *documentedReceiver) post(contentType, body string) (int, string) {
	r.t.Helper()
	res, err := http.Post(r.url, contentType, strings.NewReader(body))
	require.NoError(r.t, err)
	defer res.Body.Close()
	said, err := io.ReadAll(res.Body)
	require.NoError(r.t, err)
	require.Equal(r.t, "no-store", res.Header.Get("Cache-Control"))
	return res.StatusCode, string(said)
}

func (r *documentedReceiver) tell(token string) (int, string) {
	r.t.Helper()
	return r.post("application/x-www-form-urlencoded", url.Values{"logout_token": {token}}.Encode())
}

func (r *documentedReceiver) requireSessions(want ...string) {
	r.t.Helper()
	res, err := http.Get(r.list)
	require.NoError(r.t, err)
	defer res.Body.Close()
	var have []string
	require.NoError(r.t, json.NewDecoder(res.Body).Decode(&have))
	require.Equal(r.t, want, have)
}

func asItIs(*backchannel.Token) {}

func TestDocumentedReceiverEndsWhatItIsToldOf(t *testing.T) {
	r := startReceiver(t)
	for _, step := range []struct {
		name   string
		key    backchannel.Key
		change func(*backchannel.Token)
		left   []string
	}{
		{"a session of another person", r.keys[0], func(t *backchannel.Token) { t.Subject = "eve" }, []string{"laptop", "phone", "tablet"}},
		{"a session it doesn't know", r.keys[0], func(t *backchannel.Token) { t.Session = "ada-9" }, []string{"laptop", "phone", "tablet"}},
		{"a session and its person", r.keys[0], asItIs, []string{"phone", "tablet"}},
		{"the same by another token", r.keys[0], asItIs, []string{"phone", "tablet"}},
		{"a session, by the other key", r.keys[1], func(t *backchannel.Token) { t.Subject, t.Session = "", "bob-1" }, []string{"phone"}},
		{"all of a person", r.keys[1], func(t *backchannel.Token) { t.Session = "" }, []string{}},
	} {
		status, body := r.tell(r.sign(step.key, step.change))

		require.Equal(t, http.StatusOK, status, "%s: %s", step.name, body)
		require.Empty(t, body)
		r.requireSessions(step.left...)
	}
}

func TestDocumentedReceiverTakesWhatTheSenderSends(t *testing.T) {
	r := startReceiver(t)
	sender := backchannel.NewSender(false)

	require.Eventually(t, func() bool {
		return sender.Send(t.Context(), r.url, r.sign(r.keys[0], asItIs)).Outcome == backchannel.Delivered
	}, 30*time.Second, 10*time.Millisecond)

	r.requireSessions("phone", "tablet")
	require.Eventually(t, func() bool {
		other := func(t *backchannel.Token) { t.Audience = "mail" }
		return sender.Send(t.Context(), r.url, r.sign(r.keys[0], other)) == backchannel.Result{
			Status: 400, Outcome: backchannel.Refused, Note: "400 Bad Request: invalid_request: unexpected 'aud' claim value"}
	}, 30*time.Second, 10*time.Millisecond)
}

func TestDocumentedReceiverRefusesWhatIsWrong(t *testing.T) {
	r := startReceiver(t)
	stranger, ago := newSigningKey(t), func(d time.Duration) func(*backchannel.Token) {
		return func(t *backchannel.Token) {
			t.IssuedAt = t.IssuedAt.Add(-d)
			t.ExpiresAt = t.IssuedAt.Add(2 * time.Minute)
		}
	}
	good := r.sign(r.keys[0], func(t *backchannel.Token) { t.Subject = "eve" })
	status, _ := r.tell(good)
	require.Equal(t, http.StatusOK, status)
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"logout+jwt"}`)) + "." + strings.Split(good, ".")[1] + "."
	claim := func(name string, value any) string {
		return r.forge(func(_ map[string]any, claims jwt.MapClaims) { claims[name] = value })
	}
	without := func(name string) string {
		return r.forge(func(_ map[string]any, claims jwt.MapClaims) { delete(claims, name) })
	}
	header := func(name string, value any) string {
		return r.forge(func(header map[string]any, _ jwt.MapClaims) { header[name] = value })
	}

	for name, token := range map[string]string{
		"a replay":                     good,
		"another app's":                r.sign(r.keys[0], func(t *backchannel.Token) { t.Audience = "mail" }),
		"another issuer's":             r.sign(r.keys[0], func(t *backchannel.Token) { t.Issuer = "https://evil.example" }),
		"expired":                      r.sign(r.keys[0], ago(10*time.Minute)),
		"of tomorrow":                  r.sign(r.keys[0], ago(-24*time.Hour)),
		"old, and good for long":       r.sign(r.keys[0], func(t *backchannel.Token) { t.IssuedAt = t.IssuedAt.Add(-time.Hour) }),
		"another key's":                r.sign(backchannel.Key{ID: r.keys[0].ID, Private: stranger.Private}, asItIs),
		"signed by nobody":             unsigned,
		"changed":                      strings.Replace(r.sign(r.keys[0], asItIs), ".", ".e", 1),
		"with a nonce":                 claim("nonce", "n"),
		"with an empty nonce":          claim("nonce", nil),
		"without events":               without("events"),
		"with no events":               claim("events", map[string]any{}),
		"with another event":           claim("events", map[string]any{"http://schemas.example/other": map[string]any{}}),
		"with an event of no object":   claim("events", map[string]any{"http://schemas.openid.net/event/backchannel-logout": []any{}}),
		"with null for events":         claim("events", nil),
		"an ID token":                  header("typ", "JWT"),
		"of no type":                   header("typ", nil),
		"without iat":                  without("iat"),
		"without exp":                  without("exp"),
		"without jti":                  without("jti"),
		"without iss":                  without("iss"),
		"without aud":                  without("aud"),
		"with an empty jti":            claim("jti", ""),
		"with a number for jti":        claim("jti", 7),
		"with a list for sub":          claim("sub", []string{"ada"}),
		"with null for sid":            claim("sid", nil),
		"about nobody":                 r.forge(func(_ map[string]any, c jwt.MapClaims) { delete(c, "sub"); delete(c, "sid") }),
		"with a header to understand":  r.forge(func(h map[string]any, _ jwt.MapClaims) { h["crit"] = []string{"x"}; h["x"] = 1 }),
		"no token":                     "a.b.c",
		"empty":                        "",
		"the good one and a space":     good + " ",
		"the good one with three dots": good + ".",
	} {
		status, body := r.tell(token)

		require.Equal(t, http.StatusBadRequest, status, "%s: %s", name, body)
		var why map[string]string
		require.NoError(t, json.Unmarshal([]byte(body), &why), name)
		require.Equal(t, "invalid_request", why["error"])
		require.Regexp(t, `^[ !#-\[\]-~]+$`, why["error_description"], "RFC 6749 §5.2")
	}
	r.requireSessions("laptop", "phone", "tablet")
}

func TestDocumentedReceiverWantsOneForm(t *testing.T) {
	r := startReceiver(t)
	token := r.sign(r.keys[0], asItIs)
	for name, post := range map[string][2]string{
		"JSON":       {"application/json", `{"logout_token": "` + token + `"}`},
		"no type":    {"", "logout_token=" + token},
		"no token":   {"application/x-www-form-urlencoded", "token=" + token},
		"two tokens": {"application/x-www-form-urlencoded", "logout_token=" + token + "&logout_token=" + token},
		"too much":   {"application/x-www-form-urlencoded", "logout_token=" + token + "&x=" + strings.Repeat("x", 16384)},
	} {
		status, _ := r.post(post[0], post[1])
		require.Equal(t, http.StatusBadRequest, status, name)
	}
	for at, want := range map[string]int{r.url: http.StatusMethodNotAllowed, r.url + "?logout_token=" + token: http.StatusNotFound} {
		res, err := http.Get(at)
		require.NoError(t, err)
		res.Body.Close()
		require.Equal(t, want, res.StatusCode)
	}
	r.requireSessions("laptop", "phone", "tablet")
}

func TestDocumentedReceiverAsksAgainWhenItLacksTheKey(t *testing.T) {
	r := startReceiver(t)

	status, _ := r.tell(r.sign(newSigningKey(t), asItIs))

	require.Equal(t, http.StatusServiceUnavailable, status, "it may be one that was made a moment ago")
	r.requireSessions("laptop", "phone", "tablet")
}

func TestDocumentedReceiverAsksAgainWhenItCannotGetTheKeys(t *testing.T) {
	r := startReceiver(t)
	r.close()

	status, _ := r.tell(r.sign(r.keys[0], asItIs))

	require.Equal(t, http.StatusServiceUnavailable, status)
	r.requireSessions("laptop", "phone", "tablet")
}

func TestDocumentedTokenIsLikeTheRealOne(t *testing.T) {
	var shown, real map[string]any
	require.NoError(t, json.Unmarshal([]byte(codeIn(t, receiverDoc, "json", `"sid"`)), &shown))
	signed, err := newSigningKey(t).Sign((&documentedReceiver{issuer: "https://login.example.com"}).told())
	require.NoError(t, err)
	claims, err := base64.RawURLEncoding.DecodeString(strings.Split(signed, ".")[1])
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(claims, &real))

	require.Equal(t, slices.Sorted(maps.Keys(real)), slices.Sorted(maps.Keys(shown)))
	for _, name := range []string{"iss", "aud", "events"} {
		require.Equal(t, real[name], shown[name])
	}
	require.InDelta(t, 120, shown["exp"].(float64)-shown["iat"].(float64), 0)
	for name := range shown {
		require.Regexp(t, "(?m)^\\| [^|]*`"+name+"`", readDoc(t, receiverDoc), "no line about it")
	}
}
