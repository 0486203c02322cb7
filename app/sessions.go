package app

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/gofrs/uuid/v5"

	"latchkey/models"
)

// sessionJSON is a session as the client libraries know it.
type sessionJSON struct {
	ID                    uuid.UUID    `json:"id"`
	Active                bool         `json:"active"`
	IssuedAt              time.Time    `json:"issued_at"`
	AuthenticatedAt       time.Time    `json:"authenticated_at"`
	ExpiresAt             time.Time    `json:"expires_at"`
	AuthenticatorLevel    string       `json:"authenticator_assurance_level"`
	AuthenticationMethods []methodJSON `json:"authentication_methods"`
	Identity              identityJSON `json:"identity"`
	Devices               []deviceJSON `json:"devices"`
}

type methodJSON struct {
	Method      string    `json:"method"`
	AAL         string    `json:"aal"`
	CompletedAt time.Time `json:"completed_at"`
}

type identityJSON struct {
	ID                  uuid.UUID       `json:"id"`
	SchemaID            string          `json:"schema_id"`
	SchemaURL           string          `json:"schema_url"`
	State               string          `json:"state"` // active or inactive
	StateChangedAt      time.Time       `json:"state_changed_at"`
	Traits              traitsJSON      `json:"traits"`
	VerifiableAddresses []struct{}      `json:"verifiable_addresses"` // none: Latchkey sends no mail
	RecoveryAddresses   []struct{}      `json:"recovery_addresses"`
	MetadataPublic      json.RawMessage `json:"metadata_public"` // always null
	CreatedAt           time.Time       `json:"created_at"`
	UpdatedAt           time.Time       `json:"updated_at"`
}

type traitsJSON struct {
	Email string `json:"email"`
	Name  string `json:"name,omitempty"`
}

type deviceJSON struct {
	ID        uuid.UUID `json:"id"`
	IPAddress string    `json:"ip_address"`
	UserAgent string    `json:"user_agent"`
	Location  string    `json:"location"` // always empty: addresses are looked up nowhere
}

// appendTo appends what encoding/json makes of the session. It is written by hand, since every
// request of every app waits for it, and reflection takes five times as long.
func (s sessionJSON) appendTo(b []byte) ([]byte, error) {
	var failure error
	id := func(before string, value uuid.UUID) { b = append(append(b, before...), value.String()...) }
	text := func(before, value string) { b = appendJSON(append(b, before...), value) }
	at := func(before string, value time.Time) {
		var err error
		if b, err = value.AppendText(append(b, before...)); err != nil {
			failure = err
		}
	}
	id(`{"id":"`, s.ID)
	b = strconv.AppendBool(append(b, `","active":`...), s.Active)
	at(`,"issued_at":"`, s.IssuedAt)
	at(`","authenticated_at":"`, s.AuthenticatedAt)
	at(`","expires_at":"`, s.ExpiresAt)
	text(`","authenticator_assurance_level":`, s.AuthenticatorLevel)
	b = append(b, `,"authentication_methods":[`...)
	for i, method := range s.AuthenticationMethods {
		if i > 0 {
			b = append(b, ',')
		}
		text(`{"method":`, method.Method)
		text(`,"aal":`, method.AAL)
		at(`,"completed_at":"`, method.CompletedAt)
		b = append(b, `"}`...)
	}
	id(`],"identity":{"id":"`, s.Identity.ID)
	text(`","schema_id":`, s.Identity.SchemaID)
	text(`,"schema_url":`, s.Identity.SchemaURL)
	text(`,"state":`, s.Identity.State)
	at(`,"state_changed_at":"`, s.Identity.StateChangedAt)
	text(`","traits":{"email":`, s.Identity.Traits.Email)
	if s.Identity.Traits.Name != "" {
		text(`,"name":`, s.Identity.Traits.Name)
	}
	at(`},"verifiable_addresses":[],"recovery_addresses":[],"metadata_public":null,"created_at":"`, s.Identity.CreatedAt)
	at(`","updated_at":"`, s.Identity.UpdatedAt)
	b = append(b, `"},"devices":[`...)
	for i, device := range s.Devices {
		if i > 0 {
			b = append(b, ',')
		}
		id(`{"id":"`, device.ID)
		text(`","ip_address":`, device.IPAddress)
		text(`,"user_agent":`, device.UserAgent)
		text(`,"location":`, device.Location)
		b = append(b, '}')
	}
	return append(b, `]}`...), failure
}

// appendJSON appends a text as encoding/json writes it, which is asked wherever something needs escaping.
func appendJSON(b []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			escaped, _ := json.Marshal(text) // of a text, it never fails
			return append(b, escaped...)
		}
	}
	return append(append(append(b, '"'), text...), '"')
}

func (a *App) sessionJSON(c *gin.Context, s *models.Session) sessionJSON {
	identity := s.Identity
	state := "inactive"
	if identity.Active {
		state = "active"
	}
	return sessionJSON{
		ID: s.ID, Active: s.Active(a.Now()), IssuedAt: s.AuthenticatedAt, AuthenticatedAt: s.ConfirmedAt,
		ExpiresAt: s.ExpiresAt, AuthenticatorLevel: "aal1",
		AuthenticationMethods: []methodJSON{{Method: s.Method, AAL: "aal1", CompletedAt: s.ConfirmedAt}},
		Devices:               []deviceJSON{{ID: s.ID, IPAddress: s.IPAddress, UserAgent: s.UserAgent}},
		Identity: identityJSON{
			ID: identity.ID, SchemaID: "default", SchemaURL: a.origin(c) + pathSchema, State: state,
			StateChangedAt: identity.StateChangedAt, Traits: traitsJSON{identity.Email, identity.Name},
			VerifiableAddresses: []struct{}{}, RecoveryAddresses: []struct{}{},
			CreatedAt: identity.CreatedAt, UpdatedAt: identity.UpdatedAt,
		},
	}
}

// whoami answers GET /auth/sessions/whoami.
func (a *App) whoami(c *gin.Context) {
	session, err := a.signedIn(c)
	if err != nil {
		a.fail(c, err)
		return
	}
	body := bodies.Get().(*[]byte)
	defer bodies.Put(body)
	if *body, err = a.sessionJSON(c, session).appendTo((*body)[:0]); err != nil {
		a.fail(c, err)
		return
	}
	h := c.Writer.Header()
	h["X-Kratos-Authenticated-Identity-Id"] = []string{session.IdentityID.String()}
	h["Content-Type"] = jsonText
	_, _ = c.Writer.Write(*body) // an error is the client's, who has gone
}

// bodies are the buffers of answers that have been sent: new ones would be half of what the garbage
// collector has to do.
var bodies = sync.Pool{New: func() any { return new([]byte) }}

// maxPageSize is the largest page of sessions, and the one of who does not ask.
const maxPageSize = 250

// listSessions answers GET /auth/sessions: the person's other active sessions, newest first.
func (a *App) listSessions(c *gin.Context) {
	session, err := a.signedIn(c)
	if err != nil {
		a.fail(c, err)
		return
	}
	query, err := a.query(c)
	if err != nil {
		a.fail(c, err)
		return
	}
	size, after := maxPageSize, models.Position{}
	if given, ok := query["page_size"]; ok {
		if size, err = strconv.Atoi(given[0]); err != nil || len(given) > 1 || size < 1 || size > maxPageSize {
			a.fail(c, errBadRequest.because("page_size must be given once, as a number from 1 to %d.", maxPageSize))
			return
		}
	}
	if given, ok := query["page_token"]; ok {
		if after, err = parsePosition(given[0]); err != nil || len(given) > 1 {
			a.fail(c, errBadRequest.because("page_token must be one from a Link header of this endpoint, given once."))
			return
		}
	}
	page, err := a.store.Sessions.Active(c.Request.Context(), session.IdentityID, session.ID, after, size)
	if err != nil {
		a.fail(c, err)
		return
	}
	wire := make([]sessionJSON, len(page.Sessions))
	for i := range page.Sessions {
		page.Sessions[i].Identity = session.Identity
		wire[i] = a.sessionJSON(c, &page.Sessions[i])
	}
	c.Header("X-Total-Count", strconv.Itoa(page.Total))
	link := func(position, rel string) string {
		query := url.Values{"page_size": {strconv.Itoa(size)}}
		if position != "" {
			query.Set("page_token", position)
		}
		return "<" + a.origin(c) + pathSessions + "?" + query.Encode() + `>; rel="` + rel + `"`
	}
	links := link("", "first")
	if page.More {
		last := page.Sessions[len(page.Sessions)-1]
		links += ", " + link(formatPosition(models.Position{AuthenticatedAt: last.AuthenticatedAt, ID: last.ID}), "next")
	}
	c.Header("Link", links) // RFC 8288
	c.JSON(http.StatusOK, wire)
}

func formatPosition(p models.Position) string {
	raw := binary.BigEndian.AppendUint64(nil, uint64(p.AuthenticatedAt.UnixMicro()))
	return encode64(append(raw, p.ID.Bytes()...))
}

func parsePosition(token string) (models.Position, error) {
	raw := decode64(token)
	if len(raw) != 8+uuid.Size {
		return models.Position{}, errors.New("not a page token")
	}
	return models.Position{
		AuthenticatedAt: time.UnixMicro(int64(binary.BigEndian.Uint64(raw))).UTC(), // #nosec G115 -- what a stranger made up may be any time
		ID:              uuid.UUID(raw[8:]),
	}, nil
}

// endSession answers DELETE /auth/sessions/{id}.
func (a *App) endSession(c *gin.Context) {
	session, err := a.signedIn(c)
	if err == nil {
		err = a.endOther(c, session)
	}
	if err != nil {
		a.fail(c, err)
		return
	}
	c.Status(http.StatusNoContent)
}

// endOther ends the session that the path names, which must be another one of the same person.
func (a *App) endOther(c *gin.Context, session *models.Session) error {
	id, err := uuid.FromString(c.Param("id"))
	if err != nil {
		return errBadRequest.because("The id of a session is a UUID.")
	}
	if id == session.ID {
		return errBadRequest.because("This is the session you are using. To end it, sign out.")
	}
	if !a.recent(session) {
		return errRefresh
	}
	err = a.store.Sessions.EndOwn(c.Request.Context(), session.IdentityID, id)
	if errors.Is(err, models.ErrNotFound) {
		return errNotFound.because("You have no such session.")
	}
	return err
}

// endOtherSessions answers DELETE /auth/sessions.
func (a *App) endOtherSessions(c *gin.Context) {
	session, err := a.signedInLately(c)
	if err != nil {
		a.fail(c, err)
		return
	}
	n, err := a.store.Sessions.EndOthers(c.Request.Context(), session.IdentityID, session.ID)
	if err != nil {
		a.fail(c, err)
		return
	}
	c.JSON(http.StatusOK, gin.H{"count": n})
}
