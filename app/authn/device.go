package authn

import (
	"slices"
	"time"

	"github.com/gofrs/uuid/v5"

	"latchkey/models"
)

// Device marks a known browser: proof of an earlier sign-in, which doesn't sign anybody in. It is valid for
// one credential, until that changes.
type Device struct {
	ID         uuid.UUID `json:"i"`
	Credential uuid.UUID `json:"c"`
	Version    int       `json:"v"`
	Until      time.Time `json:"t"`
}

// DeviceLifetime is how long a browser is remembered.
const DeviceLifetime = 180 * 24 * time.Hour

// knows reports whether the credential was used in this browser before.
func (d Device) knows(credential models.Credential, now time.Time) bool {
	return credential.ID != uuid.Nil && d.Credential == credential.ID && d.Version == credential.Version && now.Before(d.Until)
}

// device returns the browser's Device for a credential, and whether there is one.
func (c Client) device(credential models.Credential, now time.Time) (Device, bool) {
	i := slices.IndexFunc(c.Devices, func(d Device) bool { return d.knows(credential, now) })
	if i < 0 {
		return Device{}, false
	}
	return c.Devices[i], true
}

// deviceFor returns the Device to give the browser after a proof, nil if it has a valid one.
func (s *Service) deviceFor(client Client, proof models.Proof) (*Device, error) {
	if _, known := client.device(models.Credential{ID: proof.Credential, Version: proof.Version}, s.now()); known {
		return nil, nil
	}
	id, err := uuid.NewV4()
	if err != nil {
		return nil, err
	}
	return &Device{ID: id, Credential: proof.Credential, Version: proof.Version, Until: s.now().Add(DeviceLifetime).UTC()}, nil
}
