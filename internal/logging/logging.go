// Package logging gives every program the same log: hclog lines on standard
// error, standard output being for data.
//
// The one invariant: a message is a constant phrase and its facts are pairs of
// key and value; Test makes a test fail where a pair is broken, which neither
// the compiler nor vet sees. Start at Flags and New.
package logging

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
)

// settings are what --log-level and --log-json chose. They are of the process,
// like the standard error they are about; everything else is in the Logger that
// New returns and that is handed down.
var settings struct {
	level atomic.Int32 // hclog.Level
	json  atomic.Bool
}

// Flags adds --log-level and --log-json to cmd and the commands below it.
func Flags(cmd *cobra.Command) {
	settings.level.CompareAndSwap(int32(hclog.NoLevel), int32(hclog.Info))
	cmd.PersistentFlags().Var(levelValue{}, "log-level", "least level to log: trace, debug, info, warn, error, off")
	cmd.PersistentFlags().Var(jsonValue{}, "log-json", "log one JSON object per line")
	cmd.PersistentFlags().Lookup("log-json").NoOptDefVal = "true"
}

// New returns the program's logger, named name, writing to standard error at
// the level and in the form the flags chose (info, text). Call it once, after
// the flags were read, and hand it down.
//
// A log that stands still, such as a pipe that nobody reads, delays whoever logs by
// a second at most, once: patient.go.
func New(name string) hclog.Logger { return newTo(stderr, name) }

func newTo(w io.Writer, name string) hclog.Logger {
	level := hclog.Level(settings.level.Load())
	if level == hclog.NoLevel {
		level = hclog.Info
	}
	return hclog.New(&hclog.LoggerOptions{
		Name:       name,
		Level:      level,
		Output:     w,
		JSONFormat: settings.json.Load(),
		// Times are UTC with milliseconds: logs of several hosts are read together.
		TimeFormat: "2006-01-02T15:04:05.000Z",
		TimeFn:     func() time.Time { return time.Now().UTC() },
	})
}

// levelValue is the pflag.Value behind --log-level.
type levelValue struct{}

func (levelValue) Type() string { return "level" }

func (levelValue) String() string {
	if level := hclog.Level(settings.level.Load()); level != hclog.NoLevel {
		return level.String()
	}
	return hclog.Info.String()
}

func (levelValue) Set(s string) error {
	level := hclog.LevelFromString(strings.TrimSpace(s))
	if level == hclog.NoLevel {
		return fmt.Errorf("%q is no log level; use trace, debug, info, warn, error or off", s)
	}
	settings.level.Store(int32(level))
	return nil
}

// jsonValue is the pflag.Value behind --log-json.
type jsonValue struct{}

func (jsonValue) Type() string     { return "bool" }
func (jsonValue) IsBoolFlag() bool { return true }

func (jsonValue) String() string {
	if settings.json.Load() {
		return "true"
	}
	return "false"
}

func (jsonValue) Set(s string) error {
	switch strings.ToLower(s) {
	case "true", "1", "yes":
		settings.json.Store(true)
	case "false", "0", "no":
		settings.json.Store(false)
	default:
		return fmt.Errorf("%q is neither true nor false", s)
	}
	return nil
}
