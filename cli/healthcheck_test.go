package cli

import (
	"testing"

	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

func TestHealthcheck(t *testing.T) {
	m := kit.NewMachine(t)
	port := kit.FreePort(t)
	m.Env = append(m.Env, "LISTEN=", "PORT="+port)
	require.Contains(t, m.Refuse("", "healthcheck"), "not ready")
	s := m.Start()
	require.Equal(t, "ready\n", m.Do("", "healthcheck"))
	s.Stop()
	require.Contains(t, m.Refuse("", "healthcheck"), "not ready")
}

func TestHealthcheckOfAFailingDatabase(t *testing.T) {
	m := kit.NewMachine(t)
	m.Env = append(m.Env, "LISTEN=", "PORT="+kit.FreePort(t))
	m.Start()
	require.NoError(t, openDatabase(t, m).Query(t.Context()).Migrator().DropTable("identities"))
	require.Contains(t, m.Refuse("", "healthcheck"), "503 Service Unavailable")
}

func TestCommandsAtAnotherBasePath(t *testing.T) {
	for given, base := range map[string]string{"/": "", "/id": "/id", "": "/auth"} {
		m := kit.NewMachine(t)
		m.Env = append(m.Env, "LISTEN=", "PORT="+kit.FreePort(t), "BASE_PATH="+given)
		s := m.Start()
		require.Contains(t, s.Setup, s.URL+base+"/registration?setup=", "an empty variable counts as unset")
		require.Equal(t, "ready\n", m.Do("", "healthcheck"))
		require.Contains(t, m.Run("", "check").Stdout, "ready at "+s.URL) // the tests' PostgreSQL has a fault
		s.Stop()
	}
}
