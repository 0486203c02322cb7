// Package check finds what is wrong with an installation: its settings, database, clock, proxy and
// certificate. It changes nothing.
package check

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"latchkey/app/config"
)

// Run writes a line for each finding, saying how to fix what is wrong. It returns an error if anything
// is.
func Run(ctx context.Context, settings *config.Settings, w io.Writer) error {
	r := &report{w: w}
	r.checkSettings(settings)
	ring, known := r.checkDatabase(ctx, settings)
	r.checkRequests(ctx, settings, ring, known)
	return r.err()
}

// ReportInvalid is Run for settings that can't be parsed, which is what err says.
func ReportInvalid(w io.Writer, err error) error {
	r := &report{w: w}
	r.fail("settings", "%v – nothing else was checked", err)
	return r.err()
}

// report writes the findings.
type report struct {
	w        io.Writer
	failures int
}

func (r *report) ok(subject, format string, args ...any) { r.line("ok", subject, format, args...) }

func (r *report) warn(subject, format string, args ...any) { r.line("warn", subject, format, args...) }

func (r *report) fail(subject, format string, args ...any) {
	r.failures++
	r.line("FAIL", subject, format, args...)
}

func (r *report) line(mark, subject, format string, args ...any) {
	text := strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " ") // some errors have several lines
	fmt.Fprintf(r.w, "%-4s %-11s %s\n", mark, subject, text)
}

// err counts the failures.
func (r *report) err() error {
	if r.failures == 0 {
		return nil
	}
	return fmt.Errorf("%s found", Plural(int64(r.failures), "problem"))
}

func (r *report) checkSettings(settings *config.Settings) {
	r.ok("settings", "all valid")
	advice := settings.Advise()
	for _, a := range advice {
		if a.Warning {
			r.warn("cookies", "%s", a.Text)
		} else {
			r.fail("cookies", "%s", a.Text)
		}
	}
	if settings.Registration == config.RegistrationOpen {
		r.warn("REGISTRATION", "it is open: people can register with any address – apps don't get the addresses of people who registered themselves: no Remote-Email, and the id in Remote-User")
	}
	if len(advice) == 0 {
		r.ok("cookies", "%s", settings.CookieInWords())
	}
}

const (
	// clockWarn and clockFail are how far clocks may be apart.
	clockWarn = 5 * time.Second
	clockFail = time.Minute
)

// checkClock compares this machine's clock with what another one showed at some time since before.
func (r *report) checkClock(whose string, shown, before time.Time) {
	off := time.Duration(0)
	if now := time.Now(); shown.After(now) {
		off = shown.Sub(now)
	} else if shown.Before(before) {
		off = shown.Sub(before)
	}
	off = off.Round(time.Second)
	switch {
	case off.Abs() >= clockFail:
		r.fail("clock", "this machine and %s differ by %s – enable NTP on both: timedatectl set-ntp true", whose, off.Abs())
	case off.Abs() >= clockWarn:
		r.warn("clock", "this machine and %s differ by %s – is NTP enabled?", whose, off.Abs())
	default:
		r.ok("clock", "agrees with %s", whose)
	}
}

// Plural writes a number of things.
func Plural(n int64, thing string) string {
	return humanize.Comma(n) + " " + english.PluralWord(int(n), thing, "")
}
