// Package audit logs a line for each security event. Lines identify people and sessions only by id: they never contain
// an address, a name, a token or anything else that a visitor typed.
package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/gofrs/uuid/v5"

	"latchkey/app/background"
	"latchkey/app/clientaddr"
	"latchkey/models"
)

// Message is the message of every line.
const Message = "security event"

// Event is what happened. The names are documented in docs/events.md: programs rely on them.
type Event string

// The events.
const (
	SignIn          Event = "sign_in"
	SignOut         Event = "sign_out"
	SessionEnded    Event = "session_ended" // other than by signing out of it
	Confirmation    Event = "confirmation"  // somebody who is signed in was asked for the password
	PasswordChanged Event = "password_changed"
	Registration    Event = "registration"
	OperatorAct     Event = "operator_act" // a command
)

// Outcome is the result of an event.
type Outcome string

// The outcomes.
const (
	OK        Outcome = "ok"
	Wrong     Outcome = "wrong"     // password, or unknown address or username
	Throttled Outcome = "throttled" // not checked
	Disabled  Outcome = "disabled"  // correct password of a disabled account
	Taken     Outcome = "taken"     // the address or username has an account
	Refused   Outcome = "refused"   // a setup link that is no longer valid
	Failed    Outcome = "failed"    // a command
)

// Who ends sessions.
const (
	ByPerson   = "person"
	ByOperator = "operator"
	BySystem   = "system"
)

// Entry is a security event. Empty fields are left out.
type Entry struct {
	Event    Event         `json:"event"`
	Outcome  Outcome       `json:"outcome"`
	Client   string        `json:"client,omitempty"`  // IP address
	Network  string        `json:"network,omitempty"` // what throttling counts as one network
	Identity uuid.UUID     `json:"identity,omitzero"` // of the person concerned; none for an unknown address
	Session  uuid.UUID     `json:"session,omitzero"`
	Reason   models.Reason `json:"reason,omitempty"`  // why the session ended
	By       string        `json:"by,omitempty"`      // who ended it
	Command  string        `json:"command,omitempty"` // without its arguments
	UID      string        `json:"uid,omitempty"`     // numeric user id of whoever ran the command
	App      string        `json:"app,omitempty"`     // the app concerned
	Request  string        `json:"request,omitempty"`
	At       time.Time     `json:"at,omitzero"` // if the line is written later
}

// Origin is where a request comes from.
type Origin struct{ Client, Request string }

type originKey struct{}

// WithOrigin returns a context with the origin of the events in it.
func WithOrigin(ctx context.Context, origin Origin) context.Context {
	return context.WithValue(ctx, originKey{}, origin)
}

// Log writes security events. The zero value drops them.
type Log struct{ log *slog.Logger }

// New returns a Log that writes to log, at level info.
func New(log *slog.Logger) Log { return Log{log} }

func (l Log) enabled(ctx context.Context) bool {
	return l.log != nil && l.log.Enabled(ctx, slog.LevelInfo)
}

// Write writes an event. The context gives the client and the request.
func (l Log) Write(ctx context.Context, e Entry) {
	if !l.enabled(ctx) {
		return
	}
	if origin, ok := ctx.Value(originKey{}).(Origin); ok {
		e.Client, e.Network, e.Request = origin.Client, clientaddr.Network(origin.Client), origin.Request
	}
	l.log.LogAttrs(ctx, slog.LevelInfo, Message, e.attrs()...)
}

// attrs returns the fields, always in the same order: fail2ban's filter relies on the first three.
func (e Entry) attrs() []slog.Attr {
	attrs := make([]slog.Attr, 0, 12)
	for _, field := range []struct{ name, value string }{
		{"event", string(e.Event)}, {"outcome", string(e.Outcome)}, {"client", e.Client}, {"network", e.Network},
		{"identity", text(e.Identity)}, {"session", text(e.Session)}, {"reason", string(e.Reason)}, {"by", e.By},
		{"command", e.Command}, {"uid", e.UID}, {"app", e.App}, {"request", e.Request},
	} {
		if field.value != "" {
			attrs = append(attrs, slog.String(field.name, field.value))
		}
	}
	if !e.At.IsZero() {
		attrs = append(attrs, slog.Time("at", e.At))
	}
	return attrs
}

func text(id uuid.UUID) string {
	if id == uuid.Nil {
		return ""
	}
	return id.String()
}

// Ended returns the event of a session that has been marked as ended.
func Ended(ctx context.Context, s models.Session) Entry {
	e := Entry{Event: SessionEnded, Outcome: OK, Identity: s.IdentityID, Session: s.ID, Reason: s.EndReason}
	switch s.EndReason {
	case models.EndedByLogout:
		e.Event, e.Reason = SignOut, ""
	case models.EndedByPerson, models.EndedByNewLogin:
		e.By = ByPerson
	case models.EndedByDisabling, models.EndedByOperator, models.EndedByDeletion:
		e.By = ByOperator
	case models.EndedByLimit, models.Expired:
		e.By = BySystem
	case models.EndedByPasswordChange: // an operator's has no request; who has made it isn't known any more once it is swept later
		if _, ok := ctx.Value(originKey{}).(Origin); ok {
			e.By = ByPerson
		}
	}
	return e
}

// Store stores events for a server to log: an operator reads what a command prints, not the log.
func Store(ctx context.Context, events models.SecurityEvents, entries ...Entry) error {
	stored := make([]string, len(entries))
	for i, e := range entries {
		raw, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("store a security event: %w", err)
		}
		stored[i] = string(raw)
	}
	return events.Add(ctx, stored)
}

// Relay logs the events that commands have stored. Each is logged by only one of several servers. A server whose log
// drops them leaves them for the others: see Prune.
func (l Log) Relay(ctx context.Context, events models.SecurityEvents) error {
	if !l.enabled(ctx) {
		return nil
	}
	var unreadable error
	err := background.InBatches(ctx, func() (int, error) {
		taken, err := events.Take(ctx, background.BatchSize)
		for _, event := range taken {
			var e Entry
			if err := json.Unmarshal([]byte(event.Entry), &e); err != nil {
				unreadable = fmt.Errorf("read a stored security event: %w", err)
				continue
			}
			e.At = event.At
			l.Write(ctx, e)
		}
		return len(taken), err
	})
	return errors.Join(unreadable, err)
}

// Prune removes up to limit stored events of before a time, and returns how many it removed. It removes none if
// Relay logs them.
func (l Log) Prune(ctx context.Context, events models.SecurityEvents, before time.Time, limit int) (int, error) {
	if l.enabled(ctx) {
		return 0, nil
	}
	return events.Prune(ctx, before, limit)
}
