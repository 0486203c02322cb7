package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
)

// UI is a page of the operator's own UI that replaces one of Latchkey's; nil means Latchkey's.
type UI struct{ page url.URL }

// With returns the page's URL with a parameter in its query.
func (u *UI) With(name, value string) string {
	page := u.page
	query := page.Query()
	query.Set(name, value)
	page.RawQuery = query.Encode()
	return page.String()
}

// Origin returns the scheme and host of the page, "" if they are Latchkey's own or there is no page.
func (u *UI) Origin() string {
	if u == nil || u.page.Host == "" {
		return ""
	}
	return u.page.Scheme + "://" + u.page.Host
}

// uiSetting is a setting that names a page of the operator's own UI.
type uiSetting struct {
	setting, value string
	page           **UI
}

func (s *Settings) uis() []uiSetting {
	return []uiSetting{
		{"LOGIN_UI_URL", s.LoginUIURL, &s.LoginUI},
		{"REGISTRATION_UI_URL", s.RegistrationUIURL, &s.RegistrationUI},
		{"ERROR_UI_URL", s.ErrorUIURL, &s.ErrorUI},
	}
}

// parseUIs parses the settings that name pages of the operator's own UI.
func (s *Settings) parseUIs() (err error) {
	for _, ui := range s.uis() {
		if *ui.page, err = s.parseUI(ui.value); err != nil {
			return fmt.Errorf("%s is %q: %w", ui.setting, ui.value, err)
		}
	}
	return nil
}

func (s *Settings) parseUI(value string) (*UI, error) {
	if value == "" {
		return nil, nil
	}
	checked, err := checkTarget(value)
	if err != nil {
		return nil, err
	}
	page, err := url.Parse(checked)
	if err != nil {
		return nil, err
	}
	ui := &UI{page: *page}
	if origin := ui.Origin(); (origin == "" || origin == s.BaseOrigin) && s.BasePath.Has(page.Path) {
		return nil, errors.New("that is a page of Latchkey: leave the setting out to use it")
	}
	return ui, nil
}

// UIOrigins returns the origins of the operator's own UI, other than Latchkey's.
func (s *Settings) UIOrigins() (origins []string) {
	for _, ui := range s.uis() {
		if origin := (*ui.page).Origin(); origin != "" && origin != s.BaseOrigin && !slices.Contains(origins, origin) {
			origins = append(origins, origin)
		}
	}
	return origins
}
