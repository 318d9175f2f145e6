package config

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Effective writes what is in effect after Apply as a TOML file that Apply would
// read: every flag of cmd that a file can set, but for those in without.
func Effective(w io.Writer, cmd *cobra.Command, without ...string) error {
	var failed error
	cmd.Flags().VisitAll(func(flag *pflag.Flag) {
		if failed != nil || flag.Hidden || slices.Contains(unsettable, flag.Name) || slices.Contains(without, flag.Name) {
			return
		}
		_, failed = fmt.Fprintf(w, "%s = %s\n", flag.Name, tomlValue(flag.Value))
	})
	if failed != nil {
		return fmt.Errorf("write configuration: %w", failed)
	}
	return nil
}

// tomlValue writes a value as TOML: lists, numbers and booleans as such, all else
// as text.
func tomlValue(v pflag.Value) string {
	text := v.String()
	if list, ok := v.(pflag.SliceValue); ok {
		if len(list.GetSlice()) == 0 {
			return "[]"
		}
		return string(quote(list.GetSlice()))
	}
	switch v.Type() {
	case "bool":
		return text
	case "int", "int64", "float64", "uint":
		if _, err := strconv.ParseFloat(text, 64); err == nil {
			return text
		}
	}
	return string(quote(text))
}

// quote writes text, or a list of texts, with the escapes of JSON, which are those
// of TOML, too.
func quote(v any) []byte {
	out, err := json.Marshal(v)
	if err != nil {
		panic(err) // texts always can
	}
	return out
}
