// Package config reads what a program is told: TOML files, the environment, and
// the value types that flags and files share.
//
// The one invariant: nothing is ignored. A key, a value or a flag that is not
// understood is an error that names the place (file:line:col with the line and a
// caret, or the variable) and what to write instead. Start at File for a
// structured file, at Apply for flag > environment > file > default.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// exitConfig is the exit code of every error here (EX_CONFIG of sysexits.h).
const exitConfig = 78

// maxFile bounds a configuration file; larger ones are surely something else.
const maxFile = 4 << 20

// Error is a fault in a configuration. Error() is one message for people; with a
// position it has three lines: the place and reason, the source line, a caret.
type Error struct {
	File   string // path as given, or the name of an environment variable
	Line   int    // counted from 1; 0 = no position
	Column int    // in octets, counted from 1
	Reason string
	source string // the line at fault
	err    error  // what Unwrap returns, or nil
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Reason)
	}
	place := fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Reason)
	if e.source == "" {
		return place
	}
	return fmt.Sprintf("%s\n  %s\n  %s^", place, e.source, indent(e.source, e.Column-1))
}

// Unwrap returns the cause, where there was one.
func (e *Error) Unwrap() error { return e.err }

// ExitCode is 78: a program ends with it (internal/cli), and systemd does not
// start it again (RestartPreventExitStatus).
func (e *Error) ExitCode() int { return exitConfig }

// indent returns blanks as wide as the first n octets of line, tabs kept, so
// that a caret stands below the right letter on any terminal.
func indent(line string, n int) string {
	n = min(max(n, 0), len(line))
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, line[:n])
}

// A Validator checks what a file cannot say by types alone. To point at a key it
// returns (or joins) errors made by At.
type Validator interface{ Validate() error }

// File decodes the TOML file at path into dst, a pointer to a struct, strictly:
// unknown keys, wrong types and doubled keys are errors. If dst is a Validator
// it is then asked. Errors are *Error. A field that the file leaves out keeps
// the value it had, so defaults are set before the call.
func File(path string, dst any) error {
	text, err := read(path)
	if err != nil {
		return err
	}
	return decode(path, text, dst)
}

func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &Error{File: path, Reason: "no such file", err: err}
	case err != nil:
		return nil, &Error{File: path, Reason: err.Error(), err: err}
	case info.IsDir():
		return nil, &Error{File: path, Reason: "is a folder, not a file"}
	case info.Size() > maxFile:
		return nil, &Error{File: path, Reason: fmt.Sprintf("is larger than %d bytes; is it a TOML file?", maxFile)}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, &Error{File: path, Reason: err.Error(), err: err}
	}
	return text, nil
}

func decode(path string, text []byte, dst any) error {
	decoder := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields()
	if err := decoder.Decode(dst); err != nil {
		if found := seek(path, text, dst, err); found != nil {
			return found
		}
		return explain(path, text, err)
	}
	if v, ok := dst.(Validator); ok {
		if err := v.Validate(); err != nil {
			return locate(path, text, err)
		}
	}
	return nil
}

// explain turns an error of the TOML library into ours, with a position.
func explain(path string, text []byte, err error) error {
	if missing, ok := errors.AsType[*toml.StrictMissingError](err); ok && len(missing.Errors) > 0 {
		first := &missing.Errors[0]
		reason := fmt.Sprintf("unknown key %q", strings.Join(first.Key(), "."))
		if more := len(missing.Errors) - 1; more > 0 {
			reason += fmt.Sprintf(" (and %d more)", more)
		}
		line, column := first.Position()
		return at(path, text, line, column, reason, nil)
	}
	if bad, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, column := bad.Position()
		return at(path, text, line, column, plain(strings.TrimPrefix(bad.Error(), "toml: ")), nil)
	}
	return &Error{File: path, Reason: strings.TrimPrefix(err.Error(), "toml: "), err: err}
}

// at makes an Error that shows its line.
func at(path string, text []byte, line, column int, reason string, err error) *Error {
	e := &Error{File: path, Line: line, Column: column, Reason: reason, err: err}
	lines := bytes.Split(text, []byte("\n"))
	if line >= 1 && line <= len(lines) {
		e.source = strings.TrimRight(string(lines[line-1]), "\r")
	}
	return e
}

var mismatch = regexp.MustCompile(`^cannot decode TOML (\w+) into .* of type (\S+)$`)

// plain says a mismatch of types in words of the file, not of this program.
func plain(reason string) string {
	m := mismatch.FindStringSubmatch(reason)
	if m == nil {
		return reason
	}
	wanted := m[2]
	switch {
	case strings.HasPrefix(wanted, "[]"):
		wanted = `a list such as ["a", "b"]`
	case strings.HasPrefix(wanted, "map["):
		wanted = `a table such as { KEY = "value" }`
	case strings.Contains(wanted, "int"):
		wanted = "a whole number"
	case strings.Contains(wanted, "float"):
		wanted = "a number"
	case wanted == "bool":
		wanted = "true or false"
	case strings.HasSuffix(strings.ToLower(wanted), "string"):
		wanted = "a text in quotes"
	}
	return "this is a " + m[1] + "; write " + wanted
}
