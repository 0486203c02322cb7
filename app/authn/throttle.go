package authn

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"latchkey/app/password"
	"latchkey/models"
)

// How many wrong passwords are allowed before the next attempt has to wait, and the maximum wait.
//
// One account from one network is slowed down first, then the network, then the account as a
// whole. An attacker who keeps failing must not lock a person out of their account: so the account's
// own limit never blocks the first attempt from a network and waits a minute at most, and a browser in
// which the person has signed in before is only subject to its own limit.
const (
	freePerSource  = 5 // one account from one network, or one known browser
	freePerNetwork = 100
	freePerAccount = 100
	freeAccounts   = 20 // created from one network
	maxWait        = 15 * time.Minute
	maxAccountWait = time.Minute
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
	if s.hasher.Busy(ctx) { // saves two useless writes
		return false, password.ErrBusy
	}
	network, account := "network:"+networkOf(client.IP), "account:"+models.NormalizeEmail(email)
	source := models.Limit{Key: siteOf(client.IP) + " " + account, Free: freePerSource, Most: maxWait}
	others := []models.Limit{
		{Key: network, Free: freePerNetwork, Most: maxWait},
		{Key: account, Free: freePerAccount, Most: maxAccountWait, SparesFirst: true},
	}
	cleared, takenBack := []string{source.Key, account}, []string{network}
	if client.Device.knows(credential, s.now()) {
		source.Key, others = "device:"+client.Device.ID.String(), nil
		cleared, takenBack = []string{source.Key}, nil
	}

	// As many attempts as may be wrong run in parallel. The others queue: attempts are counted before they
	// are known to be wrong, so more in parallel would throttle right passwords.
	leave, err := s.queues.enter(ctx, source.Key)
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
	ok, stale, err := s.compare(ctx, pass, credential.Secret)
	detached := context.WithoutCancel(ctx)
	switch {
	case err != nil: // it wasn't checked
		if err := s.store.Attempts.Succeeded(detached, nil, append(takenBack, cleared...)); err != nil {
			s.log.ErrorContext(ctx, "attempt not taken back", slog.Any("error", err))
		}
		return false, err
	case !ok:
		return false, ErrCredentials
	}
	return stale, s.store.Attempts.Succeeded(detached, cleared, takenBack)
}

// compare compares a password with a hash, which is empty if there is no account.
func (s *Service) compare(ctx context.Context, pass, hash string) (ok, stale bool, err error) {
	if hash == "" {
		return false, false, s.hasher.VerifyNobody(ctx, pass)
	}
	return s.hasher.Verify(ctx, pass, hash)
}

// throttleRegistration counts an account that is about to be created.
func (s *Service) throttleRegistration(ctx context.Context, client Client) error {
	wait, err := s.store.Attempts.Take(ctx, models.Limit{Key: "registration:" + networkOf(client.IP), Free: freeAccounts, Most: maxWait})
	if err == nil && wait > 0 {
		err = &ThrottledError{"Too many accounts have been created from your network.", wait}
	}
	return err
}

// queues limit the password attempts of each source to freePerSource at a time.
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

// networkOf returns what stands for an address: itself, or for IPv6 its /64, which is the smallest
// prefix that a site gets (RFC 6177).
func networkOf(ip string) string { return prefixOf(ip, 64) }

// siteOf is networkOf with the /48, the largest prefix that a site gets: an attacker who has one can't start
// afresh from each of its 65,536 networks.
func siteOf(ip string) string { return prefixOf(ip, 48) }

func prefixOf(ip string, bits int) string {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return ip
	}
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return addr.String()
	}
	return netip.PrefixFrom(addr, bits).Masked().String()
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
