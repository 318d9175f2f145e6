package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"
)

// tool builds a small program with every shape of command.
func tool(run runFunc) *cobra.Command {
	root := &cobra.Command{Use: "tool"}
	call := &cobra.Command{Use: "call SERVICE", Args: cobra.ExactArgs(1), RunE: run}
	call.Flags().Int("count", 1, "")
	call.Flags().Duration("wait", 0, "")
	need := &cobra.Command{Use: "need", RunE: run}
	need.Flags().String("name", "", "")
	if err := need.MarkFlagRequired("name"); err != nil {
		panic(err)
	}
	plain := &cobra.Command{Use: "plain", RunE: run}
	root.AddCommand(call, need, plain)
	return root
}

type configError struct{}

func (configError) Error() string { return "f.toml:1:2: unknown key" }
func (configError) ExitCode() int { return Config }

func TestExitCodes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		args   string
		err    error // of the command itself
		code   int
		stderr string // exact, or a prefix where it ends with "..."
	}{
		{"ok", "plain", nil, OK, ""},
		{"unknown flag", "call --nope x", nil, Usage, "tool: unknown flag: --nope (see tool call --help)\n"},
		{"misspelt flag", "call --cuont 2 x", nil, Usage, "tool: unknown flag: --cuont; did you mean --count? (see tool call --help)\n"},
		{"bad flag value", "call --count many x", nil, Usage, "tool: invalid argument \"many\" for --count: want a whole number (see tool call --help)\n"},
		{"bad duration", "call --wait long x", nil, Usage, "tool: invalid argument \"long\" for --wait: want a duration such as 500ms, 5s or 1m30s (see tool call --help)\n"},
		{"help for nothing", "help cal", nil, Usage, "tool: unknown command \"cal\"; did you mean call? (see tool help --help)\n"},
		{"help for too much", "help plain x", nil, Usage, "tool: unexpected argument \"x\" (see tool help --help)\n"},
		{"missing argument", "call", nil, Usage, "tool: accepts 1 arg(s), received 0 (see tool call --help)\n"},
		{"stray argument", "plain x", nil, Usage, "tool: unexpected argument \"x\" (see tool plain --help)\n"},
		{"required flag", "need", nil, Usage, "tool: required flag(s) \"name\" not set (see tool need --help)\n"},
		{"no command", "", nil, Usage, "tool: name a command: call, need, plain (see tool --help)\n"},
		{"near miss", "cal", nil, Usage, "tool: unknown command \"cal\"; did you mean call? (see tool --help)\n"},
		{"misspelt", "cqll", nil, Usage, "tool: unknown command \"cqll\"; did you mean call? (see tool --help)\n"},
		{"unknown command", "zzzz", nil, Usage, "tool: unknown command \"zzzz\"; there are call, need, plain (see tool --help)\n"},
		{"plain error", "plain", errors.New("lost a screw"), Internal, "tool: lost a screw\n"},
		{"coded", "plain", Exitf(Unavailable, "no broker at %s", "x"), Unavailable, "tool: no broker at x\n"},
		{"coded below", "plain", fmt.Errorf("call: %w", Exitf(Denied, "not you")), Denied, "tool: call: not you\n"},
		{"outermost counts", "plain", Exit(Failed, Exitf(Denied, "not you")), Failed, "tool: not you\n"},
		{"chooses itself", "plain", fmt.Errorf("read: %w", configError{}), Config, "tool: read: f.toml:1:2: unknown key\n"},
		{"deadline", "plain", fmt.Errorf("call: %w", context.DeadlineExceeded), TempFail, "tool: call: context deadline exceeded\n"},
		{"code alone", "plain", Exit(3, nil), 3, ""},
		{"cancelled without a signal", "plain", context.Canceled, Internal, "tool: context canceled\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var out, errs bytes.Buffer
			root := tool(func(*cobra.Command, []string) error { return c.err })
			code := Run(t.Context(), root, strings.Fields(c.args), &out, &errs)
			if code != c.code {
				t.Errorf("exit code %d, want %d (stderr %q)", code, c.code, errs.String())
			}
			want, prefix := strings.CutSuffix(c.stderr, "...")
			if got := errs.String(); got != want && (!prefix || !strings.HasPrefix(got, want)) {
				t.Errorf("stderr %q, want %q", got, c.stderr)
			}
			if out.Len() > 0 {
				t.Errorf("stdout %q, want nothing", out.String())
			}
		})
	}
}

func TestExitWithoutError(t *testing.T) {
	t.Parallel()
	if err := Exit(OK, nil); err != nil {
		t.Errorf("Exit(OK, nil) = %v", err)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	if code := Run(t.Context(), tool(nil), []string{"--version"}, &out, &errs); code != OK {
		t.Fatalf("exit code %d, stderr %q", code, errs.String())
	}
	if !strings.HasPrefix(out.String(), "tool ") || !strings.Contains(out.String(), "go1.") {
		t.Errorf("--version printed %q", out.String())
	}
}

func TestHelpGoesToStdout(t *testing.T) {
	t.Parallel()
	for args, says := range map[string]string{"--help": "Available Commands", "help": "Available Commands", "call --help": "tool call SERVICE", "help call": "tool call SERVICE"} {
		var out, errs bytes.Buffer
		if code := Run(t.Context(), tool(func(*cobra.Command, []string) error { return nil }), strings.Fields(args), &out, &errs); code != OK || !strings.Contains(out.String(), says) || errs.Len() > 0 {
			t.Errorf("%s: code %d, stdout %q, stderr %q", args, code, out.String(), errs.String())
		}
	}
}

// Not parallel: it signals the test process.
func TestSignalEndsContext(t *testing.T) {
	for _, c := range []struct {
		name string
		sig  syscall.Signal
		err  func(context.Context) error
		code int
	}{
		{"drained", syscall.SIGTERM, func(context.Context) error { return nil }, OK},
		{"interrupted", syscall.SIGINT, func(ctx context.Context) error { return fmt.Errorf("call: %w", ctx.Err()) }, 128 + int(syscall.SIGINT)},
		{"terminal closed", syscall.SIGHUP, func(ctx context.Context) error { return ctx.Err() }, 128 + int(syscall.SIGHUP)},
		{"failed while ending", syscall.SIGTERM, func(context.Context) error { return Exitf(Failed, "late") }, Failed},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.sig == syscall.SIGHUP && signal.Ignored(c.sig) {
				return // the tests run under nohup
			}
			root := tool(func(cmd *cobra.Command, _ []string) error {
				if err := syscall.Kill(os.Getpid(), c.sig); err != nil {
					return err
				}
				<-cmd.Context().Done()
				return c.err(cmd.Context())
			})
			var out, errs bytes.Buffer
			if code := Run(context.Background(), root, []string{"plain"}, &out, &errs); code != c.code {
				t.Errorf("exit code %d, want %d, stderr %q", code, c.code, errs.String())
			}
		})
	}
}

// Not parallel: it signals the test process.
func TestHangups(t *testing.T) {
	root := tool(func(cmd *cobra.Command, _ []string) error {
		hangups := Hangups(cmd.Context())
		for range 3 {
			if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
				return err
			}
			<-hangups
		}
		if cmd.Context().Err() != nil {
			return Exitf(Failed, "SIGHUP ended the command")
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
			return err
		}
		<-cmd.Context().Done()
		return cmd.Context().Err()
	})
	var out, errs bytes.Buffer
	if code := Run(context.Background(), root, []string{"plain"}, &out, &errs); code != 128+int(syscall.SIGTERM) {
		t.Errorf("exit code %d, stderr %q", code, errs.String())
	}
}
