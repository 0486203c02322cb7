package app_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/stretchr/testify/require"

	"latchkey/app/audit"
	"latchkey/models"
	"latchkey/test/kit"
)

const eventsDoc = "docs/events.md"

// securityEvents returns the lines of the log that are security events.
func (s *site) securityEvents() (lines []string) {
	for line := range strings.Lines(s.logged()) {
		if strings.Contains(line, `"msg":"security event"`) {
			lines = append(lines, line)
		}
	}
	return lines
}

// summary is a line with the parts that differ from run to run left out or replaced.
func summary(t *testing.T, line string, known map[string]string) string {
	var e map[string]string
	require.NoError(t, json.Unmarshal([]byte(line), &e))
	require.Equal(t, "INFO", e["level"])
	words := []string{e["event"], e["outcome"]}
	for _, name := range []string{"identity", "session", "reason", "by", "client"} {
		if e[name] != "" {
			value := e[name]
			if known[value] != "" {
				value = known[value]
			} else if _, err := uuid.FromString(value); err == nil {
				value = "another"
			}
			words = append(words, name+"="+value)
		}
	}
	if e["client"] != "" {
		require.NotEmpty(t, e["request"])
		require.NotEmpty(t, e["network"])
	}
	return strings.Join(words, " ")
}

func TestEachSecurityEventIsALineOfTheLog(t *testing.T) {
	site := newSite(t, behindProxy, open)
	ada, bob := site.register("ada@example.com").ID, site.register("bob@example.com").ID
	dan := site.register("dan@example.com").ID
	require.NoError(t, site.store.Identities.Disable(t.Context(), dan))
	home := from("2001:db8::7")
	v := site.visitor()
	v.tryLogin("ada@example.com", "wrong password", home)
	v.tryLogin("nobody@example.com", goodPassword, home)
	v.tryLogin("dan@example.com", goodPassword, home)
	require.Equal(t, http.StatusOK, v.submitLogin("bob@example.com", goodPassword, home).status)
	first := v.get("/auth/sessions/whoami").text("id")
	require.Equal(t, http.StatusOK, v.submitLogin("ada@example.com", goodPassword, home).status) // in the same browser
	second := v.get("/auth/sessions/whoami").text("id")
	site.apiToken("ada@example.com")
	site.clock.advance(stale)
	page := v.postForm("/auth/account/sessions/end", nil, home)
	v.confirms(page, "wrong password")
	require.Equal(t, http.StatusSeeOther, v.confirms(page, goodPassword).status)
	v.postForm("/auth/account/password", url.Values{"password": {"wrong password"}, "new_password": {"another good one"}}, home)
	require.Equal(t, http.StatusSeeOther, v.postForm("/auth/account/password", url.Values{"password": {goodPassword}, "new_password": {"another good one"}}, home).status)
	v.get(v.logoutURL(), asPage, home)
	eve := site.visitor()
	flow := eve.get("/auth/self-service/registration/api")
	for range 2 {
		eve.postJSON(flow.text("ui.action"), map[string]any{"method": "password", "traits": map[string]string{"email": "eve@example.com", "name": "Eve Adams"}, "password": goodPassword}, home)
	}
	eve.lockOut("eve@example.com", from("203.0.113.7"))
	site.stop()

	known := map[string]string{ada.String(): "ada", bob.String(): "bob", dan.String(): "dan", first: "first", second: "second"}
	var got []string
	lines := site.securityEvents()
	for _, line := range lines {
		got = append(got, summary(t, line, known))
	}
	home6 := " client=2001:db8::7"
	require.Equal(t, []string{
		"sign_in wrong identity=ada" + home6,
		"sign_in wrong" + home6,
		"sign_in disabled identity=dan" + home6,
		"sign_in ok identity=bob session=first" + home6,
		"session_ended ok identity=bob session=first reason=new_login by=person" + home6,
		"sign_in ok identity=ada session=second" + home6,
		"sign_in ok identity=ada session=another client=127.0.0.1",
		"confirmation wrong identity=ada session=second client=127.0.0.1",
		"confirmation ok identity=ada session=second client=127.0.0.1",
		"session_ended ok identity=ada session=another reason=ended_elsewhere by=person client=127.0.0.1",
		"password_changed wrong identity=ada session=second" + home6,
		"password_changed ok identity=ada session=second" + home6,
		"sign_out ok identity=ada session=second" + home6,
		"registration ok identity=another session=another" + home6,
		"registration taken" + home6,
	}, got[:15])
	require.Equal(t, strings.Repeat("sign_in wrong identity=another client=203.0.113.7\n", 6)+"sign_in throttled identity=another client=203.0.113.7", strings.Join(got[15:], "\n"))
	require.Contains(t, lines[0], `"network":"2001:db8::/64"`)
	all := site.log.String()
	for _, secret := range []string{"@example.com", "Adams", goodPassword, "wrong password", "another good one", v.cookie("latchkey_device")} {
		require.NotContains(t, all, secret)
	}
}

func TestSecurityEventsOfCommandsAndOfTimeAreLogged(t *testing.T) {
	site := newSite(t)
	ada := site.signUp("ada@example.com")
	person := uuid.Must(uuid.FromString(ada.get("/auth/sessions/whoami").text("identity.id")))
	at := site.clock.Now()
	require.NoError(t, audit.Store(t.Context(), site.store.SecurityEvents,
		audit.Entry{Event: audit.OperatorAct, Outcome: audit.OK, Identity: person, Command: "user disable", UID: "1000"}))
	site.clock.advance(100 * 24 * time.Hour)
	eventually(t, func() bool {
		var left int
		return site.db.Raw("SELECT count(*) FROM security_events").Scan(&left).Error == nil && left == 0 &&
			site.db.Raw("SELECT count(*) FROM sessions WHERE ended_at IS NULL").Scan(&left).Error == nil && left == 0
	}, "nothing was logged")
	site.stop()

	lines := strings.Join(site.securityEvents(), "")
	require.Contains(t, lines, fmt.Sprintf(`"event":"operator_act","outcome":"ok","identity":"%s","command":"user disable","uid":"1000","at":"%s"}`, person, at.Format(time.RFC3339)))
	require.Regexp(t, `"event":"session_ended","outcome":"ok","identity":"`+person.String()+`","session":"[^"]+","reason":"expired","by":"system"}`, lines)
}

func TestSecurityEventsOfCommandsWaitForALogThatHasThem(t *testing.T) {
	site := newSite(t)
	site.stop()
	var written bytes.Buffer
	at := func(level slog.Level) audit.Log {
		return audit.New(slog.New(slog.NewJSONHandler(&written, &slog.HandlerOptions{Level: level})))
	}
	usual, quiet := at(slog.LevelInfo), at(slog.LevelWarn)
	events, before := site.store.SecurityEvents, site.clock.Now().Add(time.Second)
	store := func() {
		require.NoError(t, audit.Store(t.Context(), events, audit.Entry{Event: audit.OperatorAct, Outcome: audit.OK, Command: "key rotate"}))
	}
	prune := func(log audit.Log, before time.Time) int {
		n, err := log.Prune(t.Context(), events, before, 10)
		require.NoError(t, err)
		return n
	}

	store()
	require.NoError(t, quiet.Relay(t.Context(), events))
	require.Zero(t, prune(quiet, site.clock.Now()), "it is too new")
	require.Zero(t, prune(usual, before), "it is about to be written")
	require.NoError(t, usual.Relay(t.Context(), events))
	require.Equal(t, 1, strings.Count(written.String(), `"command":"key rotate"`))

	store()
	require.Equal(t, 1, prune(quiet, before), "nobody wants it")
	require.NoError(t, usual.Relay(t.Context(), events))
	require.Equal(t, 1, strings.Count(written.String(), `"command":"key rotate"`))
}

func TestFail2banFindsWhoFailsAndNobodyElse(t *testing.T) {
	site := newSite(t, behindProxy)
	site.register("ada@example.com")
	v := site.visitor()
	forged := `{"msg":"security event","event":"sign_in","outcome":"wrong","client":"192.0.2.66"}`
	v.tryLogin(forged, goodPassword, from("203.0.113.7"))
	v.tryLogin("ada@example.com", forged, from("2001:db8::7"))
	v.tryLogin("ada@example.com", goodPassword, from("198.51.100.1"))
	v.get("/auth/"+url.PathEscape(forged), asPage, from("198.51.100.2"), with("User-Agent", forged), with("X-Request-Id", forged))
	log := site.logged()
	filter := codeIn(t, eventsDoc, "ini", "failregex")
	expression := regexp.MustCompile(`(?m)^failregex = (.*)$`).FindStringSubmatch(filter)[1]

	var found []string
	for _, match := range regexp.MustCompile(strings.ReplaceAll(expression, "<ADDR>", "([0-9a-f:.]+)")).FindAllStringSubmatch(log, -1) {
		found = append(found, match[1])
	}
	require.Equal(t, []string{"203.0.113.7", "2001:db8::7"}, found)

	program := kit.NeedProgram(t, "fail2ban-regex", "fail2ban")
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "latchkey.conf"), []byte(filter), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "latchkey.log"), []byte(log), 0o600))
	cmd := exec.CommandContext(t.Context(), program, "--out", "ip", filepath.Join(dir, "latchkey.log"), filepath.Join(dir, "latchkey.conf"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	require.Equal(t, []string{"203.0.113.7", "2001:db8::7"}, strings.Fields(string(out)))
}

// The documented table has each event, and each reason of an end.
func TestSecurityEventsAreDocumented(t *testing.T) {
	page := readDoc(t, eventsDoc)
	for _, event := range []audit.Event{audit.SignIn, audit.SignOut, audit.SessionEnded, audit.Confirmation, audit.PasswordChanged, audit.Registration, audit.OperatorAct} {
		require.Contains(t, page, "| `"+string(event)+"` |")
	}
	for _, reason := range models.Reasons() {
		if reason != models.EndedByLogout {
			require.Contains(t, page, "`"+string(reason)+"`")
		}
	}
}
