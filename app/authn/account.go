package authn

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"strings"

	"github.com/gofrs/uuid/v5"

	"latchkey/app/audit"
	"latchkey/app/clientaddr"
	"latchkey/app/config"
	"latchkey/app/password"
	"latchkey/models"
)

// MaxEmailBytes is the limit of RFC 5321 §4.5.3.1.3 without the angle brackets.
const MaxEmailBytes = 254

// NewAccount is an account to create.
type NewAccount struct {
	Email, Username, Name string // Username and Name may be empty
	Password              string
	// ByOperator is set if an operator chooses all this: the address is taken for the person's.
	ByOperator bool
}

// Refused says what is wrong with a new account, in sentences for the person, by field: "email",
// "username", "name" or "password".
type Refused map[string]error

func (r Refused) Error() string {
	var all []string
	for _, field := range []string{"email", "username", "name", "password"} {
		if err := r[field]; err != nil {
			all = append(all, err.Error())
		}
	}
	return strings.Join(all, " ")
}

// CheckPerson returns nil, or a Refused about anything but the password.
func (account NewAccount) CheckPerson() error {
	refused := Refused{}
	for field, err := range map[string]error{"email": CheckEmail(account.Email), "name": models.CheckName(models.NormalizeName(account.Name)), "username": account.checkUsername()} {
		if err != nil {
			refused[field] = err
		}
	}
	if len(refused) == 0 {
		return nil
	}
	return refused
}

func (account NewAccount) checkUsername() error {
	switch {
	case account.Username == "":
		return nil
	case account.ByOperator:
		return models.CheckUsername(account.Username)
	}
	return models.CheckOwnUsername(account.Username)
}

// Check returns nil, or a Refused.
func (s *Service) Check(account NewAccount) error {
	var refused Refused
	if !errors.As(account.CheckPerson(), &refused) {
		refused = Refused{}
	}
	if err := s.CheckPassword(account.Password, account.Email, account.Username, account.Name); err != nil {
		refused["password"] = err
	}
	if len(refused) == 0 {
		return nil
	}
	return refused
}

// Register creates an account for the person themselves, and starts their first session. With a setup
// token it only succeeds if it is the first account. It returns models.ErrTaken, models.ErrUsernameTaken or
// models.ErrNotFirst.
func (s *Service) Register(ctx context.Context, client Client, account NewAccount, setupToken string, options Options) (*Started, error) {
	started, err := s.register(ctx, client, account, setupToken, options)
	person := uuid.Nil
	if started != nil {
		person = started.Session.IdentityID
	}
	s.record(ctx, audit.Registration, person, started.id(), err)
	return started, err
}

func (s *Service) register(ctx context.Context, client Client, account NewAccount, setupToken string, options Options) (*Started, error) {
	if err := s.throttleRegistration(ctx, client); err != nil {
		return nil, err
	}
	turn := password.Turn{Kind: "new account", Network: clientaddr.Site(client.IP), Account: models.NormalizeEmail(account.Email)}
	identity, credential, err := s.create(password.WithTurn(ctx, turn), account, setupToken)
	if err != nil {
		return nil, err
	}
	s.metrics.Registered()
	proof := models.Proof{Method: models.MethodPassword, AAL: models.AAL1, Credential: credential.ID, Version: credential.Version, At: s.now()}
	return s.start(ctx, client, identity, proof, options)
}

// CreateAccount creates an account for somebody else, for operators. It returns a Refused,
// models.ErrTaken or models.ErrUsernameTaken.
func (s *Service) CreateAccount(ctx context.Context, account NewAccount) (models.Identity, error) {
	account.ByOperator = true
	if err := s.Check(account); err != nil {
		return models.Identity{}, err
	}
	identity, _, err := s.create(ctx, account, "")
	return identity, err
}

// create is the only place that creates accounts.
func (s *Service) create(ctx context.Context, account NewAccount, setupToken string) (models.Identity, models.Credential, error) {
	trust := models.GivenByPerson
	if account.ByOperator {
		trust = models.SetByOperator
	}
	hash, err := s.hasher.Hash(ctx, account.Password)
	if err != nil {
		return models.Identity{}, models.Credential{}, err
	}
	return s.store.Identities.Create(ctx, models.NewIdentity{Email: account.Email, EmailTrust: trust, Username: account.Username, Name: account.Name,
		Credential: models.NewCredential{Method: models.MethodPassword, Secret: hash}, SetupToken: setupToken})
}

// SetPassword replaces a person's password by one that CheckPassword accepts, and ends all their sessions,
// for operators. It returns how many sessions it ended.
func (s *Service) SetPassword(ctx context.Context, identity models.Identity, pass string) (ended int, err error) {
	if err := s.CheckPassword(pass, identity.Email, identity.Username, identity.Name); err != nil {
		return 0, err
	}
	hash, err := s.hasher.Hash(ctx, pass)
	if err != nil {
		return 0, err
	}
	credential, err := s.password(ctx, identity.ID)
	if err != nil {
		return 0, err
	}
	return s.store.Credentials.Replace(ctx, models.CredentialChange{Credential: credential.ID, Secret: hash, EndSessions: true})
}

// Unclaimed reports whether the setup link is the only way in: there is no account yet. Once
// there is one it doesn't query the database again, even if all accounts are deleted.
func (s *Service) Unclaimed(ctx context.Context) (bool, error) {
	if s.settings.Registration == config.RegistrationOpen || s.claimed.Load() {
		return false, nil
	}
	exist, err := s.store.Identities.Exist(ctx)
	if err != nil {
		return false, err
	}
	if exist {
		s.claimed.Store(true)
	}
	return !exist, nil
}

// SetupToken returns the one-time token that allows creating the first account, the same on every instance;
// "" once there is an account.
func (s *Service) SetupToken(ctx context.Context) (string, error) {
	unclaimed, err := s.Unclaimed(ctx)
	if err != nil || !unclaimed {
		return "", err
	}
	return s.store.Identities.SetupToken(ctx)
}

// sentence is an error whose text is shown to the person who caused it.
type sentence string

func (s sentence) Error() string { return string(s) }

// CheckEmail returns nil, or an error fit to show to the user.
func CheckEmail(address string) error {
	if address == "" {
		return sentence("Enter your email address.")
	}
	if len(address) > MaxEmailBytes {
		return sentence("This is too long for an email address.")
	}
	parsed, err := mail.ParseAddress(address)
	if err != nil || parsed.Address != address || strings.ContainsFunc(address, models.Invisible) || strings.Contains(address, `"`) {
		return sentence("This isn't an email address. It should look like ada@example.com.")
	}
	return nil
}

// CheckPassword returns nil, or what is wrong with a new password in a sentence for its owner.
// personal are the person's names and addresses, which others know.
func (s *Service) CheckPassword(pass string, personal ...string) error {
	if pass == "" {
		return sentence("Choose a password.")
	}
	return s.rules.Check(pass, personal...)
}

// PasswordRules returns the password rules as a sentence for the person who chooses one.
func (s *Service) PasswordRules() string {
	return fmt.Sprintf("At least %d characters; a few words work well. Don't use a common password, your name, username or address, or %q.",
		max(s.settings.PasswordMinLength, password.LeastLength), s.settings.SiteName)
}
