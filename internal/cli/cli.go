// Package cli is what every mdmesh program does around its work: signals, exit
// codes, one line about what went wrong, --version, the line that names a bound
// endpoint, shell completion (completion.go) and manual pages (man.go).
//
// The one invariant: a program ends with one of the codes below and, if that is
// not OK, exactly one message on standard error that says what to do. Start at
// Run.
//
// It imports its neighbours internal/version, internal/config, internal/logging and
// internal/profile, and otherwise nothing of mdmesh.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mdmesh/mdmesh/internal/config"
	"github.com/mdmesh/mdmesh/internal/logging"
	"github.com/mdmesh/mdmesh/internal/profile"
	"github.com/mdmesh/mdmesh/internal/version"
)

// Exit codes of all programs; those above 1 are of sysexits.h. A program ended
// by a signal before its work was done exits with 128 + the signal's number, as
// a shell expects.
const (
	OK          = 0
	Failed      = 1  // the service answered an error
	Usage       = 64 // wrong flags or arguments
	Unavailable = 69 // no broker, no worker, an address in use
	Internal    = 70 // a fault of the program itself
	TempFail    = 75 // timed out or busy: try again later
	Protocol    = 76 // the other side does not speak our protocol
	Denied      = 77 // not allowed
	Config      = 78 // the configuration is wrong
)

// coder is what an error implements to choose the exit code itself. Packages of
// floor 0 do so without importing this one (config errors say 78).
type coder interface {
	error
	ExitCode() int
}

// exitError gives an error a code and keeps its text and chain.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }
func (e *exitError) ExitCode() int { return e.code }

// Exit returns err with an exit code; the outermost code in a chain counts. A
// nil err gives nil for OK, and for other codes an error without text: the
// program then ends with that code and says nothing more.
func Exit(code int, err error) error {
	if err == nil {
		if code == OK {
			return nil
		}
		err = errors.New("")
	}
	return &exitError{code: code, err: err}
}

// Exitf is Exit with a new error, formatted as by fmt.Errorf (so %w works).
func Exitf(code int, format string, args ...any) error {
	return Exit(code, fmt.Errorf(format, args...))
}

// Code returns the exit code for err: its own if it has one, 75 for a passed
// deadline, else 70.
func Code(err error) int {
	if err == nil {
		return OK
	}
	if c, ok := errors.AsType[coder](err); ok {
		return c.ExitCode()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return TempFail
	}
	return Internal
}

// Main runs root with the process's arguments and ends the process. The context
// of the commands ends with SIGINT, SIGTERM or (a terminal that is closed, unless
// nohup has it ignored, or the command takes it by Hangups) SIGHUP; a second such
// signal ends the process at once, unless the command itself listens for signals.
//
// With MD_CPUPROFILE in the environment it leaves a CPU profile there (package profile).
func Main(root *cobra.Command) {
	os.Exit(profiled(root))
}

func profiled(root *cobra.Command) int {
	stop, err := profile.Start(root.Name())
	if err != nil {
		report(logging.Stderr(), root, Config, err)
		return Config
	}
	code := Run(context.Background(), root, os.Args[1:], os.Stdout, logging.Stderr())
	if err := stop(); err != nil {
		report(logging.Stderr(), root, Internal, err)
		return max(code, Failed)
	}
	return code
}

// Run is Main for tests: it blocks until the command has ended, and returns the
// exit code. It prepares root: --version, silence on errors (Run reports them),
// the commands completion and man, and strict arguments: a command without an Args
// rule takes none.
func Run(ctx context.Context, root *cobra.Command, args []string, stdout, stderr io.Writer) int {
	ctx, caught, stop := untilSignal(ctx)
	defer stop()

	var started bool // did the command's own code run? Errors before that are of usage.
	prepare(root, &started)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return OK
	}
	if sig := caught(); sig != 0 && errors.Is(err, context.Canceled) {
		return 128 + int(sig)
	}
	code := Code(err)
	if _, own := errors.AsType[coder](err); !own && !started {
		code = Usage
	}
	report(stderr, cmd, code, err)
	return code
}

// report writes the one message: "mdcli: reason", with a pointer to the help
// where the arguments were wrong.
func report(stderr io.Writer, cmd *cobra.Command, code int, err error) {
	text := strings.TrimRight(err.Error(), "\n")
	if text == "" {
		return
	}
	if code == Usage {
		text += fmt.Sprintf(" (see %s --help)", cmd.CommandPath())
	}
	fmt.Fprintf(stderr, "%s: %s\n", cmd.Root().Name(), text)
}

// prepare makes the command tree behave as all our programs do.
func prepare(root *cobra.Command, started *bool) {
	root.SilenceErrors, root.SilenceUsage = true, true
	if root.Version == "" {
		root.Version = version.String()
		root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
		root.Flags().Bool("version", false, "print version, commit and Go version")
	}
	root.AddCommand(completionCommand(root.Name()), manCommand())
	root.SetFlagErrorFunc(flagError)
	completeSharedFlags(root)
	walk(root, func(cmd *cobra.Command) {
		switch {
		case cmd.HasSubCommands() && !cmd.Runnable():
			cmd.Args = cobra.ArbitraryArgs
			cmd.RunE = chooseCommand
		case cmd.Args == nil:
			cmd.Args = noArgs
		}
		cmd.RunE = marked(cmd.RunE, started)
		cmd.PreRunE = marked(cmd.PreRunE, started)
		cmd.PersistentPreRunE = unlessCompleting(marked(cmd.PersistentPreRunE, started))
	})
	root.InitDefaultHelpCmd()
	if help, _, err := root.Find([]string{"help"}); err == nil && help != root {
		help.Args, help.Run, help.RunE = cobra.ArbitraryArgs, nil, helpFor
		help.PersistentPreRunE = func(*cobra.Command, []string) error { return nil } // a file of flags has no say
	}
}

// helpFor prints the help of the command that args name. Cobra's own prints the
// program's for one that is not there, and calls that a success.
func helpFor(cmd *cobra.Command, args []string) error {
	found, rest, err := cmd.Root().Find(args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return chooseCommand(found, rest)
	}
	found.InitDefaultHelpFlag()
	found.InitDefaultVersionFlag()
	return found.Help()
}

// flagError says of a flag what to write instead.
func flagError(cmd *cobra.Command, err error) error {
	if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return fmt.Errorf("invalid argument %q for --%s: %s", bad.GetValue(), bad.GetFlag().Name, config.Wanted(bad))
	}
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok || unknown.GetSpecifiedShortnames() != "" {
		return err
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	near := Near(unknown.GetSpecifiedName(), names)
	if len(near) == 0 {
		return err
	}
	return fmt.Errorf("%w; did you mean --%s?", err, strings.Join(near, " or --"))
}

func walk(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, sub := range cmd.Commands() {
		walk(sub, visit)
	}
}

type runFunc = func(*cobra.Command, []string) error

// marked wraps run so that its errors can be told from cobra's own, which come
// from parsing: *started is true only while and after an error of run.
func marked(run runFunc, started *bool) runFunc {
	if run == nil {
		return nil
	}
	return func(cmd *cobra.Command, args []string) error {
		err := run(cmd, args)
		*started = err != nil
		return err
	}
}

// unlessCompleting keeps run from what is no command of ours.
func unlessCompleting(run runFunc) runFunc {
	if run == nil {
		return nil
	}
	return func(cmd *cobra.Command, args []string) error {
		if completing(cmd) {
			return nil
		}
		return run(cmd, args)
	}
}

func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return Exitf(Usage, "unexpected argument %q", args[0])
	}
	return nil
}

// chooseCommand answers a call of a command that only groups others.
func chooseCommand(cmd *cobra.Command, args []string) error {
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "help" && sub.Name() != "completion" {
			names = append(names, sub.Name())
		}
	}
	if len(names) == 0 {
		return noArgs(cmd, args)
	}
	choice := strings.Join(names, ", ")
	if len(args) == 0 {
		return Exitf(Usage, "name a command: %s", choice)
	}
	cmd.SuggestionsMinimumDistance = 2 // cobra's own default, which it sets on another path only
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		choice = "did you mean " + strings.Join(near, " or ") + "?"
	} else {
		choice = "there are " + choice
	}
	return Exitf(Usage, "unknown command %q; %s", args[0], choice)
}

// Listening writes the line that names one bound endpoint to standard error:
// "listening role=http endpoint=http://127.0.0.1:5580". Programs and tests that
// asked for port 0 read the real port from it.
func Listening(role, endpoint string) {
	fmt.Fprintf(logging.Stderr(), "listening role=%s endpoint=%s\n", role, endpoint)
}
