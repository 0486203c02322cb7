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
	var hashes [][]byte // of the other tokens
	byHash := map[string]string{}
	for _, token := range tokens {
		if _, ok := byToken[token]; ok || !IsToken(token) {
			continue
		}
		hash := hashToken(token)
		hashes = append(hashes, hash)
		byHash[string(hash)] = token
	}
	if len(hashes) == 0 {
		return byToken, nil
	}
	replaced, err := gorm.G[ReplacedToken](s.db.Query(ctx)).Where("token_hash IN ?", padded(hashes)).Find(ctx)
	if err != nil {
		return nil, fmt.Errorf("find replaced tokens: %w", err)
	}
	if len(replaced) == 0 {
		return byToken, nil
	}
	ids := make([]uuid.UUID, len(replaced))
	for i := range replaced {
		ids[i] = replaced[i].SessionID
	}
	found, err = withIdentity(s.db.Query(ctx)).Where("sessions.id IN ?", padded(ids)).Find(ctx)
	if err != nil {
		return nil, fmt.Errorf("find sessions: %w", err)
	}
	for _, old := range replaced {
		for i := range found {
			if found[i].ID == old.SessionID {
				byToken[byHash[string(old.TokenHash)]] = found[i]
			}
		}
	}
	return byToken, nil
}
