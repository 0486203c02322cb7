// Package sessions tells apps and API clients who is signed in, and lists and ends a person's sessions.
package sessions

import (
	"encoding/base64"
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

	"latchkey/app/route"
	"latchkey/app/web"
	"latchkey/models"
)

// Session is a session as the client libraries know it.
type Session struct {
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
	Email    string `json:"email"`
	Username string `json:"username,omitempty"`
	Name     string `json:"name,omitempty"`
}

type deviceJSON struct {
	ID        uuid.UUID `json:"id"`
	IPAddress string    `json:"ip_address"`
	UserAgent string    `json:"user_agent"`
	Location  string    `json:"location"` // always empty: addresses aren't looked up
}

// appendTo appends the session as encoding/json would encode it. It doesn't use reflection, which takes
// five times as long: every request to every app waits for this.
func (s Session) appendTo(b []byte) ([]byte, error) {
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
	if s.Identity.Traits.Username != "" {
		text(`,"username":`, s.Identity.Traits.Username)
	}
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

// appendJSON appends text as encoding/json would encode it. It calls encoding/json if anything needs escaping.
func appendJSON(b []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			escaped, _ := json.Marshal(text) // a string never fails
			return append(b, escaped...)
		}
	}
	return append(append(append(b, '"'), text...), '"')
}

// JSON returns a session as the client libraries know it.
func JSON(site *web.Site, c *gin.Context, s *models.Session) Session {
	identity := s.Identity
	state := "inactive"
	if identity.Active {
		state = "active"
	}
	proved := s.Proved()
	methods := make([]methodJSON, len(proved))
	for i, proof := range proved {
		methods[i] = methodJSON{Method: string(proof.Method), AAL: string(proof.AAL), CompletedAt: proof.At}
	}
	return Session{
		ID: s.ID, Active: s.Active(site.Now()), IssuedAt: s.AuthenticatedAt, AuthenticatedAt: s.ConfirmedAt,
		ExpiresAt: s.ExpiresAt, AuthenticatorLevel: string(s.AAL), AuthenticationMethods: methods,
		Devices: []deviceJSON{{ID: s.ID, IPAddress: s.IPAddress, UserAgent: s.UserAgent}},
		Identity: identityJSON{
			ID: identity.ID, SchemaID: "default", SchemaURL: site.Origin(c) + site.Path(route.Schema), State: state,
			StateChangedAt: identity.StateChangedAt, Traits: traitsJSON{identity.Email, identity.Username, identity.Name},
			VerifiableAddresses: []struct{}{}, RecoveryAddresses: []struct{}{},
			CreatedAt: identity.CreatedAt, UpdatedAt: identity.UpdatedAt,
		},
	}
}

// Handler answers requests about sessions.
type Handler struct {
	*web.Site
	store models.Sessions
}

// New returns a Handler.
func New(site *web.Site, store *models.Store) *Handler { return &Handler{site, store.Sessions} }

var errTokenize = web.ErrBadRequest.Because("tokenize_as isn't supported: there are no templates for tokens here. Use the session itself.")

// Whoami answers GET /auth/sessions/whoami, and other methods, which proxies pass on.
func (h *Handler) Whoami(c *gin.Context) {
	if c.Request.URL.RawQuery != "" {
		query, err := h.Query(c)
		if err == nil && query.Has("tokenize_as") {
			err = errTokenize
		}
		if err != nil {
			h.Fail(c, err)
			return
		}
	}
	session, err := h.SignedInOrPassive(c)
	if err != nil {
		h.Fail(c, err)
		return
	}
	body := bodies.Get().(*[]byte)
	defer bodies.Put(body)
	if *body, err = JSON(h.Site, c, session).appendTo((*body)[:0]); err != nil {
		h.Fail(c, err)
		return
	}
	c.Header("X-Kratos-Authenticated-Identity-Id", session.IdentityID.String())
	c.Data(http.StatusOK, "application/json; charset=utf-8", *body)
}

// bodies are reused response buffers: new ones would be half of the garbage collector's work.
var bodies = sync.Pool{New: func() any { return new([]byte) }}

// MaxPageSize is the maximum size of a page of sessions, and the default.
const MaxPageSize = 250

// List answers GET /auth/sessions: the person's other active sessions, newest first.
func (h *Handler) List(c *gin.Context) {
	session, err := h.SignedIn(c)
	if err != nil {
		h.Fail(c, err)
		return
	}
	query, err := h.Query(c)
	if err != nil {
		h.Fail(c, err)
		return
	}
	size, after := MaxPageSize, models.Position{}
	if given, ok := query["page_size"]; ok {
		if size, err = strconv.Atoi(given[0]); err != nil || len(given) > 1 || size < 1 || size > MaxPageSize {
			h.Fail(c, web.ErrBadRequest.Because("page_size must be given once, as a number from 1 to %d.", MaxPageSize))
			return
		}
	}
	if given, ok := query["page_token"]; ok {
		if after, err = parsePosition(given[0]); err != nil || len(given) > 1 {
			h.Fail(c, web.ErrBadRequest.Because("page_token must be given once, as it appears in this endpoint's Link header."))
			return
		}
	}
	page, err := h.store.Active(c.Request.Context(), session.IdentityID, session.ID, after, size)
	if err != nil {
		h.Fail(c, err)
		return
	}
	wire := make([]Session, len(page.Sessions))
	for i := range page.Sessions {
		page.Sessions[i].Identity = session.Identity
		wire[i] = JSON(h.Site, c, &page.Sessions[i])
	}
	c.Header("X-Total-Count", strconv.Itoa(page.Total))
	link := func(position, rel string) string {
		query := url.Values{"page_size": {strconv.Itoa(size)}}
		if position != "" {
			query.Set("page_token", position)
		}
		return "<" + h.Origin(c) + h.Path(route.ListSessions) + "?" + query.Encode() + `>; rel="` + rel + `"`
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
	return base64.RawURLEncoding.EncodeToString(append(raw, p.ID.Bytes()...))
}

func parsePosition(token string) (models.Position, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) != 8+uuid.Size {
		return models.Position{}, errors.New("not a page token")
	}
	return models.Position{
		AuthenticatedAt: time.UnixMicro(int64(binary.BigEndian.Uint64(raw))).UTC(), // #nosec G115 -- a forged token may have any time
		ID:              uuid.UUID(raw[8:]),
	}, nil
}

// End answers DELETE /auth/sessions/{id}.
func (h *Handler) End(c *gin.Context) {
	session, err := h.SignedIn(c)
	if err == nil {
		err = h.EndOther(c, session)
	}
	if err != nil {
		h.Fail(c, err)
		return
	}
	c.Status(http.StatusNoContent)
}

// EndOther ends the session that the path names, which must be another one of the same person.
func (h *Handler) EndOther(c *gin.Context, session *models.Session) error {
	id, err := uuid.FromString(c.Param("id"))
	if err != nil {
		return web.ErrBadRequest.Because("A session id must be a UUID.")
	}
	if id == session.ID {
		return web.ErrBadRequest.Telling("This is the session you are using. To end it, sign out.")
	}
	if !h.Recent(session) {
		return web.ErrRefresh
	}
	err = h.store.EndOwn(c.Request.Context(), session.IdentityID, id)
	if errors.Is(err, models.ErrNotFound) {
		return &web.Problem{Code: http.StatusNotFound, Title: "Session not found", Reason: "You don't have a session with this id.",
			Visitor: "There is no such session of yours. It may have ended long ago."}
	}
	return err
}

// EndOthers answers DELETE /auth/sessions.
func (h *Handler) EndOthers(c *gin.Context) {
	session, err := h.SignedIn(c)
	if err == nil && !h.Recent(session) {
		err = web.ErrRefresh
	}
	if err != nil {
		h.Fail(c, err)
		return
	}
	n, err := h.store.EndOthers(c.Request.Context(), session.IdentityID, session.ID)
	if err != nil {
		h.Fail(c, err)
		return
	}
	c.JSON(http.StatusOK, gin.H{"count": n})
}
