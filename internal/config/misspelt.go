package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Misspelt returns an *Error for the first variable of an environment (as of
// os.Environ) that is no flag of cmd but nearly one, as near tells: MD_LISEN. Others
// that begin with MD_ may be other programs'.
func Misspelt(cmd *cobra.Command, environment []string, near func(name string, words []string) []string) error {
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, EnvName(f.Name)) })
	slices.Sort(environment)
	for _, e := range environment {
		name, _, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, "MD_") || slices.Contains(names, name) {
			continue
		}
		if meant := near(name, names); len(meant) > 0 {
			return &Error{File: name, Reason: fmt.Sprintf("sets no flag of %s; did you mean %s?", cmd.CommandPath(), strings.Join(meant, " or "))}
		}
	}
	return nil
}
