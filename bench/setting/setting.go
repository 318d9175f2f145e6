// Package setting reads what a benchmark is told by environment variables, because
// that is what make passes on.
//
// The one invariant: what cannot be read is told in Env.Err with the variable's name
// and an example, and never taken for its default.
package setting

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Env reads variables; one that is not set or empty is as otherwise says. The zero
// value is ready.
type Env struct {
	Err error // of the first variable that could not be read
}

// Text is a variable as it stands.
func (e *Env) Text(name, otherwise string) string { return cmp.Or(os.Getenv(name), otherwise) }

// Words are separated by commas; there are none if otherwise is empty, too.
func (e *Env) Words(name, otherwise string) []string {
	if text := e.Text(name, otherwise); text != "" {
		return strings.Split(text, ",")
	}
	return nil
}

// Numbers are above 0, separated by commas.
func (e *Env) Numbers(name, otherwise string) []float64 {
	var out []float64
	for _, text := range e.Words(name, otherwise) {
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || v <= 0 {
			e.fail("%s=%s: give numbers above 0, such as %s", name, os.Getenv(name), otherwise)
		}
		out = append(out, v)
	}
	return out
}

// Number is the first of Numbers.
func (e *Env) Number(name, otherwise string) float64 { return e.Numbers(name, otherwise)[0] }

// Duration is above 0.
func (e *Env) Duration(name, otherwise string) time.Duration {
	d, err := time.ParseDuration(e.Text(name, otherwise))
	if err != nil || d <= 0 {
		e.fail("%s=%s: give a time such as %s", name, os.Getenv(name), otherwise)
	}
	return d
}

// Switch is yes or no.
func (e *Env) Switch(name, otherwise string) bool {
	text := e.Text(name, otherwise)
	if text != "yes" && text != "no" {
		e.fail("%s=%s: say yes or no", name, text)
	}
	return text == "yes"
}

func (e *Env) fail(format string, args ...any) {
	if e.Err == nil {
		e.Err = fmt.Errorf(format, args...)
	}
}
