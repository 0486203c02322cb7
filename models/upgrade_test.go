package models_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"

	"latchkey/app/password"
	"latchkey/db"
	"latchkey/models"
	"latchkey/test/kit"
)

// past is what a test needs to know of a database that an earlier version made: see
// testdata/upgrade/README.md.
type past struct {
	MadeAt      time.Time    `json:"made_at"`
	SigningKeys []string     `json:"signing_keys"` // the one that signs first
	SetupToken  string       `json:"setup_token"`  // of the other database, which has no account
	People      []pastPerson `json:"people"`
	Sessions    []struct {
		ID          uuid.UUID     `json:"id"`
		Person      uuid.UUID     `json:"person"`
		Token       string        `json:"token"`
		TokenBefore string        `json:"token_before"` // before the session was confirmed
		Remember    bool          `json:"remember"`
		Ended       models.Reason `json:"ended"`
		Unnoticed   bool          `json:"unnoticed"` // it expired while no server was running
	} `json:"sessions"`
}

type pastPerson struct {
	ID             uuid.UUID     `json:"id"`
	Typed          string        `json:"typed"`
	Address        string        `json:"address"` // in NFC
	Twin           bool          `json:"twin"`    // somebody else's address is the same in NFC
	Name           string        `json:"name"`
	Groups         models.Groups `json:"groups"`
	Password       string        `json:"password"`
	PasswordBefore string        `json:"password_before"`
	State          string        `json:"state"` // active, disabled or deleted
}

func (p past) person(id uuid.UUID) pastPerson {
	return p.People[slices.IndexFunc(p.People, func(who pastPerson) bool { return who.ID == id })]
}

const pastVersion = "202611220001"

// upgraded opens a copy of a database of an earlier version, at the time when that was made.
func upgraded(t *testing.T, name string) (*world, past) {
	t.Helper()
	source := filepath.Join("testdata", "upgrade", name)
	file := filepath.Join(t.TempDir(), "latchkey.db")
	dsn := kit.DatabaseURL(t, file)
	if kit.UsesPostgres() {
		dump, err := os.ReadFile(source + ".sql")
		require.NoError(t, err)
		conn, err := pgx.Connect(t.Context(), dsn)
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), string(dump))
		require.NoError(t, err)
		require.NoError(t, conn.Close(t.Context()))
	} else {
		database, err := os.ReadFile(source + ".db")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, database, 0o600))
	}
	facts, err := os.ReadFile(filepath.Join("testdata", "upgrade", pastVersion+".json"))
	require.NoError(t, err)
	var then past
	require.NoError(t, json.Unmarshal(facts, &then))

	w := newWorldOn(t, dsn)
	w.now = then.MadeAt
	return w, then
}

func TestUpgradeReachesTheNewestSchema(t *testing.T) {
	w, _ := upgraded(t, pastVersion)
	schema, err := db.SchemaOf(t.Context(), &w.database.Reader)
	require.NoError(t, err)
	require.Empty(t, schema.Missing)
	require.Empty(t, schema.Unknown)
	if !kit.UsesPostgres() {
		require.NoError(t, db.Verify(t.Context(), &w.database.Reader))
	}
}

func TestUpgradeSignsNobodyOut(t *testing.T) {
	w, then := upgraded(t, pastVersion)
	active := 0
	for _, was := range then.Sessions {
		who := then.person(was.Person)
		found, err := w.Sessions.ByToken(t.Context(), was.Token)
		if who.State == "deleted" {
			require.ErrorIs(t, err, models.ErrNotFound)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, was.ID, found.ID)
		require.Equal(t, who.ID, found.Identity.ID)
		require.Equal(t, was.Ended == "", found.Active(w.now), "the session of %s that ended by %q", who.Address, was.Ended)
		if was.TokenBefore != "" {
			require.True(t, found.ConfirmedAt.After(found.AuthenticatedAt))
			_, err := w.Sessions.ByToken(t.Context(), was.TokenBefore)
			require.ErrorIs(t, err, models.ErrNotFound)
		}
		if was.Ended != "" {
			if !was.Unnoticed {
				require.Equal(t, was.Ended, found.EndReason)
			}
			continue
		}
		active++
		require.Equal(t, who.Address, norm.NFC.String(found.Identity.Email))
		require.Equal(t, who.Name, found.Identity.Name)
		require.ElementsMatch(t, who.Groups, found.Identity.Groups)
		require.Equal(t, models.MethodPassword, found.Method)
		require.Equal(t, was.Remember, found.Remember)

		w.now = found.ExpiresAt.Add(-time.Second)
		require.True(t, w.active(found), "until its time is over")
		w.now = found.ExpiresAt
		require.False(t, w.active(found), "and no longer")
		w.now = then.MadeAt
	}
	require.Equal(t, 11, active)
	all, err := w.Sessions.AllActive(t.Context(), "")
	require.NoError(t, err)
	require.Len(t, all, active)
}

// Where two people have the same address in NFC, only one of them is found by it.
func TestUpgradeLeavesPeopleTheirAddressAndPassword(t *testing.T) {
	w, then := upgraded(t, pastVersion)
	hasher := password.NewHasher(password.Params{MemoryKiB: 64, Passes: 1})
	for _, who := range then.People {
		if who.Twin {
			continue
		}
		identity, err := w.Identities.ByEmail(t.Context(), who.Typed)
		if who.State == "deleted" {
			require.ErrorIs(t, err, models.ErrNotFound)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, who.ID, identity.ID)
		require.Equal(t, who.State == "active", identity.Active)
		credentials, err := w.Credentials.Of(t.Context(), identity.ID, models.MethodPassword)
		require.NoError(t, err)
		require.Len(t, credentials, 1)
		credential := credentials[0]
		hash := credential.Secret
		addresses, err := w.Identities.Addresses(t.Context(), identity.ID)
		require.NoError(t, err)
		require.Len(t, addresses, 1)
		require.Equal(t, who.Address, addresses[0].Value)
		require.True(t, addresses[0].Primary)
		ok, stale, err := hasher.Verify(t.Context(), who.Password, hash)
		require.NoError(t, err)
		require.True(t, ok, who.Address)
		require.False(t, stale)
		if who.PasswordBefore != "" {
			ok, _, err := hasher.Verify(t.Context(), who.PasswordBefore, hash)
			require.NoError(t, err)
			require.False(t, ok)
		}

		_, err = w.Sessions.Start(t.Context(), models.SignIn{Identity: identity, Lifetime: time.Hour, Idle: time.Hour, Proof: models.Proof{
			Method: models.MethodPassword, AAL: models.AAL1, Credential: credential.ID, Version: credential.Version, At: w.now}})
		if !identity.Active {
			require.ErrorIs(t, err, models.ErrChanged)
			continue
		}
		require.NoError(t, err, "signing in anew")
	}
}

func TestUpgradeComparesTheLooksOfAddresses(t *testing.T) {
	w, then := upgraded(t, pastVersion)
	twins := 0
	for _, who := range then.People {
		if who.State == "deleted" {
			continue
		}
		if who.Twin {
			twins++ // two accounts that look alike already
		}
		for _, look := range []string{who.Typed, strings.Replace(who.Address, "a", "а", 1)} {
			_, _, err := w.Identities.Create(t.Context(), account(look))
			require.ErrorIs(t, err, models.ErrTaken, look)
		}
		identity, err := w.Identities.ByEmail(t.Context(), who.Address)
		require.NoError(t, err)
		require.Equal(t, models.TrustUnknown, identity.EmailTrust)
	}
	require.Positive(t, twins)
}

func TestUpgradeKeepsWhatAppsAreToBeTold(t *testing.T) {
	w, then := upgraded(t, pastVersion)
	var ended []uuid.UUID
	for _, was := range then.Sessions {
		if was.Ended != "" && !was.Unnoticed {
			ended = append(ended, was.ID)
		}
	}
	for app, state := range map[string]models.DeliveryState{"chat": models.Pending, "shop": models.Refused, "wiki": models.Delivered} {
		log, err := w.Deliveries.Log(t.Context(), app, state, 100)
		require.NoError(t, err)
		var told []uuid.UUID
		for _, d := range log {
			told = append(told, d.SessionID)
		}
		require.ElementsMatch(t, ended, told, app)
	}

	n, err := w.Sessions.Expire(t.Context(), 100)
	require.NoError(t, err)
	require.Equal(t, 1, n, "the one that nobody has noticed")
	w.now = w.now.Add(time.Hour)
	due, err := w.Deliveries.Due(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"chat", "shop", "wiki"}, due)
	claimed, err := w.Deliveries.Claim(t.Context(), "chat", 100, time.Minute)
	require.NoError(t, err)
	require.Len(t, claimed, len(ended)+1)
	require.Equal(t, "http://127.0.0.1:18475/logout", claimed[0].App.LogoutURL)
	require.Equal(t, models.SendSubject, claimed[0].App.Send)
	require.True(t, claimed[0].GiveUpAt.After(w.now))
}

func TestUpgradeKeepsTheKeys(t *testing.T) {
	w, then := upgraded(t, pastVersion)
	keys, err := w.SigningKeys.List(t.Context())
	require.NoError(t, err)
	var ids []string
	for _, key := range keys {
		ids = append(ids, key.ID)
	}
	require.Equal(t, then.SigningKeys, ids)
}

func TestUpgradeKeepsTheActivity(t *testing.T) {
	w, then := upgraded(t, pastVersion)
	ada := then.People[0]
	found, err := w.Activities.Of(t.Context(), ada.ID, then.MadeAt.Add(-time.Hour), 100)
	require.NoError(t, err)
	count := map[models.ActivityKind]int{}
	for _, activity := range found {
		count[activity.Kind] += max(activity.Count, 1)
	}
	require.Equal(t, map[models.ActivityKind]int{models.SignedIn: 9, models.SessionEnded: 4, models.SignInFailed: 3}, count)
}

func TestUpgradeKeepsTheSetupLink(t *testing.T) {
	w, then := upgraded(t, pastVersion+"-unclaimed")
	token, err := w.Identities.SetupToken(t.Context())
	require.NoError(t, err)
	require.Equal(t, then.SetupToken, token)
	_, _, err = w.Identities.Create(t.Context(), models.NewIdentity{Email: "ada@example.com", Name: "Ada",
		Credential: models.NewCredential{Method: models.MethodPassword, Secret: "hash"}, SetupToken: token})
	require.NoError(t, err)
}
