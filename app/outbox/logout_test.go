package outbox_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"latchkey/app/config"
	"latchkey/app/keys"
	"latchkey/app/outbox"
	"latchkey/db"
	"latchkey/models"
	"latchkey/test/kit"
)

// apps is some apps, which share a URL, on a database of its own.
type apps struct {
	t        *testing.T
	database *db.DB
	store    *models.Store

	mu     sync.Mutex
	status int
	told   map[string]int // by the audience
}

func newApps(t *testing.T, names ...string) *apps {
	t.Helper()
	database, err := db.Open(t.Context(), kit.DatabaseURL(t, filepath.Join(t.TempDir(), "latchkey.db")))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, database.Close()) })
	a := &apps{t: t, database: database, store: models.New(database, time.Now), status: http.StatusOK, told: map[string]int{}}
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	for _, name := range names {
		require.NoError(t, a.store.Apps.Add(t.Context(), models.App{Name: name, LogoutURL: server.URL, Send: models.SendBoth}))
	}
	return a
}

func (a *apps) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	claims := jwt.MapClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(r.FormValue("logout_token"), claims); err != nil {
		panic(err)
	}
	audience, err := claims.GetAudience()
	if err != nil {
		panic(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.told[audience[0]]++
	w.WriteHeader(a.status)
}

// leave writes deliveries as the end of a session does.
func (a *apps) leave(app string, n int) {
	a.t.Helper()
	now := time.Now().UTC()
	for range n {
		id := uuid.Must(uuid.NewV4())
		require.NoError(a.t, a.database.Query(a.t.Context()).Create(&models.Delivery{
			Job:     models.Job{ID: id, State: models.Pending, NextAt: now, LeasedUntil: now, GiveUpAt: now.Add(time.Hour), CreatedAt: now, UpdatedAt: now},
			AppName: app, SessionID: id, IdentityID: id, Reason: models.EndedByLogout}).Error)
	}
}

func (a *apps) run() {
	a.t.Helper()
	ring, err := keys.Load(a.t.Context(), a.store, nil, time.Now)
	require.NoError(a.t, err)
	log := slog.New(slog.DiscardHandler)
	settings := &config.Settings{Issuer: "https://login.example.com"}
	o := outbox.New(log, time.Now, outbox.NewLogout(a.store.Deliveries, outbox.NewNotifier(settings, ring, time.Now), nil, log))
	ctx, cancel := context.WithCancel(a.t.Context())
	var running sync.WaitGroup
	running.Go(func() { o.Run(ctx) })
	a.t.Cleanup(func() { cancel(); running.Wait() })
}

func (a *apps) count(app string, state models.DeliveryState) int {
	a.t.Helper()
	found, err := a.store.Deliveries.Log(a.t.Context(), app, state, 1000)
	require.NoError(a.t, err)
	return len(found)
}

func (a *apps) await(app string, state models.DeliveryState, n int) {
	a.t.Helper()
	require.Eventually(a.t, func() bool { return a.count(app, state) == n }, 30*time.Second, 10*time.Millisecond)
}

func TestAppsAreToldOfEachEndOnce(t *testing.T) {
	a := newApps(t, "notes", "wiki")
	a.leave("notes", 30)
	a.leave("wiki", 3)
	a.run()
	a.run() // another instance

	a.await("notes", models.Delivered, 30)
	a.await("wiki", models.Delivered, 3)

	a.mu.Lock()
	defer a.mu.Unlock()
	require.Equal(t, map[string]int{"notes": 30, "wiki": 3}, a.told)
}

func TestAppThatRefusesIsNotToldAgain(t *testing.T) {
	a := newApps(t, "wiki")
	a.status = http.StatusBadRequest
	a.leave("wiki", 1)
	a.run()

	a.await("wiki", models.Refused, 1)

	found, err := a.store.Deliveries.Log(t.Context(), "wiki", "", 1)
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, found[0].Status)
	require.Equal(t, "400 Bad Request", found[0].Note)
}

func TestAppWhoseDeliveriesCannotBeClaimedHoldsUpNoOther(t *testing.T) {
	a := newApps(t, "aaa", "wiki")
	a.leave("aaa", 1)
	a.leave("wiki", 1)
	damage := "CREATE TRIGGER damage BEFORE UPDATE ON deliveries WHEN NEW.app_name = 'aaa' BEGIN SELECT RAISE(ABORT, 'damaged'); END"
	if kit.UsesPostgres() {
		damage = "ALTER TABLE deliveries ADD CONSTRAINT damage CHECK (app_name <> 'aaa') NOT VALID"
	}
	require.NoError(t, a.database.Query(t.Context()).Exec(damage).Error)
	a.run()

	a.await("wiki", models.Delivered, 1)

	require.Equal(t, 1, a.count("aaa", models.Pending))
}
