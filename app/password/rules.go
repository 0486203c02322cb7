package password

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// LeastLength is the lowest possible minimum length (NIST SP 800-63B §3.1.1.2).
// The list of common passwords begins at this length.
const LeastLength = 8

// Rules say which new passwords are refused. A password must be long enough and hard to
// guess, but needn't contain certain kinds of characters (ASVS 6.2.5).
// The zero value requires LeastLength.
type Rules struct {
	MinLength int    // in Unicode code points, at least LeastLength
	SiteName  string // refused within a password
}

// Kind is why a password was refused.
type Kind string

const (
	NotText  Kind = "not_text" // not UTF-8
	TooShort Kind = "too_short"
	TooLong  Kind = "too_long"
	Common   Kind = "common"
	Personal Kind = "personal" // contains the person's name or address, or the site's name
)

// Refused is the error for a password that is refused. Its Reason tells the person who
// chose it what to do, and reveals nothing about the password.
type Refused struct {
	Kind   Kind
	Reason string
}

func (r *Refused) Error() string { return r.Reason }

// Check returns nil or a *Refused. Personal is what others know about the
// person: email address, username and name, any of which may be empty. A password can't
// contain, in any case, an address, the part before its @, a name or a word of it, or the
// site's name. Words of fewer than 4 code points are ignored, since many good passwords
// contain them by chance; a whole address never is.
func (r Rules) Check(password string, personal ...string) error {
	least := max(r.MinLength, LeastLength)
	length := utf8.RuneCountInString(password)
	switch {
	case len(password) > MaxBytes:
		return &Refused{TooLong, fmt.Sprintf("This password is too long: use at most %d bytes, which is %d plain letters.", MaxBytes, MaxBytes)}
	case !utf8.ValidString(password):
		return &Refused{NotText, "This password contains bytes that aren't text. Type it instead."}
	case length < least:
		has := fmt.Sprintf("%d characters", length)
		if length == 1 {
			has = "1 character"
		}
		return &Refused{TooShort, fmt.Sprintf("This password has %s, but needs at least %d: add more, or use a few words.", has, least)}
	}
	lower := strings.ToLower(password)
	if isCommon(lower) {
		return &Refused{Common, "This password is too common and easy to guess. Choose another."}
	}
	for _, word := range guessable(r.SiteName, personal) {
		if strings.Contains(lower, word) {
			return &Refused{Personal, "This password contains part of your name, username or address, or this site's name. Choose one that doesn't."}
		}
	}
	return nil
}

// guessable returns what a password can't contain, in lower case.
func guessable(site string, personal []string) []string {
	words := []string{site}
	var addresses []string
	for _, p := range personal {
		if local, _, ok := strings.Cut(p, "@"); ok {
			addresses = append(addresses, strings.ToLower(strings.TrimSpace(p)))
			words = append(words, local)
			continue
		}
		words = append(words, p)
		words = append(words, strings.Fields(p)...)
	}
	for i, word := range words {
		words[i] = strings.ToLower(strings.TrimSpace(word))
	}
	words = slices.DeleteFunc(words, func(word string) bool { return utf8.RuneCountInString(word) < 4 })
	return append(words, addresses...)
}

//go:embed common.txt
var commonText string

// common is sorted, as its file is.
var common = sync.OnceValue(func() []string { return strings.Fields(commonText) })

func isCommon(lower string) bool {
	_, found := slices.BinarySearch(common(), lower)
	return found
}
