// Package version says which build of mdmesh is running.
//
// The one invariant: what it reports comes from the binary itself (the module
// and VCS facts the Go linker records), never from a constant someone has to
// remember to change. Start at String.
package version

import (
	"runtime"
	"runtime/debug"
	"strings"
)

// String returns "VERSION commit COMMIT goX.Y", all on one line. COMMIT is
// twelve hexadecimal digits, "+" follows it when the work tree had changes, and
// it is left out where the build recorded none (go run, go test).
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown " + runtime.Version()
	}
	return format(info)
}

// format renders info; apart from String so that a test can feed it.
func format(info *debug.BuildInfo) string {
	version := strings.Trim(info.Main.Version, "()")
	if version == "" {
		version = "devel"
	}
	words := []string{version}
	settings := make(map[string]string, len(info.Settings))
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if commit := settings["vcs.revision"]; commit != "" {
		commit = commit[:min(12, len(commit))]
		if settings["vcs.modified"] == "true" {
			commit += "+"
		}
		words = append(words, "commit", commit)
	}
	return strings.Join(append(words, info.GoVersion), " ")
}
