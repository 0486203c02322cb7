package models

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/gofrs/uuid/v5"
	"gorm.io/gorm"

	"latchkey/db"
)

// Receipt is what a browser holds for a while after a logout. It says what was done, and can be used once to
// end the person's other sessions. It signs nobody in.
type Receipt struct {
	Session    Session   // the one that was signed out, with its identity
	Everywhere bool      // the other sessions were ended too
	Ended      int       // how many other sessions were ended
	At         time.Time // time of the logout
	number     int64     // the person's last session number at the time of the logout
}

// ReceiptLifetime is how long a receipt is valid after the logout.
const ReceiptLifetime = 5 * time.Minute

// receiptPayload is the stored form of a receipt.
type receiptPayload struct {
	Session    uuid.UUID `json:"session"`
	Identity   uuid.UUID `json:"identity"`
	Everywhere bool      `json:"everywhere,omitempty"`
	Ended      int       `json:"ended,omitempty"`
	At         time.Time `json:"at"`
	Number     int64     `json:"number"`
}

func issueReceipt(ctx context.Context, tx *db.Tx, now time.Time, payload receiptPayload) (token string, err error) {
	stored, err := json.Marshal(payload)
	if err != nil {
		return "", err
	}
	return issue(ctx, tx, purposeReceipt, stored, now, payload.At.Add(ReceiptLifetime))
}

// SignOut ends a session, and others that the client had, for the reason EndedByLogout. It returns the token of a
// receipt for the first, or "" if withReceipt is false. It is no error if a session has ended already or doesn't
// exist.
func (s Sessions) SignOut(ctx context.Context, session *Session, others []uuid.UUID, withReceipt bool) (receipt string, err error) {
	ids := append([]uuid.UUID{session.ID}, others...)
	_, err = s.ending(ctx, func(tx *db.Tx) (Ended, error) {
		now := s.now()
		ended, err := end(ctx, tx, now, EndedByLogout, "id IN ?", padded(ids))
		if err != nil || !withReceipt {
			return ended, err
		}
		number, err := lastNumber(ctx, tx, session.IdentityID)
		if err == nil {
			receipt, err = issueReceipt(ctx, tx, now, receiptPayload{Session: session.ID, Identity: session.IdentityID, At: now, Number: number})
		}
		return ended, err
	})
	if err != nil {
		return "", fmt.Errorf("sign out of session %s: %w", session.ID, err)
	}
	return receipt, nil
}

// lastNumber returns the number of a person's latest session, or 0 if there is no such person.
func lastNumber(ctx context.Context, tx *db.Tx, person uuid.UUID) (int64, error) {
	found, err := gorm.G[Identity](tx.DB).Select("last_session_number").Where("id = ?", person).Find(ctx)
	if err != nil || len(found) == 0 {
		return 0, err
	}
	return found[0].LastSessionNumber, nil
}

// Receipt returns the receipt with a token. It returns ErrNotFound if there is none or it is no longer valid:
// it has been used or has expired, the session ended for another reason than the logout, or the person has
// been disabled or deleted.
func (s Sessions) Receipt(ctx context.Context, token string) (Receipt, error) {
	payload, err := SingleUse(s).Find(ctx, purposeReceipt, token)
	var receipt Receipt
	if err == nil {
		receipt, err = readReceipt(ctx, s.db.Query(ctx), payload)
	}
	if err != nil {
		return Receipt{}, fmt.Errorf("find a receipt: %w", err)
	}
	return receipt, nil
}

func readReceipt(ctx context.Context, from *gorm.DB, payload []byte) (Receipt, error) {
	var stored receiptPayload
	if err := json.Unmarshal(payload, &stored); err != nil {
		return Receipt{}, err
	}
	session, err := withIdentity(from).Where("sessions.id = ?", stored.Session).Take(ctx)
	if err == nil && (session.IdentityID != stored.Identity || session.EndReason != EndedByLogout || !session.Identity.Active) {
		err = ErrNotFound
	}
	if err != nil {
		return Receipt{}, notFound(err)
	}
	return Receipt{Session: session, Everywhere: stored.Everywhere, Ended: stored.Ended, At: stored.At, number: stored.Number}, nil
}

// keptSince matches sessions that began before a logout but have got a new number since, because the person
// ended all their other sessions from them.
const keptSince = "identity_id = ? AND number > ? AND authenticated_at < ?"

// CountOlder returns how many active sessions EndOlder would end.
func (s Sessions) CountOlder(ctx context.Context, r Receipt) (int, error) {
	person, now := r.Session.IdentityID, s.now()
	numbered, err := activeOf(s.db.Query(ctx), person, now).Where("number <= ?", r.number).Count(ctx, "*")
	if err != nil {
		return 0, fmt.Errorf("count the older sessions of %s: %w", person, err)
	}
	kept, err := activeOf(s.db.Query(ctx), person, now).Where(keptSince, person, r.number, r.At).Count(ctx, "*")
	if err != nil {
		return 0, fmt.Errorf("count the older sessions of %s: %w", person, err)
	}
	return int(numbered + kept), nil
}

// EndOlder uses a receipt: it ends the person's sessions that began before the logout. It returns the token
// of a new receipt, which says so. It returns ErrNotFound under the same conditions as Receipt, and for a
// receipt with Everywhere set; of several concurrent calls, one succeeds.
func (s Sessions) EndOlder(ctx context.Context, receipt string) (newReceipt string, err error) {
	var person uuid.UUID
	var older int
	_, err = s.ending(ctx, func(tx *db.Tx) (Ended, error) {
		now := s.now()
		payload, err := use(ctx, tx, purposeReceipt, receipt, now)
		if err != nil {
			return nil, err
		}
		used, err := readReceipt(ctx, tx.WithContext(ctx), payload)
		if err != nil {
			return nil, err
		}
		if used.Everywhere {
			return nil, ErrNotFound
		}
		person = used.Session.IdentityID
		if older, err = raiseFloorTo(ctx, tx, now, EndedByPerson, person, used.number+1); err != nil {
			return nil, err
		}
		kept, err := end(ctx, tx, now, EndedByPerson, keptSince, person, used.number, used.At)
		if err != nil {
			return nil, err
		}
		newReceipt, err = issueReceipt(ctx, tx, now, receiptPayload{Session: used.Session.ID, Identity: used.Session.IdentityID, At: used.At, Number: used.number,
			Everywhere: true, Ended: older + kept.By(EndedByPerson)})
		return kept, err
	})
	if err != nil {
		return "", fmt.Errorf("end the sessions before a logout: %w", err)
	}
	s.sweepFirst(ctx, person, older)
	return newReceipt, nil
}

// EndEverywhere signs a person out of the session they are using and of others that the client had, whoever's, and
// ends all of the person's own. It returns the token of a receipt that says so, or "" if withReceipt is false.
func (s Sessions) EndEverywhere(ctx context.Context, session *Session, held []uuid.UUID, withReceipt bool) (receipt string, err error) {
	person := session.IdentityID
	var others int
	_, err = s.ending(ctx, func(tx *db.Tx) (Ended, error) {
		now := s.now()
		this, err := end(ctx, tx, now, EndedByLogout, "id = ? AND identity_id = ? OR id IN ?", session.ID, person, padded(held))
		if err != nil {
			return nil, err
		}
		others, err = raiseFloor(ctx, tx, now, EndedByPerson, person, uuid.Nil)
		if err != nil || !withReceipt {
			return this, err
		}
		receipt, err = issueReceipt(ctx, tx, now, receiptPayload{Session: session.ID, Identity: session.IdentityID, At: now, Everywhere: true, Ended: others})
		return this, err
	})
	if err != nil {
		return "", fmt.Errorf("end the sessions of %s: %w", person, err)
	}
	s.sweepFirst(ctx, person, others)
	return receipt, nil
}
