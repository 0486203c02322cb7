package app

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/gofrs/uuid/v5"

	"latchkey/app/password"
	"latchkey/models"
)

// How often a password may be wrong before the next try has to wait, and how long at most.
//
// One account from one network is slowed down first, then the network, then the account as a
// whole. The others must not keep a person out of their account for as long as somebody goes on
// failing: so the account's own limit lets the first try of every network pass and waits a minute
// at most, and a browser in which the person has signed in before has a limit of its own alone.
const (
	freePerSource  = 5 // one account from one network, or one known browser
	freePerNetwork = 100
	freePerAccount = 100
	freeAccounts   = 20 // made from one network
	longestWait    = 15 * time.Minute
	longestForAll  = time.Minute
)

// tryPassword verifies the password of an address, whose hash is empty if there is no account. A
// wrong one is errCredentials. Each try is counted before it is made, and taken back if it
// succeeds or could not be made, even if its client has gone.
func (a *App) tryPassword(c *gin.Context, email, pass, hash string) (stale bool, err error) {
	ctx := c.Request.Context()
	if a.hasher.Busy(ctx) { // before two writes that would come to nothing
		return false, password.ErrBusy
	}
	email = models.NormalizeEmail(email)
	network, account := "network:"+networkOf(c.ClientIP()), "account:"+email
	source := models.Limit{Key: siteOf(c.ClientIP()) + " " + account, Free: freePerSource, Most: longestWait}
	others := []models.Limit{
		{Key: network, Free: freePerNetwork, Most: longestWait},
		{Key: account, Free: freePerAccount, Most: longestForAll, SparesFirst: true},
	}
	cleared, takenBack := []string{source.Key, account}, []string{network}
	if device := a.knownDevice(c, email, hash); device != "" {
		source.Key, others = "device:"+device, nil
		cleared, takenBack = []string{source.Key}, nil
	}

	// As many as may be wrong go side by side. The others wait in line, since what is counted
	// before it is known to be wrong would turn right passwords away.
	leave, err := a.lines.enter(ctx, source.Key)
	if err != nil {
		return false, err
	}
	defer leave()
	wait, err := a.store.Attempts.Take(ctx, source, others...)
	if err != nil {
		return false, err
	}
	if wait > 0 {
		return false, tooMany("There were too many wrong passwords.", wait)
	}
	ok, stale, err := a.verify(ctx, pass, hash)
	lasting := context.WithoutCancel(ctx)
	switch {
	case err != nil: // it was not looked at
		if err := a.store.Attempts.Succeeded(lasting, nil, append(takenBack, cleared...)); err != nil {
			a.Log.ErrorContext(ctx, "attempt not taken back", slog.Any("error", err))
		}
		return false, err
	case !ok:
		return false, errCredentials
	}
	return stale, a.store.Attempts.Succeeded(lasting, cleared, takenBack)
}

// tryRegistration counts an account that is about to be made, or says for how long to wait.
func (a *App) tryRegistration(c *gin.Context) error {
	wait, err := a.store.Attempts.Take(c.Request.Context(),
		models.Limit{Key: "registration:" + networkOf(c.ClientIP()), Free: freeAccounts, Most: longestWait})
	if err == nil && wait > 0 {
		err = tooMany("Too many accounts were made from your network.", wait)
	}
	return err
}

func tooMany(what string, wait time.Duration) *problem {
	p := errTooMany.because("%s Try again in %s.", what, inWords(wait))
	p.retryAfter = wait
	return p
}

// lines keep the tries at one source's passwords to freePerSource at a time.
type lines struct {
	mu  sync.Mutex
	all map[string]*line
}

type line struct {
	places chan struct{}
	people int // who are in it or want to be
}

// enter waits for a place in the line of that name. It returns password.ErrBusy if there is none
// for too long.
func (l *lines) enter(ctx context.Context, name string) (leave func(), err error) {
	l.mu.Lock()
	at := l.all[name]
	if at == nil {
		at = &line{places: make(chan struct{}, freePerSource)}
		l.all[name] = at
	}
	at.people++
	l.mu.Unlock()
	goAway := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if at.people--; at.people == 0 {
			delete(l.all, name)
		}
	}
	patience := time.NewTimer(password.RetryAfter)
	defer patience.Stop()
	select {
	case at.places <- struct{}{}:
		return func() { <-at.places; goAway() }, nil
	case <-patience.C:
		err = password.ErrBusy
	case <-ctx.Done():
		err = ctx.Err()
	}
	goAway()
	return nil, err
}

// networkOf returns what stands for an address: itself, or for IPv6 its /64, which is the least
// that one person has to themselves (RFC 6177).
func networkOf(ip string) string { return prefixOf(ip, 64) }

// siteOf is networkOf with the /48, which is the most: who has it can't try anew from each of its
// 65,536 networks.
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

// device is what a known browser carries: a sign of an earlier sign-in that signs nobody in. It is
// good for one account, until its password changes.
type device struct {
	ID    uuid.UUID `json:"i"`
	Mark  []byte    `json:"m"` // of the address and its password's hash
	Until time.Time `json:"t"`
}

const deviceLifetime = 180 * 24 * time.Hour

func deviceMark(email, hash string) []byte {
	sum := sha256.Sum256([]byte(email + "\x00" + hash))
	return sum[:16]
}

// knownDevice returns the id of a browser in which the account was signed in to before, or "".
func (a *App) knownDevice(c *gin.Context, email, hash string) string {
	cookie, err := c.Request.Cookie(a.cookies.deviceName)
	if err != nil || hash == "" {
		return ""
	}
	raw, err := a.unseal("device", decode64(cookie.Value))
	if err != nil {
		return ""
	}
	var d device
	if err := json.Unmarshal(raw, &d); err != nil || !bytes.Equal(d.Mark, deviceMark(email, hash)) || !a.Now().Before(d.Until) {
		return ""
	}
	return d.ID.String()
}

// rememberDevice makes this browser one in which the account was signed in to.
func (a *App) rememberDevice(c *gin.Context, email, hash string) error {
	if a.knownDevice(c, email, hash) != "" {
		return nil
	}
	id, err := uuid.NewV4()
	if err != nil {
		return err
	}
	raw, err := json.Marshal(device{ID: id, Mark: deviceMark(email, hash), Until: a.Now().Add(deviceLifetime).UTC()})
	if err != nil {
		return err
	}
	http.SetCookie(c.Writer, a.cookies.cookie(a.cookies.deviceName, encode64(a.seal("device", raw)), int(deviceLifetime/time.Second)))
	return nil
}

// inWords says a wait as a person would.
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
