package models

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// App is a program that is told when sessions end.
type App struct {
	Name      string // the audience of its tokens
	LogoutURL string
	Send      Send
	CreatedAt time.Time
}

// Send is what of a session an app is told.
type Send string

// The choices of Send.
const (
	SendBoth    Send = "both"
	SendSubject Send = "sub" // whose it was
	SendSession Send = "sid" // which it was
)

var appName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// CheckApp returns an error for a person if that can't be the name of an app.
func CheckApp(name string) error {
	if !appName.MatchString(name) {
		return fmt.Errorf("%q can't be the name of an app: use up to 64 letters, digits, dots, dashes and underscores", name)
	}
	return nil
}

// Apps keeps the apps.
type Apps struct{ table }

// Add registers an app. It returns ErrTaken if there is one of that name.
func (s Apps) Add(ctx context.Context, app App) error {
	app.CreatedAt = s.now()
	err := s.write(ctx, func(tx *gorm.DB) error {
		result := gorm.WithResult()
		if err := gorm.G[App](tx, result, clause.OnConflict{DoNothing: true}).Create(ctx, &app); err != nil {
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

// ByName returns an app, or ErrNotFound.
func (s Apps) ByName(ctx context.Context, name string) (App, error) {
	app, err := gorm.G[App](s.db).Where("name = ?", name).Take(ctx)
	if err != nil {
		return App{}, fmt.Errorf("find the app %s: %w", name, notFound(err))
	}
	return app, nil
}

// List returns all apps, by name.
func (s Apps) List(ctx context.Context) ([]App, error) {
	apps, err := gorm.G[App](s.db).Order("name").Find(ctx)
	if err != nil {
		return nil, fmt.Errorf("list apps: %w", err)
	}
	return apps, nil
}

// Remove forgets an app and what it has not been told yet. It returns ErrNotFound if there is none
// of that name.
func (s Apps) Remove(ctx context.Context, name string) error {
	n, err := s.update(ctx, func(tx *gorm.DB) (int, error) {
		return gorm.G[App](tx).Where("name = ?", name).Delete(ctx)
	})
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("remove the app %s: %w", name, err)
	}
	return nil
}
