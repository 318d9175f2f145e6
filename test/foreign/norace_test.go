//go:build !race

package foreign

var buildFlags []string
