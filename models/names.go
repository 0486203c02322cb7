package models

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gofrs/uuid/v5"
	"github.com/mtibben/confusables"
	"golang.org/x/text/unicode/norm"
)

// MaxNameRunes is the maximum length of a name in Unicode code points.
const MaxNameRunes = 200

// NormalizeEmail returns the form in which an address is stored, compared and throttled: trimmed, in lower
// case, and in Unicode normalization form C.
func NormalizeEmail(address string) string {
	return norm.NFC.String(strings.ToLower(strings.TrimSpace(address)))
}

// NormalizeName returns the form in which a name is stored: trimmed, with plain spaces, and in Unicode
// normalization form C.
func NormalizeName(name string) string {
	spaced := strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Zs, r) { // such as U+3000, which separates Japanese names
			return ' '
		}
		return r
	}, name)
	return norm.NFC.String(strings.TrimSpace(spaced))
}

// skeleton returns the same text for texts that look the same, by UTS #39. It is stored, so it must not
// change.
func skeleton(text string) string { return confusables.Skeleton(text) }

var username = regexp.MustCompile(`^[a-z0-9._-]{2,64}$`)

// CheckUsername returns nil if name is a valid username, and if not an error whose text is a sentence for a
// page.
func CheckUsername(name string) error {
	if !username.MatchString(name) {
		return sentence("Use 2 to 64 lower-case letters, digits, dots, dashes and underscores.")
	}
	if _, err := uuid.FromString(name); err == nil { // it may be somebody's Remote-User
		return sentence("This looks like the id of an account. Choose a username that reads as a name.")
	}
	return nil
}

// reserved are the skeletons of usernames that many apps give special rights or meanings.
var reserved = func() map[string]bool {
	names := map[string]bool{}
	for name := range strings.FieldsSeq("abuse admin administrator anonymous daemon everybody everyone git guest hostmaster mail moderator nobody operator " +
		"owner postgres postmaster root security superuser support sysadmin system webmaster www www-data") {
		names[skeleton(name)] = true
	}
	return names
}()

// CheckOwnUsername is CheckUsername for a person who chooses a username themselves: apps behind a proxy take
// it for the account of that name.
func CheckOwnUsername(name string) error {
	err := CheckUsername(name)
	if err == nil && reserved[skeleton(name)] {
		err = sentence("This username is reserved. Choose another one, or ask your administrator.")
	}
	return err
}

// sentence is an error whose text is a sentence for a page.
type sentence string

func (s sentence) Error() string { return string(s) }

// CheckName returns nil if a name from NormalizeName is valid, also an empty one, and if not an error whose
// text is a sentence for a page.
//
// Names of all languages are, and emoji. What can't be seen isn't, lest names look like others, or change the
// order of what is written around them: except for joiners and variation selectors where they are visible,
// that is, where they change the characters around them.
func CheckName(name string) error {
	if utf8.RuneCountInString(name) > MaxNameRunes {
		return sentence(fmt.Sprintf("This name is too long: use at most %d characters.", MaxNameRunes))
	}
	runes := []rune(name) // with U+FFFD for what isn't UTF-8
	for i, r := range runes {
		if r != ' ' && Invisible(r) && !isVisibleAt(runes, i) {
			return sentence("This name contains characters that can't be shown. Leave them out.")
		}
	}
	return nil
}

// Invisible reports whether a character can't be seen, or only by what it does to others.
func Invisible(r rune) bool {
	return !unicode.IsGraphic(r) || unicode.IsSpace(r) ||
		unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) ||
		slices.Contains([]rune{'\u17b4', '\u17b5', '\u2800', '\ufffc', '\ufffd'}, r) // invisible vowels, an empty Braille cell, replacements
}

const (
	nonJoiner = '\u200c'
	joiner    = '\u200d'
)

// isVisibleAt reports whether an invisible character changes how those around it look: UAX #31 §2.3.1 and
// UTS #51 §1.4.
func isVisibleAt(runes []rune, i int) bool {
	before, after := at(runes, i-1), at(runes, i+1)
	switch r := runes[i]; {
	case r == nonJoiner || r == joiner:
		return isVirama(before) || isCursive(before) && isCursive(after) ||
			r == joiner && (isPictograph(before) || isSelectorAfterPictograph(runes, i-1)) && isPictograph(after)
	case r == '\ufe0e' || r == '\ufe0f': // shown as text, or as an emoji
		return isPictograph(before) || strings.ContainsRune("0123456789#*‼⁉", before)
	case '\u180b' <= r && r <= '\u180f':
		return unicode.Is(unicode.Mongolian, before)
	case isTag(r): // of the flags of England, Scotland and Wales
		for n := 0; n < 7 && isTag(before); n++ {
			i--
			before = at(runes, i-1)
		}
		return before == '🏴'
	case unicode.Is(unicode.Variation_Selector, r):
		return unicode.Is(unicode.Han, before)
	}
	return false
}

func at(runes []rune, i int) rune {
	if i < 0 || i >= len(runes) {
		return 0
	}
	return runes[i]
}

// isVirama reports whether a mark joins consonants, in the scripts of South and Southeast Asia.
func isVirama(r rune) bool { return norm.NFC.PropertiesString(string(r)).CCC() == 9 }

// isCursive reports whether a letter or mark is of a script whose letters join.
func isCursive(r rune) bool {
	return unicode.In(r, unicode.L, unicode.M) && !Invisible(r) && unicode.In(r, unicode.Arabic, unicode.Syriac, unicode.Mongolian, unicode.Nko,
		unicode.Mandaic, unicode.Manichaean, unicode.Phags_Pa, unicode.Adlam, unicode.Hanifi_Rohingya, unicode.Inherited)
}

// isPictograph reports whether a character may be part of an emoji: a symbol, a skin tone, or the arrow of a
// nod.
func isPictograph(r rune) bool {
	return unicode.Is(unicode.So, r) || '\U0001f3fb' <= r && r <= '\U0001f3ff' || r == '↔' || r == '↕'
}

func isTag(r rune) bool { return '\U000e0020' <= r && r <= '\U000e007f' }

func isSelectorAfterPictograph(runes []rune, i int) bool {
	return at(runes, i) == '\ufe0f' && isPictograph(at(runes, i-1))
}
