package cli

import (
	"context"
	"errors"
	"fmt"

	"latchkey/app/config"
	"latchkey/db"
	"latchkey/models"
)

// withDatabase calls do with the database of DATABASE_URL, which open opens, and closes it afterwards.
func withDatabase(ctx context.Context, settings *config.Settings, open func(context.Context, string) (*db.DB, error), do func(*db.DB) error) error {
	return withDatabaseAt(ctx, "DATABASE_URL", settings.DatabaseURL, open, do)
}

// withDatabaseAt is withDatabase for the URL of another setting.
func withDatabaseAt(ctx context.Context, setting, url string, open func(context.Context, string) (*db.DB, error), do func(*db.DB) error) error {
	database, err := open(ctx, url)
	if err != nil {
		return fmt.Errorf("%s: %w", setting, err)
	}
	err = do(database)
	return errors.Join(err, recordAct(ctx, database, err), database.Close())
}

// withStore calls do with what is stored in the database of DATABASE_URL, which must exist.
func withStore(ctx context.Context, settings *config.Settings, do func(*models.Store) error) error {
	return withDatabase(ctx, settings, db.OpenExisting, func(database *db.DB) error { return do(newStore(database)) })
}

// withIdentity is withStore with the account of an address.
func withIdentity(ctx context.Context, settings *config.Settings, address string, do func(*models.Store, models.Identity) error) error {
	return withStore(ctx, settings, func(store *models.Store) error {
		identity, err := store.Identities.ByEmail(ctx, address)
		if errors.Is(err, models.ErrNotFound) {
			return fmt.Errorf("there is no account for %s; 'latchkey user list' lists them", address)
		}
		if err != nil {
			return err
		}
		actOn(ctx, identity)
		return do(store, identity)
	})
}

// withApp is withStore with the app of a name.
func withApp(ctx context.Context, settings *config.Settings, name string, do func(*models.Store, models.App) error) error {
	return withStore(ctx, settings, func(store *models.Store) error {
		found, err := store.Apps.ByName(ctx, name)
		if errors.Is(err, models.ErrNotFound) {
			return fmt.Errorf("there is no app %q; 'latchkey app list' lists them", name)
		}
		if err != nil {
			return err
		}
		actOnApp(ctx, found.Name)
		return do(store, found)
	})
}
