package authn

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/gofrs/uuid/v5"
	"golang.org/x/time/rate"

	"latchkey/app/clientaddr"
	"latchkey/app/password"
	"latchkey/models"
)

// How many wrong passwords are allowed before the next attempt has to wait, and the maximum wait.
//
// An attacker who keeps failing must not lock a person out of their account. So only failures from the same
// network make anybody wait, and a browser in which the person has signed in before is only subject to its own
// limit. Failures from all networks together lengthen the waits of networks that have used up their own free failures,
// so that each network gets an attacker only a few guesses a day at one account.
const (
	freePerSource  = 5 // one account from one network, or one known browser
	freePerNetwork = 100
	freePerAccount = 100 // from all networks
	freeAccounts   = 20  // created from one network
	maxWait        = 15 * time.Minute
	firstSlowWait  = time.Minute // beyond freePerAccount
	maxSlowWait    = time.Hour
)

// The limit on correct passwords of one account: somebody who has one must not fill the hashing queue, or the database
// with sessions. Each instance counts for itself, because the limit protects its CPU.
const (
	rightInARow = 60
	rightEvery  = time.Second // beyond rightInARow
)

// ThrottledError means that there were too many attempts: the password wasn't checked.
type ThrottledError struct {
	what string
	Wait time.Duration // until the next attempt
}

// Error returns two sentences fit to show to the user.
func (e *ThrottledError) Error() string {
	return fmt.Sprintf("%s Try again in %s.", e.what, inWords(e.Wait))
}

// throttled verifies an account's password; email identifies an account that doesn't exist. It returns
// ErrCredentials for a wrong password. Each attempt is counted first, and uncounted if it succeeds or
// couldn't be made, even if the client has disconnected.
func (s *Service) throttled(ctx context.Context, client Client, email string, credential models.Credential, pass string) (stale bool, err error) {
	if wait := s.rights.wait(credential.IdentityID, s.now()); wait > 0 {
		return false, &ThrottledError{tooManyRight, wait}
	}
	network, account := "network:"+clientaddr.Network(client.IP), "account:"+models.NormalizeEmail(email)
	source := models.Limit{Key: clientaddr.Site(client.IP) + " " + account, Free: freePerSource, Most: maxWait}
	others := []models.Limit{
		{Key: network, Free: freePerNetwork, Most: maxWait},
		{Key: account, Free: freePerAccount, Most: maxSlowWait, Slows: firstSlowWait},
	}
	takenBack := []string{network, account}
	// As many attempts as may be wrong run in parallel. The others queue: attempts are counted before they
	// are known to be wrong, so more in parallel would throttle right passwords. All browsers of one account in one
	// network share a queue, so that an account doesn't get more room by having more of them.
	queue := source.Key
	if device, known := client.device(credential, s.now()); known {
		source.Key, others, takenBack = "device:"+device.ID.String(), nil, nil
	}
	if s.hasher.Busy(ctx) { // saves two useless writes
		return false, password.ErrBusy
	}
	leave, err := s.queues.enter(ctx, queue)
	if err != nil {
		return false, err
	}
	defer leave()
	wait, err := s.store.Attempts.Take(ctx, source, others...)
	if err != nil {
		return false, err
	}
	if wait > 0 {
		return false, &ThrottledError{"Too many wrong passwords.", wait}
	}
	ok, stale, err := s.compare(ctx, pass, email, credential.Secret)
	detached := context.WithoutCancel(ctx)
	switch {
	case err != nil: // it wasn't checked
		if err := s.store.Attempts.Succeeded(detached, nil, append(takenBack, source.Key)); err != nil {
			s.log.ErrorContext(ctx, "attempt not taken back", slog.Any("error", err))
		}
		return false, err
	case !ok:
		return false, ErrCredentials
	}
	if err := s.store.Attempts.Succeeded(detached, []string{source.Key}, takenBack); err != nil {
		return false, err
	}
	if wait := s.rights.take(credential.IdentityID, s.now()); wait > 0 {
		return false, &ThrottledError{tooManyRight, wait}
	}
	return stale, nil
}

const tooManyRight = "There have been too many sign-ins to this account."

// rights limits how many correct passwords of each account are accepted. Wrong ones don't count, or strangers could
// use up somebody's limit.
type rights struct {
	mu        sync.Mutex
	byAccount map[uuid.UUID]*rate.Limiter
	tidyAt    int // number of accounts at which to forget the idle ones
}

// wait returns how long an account has to wait before another correct password is accepted.
func (r *rights) wait(account uuid.UUID, now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	limiter := r.byAccount[account]
	if limiter == nil {
		return 0
	}
	return missing(limiter, now)
}

func missing(limiter *rate.Limiter, now time.Time) time.Duration {
	return max(0, time.Duration((1-limiter.TokensAt(now))*float64(rightEvery)))
}

// take counts a correct password, or returns how long to wait because there were too many.
func (r *rights) take(account uuid.UUID, now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.byAccount) >= r.tidyAt {
		maps.DeleteFunc(r.byAccount, func(_ uuid.UUID, l *rate.Limiter) bool { return l.TokensAt(now) >= rightInARow })
		r.tidyAt = 2*len(r.byAccount) + 1000
	}
	limiter := r.byAccount[account]
	if limiter == nil {
		limiter = rate.NewLimiter(rate.Every(rightEvery), rightInARow)
		r.byAccount[account] = limiter
	}
	if !limiter.AllowN(now, 1) {
		return max(missing(limiter, now), time.Millisecond)
	}
	return 0
}

// withTurn returns the context of a client's hashes for an account. Browsers in which people have signed in before have
// turns of their own, so that a flood from everywhere doesn't keep them out.
func (s *Service) withTurn(ctx context.Context, client Client, email string, credential models.Credential) context.Context {
	kind := "new browser"
	if _, known := client.device(credential, s.now()); known {
		kind = "known browser"
	}
	return password.WithTurn(ctx, password.Turn{Kind: kind, Network: clientaddr.Site(client.IP), Account: models.NormalizeEmail(email)})
}

// compare compares a password with a hash, which is empty if there is no account.
func (s *Service) compare(ctx context.Context, pass, email, hash string) (ok, stale bool, err error) {
	if hash == "" {
		return false, false, s.hasher.VerifyNoAccount(ctx, pass, s.draw(models.NormalizeEmail(email)))
	}
	return s.hasher.Verify(ctx, pass, hash)
}

// throttleRegistration counts an account that is about to be created.
func (s *Service) throttleRegistration(ctx context.Context, client Client) error {
	wait, err := s.store.Attempts.Take(ctx, models.Limit{Key: "registration:" + clientaddr.Network(client.IP), Free: freeAccounts, Most: maxWait})
	if err == nil && wait > 0 {
		err = &ThrottledError{"Too many accounts have been created from your network.", wait}
	}
	return err
}

// queues limit the password attempts at one account from one network to freePerSource at a time.
type queues struct {
	mu       sync.Mutex
	bySource map[string]*queue
}

type queue struct {
	places  chan struct{}
	waiting int // attempts that hold a place or wait for one
}

// enter waits for a place in a source's queue. It returns password.ErrBusy if that takes too
// long.
func (q *queues) enter(ctx context.Context, source string) (leave func(), err error) {
	q.mu.Lock()
	own := q.bySource[source]
	if own == nil {
		own = &queue{places: make(chan struct{}, freePerSource)}
		q.bySource[source] = own
	}
	own.waiting++
	q.mu.Unlock()
	release := func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if own.waiting--; own.waiting == 0 {
			delete(q.bySource, source)
		}
	}
	timeout := time.NewTimer(password.RetryAfter)
	defer timeout.Stop()
	select {
	case own.places <- struct{}{}:
		return func() { <-own.places; release() }, nil
	case <-timeout.C:
		err = password.ErrBusy
	case <-ctx.Done():
		err = ctx.Err()
	}
	release()
	return nil, err
}

// inWords formats a wait for a person.
func inWords(d time.Duration) string {
	n, unit := int((d+time.Second-1)/time.Second), "second"
	if n > 90 {
		n, unit = (n+59)/60, "minute"
	}
	if n != 1 {
		unit += "s"
	}
	return fmt.Sprintf("%d %s", n, unit)
}
