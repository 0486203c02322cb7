package models

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"latchkey/db"
)

// App is an application that is notified when sessions end.
type App struct {
	Name      string // also the audience (aud) of its logout tokens
	LogoutURL string
	Send      Send
	CreatedAt time.Time
}

// Send selects the claims that identify the session in an app's logout tokens.
type Send string

// The choices of Send.
const (
	SendBoth    Send = "both"
	SendSubject Send = "sub" // the identity
	SendSession Send = "sid" // the session
)

var appName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// CheckApp returns nil if name is a valid app name, and an error fit to show to the user if not.
func CheckApp(name string) error {
	if !appName.MatchString(name) {
		return fmt.Errorf("%q can't be the name of an app: use up to 64 letters, digits, dots, dashes and underscores", name)
	}
	return nil
}

// Apps stores the apps.
type Apps struct{ table }

// Add registers an app. It returns ErrTaken if the name is in use.
func (s Apps) Add(ctx context.Context, app App) error {
	app.CreatedAt = s.now()
	err := s.db.Write(ctx, func(tx *db.Tx) error {
		result := gorm.WithResult()
		if err := gorm.G[App](tx.DB, result, clause.OnConflict{DoNothing: true}).Create(ctx, &app); err != nil {
			return err
		}
		if result.RowsAffected == 0 {
			return ErrTaken
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("add the app %s: %w", app.Name, err)
	}
	return nil
}

// ByName returns the app with that name, or ErrNotFound.
func (s Apps) ByName(ctx context.Context, name string) (App, error) {
	app, err := gorm.G[App](s.db.Query(ctx)).Where("name = ?", name).Take(ctx)
	if err != nil {
		return App{}, fmt.Errorf("find the app %s: %w", name, notFound(err))
	}
	return app, nil
}

// List returns all apps, sorted by name.
func (s Apps) List(ctx context.Context) ([]App, error) {
	apps, err := gorm.G[App](s.db.Query(ctx)).Order("name").Find(ctx)
	if err != nil {
		return nil, fmt.Errorf("list apps: %w", err)
	}
	return apps, nil
}

// Remove deletes an app and its deliveries. It returns ErrNotFound if there is no app with that name.
func (s Apps) Remove(ctx context.Context, name string) error {
	n, err := s.update(ctx, func(tx *db.Tx) (int, error) {
		return gorm.G[App](tx.DB).Where("name = ?", name).Delete(ctx)
	})
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("remove the app %s: %w", name, err)
	}
	return nil
}
