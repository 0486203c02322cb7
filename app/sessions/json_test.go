package sessions

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/stretchr/testify/require"
)

func FuzzSessionJSON(f *testing.F) {
	f.Add("ada@example.com", "Ada <Lovelace> & Söhne", "Mozilla/5.0 \"x\" \\ \x00\x7f\xff\u2028", true, int64(1795000000_000000), []byte("0123456789abcdef"))
	f.Add("", "", "", false, int64(0), []byte{})
	f.Add("a", "b", "c", false, int64(1<<62), []byte{1})
	f.Fuzz(func(t *testing.T, email, name, agent string, active bool, micro int64, raw []byte) {
		var id uuid.UUID
		copy(id[:], raw)
		at := func(days int) time.Time { return time.UnixMicro(micro).UTC().AddDate(0, 0, days) }
		session := Session{
			ID: id, Active: active, IssuedAt: at(0), AuthenticatedAt: at(1), ExpiresAt: at(2), AuthenticatorLevel: name,
			AuthenticationMethods: []methodJSON{{email, name, at(3)}, {agent, email, at(4)}},
			Devices:               []deviceJSON{{id, email, agent, name}, {id, name, email, agent}},
			Identity: identityJSON{
				ID: id, SchemaID: agent, SchemaURL: email, State: name, StateChangedAt: at(5), Traits: traitsJSON{email, agent, name},
				VerifiableAddresses: []struct{}{}, RecoveryAddresses: []struct{}{}, CreatedAt: at(6), UpdatedAt: at(7),
			},
		}
		want, failure := json.Marshal(session)
		got, err := session.appendTo(nil)
		if failure != nil {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		require.Equal(t, string(want), string(got))
	})
}
