package authn

import (
	"context"
	"errors"

	"github.com/gofrs/uuid/v5"

	"latchkey/app/audit"
	"latchkey/models"
)

// record writes a security event about a person and a session, either of which may be uuid.Nil. Errors that aren't the
// client's fault, such as a busy server, aren't security events.
func (s *Service) record(ctx context.Context, event audit.Event, person, session uuid.UUID, err error) {
	if how := outcome(err); how != "" {
		s.audit.Write(ctx, audit.Entry{Event: event, Outcome: how, Identity: person, Session: session})
	}
}

// id returns the id of the started session, or uuid.Nil.
func (s *Started) id() uuid.UUID {
	if s == nil {
		return uuid.Nil
	}
	return s.Session.ID
}

// outcome returns "" for an error that isn't a security event.
func outcome(err error) audit.Outcome {
	var throttled *ThrottledError
	switch {
	case err == nil:
		return audit.OK
	case errors.Is(err, ErrCredentials):
		return audit.Wrong
	case errors.Is(err, ErrDisabled):
		return audit.Disabled
	case errors.As(err, &throttled):
		return audit.Throttled
	case errors.Is(err, models.ErrTaken), errors.Is(err, models.ErrUsernameTaken):
		return audit.Taken
	case errors.Is(err, models.ErrNotFirst):
		return audit.Refused
	}
	return ""
}
