package app

import (
	"context"
	"errors"
	"net/http"
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
