package models

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gofrs/uuid/v5"
	"gorm.io/gorm"

	"latchkey/db"
)

// ReplacedToken is a token that a confirmation has replaced. Its session can still be ended with it, and
// nothing else: a client may never have received the new one.
type ReplacedToken struct {
	TokenHash []byte    // SHA-256
	SessionID uuid.UUID // with which it is removed
}

// keepReplaced keeps the token of a session that is about to get a new one.
func keepReplaced(ctx context.Context, tx *db.Tx, session uuid.UUID, hash []byte) error {
	return gorm.G[ReplacedToken](tx.DB).Create(ctx, &ReplacedToken{TokenHash: hash, SessionID: session})
}

// IsToken reports whether a text may be the token of a session.
func IsToken(text string) bool { return len(text) == tokenLength }

// ByTokens returns the sessions of several tokens, in no particular order, whether they are active or not, with
// their identities. It is ByToken for the rare client that presents more than one.
func (s Sessions) ByTokens(ctx context.Context, tokens []string) ([]Session, error) {
	var found []Session
	for i, token := range tokens {
		if slices.Contains(tokens[:i], token) {
			continue
		}
		session, err := s.ByToken(ctx, token)
		switch {
		case err == nil:
			found = append(found, session)
		case !errors.Is(err, ErrNotFound):
			return nil, err
		}
	}
	return found, nil
}

// lookupTimeout is for requests without a time limit of their own, as ByToken has one.
const lookupTimeout = 5 * time.Second

// ToEnd returns the sessions that a client may end with its tokens, by token, whether they are active or not, with
// their identities: those of ByTokens, and those whose token has been replaced, which have no Token.
func (s Sessions) ToEnd(ctx context.Context, tokens []string) (map[string]Session, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found, err := s.ByTokens(ctx, tokens) // first: a token that is replaced meanwhile is found below
	if err != nil {
		return nil, err
	}
	byToken := make(map[string]Session, len(tokens))
	for _, session := range found {
		byToken[session.Token] = session
	}
	for _, token := range tokens {
		if _, known := byToken[token]; known || !IsToken(token) {
			continue
		}
		session, err := s.byReplacedToken(ctx, token)
		switch {
		case err == nil:
			byToken[token] = session
		case !errors.Is(err, ErrNotFound):
			return nil, err
		}
	}
	return byToken, nil
}

func (s Sessions) byReplacedToken(ctx context.Context, token string) (Session, error) {
	session, err := withIdentity(s.db.Query(ctx)).
		Where("sessions.id = (SELECT session_id FROM replaced_tokens WHERE token_hash = ?)", hashToken(token)).Take(ctx)
	if err != nil {
		return Session{}, fmt.Errorf("find the session of a replaced token: %w", notFound(err))
	}
	return session, nil
}
