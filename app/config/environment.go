package config

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

const (
	ownPrefix = "LATCHKEY_"
	// testPrefix is of variables for the tests of Latchkey.
	testPrefix = ownPrefix + "TEST_"
)

// serviceVariable matches what Kubernetes and Docker set for a service, here one with a name like
// "latchkey": LATCHKEY_SERVICE_HOST, LATCHKEY_PORT_8080_TCP_ADDR, LATCHKEY_PORT=tcp://10.0.0.1:8080.
var serviceVariable = regexp.MustCompile(`^\w+_(SERVICE_(HOST|PORT(_\w+)?)=|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?=|PORT=(tcp|udp|sctp)://)`)

// CheckEnvironment returns an error for the first variable in environ, as from os.Environ, that looks like a setting but
// isn't one: it begins with LATCHKEY_, or is a setting with _FILE that can't be read from a file. Ignoring it could mean
// starting with the wrong database.
func CheckEnvironment(environ []string) error {
	names := variables()
	for _, variable := range slices.Sorted(slices.Values(environ)) {
		name, value, _ := strings.Cut(variable, "=")
		if value == "" || slices.Contains(names, name) {
			continue
		}
		if setting, ok := strings.CutSuffix(name, fileVariable); ok && slices.Contains(names, setting) {
			return fmt.Errorf("%s is not a setting: only %s can be in files", name, inList(secretVariables(names)))
		}
		setting, ok := strings.CutPrefix(name, ownPrefix)
		if !ok || strings.HasPrefix(name, testPrefix) || serviceVariable.MatchString(variable) {
			continue
		}
		if near := Nearest(setting, names); near != "" {
			return fmt.Errorf("%s is not a setting: did you mean %s?", name, near)
		}
		return fmt.Errorf("%s is not a setting: remove it; 'latchkey --help' lists the settings", name)
	}
	return nil
}

// variables returns the names of the variables of all settings.
func variables() (names []string) {
	for field := range reflect.TypeFor[Config]().Fields() {
		names = append(names, field.Tag.Get("env"))
	}
	return names
}

// secretVariables returns the names of settings that may also be in files.
func secretVariables(names []string) (secret []string) {
	for _, name := range names {
		if slices.Contains(names, name+fileVariable) {
			secret = append(secret, name)
		}
	}
	return secret
}

// maxDistance is how many letters of a name may be wrong.
const maxDistance = 2

// Nearest returns the name most similar to the given one, or "".
func Nearest(written string, names []string) string {
	found, least := "", maxDistance+1
	for _, name := range names {
		if d := distance(written, name); d < least {
			found, least = name, d
		}
	}
	return found
}

// distance returns how many letters must be inserted, removed or replaced to get from one text to another
// (Levenshtein's distance).
func distance(from, to string) int {
	row := make([]int, len(to)+1) // of the part of from so far to each beginning of to
	for j := range row {
		row[j] = j
	}
	for i := range len(from) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(to) {
			replaced := diagonal
			if from[i] != to[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(to)]
}
