package cli

import (
	"bufio"
	"encoding/json"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"latchkey/app/audit"
	"latchkey/test/kit"
)

func TestCommandsThatChangeSomethingAreRecorded(t *testing.T) {
	var c commands
	var recorded []string
	require.NoError(t, kong.Visit(newParser(&c).Model, func(node kong.Visitable, next kong.Next) error {
		if command, ok := node.(*kong.Command); ok && command.Leaf() {
			name, _, _ := strings.Cut(command.Path(), " <")
			name = strings.TrimPrefix(name, "latchkey ")
			if isRecorded(name) {
				recorded = append(recorded, name)
			}
		}
		return next(nil)
	}))
	require.ElementsMatch(t, []string{"user add", "user disable", "user enable", "user delete", "user password", "user username", "user name", "user address",
		"user group add", "user group remove", "session end", "app add", "app remove", "app test", "app retry", "key rotate"}, recorded)
}

func TestServerLogsWhatCommandsHaveDone(t *testing.T) {
	m := kit.NewMachine(t)
	m.AddUser("ada@example.com") // before any server runs
	s := m.Start()
	s.SignIn("ada@example.com")
	m.Do("", "user", "list")
	m.Do("", "user", "username", "ada@example.com", "ada")
	m.Do("", "user", "disable", "ada@example.com")
	m.Refuse("", "user", "disable", "nobody@example.com")
	m.Do("", "app", "add", "wiki", "https://wiki.example.com/logout")
	m.Do("", "key", "rotate")

	var events []map[string]string
	s.Await("the last command", func() bool {
		events = nil
		for lines := bufio.NewScanner(strings.NewReader(s.Log())); lines.Scan(); {
			var e map[string]any
			if json.Unmarshal(lines.Bytes(), &e) == nil && e["msg"] == audit.Message && e["event"] != string(audit.SignIn) {
				event := map[string]string{}
				for name, value := range e {
					event[name], _ = value.(string)
				}
				events = append(events, event)
			}
		}
		return len(events) > 0 && events[len(events)-1]["command"] == "key rotate"
	})
	ada := events[0]["identity"]
	require.NotEmpty(t, ada)
	var got []string
	for _, e := range events {
		require.NotEmpty(t, e["at"])
		who := strings.ReplaceAll(e["identity"], ada, "ada")
		got = append(got, strings.Join([]string{e["event"], e["outcome"], e["command"] + e["reason"], e["by"] + e["app"], who}, " "))
		if e["event"] == string(audit.OperatorAct) {
			require.Regexp(t, `^\d+$`, e["uid"])
		}
	}
	require.Equal(t, []string{
		"operator_act ok user add  ada", "operator_act ok user username  ada", "session_ended ok disabled operator ada",
		"operator_act ok user disable  ada", "operator_act failed user disable  ", "operator_act ok app add wiki ", "operator_act ok key rotate  ",
	}, got)
	require.NotContains(t, s.Log(), "@example.com")
}
