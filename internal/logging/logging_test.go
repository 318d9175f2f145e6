package logging

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
)

// recorder is a TB that remembers.
type recorder struct {
	logs, errors []string
	cleanup      func()
}

func (r *recorder) Helper()                   {}
func (r *recorder) Cleanup(f func())          { r.cleanup = f }
func (r *recorder) Logf(f string, a ...any)   { r.logs = append(r.logs, fmt.Sprintf(f, a...)) }
func (r *recorder) Errorf(f string, a ...any) { r.errors = append(r.errors, fmt.Sprintf(f, a...)) }

func TestTestFailsOnOddPairs(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	log := Test(r)
	log.Info("worker ready", "worker", "w1")
	if len(r.logs) != 1 || len(r.errors) != 0 || !strings.Contains(r.logs[0], "worker=w1") {
		t.Fatalf("good line: logs %q, errors %q", r.logs, r.errors)
	}
	log.With("a", 1).Named("x").Debug("worker ready", "worker")
	if len(r.errors) != 1 {
		t.Fatalf("odd pairs: errors %q, want one", r.errors)
	}
	r.cleanup()
	log.Info("after the end", "odd")
	if len(r.logs) != 1 || len(r.errors) != 1 {
		t.Errorf("a line after the end reached the test: logs %q, errors %q", r.logs, r.errors)
	}
}

// Not parallel: the level belongs to the process.
func TestFlags(t *testing.T) {
	t.Cleanup(func() {
		settings.level.Store(int32(hclog.NoLevel))
		settings.json.Store(false)
	})
	cmd := &cobra.Command{Use: "x"}
	Flags(cmd)
	flags := cmd.PersistentFlags()
	if level := flags.Lookup("log-level").DefValue; level != "info" {
		t.Errorf("default level shown as %q", level)
	}
	if log := New("x"); log.GetLevel() != hclog.Info || log.Name() != "x" {
		t.Errorf("default logger: level %v name %q", log.GetLevel(), log.Name())
	}
	if err := flags.Parse([]string{"--log-level", "DEBUG", "--log-json"}); err != nil {
		t.Fatal(err)
	}
	if log := New("x"); log.GetLevel() != hclog.Debug {
		t.Errorf("level %v, want debug", log.GetLevel())
	}
	if !settings.json.Load() {
		t.Error("--log-json had no effect")
	}
	for _, args := range [][]string{{"--log-level", "loud"}, {"--log-level", ""}, {"--log-json=perhaps"}} {
		if err := flags.Parse(args); err == nil {
			t.Errorf("%q gave no error", args)
		}
	}
	if log := New("x"); log.GetLevel() != hclog.Debug {
		t.Error("a refused level changed the level")
	}
}
