package password

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// LeastLength is the least that Rules.MinLength can ask for (NIST SP 800-63B §3.1.1.2).
// The list of common passwords begins at this length.
const LeastLength = 8

// Rules say which new passwords are refused. What is asked of a password is its length
// and that it isn't easily guessed, never which kinds of characters it has (ASVS 6.2.5).
// The zero value asks for LeastLength.
type Rules struct {
	MinLength int    // in Unicode code points; less than LeastLength counts as that
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

// Refused is the error of a password that is refused. Its Reason is for the person who
// chose it, says what to do, and gives nothing of the password away.
type Refused struct {
	Kind   Kind
	Reason string
}

func (r *Refused) Error() string { return r.Reason }

// Check returns nil or a *Refused. Personal is what others know of the person: the
// e-mail address and the name, either of which may be empty. A password can't contain,
// in whatever case, an address, the part before its @, a name or a word of it, or the
// site's name. Those of fewer than 4 code points are let pass, since they are in many a
// good password by chance; a whole address is never.
func (r Rules) Check(password string, personal ...string) error {
	least := max(r.MinLength, LeastLength)
	length := utf8.RuneCountInString(password)
	switch {
	case len(password) > MaxBytes:
		return &Refused{TooLong, fmt.Sprintf("This password is too long: use at most %d bytes, which is %d plain letters.", MaxBytes, MaxBytes)}
	case !utf8.ValidString(password):
		return &Refused{NotText, "This password holds bytes that are no text: type it with a keyboard."}
	case length < least:
		return &Refused{TooShort, fmt.Sprintf("This password has %d of at least %d characters: add some, or use a few words.", length, least)}
	}
	lower := strings.ToLower(password)
	if isCommon(lower) {
		return &Refused{Common, "This password is one of the most used, and is tried first by whoever wants in: choose another."}
	}
	for _, word := range guessable(r.SiteName, personal) {
		if strings.Contains(lower, word) {
			return &Refused{Personal, "This password contains a part of your name or address, or this site's name: choose one without."}
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
