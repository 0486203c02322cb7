package cli

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

func TestOnlyTheSetupLinkMakesTheFirstAccount(t *testing.T) {
	m := kit.NewMachine(t)
	s := m.Start()
	require.Regexp(t, `^http://localhost:\d+$`, s.URL)
	require.Regexp(t, `^`+s.URL+`/auth/registration\?setup=[A-Z2-7]{26}$`, s.Setup)

	require.Equal(t, http.StatusForbidden, s.Register("stranger@example.com", "").Status)
	require.Equal(t, http.StatusForbidden, s.Register("stranger@example.com", s.URL+"/auth/registration?setup="+strings.Repeat("A", 26)).Status)

	require.Equal(t, http.StatusOK, s.Register("ada@example.com", s.Setup).Status)

	require.Equal(t, http.StatusForbidden, s.Register("stranger@example.com", s.Setup).Status, "it has been used")
	require.NotContains(t, s.Log(), s.Setup[len(s.Setup)-26:])
	s.Stop()
	require.Empty(t, m.Start().Setup, "there is an account")
	require.Equal(t, 1, strings.Count(m.Do("", "user", "list"), "@"))
}

func TestSetupLinkIsTheSameOnEveryInstanceAndForOneAccount(t *testing.T) {
	m := kit.NewMachine(t)
	first, second := m.Start(), m.Start()
	_, token, _ := strings.Cut(first.Setup, "?setup=")
	require.Equal(t, second.URL+"/auth/registration?setup="+token, second.Setup)
	second.Stop()
	second = m.Start()
	require.Contains(t, second.Setup, token, "a restart changes nothing")

	require.Equal(t, http.StatusOK, second.Register("ada@example.com", first.Setup).Status)
	require.Equal(t, http.StatusForbidden, first.Register("stranger@example.com", first.Setup).Status)

	m.Do("", "user", "delete", "ada@example.com")
	require.Equal(t, http.StatusForbidden, first.Register("stranger@example.com", first.Setup).Status, "it has known an account")
	first.Stop()
	require.NotContains(t, m.Start().Setup, token, "another link for another first account")
}

func TestSetupLinkDiesWithAnAccountMadeElsewhere(t *testing.T) {
	m := kit.NewMachine(t)
	s := m.Start()
	m.AddUser("ada@example.com")

	require.Equal(t, http.StatusForbidden, s.Register("stranger@example.com", s.Setup).Status)
}

func TestSetupLinkOpenedTwiceAtOnceMakesOneAccount(t *testing.T) {
	m := kit.NewMachine(t)
	s := m.Start()
	statuses := make([]int, 8)
	var all sync.WaitGroup
	for i := range statuses {
		all.Go(func() { statuses[i] = s.Register(fmt.Sprintf("person%d@example.com", i), s.Setup).Status })
	}
	all.Wait()

	won := 0
	for _, status := range statuses {
		if status == http.StatusOK {
			won++
			continue
		}
		require.Equal(t, http.StatusForbidden, status)
	}
	require.Equal(t, 1, won)
	require.Equal(t, 1, strings.Count(m.Do("", "user", "list"), "@"))
}

func TestOpenRegistrationNeedsNoLink(t *testing.T) {
	m := kit.NewMachine(t)
	s := m.Start("--registration=open")
	require.Empty(t, s.Setup)
	require.Equal(t, http.StatusOK, s.Register("ada@example.com", "").Status)
	require.Equal(t, http.StatusOK, s.Register("bob@example.com", "").Status)
}
