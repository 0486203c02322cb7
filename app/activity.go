package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/gofrs/uuid/v5"

	"latchkey/models"
	"latchkey/views"
)

const (
	// shortActivity is how many entries the account page shows.
	shortActivity = 10
	// maxActivity is how many the page of its own shows.
	maxActivity = 250
)

// activityPage answers GET /auth/account/activity.
func (a *App) activityPage(c *gin.Context) {
	session, ok := a.atAccount(c)
	if !ok {
		return
	}
	entries, more, err := a.activity(c.Request.Context(), session.IdentityID, maxActivity)
	if err != nil {
		a.fail(c, err)
		return
	}
	a.page(c, http.StatusOK, views.Activity(views.ActivityPage{
		Page: a.personalPage(session), Person: person(session), Entries: entries, More: more, Since: a.Now().Add(-a.SessionRetention),
	}))
}

// activity returns the newest of what has happened to a person's account, and whether there is more.
func (a *App) activity(ctx context.Context, person uuid.UUID, limit int) (entries []views.ActivityEntry, more bool, err error) {
	found, err := a.store.Activities.Of(ctx, person, a.Now().Add(-a.SessionRetention), limit+1)
	if err != nil {
		return nil, false, err
	}
	for _, v := range found[:min(limit, len(found))] {
		where := DeviceInWords(v.UserAgent)
		if v.IPAddress != "" {
			where += ", " + v.IPAddress
		}
		entries = append(entries, views.ActivityEntry{At: v.At, What: ActivityInWords(v), Where: where, Failed: v.Kind == models.SignInFailed})
	}
	return entries, len(found) > limit, nil
}

// ActivityInWords says what happened: "Signed in", "3 failed sign-ins". It is safe to print.
func ActivityInWords(v models.Activity) string {
	switch {
	case v.Kind == models.SignedIn:
		return "Signed in"
	case v.Kind == models.SignInFailed && v.Count == 1:
		return "Failed sign-in"
	case v.Kind == models.SignInFailed:
		return fmt.Sprintf("%d failed sign-ins", v.Count)
	}
	if words := endsInWords[v.Reason]; words != "" {
		return words
	}
	return "Session ended"
}

var endsInWords = map[models.Reason]string{
	models.EndedByLogout:         "Signed out",
	models.EndedByPerson:         "Ended by you from elsewhere",
	models.EndedByNewLogin:       "Replaced by a new sign-in",
	models.EndedByPasswordChange: "Ended with the change of password",
	models.EndedByDisabling:      "Ended: account disabled",
	models.EndedByOperator:       "Ended by whoever runs this site",
	models.Expired:               "Session expired",
}

// noteFailure notes what somebody failed with who wanted to sign in to an account or to confirm that
// it is theirs, and returns err. It does nothing if err is nil or no fault of theirs. Without an
// account, for uuid.Nil, it goes the same way, so that who fails can't tell.
func (a *App) noteFailure(c *gin.Context, person uuid.UUID, err error) error {
	if !errors.Is(err, errCredentials) && !errors.Is(err, errDisabled) {
		return err
	}
	failure := models.Failure{IdentityID: person, LastAt: a.Now(),
		IPAddress: c.ClientIP(), UserAgent: clip(c.Request.UserAgent(), maxUserAgent)}
	noted := a.later(func(ctx context.Context) error {
		err := a.store.Activities.NoteFailure(ctx, failure)
		if errors.Is(err, models.ErrNotFound) {
			return nil // it has nobody to tell
		}
		return err
	})
	if !noted {
		a.Log.WarnContext(c.Request.Context(), "failed sign-in not noted: too much is waiting to be written", slog.String("request", requestID(c)))
	}
	return err
}
