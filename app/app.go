// Package app is the web application: every request comes in here.
package app

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"gorm.io/gorm"

	"latchkey/app/metrics"
	"latchkey/app/password"
	"latchkey/app/tracing"
	"latchkey/models"
)

// App is what handlers share. It is an http.Handler.
type App struct {
	settings
	store  *models.Store
	hasher *password.Hasher
	rules  password.Rules
	sealer cipher.AEAD // for what browsers carry for us
	// logoutMACs make logout tokens: HMACs with their key, which take longer to make than to use.
	logoutMACs sync.Pool
	assets     assets
	docs       file
	crossing   *http.CrossOriginProtection
	cookies    cookies
	lines      lines       // of who tries a password
	claimed    atomic.Bool // there is, or was, an account
	notes      chan note   // on their way to the database
	outbox     outbox
	streams    *streams
	trouble    trouble          // with the database
	metrics    *metrics.Metrics // nil if nobody wants them
	engine     *gin.Engine
	// lastLocal is the last host that was found to be one of this machine.
	lastLocal atomic.Pointer[string]
	draining  atomic.Bool
}

// New builds the application on a database that package db has opened. Call Run too.
func New(config Config, database *gorm.DB) (*App, error) {
	settings, err := config.check()
	if err != nil {
		return nil, err
	}
	if settings.Traces != nil {
		settings.Log = tracing.Logger(settings.Log)
	}
	a := &App{
		settings: settings,
		store:    models.New(database, settings.Now),
		hasher:   password.NewHasher(config.PasswordParams()),
		rules:    password.Rules{MinLength: config.PasswordMinLength, SiteName: config.SiteName},
		crossing: http.NewCrossOriginProtection(),
		cookies:  newCookies(settings),
		lines:    lines{all: map[string]*line{}},
		notes:    make(chan note, 256),
	}
	a.trouble.log = a.Log
	a.streams = newStreams(a.store, a.Now, a.Log)
	a.outbox = outbox{wake: make(chan struct{}, 1), busy: map[string]int{}}
	if a.outbox.notifier, err = newNotifier(context.Background(), settings, a.store); err != nil {
		return nil, err
	}
	if err := a.observe(database); err != nil {
		return nil, err
	}
	a.store.OnEnd(func(ended models.Ended) {
		for reason, n := range ended {
			a.metrics.SessionsEnded(string(reason), n)
		}
		a.streams.poke()
		a.outbox.rouse()
	})
	key, err := a.store.Secrets.Get(context.Background(), models.SecretSeal)
	if err != nil {
		return nil, err
	}
	logoutKey, err := a.store.Secrets.Get(context.Background(), models.SecretLogout)
	if err != nil {
		return nil, err
	}
	a.logoutMACs.New = func() any { return hmac.New(sha256.New, logoutKey) }
	if a.sealer, err = newSealer(key); err != nil {
		return nil, err
	}
	if a.assets, err = newAssets(settings); err != nil {
		return nil, err
	}
	if a.docs, err = a.newDocs(); err != nil {
		return nil, err
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
func (a *App) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if a.draining.Load() {
		w.Header().Set("Connection", "close")
	}
	a.engine.ServeHTTP(w, r)
}

// Drain prepares for the end of the process: from now on every answer asks its client to let go of
// the connection, and /auth/health/ready sends load balancers elsewhere.
func (a *App) Drain() { a.draining.Store(true) }

// unclaimed reports whether the setup link is the only way in: there is no account yet. Once there
// is one it does not ask the database again, not even if all accounts are deleted.
func (a *App) unclaimed(ctx context.Context) (bool, error) {
	if a.Registration == registrationOpen || a.claimed.Load() {
		return false, nil
	}
	exist, err := a.store.Identities.Exist(ctx)
	if err != nil {
		return false, err
	}
	if exist {
		a.claimed.Store(true)
	}
	return !exist, nil
}

// setupToken returns the one-time right to make the first account, the same on every instance.
func (a *App) setupToken(ctx context.Context) (string, error) {
	secret, err := a.store.Secrets.Get(ctx, models.SecretSetup)
	if err != nil {
		return "", err
	}
	return base32.StdEncoding.EncodeToString(secret)[:setupTokenLength], nil
}

// setupTokenLength makes 130 bits.
const setupTokenLength = 26

// SetupURL returns the link that makes the first account, on the origin that is given where
// BASE_URL is not set; "" where none is needed.
func (a *App) SetupURL(ctx context.Context, origin string) (string, error) {
	if unclaimed, err := a.unclaimed(ctx); err != nil || !unclaimed {
		return "", err
	}
	token, err := a.setupToken(ctx)
	if err != nil {
		return "", err
	}
	if a.baseOrigin != "" {
		origin = a.baseOrigin
	}
	return origin + pathRegistration + "?" + url.Values{"setup": {token}}.Encode(), nil
}

// lately reports whether something happened within that time. What is further ahead of the clock than
// that was noted before the clock was set back, nobody knows how long ago: a right that ends with time
// must not last longer for it.
func lately(now, then time.Time, within time.Duration) bool { return now.Sub(then).Abs() < within }

func newSealer(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("use the key: %w", err)
	}
	sealer, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("use the key: %w", err)
	}
	return sealer, nil
}

// seal hides and signs a value for its way through a browser; purpose keeps one kind of sealed
// value from being taken for another.
func (a *App) seal(purpose string, value []byte) []byte {
	return a.sealer.Seal(nil, nil, value, []byte(purpose)) // #nosec G407 -- this cipher draws its own nonce
}

var errSeal = errors.New("not sealed here")

func (a *App) unseal(purpose string, sealed []byte) ([]byte, error) {
	value, err := a.sealer.Open(nil, nil, sealed, []byte(purpose))
	if err != nil {
		return nil, errSeal
	}
	return value, nil
}
