// Package authn is authentication, without HTTP: it verifies passwords, with throttling, starts and confirms
// sessions, creates accounts and changes their passwords. Pages, API and command line all use it.
package authn

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/gofrs/uuid/v5"
	"golang.org/x/time/rate"

	"latchkey/app/audit"
	"latchkey/app/background"
	"latchkey/app/config"
	"latchkey/app/metrics"
	"latchkey/app/password"
	"latchkey/db"
	"latchkey/models"
)

// Service signs people in.
type Service struct {
	settings *config.Settings
	store    *models.Store
	hasher   *password.Hasher
	rules    password.Rules
	writes   *background.Queue
	metrics  *metrics.Metrics
	log      *slog.Logger
	audit    audit.Log
	now      func() time.Time
	queues   queues
	rights   rights
	draw     func(string) uint64 // a number for an address without an account
	claimed  atomic.Bool         // there has been an account: see Unclaimed
}

// New returns a Service. writes runs the writes that no response waits for, and may be nil.
func New(settings *config.Settings, store *models.Store, writes *background.Queue, log *slog.Logger, now func() time.Time) *Service {
	return &Service{settings: settings, store: store, hasher: password.NewHasher(settings.PasswordParams()),
		rules:  password.Rules{MinLength: settings.PasswordMinLength, SiteName: settings.SiteName},
		writes: writes, log: log, audit: audit.New(log), draw: func(string) uint64 { return 0 }, now: now, queues: queues{bySource: map[string]*queue{}}, rights: rights{byAccount: map[uuid.UUID]*rate.Limiter{}}}
}

// Observe sets the metrics that count sign-ins. Call it before the Service is used.
func (s *Service) Observe(m *metrics.Metrics) { s.metrics = m }

// Draw sets the function that returns a fixed, secret number for an address. It decides which costs an address without
// an account gets. Call it before the Service is used.
func (s *Service) Draw(draw func(address string) uint64) { s.draw = draw }

// LearnCosts reads the costs of the stored hashes, for addresses without an account.
func (s *Service) LearnCosts(ctx context.Context) error {
	counts, err := s.store.Credentials.PasswordCosts(ctx)
	if err == nil {
		s.hasher.Dummies.Update(counts)
	}
	return err
}

// Hasher returns the Hasher of passwords.
func (s *Service) Hasher() *password.Hasher { return s.hasher }

// Client describes the client of a request.
type Client struct {
	IP        string
	UserAgent string
	Devices   []Device // from earlier sign-ins in this browser
	RequestID string   // for the log
}

// Errors that callers distinguish, besides *ThrottledError and password.ErrBusy.
var (
	ErrCredentials = errors.New("wrong credentials")
	ErrDisabled    = errors.New("identity disabled")
)

// SignIn verifies a password and starts a session. login is an address or a username. An unknown login takes
// the same time, and returns the same error, as a wrong password. It returns ErrCredentials, ErrDisabled,
// password.ErrBusy or a *ThrottledError.
func (s *Service) SignIn(ctx context.Context, client Client, login, pass string, options Options) (*Started, error) {
	identity, credential, err := s.find(ctx, login)
	var started *Started
	if err == nil {
		started, err = s.signIn(ctx, client, login, identity, credential, pass, options)
	}
	s.metrics.SignIn(result(err))
	s.record(ctx, audit.SignIn, identity.ID, started.id(), err)
	return started, err
}

func (s *Service) signIn(ctx context.Context, client Client, login string, identity models.Identity, credential models.Credential, pass string, options Options) (*Started, error) {
	proof, err := s.verify(ctx, client, login, identity, credential, pass)
	if err != nil {
		return nil, err
	}
	started, err := s.startOrConfirm(ctx, client, identity, proof, options)
	if errors.Is(err, models.ErrChanged) { // during verification
		return nil, s.recordFailure(ctx, client, identity.ID, ErrCredentials)
	}
	return started, err
}

// find returns the account with an address or username and its password; zero values if there is none.
// An unknown login costs the same two reads as a known one.
func (s *Service) find(ctx context.Context, login string) (models.Identity, models.Credential, error) {
	identity, err := s.store.Identities.ByLogin(ctx, login)
	if err != nil && !errors.Is(err, models.ErrNotFound) {
		return models.Identity{}, models.Credential{}, err
	}
	credential, err := s.password(ctx, identity.ID)
	return identity, credential, err
}

// password returns a person's password credential, or the zero value if they have none.
func (s *Service) password(ctx context.Context, person uuid.UUID) (models.Credential, error) {
	found, err := s.store.Credentials.Of(ctx, person, models.MethodPassword)
	if err != nil || len(found) == 0 {
		return models.Credential{}, err
	}
	return found[0], nil
}

// verify compares a password with a credential, whose secret is "" if there is no account, and
// upgrades an old hash. Failures are recorded.
func (s *Service) verify(ctx context.Context, client Client, login string, identity models.Identity, credential models.Credential, pass string) (models.Proof, error) {
	email := cmp.Or(identity.Email, login)
	ctx = s.withTurn(ctx, client, email, credential)
	stale, err := s.throttled(ctx, client, email, credential, pass)
	if err == nil && !identity.Active {
		err = ErrDisabled
	}
	if err != nil {
		return models.Proof{}, s.recordFailure(ctx, client, identity.ID, err)
	}
	if stale {
		s.rehash(ctx, credential, pass)
	}
	return models.Proof{Method: models.MethodPassword, AAL: models.AAL1, Credential: credential.ID, Version: credential.Version, At: s.now()}, nil
}

// rehash upgrades a hash to the current parameters. If that fails, the old hash is kept: that is no reason
// to refuse the sign-in.
func (s *Service) rehash(ctx context.Context, credential models.Credential, pass string) {
	stronger, err := s.hasher.Hash(ctx, pass)
	if err == nil {
		err = s.store.Credentials.Rehash(ctx, credential, stronger)
	}
	if err != nil && !errors.Is(err, models.ErrChanged) {
		s.log.WarnContext(ctx, "password not rehashed", slog.Any("error", err))
	}
}

// Options of the session that a sign-in starts.
type Options struct {
	Token    bool        // for a client that keeps its token itself
	Remember bool        // the cookie outlives the browser session
	Replaces []uuid.UUID // the browser's previous sessions, which end
	// Confirms is a session that continues with a new token if it is the same person's; may be nil.
	Confirms *models.Session
}

// Started is a session that has just been started or confirmed.
type Started struct {
	Session *models.Session
	// Device is to be stored in the browser; nil if it has a valid one.
	Device *Device
}

func (s *Service) start(ctx context.Context, client Client, identity models.Identity, proof models.Proof, options Options) (*Started, error) {
	in := models.SignIn{
		Identity: identity, Proof: proof, IPAddress: client.IP, UserAgent: client.UserAgent,
		Lifetime: s.settings.SessionLifetime, Idle: s.settings.SessionIdle,
		Replaces: options.Replaces, Limit: s.settings.MaxSessions,
	}
	if options.Remember || options.Token {
		in.Lifetime, in.Idle, in.Remember = s.settings.RememberLifetime, s.settings.RememberIdle, options.Remember
	}
	session, err := s.store.Sessions.Start(ctx, in)
	if err != nil {
		return nil, err
	}
	s.metrics.SessionStarted()
	return s.started(client, proof, session, options)
}

// started returns a session with the Device to give the browser.
func (s *Service) started(client Client, proof models.Proof, session models.Session, options Options) (started *Started, err error) {
	started = &Started{Session: &session}
	if !options.Token {
		started.Device, err = s.deviceFor(client, proof)
	}
	return started, err
}

// startOrConfirm confirms the session of the options if it is the person's, and otherwise starts one.
func (s *Service) startOrConfirm(ctx context.Context, client Client, identity models.Identity, proof models.Proof, options Options) (*Started, error) {
	if options.Confirms == nil || options.Confirms.IdentityID != identity.ID {
		return s.start(ctx, client, identity, proof, options)
	}
	confirmed, err := s.store.Sessions.Confirm(ctx, *options.Confirms, proof, options.Replaces...)
	if errors.Is(err, models.ErrNotFound) { // it has ended meanwhile
		return s.start(ctx, client, identity, proof, options)
	}
	if err != nil {
		return nil, err
	}
	return s.started(client, proof, confirmed, options)
}

// Confirm verifies the password of somebody who is signed in, and gives their session a new token. It
// returns models.ErrNotFound if the session has ended in the meantime.
func (s *Service) Confirm(ctx context.Context, client Client, session *models.Session, pass string) (*models.Session, error) {
	confirmed, err := s.confirm(ctx, client, session, pass)
	s.record(ctx, audit.Confirmation, session.IdentityID, session.ID, err)
	return confirmed, err
}

func (s *Service) confirm(ctx context.Context, client Client, session *models.Session, pass string) (*models.Session, error) {
	proof, err := s.prove(ctx, client, session.Identity, pass)
	if err != nil {
		return nil, err
	}
	confirmed, err := s.store.Sessions.Confirm(ctx, *session, proof)
	if err != nil {
		return nil, wrongIfChanged(err)
	}
	return &confirmed, nil
}

// prove verifies the password of a signed-in person.
func (s *Service) prove(ctx context.Context, client Client, identity *models.Identity, pass string) (models.Proof, error) {
	credential, err := s.password(ctx, identity.ID)
	if err != nil {
		return models.Proof{}, err
	}
	return s.verify(ctx, client, identity.Email, *identity, credential, pass)
}

// ChangePassword changes the password of somebody who is signed in, to one that CheckPassword accepts,
// and confirms their session; endOthers ends all others. It returns ErrCredentials if the old one is
// wrong, and models.ErrNotFound if the session has ended in the meantime.
func (s *Service) ChangePassword(ctx context.Context, client Client, session *models.Session, old, pass string, endOthers bool) (*Started, error) {
	started, err := s.changePassword(ctx, client, session, old, pass, endOthers)
	s.record(ctx, audit.PasswordChanged, session.IdentityID, session.ID, err)
	return started, err
}

func (s *Service) changePassword(ctx context.Context, client Client, session *models.Session, old, pass string, endOthers bool) (*Started, error) {
	proof, err := s.prove(ctx, client, session.Identity, old)
	if err != nil {
		return nil, err
	}
	current := models.Credential{ID: proof.Credential, Version: proof.Version}
	hash, err := s.hasher.Hash(s.withTurn(ctx, client, session.Identity.Email, current), pass)
	if err != nil {
		return nil, err
	}
	confirmed, err := s.store.Credentials.ReplaceAndConfirm(ctx, *session, proof, hash, endOthers)
	if err != nil {
		return nil, wrongIfChanged(err)
	}
	proof.Version++
	device, err := s.deviceFor(client, proof)
	return &Started{Session: &confirmed, Device: device}, err
}

// wrongIfChanged returns ErrCredentials if the credential was changed while it was being verified.
func wrongIfChanged(err error) error {
	if errors.Is(err, models.ErrChanged) {
		return ErrCredentials
	}
	return err
}

// recordFailure records a failed attempt in the account's activity, and returns err. It does nothing if err
// is nil or not the client's fault. Without an account it does the same work, so that the client can't tell
// the difference.
func (s *Service) recordFailure(ctx context.Context, client Client, person uuid.UUID, err error) error {
	if !errors.Is(err, ErrCredentials) && !errors.Is(err, ErrDisabled) {
		return err
	}
	failure := models.Failure{IdentityID: person, LastAt: s.now(), IPAddress: client.IP, UserAgent: client.UserAgent}
	enqueued := s.writes.Enqueue(func(ctx context.Context) error {
		err := s.store.Activities.RecordFailure(ctx, failure)
		if errors.Is(err, models.ErrNotFound) {
			return nil // no account
		}
		return err
	})
	if !enqueued {
		s.log.WarnContext(ctx, "failed sign-in not recorded: too many writes are waiting", slog.String("request", client.RequestID))
	}
	return err
}

// result returns the outcome of a sign-in for the metrics.
func result(err error) metrics.Result {
	var throttled *ThrottledError
	switch {
	case err == nil:
		return metrics.OK
	case errors.Is(err, ErrCredentials):
		return metrics.WrongCredentials
	case errors.Is(err, ErrDisabled):
		return metrics.Disabled
	case errors.Is(err, password.ErrBusy), errors.Is(err, db.ErrBusy):
		return metrics.Busy
	case errors.Is(err, context.Canceled):
		return metrics.Canceled
	case errors.As(err, &throttled):
		return metrics.Throttled
	}
	return metrics.Error
}
