package config

import (
	"errors"
	"fmt"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"latchkey/app/returnto"
)

// Link is a text and its URL, which may be "".
type Link struct{ Text, URL string }

const (
	maxContactRunes = 200
	maxLinks        = 10
	maxLabelRunes   = 40
)

// logoExtensions are the file extensions that SITE_LOGO may have.
var logoExtensions = []string{".svg", ".png", ".jpg", ".jpeg", ".webp"}

// maxLogoBytes is the maximum size of SITE_LOGO.
const maxLogoBytes = 256 << 10

var hexColour = regexp.MustCompile(`^#[0-9a-fA-F]{6}$`)

// parseLook parses the settings of how the pages look.
func (s *Settings) parseLook() (err error) {
	if strings.TrimSpace(s.SiteName) == "" {
		return errors.New("SITE_NAME is empty: give it a name or leave it out")
	}
	if s.SiteAccent != "" && !hexColour.MatchString(s.SiteAccent) {
		return fmt.Errorf("SITE_ACCENT is %q: give it as #rrggbb, such as #0066cc", s.SiteAccent)
	}
	if s.Links, err = parseLinks(s.SiteLinks); err != nil {
		return fmt.Errorf("SITE_LINKS: %w", err)
	}
	if s.Contact, err = parseContact(s.OperatorContact); err != nil {
		return fmt.Errorf("OPERATOR_CONTACT is %q: %w", s.OperatorContact, err)
	}
	if s.SiteLogo != "" {
		if !slices.Contains(logoExtensions, strings.ToLower(filepath.Ext(s.SiteLogo))) {
			return fmt.Errorf("SITE_LOGO is %q: it must be an .svg, .png, .jpg or .webp file", s.SiteLogo)
		}
		if s.Logo, err = os.ReadFile(s.SiteLogo); err != nil {
			return fmt.Errorf("SITE_LOGO: %w", err)
		}
		if len(s.Logo) > maxLogoBytes {
			return fmt.Errorf("SITE_LOGO %s has %d KiB: the limit is 256", s.SiteLogo, len(s.Logo)>>10)
		}
	}
	return nil
}

// parseContact parses OPERATOR_CONTACT: an email address, a URL, or a text that people understand.
func parseContact(raw string) (Link, error) {
	raw = strings.TrimSpace(raw)
	switch scheme, rest, found := strings.Cut(raw, ":"); {
	case raw == "":
		return Link{}, nil
	case !printable(raw, maxContactRunes):
		return Link{}, fmt.Errorf("give at most %d printable characters", maxContactRunes)
	case found && strings.EqualFold(scheme, "mailto"):
		return mailTo(rest)
	case found && strings.EqualFold(scheme, "tel"):
		return telephone(rest)
	case found && strings.HasPrefix(rest, "//"):
		if _, err := checkTarget(raw); err != nil {
			return Link{}, err
		}
		_, shown, _ := strings.Cut(raw, "//")
		return Link{Text: strings.TrimSuffix(shown, "/"), URL: raw}, nil
	case strings.Contains(raw, "@") && !strings.ContainsFunc(raw, unicode.IsSpace):
		return mailTo(raw)
	}
	return Link{Text: raw}, nil
}

func mailTo(address string) (Link, error) {
	parsed, err := mail.ParseAddress(address)
	local, domain, _ := strings.Cut(address, "@")
	if err != nil || parsed.Address != address || returnto.CheckOrigin("https://"+domain) != nil {
		return Link{}, fmt.Errorf("%q isn't an email address: give one such as help@example.com, without a name or a subject", address)
	}
	return Link{Text: address, URL: "mailto:" + url.PathEscape(local) + "@" + domain}, nil
}

func telephone(number string) (Link, error) {
	if digits := strings.Trim(number, "+0123456789-.()"); digits != "" || !strings.HasPrefix(number, "+") {
		return Link{}, fmt.Errorf("%q isn't a telephone number: give it as tel:+49-30-1234567", number)
	}
	return Link{Text: number, URL: "tel:" + number}, nil
}

// parseLinks parses SITE_LINKS, such as "Privacy=https://example.com/privacy Terms of use=/terms": a label ends
// at the first = of a word, and a target at the next space.
func parseLinks(setting string) (links []Link, err error) {
	var words []string
	for word := range strings.FieldsSeq(setting) {
		last, target, found := strings.Cut(word, "=")
		words = append(words, last)
		if !found {
			continue
		}
		label := strings.TrimSpace(strings.Join(words, " "))
		words = nil
		switch {
		case label == "":
			return nil, fmt.Errorf("%q has no label: give it as LABEL=URL, such as Privacy=https://example.com/privacy", word)
		case !printable(label, maxLabelRunes):
			return nil, fmt.Errorf("the label %.100q must have at most %d printable characters", label, maxLabelRunes)
		case target == "":
			return nil, fmt.Errorf("%q has no URL: give it as LABEL=URL, without spaces around the =", label)
		}
		link := Link{Text: label, URL: target}
		if address, isMail := strings.CutPrefix(target, "mailto:"); isMail {
			to, err := mailTo(address)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", label, err)
			}
			link.URL = to.URL
		} else if _, err := checkTarget(target); err != nil {
			return nil, fmt.Errorf("%q: %w", label, err)
		}
		links = append(links, link)
	}
	switch {
	case len(words) > 0:
		return nil, fmt.Errorf("%q has no URL: give it as LABEL=URL, such as Privacy=https://example.com/privacy", strings.Join(words, " "))
	case len(links) > maxLinks:
		return nil, errors.New("there are more than 10 links: leave some out")
	}
	return links, nil
}

func printable(text string, most int) bool {
	return utf8.ValidString(text) && utf8.RuneCountInString(text) <= most && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}
