package app

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/gofrs/uuid/v5"

	"latchkey/app/backchannel"
	"latchkey/models"
)

// Notifier tells apps of the end of a session.
type Notifier struct {
	issuer string
	keys   models.SigningKeys
	sender *backchannel.Sender
	now    func() time.Time
}

// NewNotifier returns a Notifier, after making the first signing key if there is none.
func NewNotifier(ctx context.Context, config Config, store *models.Store) (*Notifier, error) {
	settings, err := config.check()
	if err != nil {
		return nil, err
	}
	return newNotifier(ctx, settings, store)
}

func newNotifier(ctx context.Context, s settings, store *models.Store) (*Notifier, error) {
	keys, err := store.SigningKeys.List(ctx)
	if err == nil && len(keys) == 0 {
		_, err = AddSigningKey(ctx, store, 0, true)
	}
	if err != nil {
		return nil, err
	}
	return &Notifier{issuer: s.issuer, keys: store.SigningKeys, sender: backchannel.NewSender(s.AppsPublicOnly), now: s.Now}, nil
}

// AddSigningKey makes a key and returns its id. The ones before stay published for the overlap.
func AddSigningKey(ctx context.Context, store *models.Store, overlap time.Duration, onlyFirst bool) (string, error) {
	key, der, err := backchannel.NewKey()
	if err != nil {
		return "", err
	}
	return key.ID, store.SigningKeys.Add(ctx, key.ID, der, overlap, onlyFirst)
}

// Issuer is what tokens name as their issuer.
func (n *Notifier) Issuer() string { return n.issuer }

// tokenLifetime is what the standard recommends at most (Back-Channel Logout 1.0 §4).
const tokenLifetime = 2 * time.Minute

// Tell sends an app the logout token of a session, once.
func (n *Notifier) Tell(ctx context.Context, app models.App, person, session uuid.UUID) (backchannel.Result, error) {
	keys, err := n.published(ctx)
	if err != nil {
		return backchannel.Result{}, err
	}
	id, err := uuid.NewV4() // of each attempt, since receivers may refuse one that they have seen
	if err != nil {
		return backchannel.Result{}, err
	}
	now := n.now()
	token := backchannel.Token{Issuer: n.issuer, Audience: app.Name, ID: id.String(), IssuedAt: now, ExpiresAt: now.Add(tokenLifetime)}
	if app.Send != models.SendSession {
		token.Subject = person.String()
	}
	if app.Send != models.SendSubject {
		token.Session = session.String()
	}
	signed, err := keys[0].Sign(token)
	if err != nil {
		return backchannel.Result{}, err
	}
	return n.sender.Send(ctx, app.LogoutURL, signed), nil
}

// published returns the keys that verify tokens, the one that signs first. They are read anew each
// time, so that a rotation holds from the next token on.
func (n *Notifier) published(ctx context.Context) ([]backchannel.Key, error) {
	stored, err := n.keys.List(ctx)
	if err != nil {
		return nil, err
	}
	keys := make([]backchannel.Key, len(stored))
	for i := range stored {
		if keys[i], err = backchannel.ParseKey(stored[i].PrivateKey); err != nil {
			return nil, err
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no signing key; 'latchkey key rotate' makes one")
	}
	return keys, nil
}

// jwks answers GET /auth/.well-known/jwks.json: the keys that verify logout tokens.
func (a *App) jwks(c *gin.Context) {
	keys, err := a.outbox.notifier.published(c.Request.Context())
	var body []byte
	if err == nil {
		body, err = backchannel.JWKS(keys)
	}
	if err != nil {
		a.fail(c, err)
		return
	}
	c.Header("Cache-Control", "public, max-age=300") // a token by a newer key makes receivers ask again
	c.Data(http.StatusOK, "application/json; charset=utf-8", body)
}

// outbox delivers what the ends of sessions have left to be told.
type outbox struct {
	notifier *Notifier
	wake     chan struct{}

	mu   sync.Mutex
	busy map[string]int // deliveries under way, by app
}

const (
	// atOnce is how many deliveries to one app are under way at a time. Each app has its own, so
	// that one which hangs holds up nobody else.
	atOnce = 8
	// outboxEvery finds what other processes have left, and what is due again.
	outboxEvery = 500 * time.Millisecond
	// deliveryLease is longer than an attempt can take: nobody else makes one meanwhile.
	deliveryLease = time.Minute

	firstPause   = 5 * time.Second
	longestPause = time.Hour
)

// rouse has what is due looked for now.
func (o *outbox) rouse() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// reserve returns how many more deliveries an app may have under way, and takes them.
func (o *outbox) reserve(app string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	free := atOnce - o.busy[app]
	o.busy[app] = atOnce
	return free
}

func (o *outbox) free(app string, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.busy[app] -= n; o.busy[app] == 0 {
		delete(o.busy, app)
	}
}

// deliver tells apps what they are to be told, until ctx is done.
func (a *App) deliver(ctx context.Context) {
	var underWay sync.WaitGroup
	defer underWay.Wait()
	tick := time.NewTicker(outboxEvery)
	defer tick.Stop()
	trouble := outage{log: a.Log, what: "telling apps"}
	for ctx.Err() == nil {
		trouble.note(ctx, a.deliverDue(ctx, &underWay))
		select {
		case <-a.outbox.wake:
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func (a *App) deliverDue(ctx context.Context, underWay *sync.WaitGroup) error {
	apps, err := a.store.Deliveries.Due(ctx)
	if err != nil {
		return err
	}
	for _, app := range apps {
		room := a.outbox.reserve(app)
		var claimed []models.Delivery
		if room > 0 {
			claimed, err = a.store.Deliveries.Claim(ctx, app, room, deliveryLease)
		}
		a.outbox.free(app, room-len(claimed))
		if err != nil {
			return err
		}
		for _, d := range claimed {
			underWay.Go(func() {
				a.attempt(ctx, d)
				a.outbox.free(app, 1)
				a.outbox.rouse() // there is room for the next
			})
		}
	}
	return nil
}

// attempt makes one attempt at a delivery that has been claimed, and notes what came of it.
func (a *App) attempt(ctx context.Context, d models.Delivery) {
	result, err := a.outbox.notifier.Tell(ctx, d.App, d.IdentityID, d.SessionID)
	lasting := context.WithoutCancel(ctx)
	if ctx.Err() != nil && result.Outcome != backchannel.Delivered {
		err = a.store.Deliveries.Release(lasting, d) // whoever starts next makes the attempt
	} else {
		if err != nil {
			a.Log.Error("no logout token could be made", slog.Any("error", err))
			result = backchannel.Result{Outcome: backchannel.Failed, Note: "no token could be made: see the server's log"}
		}
		err = a.settle(lasting, d, result)
	}
	if err != nil { // it is attempted again when its lease is over
		a.Log.Error("delivery not settled", slog.String("delivery", d.ID.String()), slog.Any("error", err))
	}
}

func (a *App) settle(ctx context.Context, d models.Delivery, result backchannel.Result) error {
	d.Status, d.Note = result.Status, result.Note
	d.NextAt = a.Now().Add(pauseAfter(d.Attempts))
	switch {
	case result.Outcome == backchannel.Delivered:
		d.State = models.Delivered
	case result.Outcome == backchannel.Refused:
		d.State = models.Refused
	case d.NextAt.After(d.GiveUpAt):
		d.State = models.GivenUp
	}
	if d.State != models.Delivered {
		a.Log.Warn("app not told", slog.String("app", d.AppName), slog.String("delivery", d.ID.String()),
			slog.String("state", string(d.State)), slog.Int("attempts", d.Attempts), slog.String("note", d.Note))
	}
	return a.store.Deliveries.Settle(ctx, d)
}

// pauseAfter is the time before the next attempt, after so many that failed.
func pauseAfter(attempts int) time.Duration {
	const doublings = 16 // past the longest pause
	return min(firstPause<<min(max(attempts-1, 0), doublings), longestPause)
}
