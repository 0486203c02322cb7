// Package activity says in words what has happened to an account, and where.
package activity

import (
	"fmt"

	"latchkey/models"
)

// Describe says what happened: "Signed in", "3 failed sign-ins". It is safe to print.
func Describe(v models.Activity) string {
	switch {
	case v.Kind == models.SignedIn:
		return "Signed in"
	case v.Kind == models.SignInFailed && v.Count == 1:
		return "Failed sign-in"
	case v.Kind == models.SignInFailed:
		return fmt.Sprintf("%d failed sign-ins", v.Count)
	case v.Kind == models.PasswordChanged:
		return "Password changed"
	}
	if words := endings[v.Reason]; words != "" {
		return words
	}
	return "Session ended"
}

var endings = map[models.Reason]string{
	models.EndedByLogout:         "Signed out",
	models.EndedByPerson:         "Ended by you from another device",
	models.EndedByNewLogin:       "Replaced by a new sign-in",
	models.EndedByPasswordChange: "Ended by a password change",
	models.EndedByDisabling:      "Ended: account disabled",
	models.EndedByOperator:       "Ended by your administrator",
	models.EndedByLimit:          "Ended: too many sessions",
	models.Expired:               "Session expired",
}

// Where says in words on what device something happened: "Firefox on Linux". It is "" where that isn't known. It
// is safe to print.
func Where(v models.Activity) string {
	if v.Kind == models.PasswordChanged {
		return ""
	}
	return Device(v.UserAgent)
}
