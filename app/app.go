// Package app is the web application: every request comes in here.
package app

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"gorm.io/gorm"

	"latchkey/app/password"
	"latchkey/models"
	"latchkey/views"
)

// App is what handlers share. It is an http.Handler.
type App struct {
	settings
	store    *models.Store
	hasher   *password.Hasher
	rules    password.Rules
	sealer   cipher.AEAD // for flows and device cookies
	assets   assets
	docs     views.DocsPage
	crossing *http.CrossOriginProtection
	cookies  cookies
	lines    lines // of who tries a password
	setup    setup
	seen     chan models.Session // sessions in use, on their way to the database
	engine   *gin.Engine
}

// New builds the application on a database that package db has opened. Call Run too.
func New(config Config, database *gorm.DB) (*App, error) {
	settings, err := config.check()
	if err != nil {
		return nil, err
	}
	a := &App{
		settings: settings,
		store:    models.New(database, settings.Now),
		hasher:   password.NewHasher(config.PasswordParams()),
		rules:    password.Rules{MinLength: config.PasswordMinLength, SiteName: config.SiteName},
		crossing: http.NewCrossOriginProtection(),
		cookies:  newCookies(settings),
		lines:    lines{all: map[string]*line{}},
		setup:    setup{token: rand.Text()},
		seen:     make(chan models.Session, 256),
	}
	key, err := a.store.Secrets.Get(context.Background(), "seal")
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("use the key: %w", err)
	}
	if a.sealer, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		return nil, fmt.Errorf("use the key: %w", err)
	}
	if a.assets, err = newAssets(settings); err != nil {
		return nil, err
	}
	if a.docs, err = readDocs(openAPIDocument); err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	trusted := config.CORSAllowedOrigins
	if a.baseOrigin != "" {
		trusted = append([]string{a.baseOrigin}, trusted...)
	}
	for _, origin := range trusted {
		if err := a.crossing.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("trust the origin %s: %w", origin, err)
		}
	}
	if a.engine, err = a.routes(); err != nil {
		return nil, err
	}
	return a, nil
}

// ServeHTTP answers every request.
func (a *App) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.engine.ServeHTTP(w, r) }

const (
	pruneEvery = 10 * time.Minute
	pruneBatch = 500
	// pruneBreath lets requests write between two batches.
	pruneBreath = 100 * time.Millisecond
)

// Run does what is not done within a request: it notes which sessions are in use and removes what
// has been kept long enough. It returns when ctx is done, after writing what was noted until then.
func (a *App) Run(ctx context.Context) {
	var pruning sync.WaitGroup
	defer pruning.Wait()
	pruning.Go(func() { a.pruneNowAndThen(ctx) })
	notes := context.WithoutCancel(ctx) // one that has begun is written, whatever stops
	for {
		select {
		case session := <-a.seen:
			a.noteSeen(notes, session)
		case <-ctx.Done():
			for {
				select {
				case session := <-a.seen:
					a.noteSeen(notes, session)
				default:
					return
				}
			}
		}
	}
}

func (a *App) noteSeen(ctx context.Context, session models.Session) {
	if err := a.store.Sessions.Seen(ctx, session); err != nil {
		a.Log.Error("session use not noted", slog.Any("error", err))
	}
}

func (a *App) pruneNowAndThen(ctx context.Context) {
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		a.prune(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func (a *App) prune(ctx context.Context) {
	batches := map[string]func() (int, error){
		"sessions": func() (int, error) {
			return a.store.Sessions.Prune(ctx, a.Now().Add(-a.SessionRetention), pruneBatch)
		},
		"attempts": func() (int, error) { return a.store.Attempts.Prune(ctx, pruneBatch) },
	}
	for what, batch := range batches {
		for ctx.Err() == nil {
			n, err := batch()
			if err != nil && ctx.Err() == nil {
				a.Log.Error("clean-up failed", slog.String("of", what), slog.Any("error", err))
			}
			if err != nil || n < pruneBatch {
				break
			}
			select {
			case <-time.After(pruneBreath):
			case <-ctx.Done():
			}
		}
	}
}

// setup is the one-time right to make the first account. It dies with its use and the process.
type setup struct {
	mu    sync.Mutex
	token string // "" once used
}

// current returns the token that is still good, or "".
func (s *setup) current() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.token
}

func (s *setup) use() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = ""
}

// unclaimed reports whether the setup link is the only way in: there is no account yet. Once there
// is one it does not ask the database again, not even if all accounts are deleted.
func (a *App) unclaimed(ctx context.Context) (bool, error) {
	if a.Registration == registrationOpen || a.setup.current() == "" {
		return false, nil
	}
	exist, err := a.store.Identities.Exist(ctx)
	if err != nil {
		return false, err
	}
	if exist {
		a.setup.use()
	}
	return !exist, nil
}

// SetupURL returns the link that makes the first account, on the origin that is given where
// BASE_URL is not set; "" where none is needed.
func (a *App) SetupURL(ctx context.Context, origin string) (string, error) {
	if unclaimed, err := a.unclaimed(ctx); err != nil || !unclaimed {
		return "", err
	}
	if a.baseOrigin != "" {
		origin = a.baseOrigin
	}
	return origin + pathRegistration + "?" + url.Values{"setup": {a.setup.current()}}.Encode(), nil
}

// seal hides and signs a value for its way through a browser; purpose keeps one kind of sealed
// value from being taken for another.
func (a *App) seal(purpose string, value []byte) []byte {
	return a.sealer.Seal(nil, nil, value, []byte(purpose))
}

var errSeal = errors.New("not sealed here")

func (a *App) unseal(purpose string, sealed []byte) ([]byte, error) {
	value, err := a.sealer.Open(nil, nil, sealed, []byte(purpose))
	if err != nil {
		return nil, errSeal
	}
	return value, nil
}
