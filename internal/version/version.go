// Package version says which build of Holdfast this is.
//
// In:  edge, cloud and the programs.
// Out: nothing.
package version

import "runtime/debug"

// set is filled in by the linker (see the Makefile).
var set string

// String returns the version from `git describe` at the time of the build, or
// the revision that the Go command recorded, or "unknown".
func String() string {
	if set != "" {
		return set
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "unknown"
}
