package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
)

// A setting that may be secret has a sibling with the suffix File, which names a file that contains its value:
// the environment and the arguments of a process are easier to see than a file.

// fileSuffix ends the names of these siblings, and fileVariable those of their variables.
const fileSuffix, fileVariable = "File", "_FILE"

// SecretFile is a file that a setting names for another setting's value.
type SecretFile struct {
	Setting string // such as DATABASE_URL_FILE
	Path    string
}

// SecretFiles returns the files that contain settings.
func (c *Config) SecretFiles() (files []SecretFile) {
	_ = c.eachFile(func(setting, path string, _ reflect.Value) error {
		files = append(files, SecretFile{setting, path})
		return nil
	})
	return files
}

// readFiles sets the settings that are in files.
func (c *Config) readFiles() error {
	return c.eachFile(func(setting, path string, value reflect.Value) error {
		if value.String() != "" {
			return fmt.Errorf("%s and %s are both set: leave one out", strings.TrimSuffix(setting, fileVariable), setting)
		}
		raw, err := os.ReadFile(path) // #nosec G304 -- the operator's choice
		var failed *os.PathError
		if errors.As(err, &failed) {
			return fmt.Errorf("%s: %s can't be read: %w", setting, path, failed.Err)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", setting, err)
		}
		text := strings.TrimSpace(string(raw))
		if text == "" {
			return fmt.Errorf("%s: %s is empty", setting, path)
		}
		value.SetString(text)
		return nil
	})
}

// eachFile calls do for each setting that names a file, with the value that the file is for.
func (c *Config) eachFile(do func(setting, path string, value reflect.Value) error) error {
	fields := reflect.ValueOf(c).Elem()
	for field, value := range fields.Fields() {
		secret, ok := strings.CutSuffix(field.Name, fileSuffix)
		if !ok || value.String() == "" {
			continue
		}
		if of := fields.FieldByName(secret); of.IsValid() {
			if err := do(field.Tag.Get("env"), value.String(), of); err != nil {
				return err
			}
		}
	}
	return nil
}
