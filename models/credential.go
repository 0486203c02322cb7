package models

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/uuid/v5"
	"gorm.io/gorm"

	"latchkey/db"
)

// Method is an authentication method.
type Method string

// MethodPassword is authentication by a password.
const MethodPassword Method = "password"

// AAL is an authenticator assurance level (NIST SP 800-63B).
type AAL string

// The levels.
const (
	AAL1 AAL = "aal1" // one factor
	AAL2 AAL = "aal2" // two
)

// Credential is what a person authenticates with. A person may have any number, also of the same method.
type Credential struct {
	ID         uuid.UUID
	IdentityID uuid.UUID
	Method     Method
	Secret     string `gorm:"column:hash"` // for a password, a PHC string
	Name       string // chosen by the person; may be empty
	Version    int    // incremented with each new secret, which invalidates earlier proofs
	CreatedAt  time.Time
	UpdatedAt  time.Time
	LastUsedAt *time.Time // when it last started or confirmed a session; nil for never
}

// NewCredential describes a credential to create.
type NewCredential struct {
	Method Method
	Secret string
	Name   string
}

// Proof records a successful authentication.
type Proof struct {
	Method     Method
	AAL        AAL
	Credential uuid.UUID
	Version    int // of the credential; not stored
	At         time.Time
}

// Proofs is the list of a session's proofs in its stored form. It is one column, so that they come with
// the session in the same read and are parsed only when needed.
type Proofs string

// List returns the proofs, oldest first.
func (p Proofs) List() []Proof {
	all := make([]Proof, 0, 1+strings.Count(string(p), ","))
	for rest := string(p); rest != ""; {
		var entry, method, aal, credential string
		entry, rest, _ = strings.Cut(rest, ",")
		method, entry, _ = strings.Cut(entry, " ")
		aal, entry, _ = strings.Cut(entry, " ")
		credential, at, _ := strings.Cut(entry, " ")
		micros, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			continue // not as String has written it
		}
		all = append(all, Proof{Method: Method(method), AAL: AAL(aal), Credential: uuid.FromStringOrNil(credential), At: time.UnixMicro(micros).UTC()})
	}
	return all
}

// with returns the proofs plus another one, which replaces an earlier proof by the same credential.
func (p Proofs) with(proof Proof) Proofs {
	var entries []string
	for _, old := range p.List() {
		if old.Credential != proof.Credential {
			entries = append(entries, old.String())
		}
	}
	return Proofs(strings.Join(append(entries, proof.String()), ","))
}

// aal returns the highest level of the proofs.
func (p Proofs) aal() AAL {
	level := AAL1
	for _, proof := range p.List() {
		level = max(level, proof.AAL)
	}
	return level
}

// String returns the stored form of the proof.
func (p Proof) String() string {
	return fmt.Sprintf("%s %s %s %d", p.Method, p.AAL, p.Credential, p.At.UnixMicro())
}

// Credentials stores the credentials.
type Credentials struct{ table }

// Of returns a person's credentials of one method, oldest first.
func (s Credentials) Of(ctx context.Context, person uuid.UUID, method Method) ([]Credential, error) {
	found, err := gorm.G[Credential](s.db.Query(ctx)).Where("identity_id = ? AND method = ?", person, method).Order("created_at, id").Find(ctx)
	if err != nil {
		return nil, fmt.Errorf("find the credentials of identity %s: %w", person, err)
	}
	return found, nil
}

// Add adds a credential to a person's account. It returns ErrNotFound if there is no such account.
func (s Credentials) Add(ctx context.Context, person uuid.UUID, in NewCredential) (Credential, error) {
	credential, err := newCredential(person, in, s.now())
	if err == nil {
		err = s.db.Write(ctx, func(tx *db.Tx) error {
			// The row of a deleted account stays until it has been swept. The lock keeps it from being deleted
			// before the commit.
			_, err := gorm.G[Identity](tx.DB, forShare).Select("id").Where("id = ? AND "+there, person).Take(ctx)
			if err != nil {
				return notFound(err)
			}
			return gorm.G[Credential](tx.DB).Create(ctx, &credential)
		})
	}
	if err != nil {
		return Credential{}, fmt.Errorf("add a credential to identity %s: %w", person, err)
	}
	return credential, nil
}

func newCredential(person uuid.UUID, in NewCredential, now time.Time) (Credential, error) {
	id, err := uuid.NewV4()
	return Credential{ID: id, IdentityID: person, Method: in.Method, Secret: in.Secret, Name: in.Name, Version: 1, CreatedAt: now, UpdatedAt: now}, err
}

// Remove removes a person's credential. Sessions that were started with it stay active. It returns
// ErrNotFound if the person has no such credential.
func (s Credentials) Remove(ctx context.Context, person, id uuid.UUID) error {
	n, err := s.update(ctx, func(tx *db.Tx) (int, error) {
		return gorm.G[Credential](tx.DB).Where("id = ? AND identity_id = ?", id, person).Delete(ctx)
	})
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("remove credential %s: %w", id, err)
	}
	return nil
}

// Rehash replaces the hash of an unchanged password with a stronger one. It returns ErrChanged if the
// credential was changed or removed meanwhile.
func (s Credentials) Rehash(ctx context.Context, c Credential, stronger string) error {
	n, err := s.update(ctx, func(tx *db.Tx) (int, error) {
		return gorm.G[Credential](tx.DB).Where("id = ? AND version = ? AND hash = ?", c.ID, c.Version, c.Secret).
			Set(set("hash", stronger)).Update(ctx)
	})
	if err == nil && n == 0 {
		err = ErrChanged
	}
	if err != nil {
		return fmt.Errorf("rehash credential %s: %w", c.ID, err)
	}
	return nil
}

// PasswordCosts counts the stored passwords by their costs, the part of the PHC string before the salt: such as
// "$argon2id$v=19$m=19456,t=2,p=1$".
func (s Credentials) PasswordCosts(ctx context.Context) (map[string]int, error) {
	const base64 = "'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'"
	var rows []struct {
		Costs string
		N     int
	}
	err := s.db.Query(ctx).Raw(`SELECT rtrim(rtrim(rtrim(hash, `+base64+`), '$'), `+base64+`) AS costs, count(*) AS n
		FROM credentials WHERE method = ? GROUP BY costs`, MethodPassword).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("count the costs of passwords: %w", err)
	}
	counts := make(map[string]int, len(rows))
	for _, row := range rows {
		counts[row.Costs] = row.N
	}
	return counts, nil
}

// CredentialChange holds the arguments of Replace.
type CredentialChange struct {
	Credential uuid.UUID
	// Version is the version that the person authenticated with: if another one is stored, Replace
	// returns ErrChanged. An operator passes 0, which skips the check.
	Version int
	Secret  string
	// EndSessions ends all of the person's sessions except Keep.
	EndSessions bool
	Keep        uuid.UUID
}

// Replace changes the secret of a credential and returns how many sessions it ended. It returns
// ErrChanged if the credential was changed or removed meanwhile.
func (s Credentials) Replace(ctx context.Context, change CredentialChange) (ended int, err error) {
	return s.replace(ctx, change, func(*db.Tx, time.Time) error { return nil })
}

// ReplaceAndConfirm changes the secret of the credential that proof is of, and confirms the session as Confirm
// does; endOthers ends the person's other sessions. Either all of that happens or nothing. It returns the same errors
// as Confirm.
func (s Credentials) ReplaceAndConfirm(ctx context.Context, session Session, proof Proof, secret string, endOthers bool) (confirmed Session, err error) {
	change := CredentialChange{Credential: proof.Credential, Version: proof.Version, Secret: secret, EndSessions: endOthers, Keep: session.ID}
	proof.Version++
	_, err = s.replace(ctx, change, func(tx *db.Tx, now time.Time) (err error) {
		confirmed, err = session.confirm(ctx, tx, proof, now)
		return err
	})
	if err != nil {
		return Session{}, err
	}
	return confirmed, nil
}

// replace is Replace, followed by then in the same transaction.
func (s Credentials) replace(ctx context.Context, change CredentialChange, then func(tx *db.Tx, now time.Time) error) (ended int, err error) {
	var person uuid.UUID
	err = s.db.Write(ctx, func(tx *db.Tx) error {
		now := s.now()
		credential, err := gorm.G[Credential](tx.DB).Select("identity_id").Where("id = ?", change.Credential).Take(ctx)
		if errors.Is(err, gorm.ErrRecordNotFound) {
			return ErrChanged
		}
		if err != nil {
			return err
		}
		person, ended = credential.IdentityID, 0
		// The lock order is identity, then credential.
		if change.EndSessions {
			ended, err = raiseFloor(ctx, tx, now, EndedByPasswordChange, person, change.Keep)
		} else {
			_, err = gorm.G[Identity](tx.DB, forShare).Select("id").Where("id = ?", person).Take(ctx)
		}
		if err != nil {
			return err
		}
		n, err := gorm.G[Credential](tx.DB).Where("id = ? AND (version = ? OR ? = 0)", change.Credential, change.Version, change.Version).
			Set(set("hash", change.Secret), set("version", gorm.Expr("version + 1")), set("updated_at", now)).Update(ctx)
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrChanged
		}
		return then(tx, now)
	})
	if err != nil {
		return 0, fmt.Errorf("replace the secret of credential %s: %w", change.Credential, err)
	}
	if change.EndSessions {
		s.sweepFirst(ctx, person, ended)
	}
	return ended, nil
}

// stillProves records the use of the proof's credential. It returns ErrChanged if the person has been
// disabled or deleted, or the credential changed or removed. On PostgreSQL the lock prevents such a change
// until the commit.
func (p Proof) stillProves(ctx context.Context, tx *db.Tx, person uuid.UUID, now time.Time) error {
	_, err := gorm.G[Identity](tx.DB, forShare).Select("id").Where("id = ? AND active", person).Take(ctx)
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return ErrChanged
	}
	if err != nil {
		return err
	}
	return p.use(ctx, tx, person, now)
}

// use is stillProves for a person who is known to be active and whose row is locked.
func (p Proof) use(ctx context.Context, tx *db.Tx, person uuid.UUID, now time.Time) error {
	n, err := gorm.G[Credential](tx.DB).Where("id = ? AND identity_id = ? AND version = ?", p.Credential, person, p.Version).
		Set(set("last_used_at", now)).Update(ctx)
	if err == nil && n == 0 {
		err = ErrChanged
	}
	return err
}
