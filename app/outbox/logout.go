package outbox

import (
	"context"
	"log/slog"
	"time"

	"github.com/gofrs/uuid/v5"

	"latchkey/app/backchannel"
	"latchkey/app/config"
	"latchkey/app/keys"
	"latchkey/app/tracing"
	"latchkey/models"
)

// Logout notifies apps of ended sessions by OpenID Connect Back-Channel Logout. It implements Sender.
type Logout struct {
	models.Deliveries
	notifier *Notifier
	traces   *tracing.Tracer
	log      *slog.Logger
}

// NewLogout returns a Logout. traces may be nil.
func NewLogout(deliveries models.Deliveries, notifier *Notifier, traces *tracing.Tracer, log *slog.Logger) *Logout {
	return &Logout{Deliveries: deliveries, notifier: notifier, traces: traces, log: log}
}

// Name implements Sender.
func (l *Logout) Name() string { return "logout notification" }

// Claim implements Sender.
func (l *Logout) Claim(ctx context.Context, app string, limit int, lease time.Duration) ([]Message, error) {
	claimed, err := l.Deliveries.Claim(ctx, app, limit, lease)
	messages := make([]Message, len(claimed))
	for i, d := range claimed {
		messages[i] = Message{Job: d.Job, To: slog.String("app", d.AppName), Send: func(ctx context.Context) Result { return l.send(ctx, d) }}
	}
	return messages, err
}

func (l *Logout) send(ctx context.Context, d models.Delivery) Result {
	traced, end := l.traces.Notice(ctx, d.App.LogoutURL)
	result, err := l.notifier.Notify(traced, d.App, d.IdentityID, d.SessionID)
	end(result.Status, result.Outcome == backchannel.Delivered)
	if err != nil {
		if ctx.Err() == nil {
			l.log.Error("creating a logout token failed", slog.Any("error", err))
		}
		return Result{Outcome: Failed, Note: "no token could be made: see the server's log"}
	}
	return Result{Outcome: Outcome(result.Outcome), Status: result.Status, Note: result.Note}
}

// Notifier sends logout tokens to apps.
type Notifier struct {
	issuer string
	keys   *keys.Ring
	sender *backchannel.Sender
	now    func() time.Time
}

// NewNotifier returns a Notifier.
func NewNotifier(settings *config.Settings, ring *keys.Ring, now func() time.Time) *Notifier {
	return &Notifier{issuer: settings.Issuer, keys: ring, sender: backchannel.NewSender(settings.AppsPublicOnly), now: now}
}

// tokenLifetime is the longest that the standard recommends (Back-Channel Logout 1.0 §4).
const tokenLifetime = 2 * time.Minute

// Notify makes one attempt to send an app a logout token for a session. It returns an error if no token could
// be created; a failure to send it is in the Result.
func (n *Notifier) Notify(ctx context.Context, app models.App, person, session uuid.UUID) (backchannel.Result, error) {
	key, err := n.keys.Signing(ctx, backchannel.ES256)
	if err != nil {
		return backchannel.Result{}, err
	}
	id, err := uuid.NewV4() // a new one for each attempt, since receivers may refuse to accept a jti twice
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
	signed, err := key.Sign(token)
	if err != nil {
		return backchannel.Result{}, err
	}
	return n.sender.Send(ctx, app.LogoutURL, signed), nil
}
