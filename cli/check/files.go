package check

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dustin/go-humanize"

	"latchkey/app/config"
	"latchkey/db"
)

const (
	// minFree is the disk space that a server needs to go on writing for a while.
	minFree = 64 << 20
	// largeWAL is many times the size at which SQLite writes its write-ahead log back.
	largeWAL = 64 << 20
)

// checkFiles checks the files of a SQLite database, and reports whether there is one.
func (r *report) checkFiles(path string) bool {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		r.fail("database", "there is none at %s – start the server once, or set DATABASE_URL to that of the server", path)
		return false
	}
	if err != nil || !info.Mode().IsRegular() {
		r.fail("database", "%s can't be used: %v – set DATABASE_URL to that of the server", path, err)
		return false
	}
	total := info.Size()
	failures := r.failures
	for _, suffix := range []string{"", "-wal", "-shm"} {
		part, err := os.Stat(path + suffix)
		if err != nil {
			continue // SQLite creates it when it needs it
		}
		if problem := exposed(path + suffix); problem != "" {
			r.fail("files", "%s", problem)
		}
		if ownerOf(part) != ownerOf(info) {
			r.fail("files", "%s belongs to another user than %s, so the server can't use it – chown --reference=%s %s", part.Name(), info.Name(), path, path+suffix)
		}
		if suffix == "-wal" {
			total += part.Size()
			if part.Size() > largeWAL {
				r.warn("files", "%s has %s: something has been reading for a long time, such as a backup – if it stays, restart the server", part.Name(), fileSize(part.Size()))
			}
		}
	}
	dir := filepath.Dir(path)
	if problem := exposedDirectory(dir); problem != "" {
		r.fail("files", "%s", problem)
	}
	if r.failures == failures {
		r.ok("files", "%s, %s, accessible to its owner only", path, fileSize(total))
	}
	r.checkDisk(dir, total)
	return true
}

// checkDisk checks that there is room for a database of that size to grow and to be backed up.
func (r *report) checkDisk(dir string, size int64) {
	free, ok := freeSpace(dir)
	switch {
	case !ok:
	case free < minFree:
		r.fail("disk", "%s free in %s: soon nobody can sign in or out – make room", humanize.IBytes(free), dir)
	case free-minFree < unsigned(size):
		r.warn("disk", "%s free in %s: a backup of %s does not fit there – make room", humanize.IBytes(free), dir, fileSize(size))
	default:
		r.ok("disk", "%s free", humanize.IBytes(free))
	}
}

func fileSize(size int64) string { return humanize.IBytes(unsigned(size)) }

func unsigned(size int64) uint64 { return uint64(max(size, 0)) } // #nosec G115 -- it is not negative

// ExposedFiles says which files with secrets others can read or replace, and how to prevent that: the database's, and
// those that settings name.
func ExposedFiles(settings *config.Settings) (problems []string) {
	add := func(problem string) {
		if problem != "" {
			problems = append(problems, problem)
		}
	}
	if path, ok := db.SQLitePath(settings.DatabaseURL); ok {
		if absolute, err := filepath.Abs(path); err == nil { // for the log, which is read elsewhere
			path = absolute
		}
		for _, suffix := range []string{"", "-wal", "-shm"} {
			add(exposed(path + suffix))
		}
		add(exposedDirectory(filepath.Dir(path)))
	}
	for _, secret := range settings.SecretFiles() {
		if !strings.HasPrefix(secret.Path, containerSecrets) {
			add(exposed(secret.Path))
		}
	}
	return problems
}

// containerSecrets is where Docker and Podman mount secrets, readable by everybody in the container.
const containerSecrets = "/run/secrets/"

// exposed says that others can read or write a file, "" if not.
func exposed(path string) string {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&^0o700 == 0 || !hasPermissions {
		return ""
	}
	return fmt.Sprintf("others can read or write %s (%s) – chmod 600 %[1]s", path, info.Mode().Perm())
}

// exposedDirectory says that others can write in a directory, "" if not.
func exposedDirectory(dir string) string {
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm()&0o022 == 0 || !hasPermissions {
		return ""
	}
	return fmt.Sprintf("others can write in the directory %s (%s), and so replace the database – chmod go-w %[1]s", dir, info.Mode().Perm())
}
