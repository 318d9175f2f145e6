//go:build race

package foreign

// The broker is built with the race detector whenever its tests are.
var buildFlags = []string{"-race"}
