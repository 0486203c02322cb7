// Package app is the web application: every request comes in here.
package app

import (
	"context"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
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
	key, err := a.store.Secrets.Get(context.Background(), "seal")
	if err != nil {
		return nil, err
	}
	logoutKey, err := a.store.Secrets.Get(context.Background(), "logout")
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

const (
	pruneEvery = 10 * time.Minute
	pruneBatch = 500
	// pruneBreath lets requests write between two batches.
	pruneBreath = 100 * time.Millisecond
	// keepEnds is longer than any stream can be behind.
	keepEnds = time.Hour
	// keepDeliveries is how far the delivery log goes back.
	keepDeliveries = 30 * 24 * time.Hour
	// lastNotes is how long a stop waits for a database that does not answer.
	lastNotes = 5 * time.Second
)

// Run does what is not done within a request: it writes down what answers did not wait for, tells
// event streams of ends, ends what has expired, and removes what has been kept long enough. It
// returns when ctx is done, after writing what was noted until then and closing the streams.
func (a *App) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { every(ctx, a.Keep.Every, a.prune) })
	running.Go(func() { a.expire(ctx) })
	running.Go(func() { a.watch(ctx) })
	running.Go(func() { a.mend(ctx) })
	running.Go(func() { a.deliver(ctx) })
	running.Go(func() { a.streams.run(ctx) })
	lasting := context.WithoutCancel(ctx) // what has been noted is written, whatever stops
	for {
		select {
		case note := <-a.notes:
			a.write(lasting, note)
		case <-ctx.Done():
			timely, cancel := context.WithTimeout(lasting, lastNotes)
			defer cancel()
			for timely.Err() == nil {
				select {
				case note := <-a.notes:
					a.write(timely, note)
				default:
					return
				}
			}
			return
		}
	}
}

// every does something now and then, until ctx is done.
func every(ctx context.Context, period time.Duration, do func(context.Context)) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for ctx.Err() == nil {
		do(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// outage logs when what is tried again and again begins to fail, and when it works again: a line
// for each try would hide all others.
type outage struct {
	log  *slog.Logger
	what string
	on   bool
}

// note takes what came of a try, but for one that ctx has stopped.
func (o *outage) note(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil:
		return
	case err != nil && !o.on:
		o.log.Error(o.what+" fails; trying on", slog.Any("error", err))
	case err == nil && o.on:
		o.log.Info(o.what + " works again")
	}
	o.on = err != nil
}

// note is something to be written that no answer waits for.
type note func(ctx context.Context) error

// later has a note written, later and elsewhere. It returns false where too many are waiting.
func (a *App) later(n note) bool {
	select {
	case a.notes <- n:
		return true
	default:
		return false
	}
}

func (a *App) write(ctx context.Context, n note) {
	if err := n(ctx); err != nil {
		a.Log.Error("not noted", slog.Any("error", err))
	}
}

// expireEvery is how long after a session has run out its apps may hear of it, at most.
const expireEvery = 2 * time.Second

// expire ends the sessions whose time has run out, until ctx is done.
func (a *App) expire(ctx context.Context) {
	trouble := outage{log: a.Log, what: "ending expired sessions"}
	every(ctx, expireEvery, func(ctx context.Context) {
		trouble.note(ctx, inBatches(ctx, func() (int, error) { return a.store.Sessions.Expire(ctx, pruneBatch) }))
	})
}

// watchEvery is how long a database that has gone may go on being asked.
const watchEvery = time.Second

// watch has the log say when the database is out of reach, and when it is back, until ctx is done.
func (a *App) watch(ctx context.Context) {
	trouble := outage{log: a.Log, what: "reaching the database"}
	every(ctx, watchEvery, func(ctx context.Context) {
		timely, cancel := context.WithTimeout(ctx, readyTimeout)
		defer cancel()
		trouble.note(ctx, a.store.Ping(timely))
	})
}

// mendEvery is how long a clock that has been set back may hold up deliveries.
const mendEvery = time.Minute

// mend has what is to be delivered be due in time though the clock was set back, until ctx is done.
func (a *App) mend(ctx context.Context) {
	trouble := outage{log: a.Log, what: "looking for deliveries ahead of the clock"}
	every(ctx, mendEvery, func(ctx context.Context) {
		n, err := a.store.Deliveries.Mend(ctx, longestPause, deliveryLease)
		trouble.note(ctx, err)
		if n > 0 {
			a.Log.Warn("the clock was set back: deliveries were due too late and are due now", slog.Int("deliveries", n))
			a.outbox.rouse()
		}
	})
}

func (a *App) prune(ctx context.Context) {
	now := a.Now()
	for what, batch := range map[string]func() (int, error){
		"sessions": func() (int, error) { return a.store.Sessions.Prune(ctx, now.Add(-a.SessionRetention), pruneBatch) },
		"failures": func() (int, error) {
			return a.store.Activities.PruneFailures(ctx, now.Add(-a.SessionRetention), pruneBatch)
		},
		"ends":       func() (int, error) { return a.store.Ends.Prune(ctx, now.Add(-a.Keep.Ends), pruneBatch) },
		"deliveries": func() (int, error) { return a.store.Deliveries.Prune(ctx, now.Add(-a.Keep.Deliveries), pruneBatch) },
		"attempts":   func() (int, error) { return a.store.Attempts.Prune(ctx, pruneBatch) },
	} {
		if err := inBatches(ctx, batch); err != nil && ctx.Err() == nil {
			a.Log.Error("clean-up failed", slog.String("of", what), slog.Any("error", err))
		}
	}
}

// inBatches repeats a batch until there is nothing left for it.
func inBatches(ctx context.Context, batch func() (int, error)) error {
	for ctx.Err() == nil {
		n, err := batch()
		if err != nil || n < pruneBatch {
			return err
		}
		select {
		case <-time.After(pruneBreath):
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

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
