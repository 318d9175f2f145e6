package config

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// unsettable are the flags that neither the environment nor a file may set.
var unsettable = []string{"help", "version", "config"}

// Flag adds --config to cmd and the commands below it; Apply reads it.
func Flag(cmd *cobra.Command) {
	cmd.PersistentFlags().String("config", "", "TOML `file`: flag names are its keys (environment: MD_CONFIG)")
}

// EnvName returns the environment variable that sets a flag: MD_LOG_LEVEL for
// log-level.
func EnvName(flag string) string {
	return "MD_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Apply sets every flag of cmd that the command line did not: from the
// environment, else from the TOML file at path, else it keeps its default. Call
// it before a flag's value is used (PersistentPreRunE). With path "" the file is
// the one --config or MD_CONFIG names, or none.
//
// An empty variable counts as unset. In the file, keys are flag names; those at
// the top are for every command, those in a table named like a command
// ([ingest]) for that one only:
//
//	heartbeat = "1s"
//	listen = ["tcp://127.0.0.1:5555"]
//	log-json = true
//
// Errors are *Error and name the variable, or file, line and column.
func Apply(cmd *cobra.Command, path string) error {
	path = cmp.Or(path, configFlag(cmd), os.Getenv("MD_CONFIG"))
	file := map[string]setting{}
	if path != "" {
		text, err := read(path)
		if err != nil {
			return err
		}
		if file, err = settings(path, text, cmd); err != nil {
			return err
		}
	}
	return applyAll(cmd, file)
}

// Environment is Apply without a file, for programs whose --config names a file
// of another kind (read with File). The variable MD_CONFIG then sets that flag
// like any other.
func Environment(cmd *cobra.Command) error {
	if err := applyAll(cmd, nil); err != nil {
		return err
	}
	if flag := cmd.Flags().Lookup("config"); flag != nil {
		return apply(cmd.Flags(), flag, os.Getenv(EnvName(flag.Name)), setting{})
	}
	return nil
}

func applyAll(cmd *cobra.Command, file map[string]setting) error {
	var first error
	cmd.Flags().VisitAll(func(flag *pflag.Flag) {
		if first == nil && !slices.Contains(unsettable, flag.Name) {
			first = apply(cmd.Flags(), flag, os.Getenv(EnvName(flag.Name)), file[flag.Name])
		}
	})
	return first
}

func configFlag(cmd *cobra.Command) string {
	if flag := cmd.Flags().Lookup("config"); flag != nil {
		return flag.Value.String()
	}
	return ""
}

// setting is what a file says about one flag; fail explains that the flag
// refused a value, at its place in the file.
type setting struct {
	values []scalar
	fail   func(scalar, error) error
}

// source is where a flag's value comes from.
type source uint8

const (
	fromDefault source = iota
	fromFile
	fromEnvironment
	fromFlag
)

// pick is the rule: flag > environment > file > default.
func pick(flagChanged, envSet, fileSet bool) source {
	switch {
	case flagChanged:
		return fromFlag
	case envSet:
		return fromEnvironment
	case fileSet:
		return fromFile
	default:
		return fromDefault
	}
}

// apply sets one flag from where pick says.
func apply(flags *pflag.FlagSet, flag *pflag.Flag, env string, file setting) error {
	switch pick(flag.Changed, env != "", file.values != nil) {
	case fromEnvironment:
		if err := flags.Set(flag.Name, env); err != nil {
			name := EnvName(flag.Name)
			return &Error{File: name, Reason: reason(err), err: err}
		}
	case fromFile:
		for _, v := range file.values {
			if err := flags.Set(flag.Name, v.text); err != nil {
				return file.fail(v, err)
			}
		}
	}
	return nil
}

// reason returns the flag's own words: pflag wraps them in the flag's name,
// which the place already says.
func reason(err error) string {
	if bad, ok := err.(*pflag.InvalidValueError); ok {
		return fmt.Sprintf("bad value %q: %s", bad.GetValue(), Wanted(bad))
	}
	return err.Error()
}

// Wanted says what a flag that refused its value takes: in words of people where
// pflag has only those of package strconv.
func Wanted(bad *pflag.InvalidValueError) string {
	switch kind := bad.GetFlag().Value.Type(); {
	case strings.HasPrefix(kind, "int"), strings.HasPrefix(kind, "uint"):
		return "want a whole number"
	case strings.HasPrefix(kind, "float"):
		return "want a number"
	case kind == "bool":
		return "want true or false"
	case kind == "duration":
		return "want a duration such as 500ms, 5s or 1m30s"
	}
	return fmt.Sprint(bad.Unwrap())
}

// settings reads the flags of cmd from the TOML text.
func settings(path string, text []byte, cmd *cobra.Command) (map[string]setting, error) {
	var whole map[string]any
	if err := toml.Unmarshal(text, &whole); err != nil { // doubled keys, broken syntax
		return nil, explain(path, text, err)
	}
	found := map[string]setting{}
	for _, e := range entries(text) {
		wrong := func(format string, args ...any) error {
			return at(path, text, e.line, e.column, fmt.Sprintf(format, args...), nil)
		}
		key := e.path[0]
		command := findCommand(cmd.Root(), key)
		switch {
		case e.value == nil && len(e.path) == 1 && command: // [ingest]
			continue
		case len(e.path) == 2 && command:
			if key != cmd.Name() {
				continue // for another command
			}
			key = e.path[1]
		case len(e.path) != 1 || e.value == nil:
			return nil, wrong("unknown table %q", strings.Join(e.path, "."))
		}
		flag := cmd.Flags().Lookup(key)
		if flag == nil || slices.Contains(unsettable, key) {
			return nil, wrong("unknown key %q; keys are the flags in %s --help", key, cmd.CommandPath())
		}
		if e.value.nested || e.value.list && !repeatable(flag) {
			return nil, wrong("%s takes one value", key)
		}
		values := e.value.scalars
		if len(values) == 0 {
			values = []scalar{{"", e.line, e.column}} // an empty list switches off
		}
		fail := func(v scalar, err error) error { return at(path, text, v.line, v.column, reason(err), err) }
		found[key] = setting{values: values, fail: fail}
	}
	return found, nil
}

func repeatable(flag *pflag.Flag) bool {
	_, ok := flag.Value.(pflag.SliceValue)
	return ok
}

func findCommand(root *cobra.Command, name string) bool {
	return slices.ContainsFunc(root.Commands(), func(c *cobra.Command) bool { return c.Name() == name })
}
