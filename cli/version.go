package cli

import (
	"cmp"
	"fmt"
	"runtime/debug"
)

type versionCmd struct{}

// Run prints the version and what it was built from.
func (versionCmd) Run() error {
	_, err := fmt.Println(versionLine())
	return err
}

// versionLine describes this binary in one line.
func versionLine() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "latchkey " + version()
	}
	return describeBuild(info)
}

// describeBuild says in a line what Go has recorded in the binary.
func describeBuild(info *debug.BuildInfo) string {
	line := "latchkey " + versionOf(info)
	settings := map[string]string{}
	for _, setting := range info.Settings {
		settings[setting.Key] = setting.Value
	}
	if commit := settings["vcs.revision"]; commit != "" {
		line += " of commit " + commit
		if settings["vcs.modified"] == "true" {
			line += " with changes since"
		}
		line += " at " + settings["vcs.time"]
	}
	return line + ", " + info.GoVersion
}

func versionOf(info *debug.BuildInfo) string { return cmp.Or(info.Main.Version, "(devel)") }

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return versionOf(info)
	}
	return "(devel)"
}
