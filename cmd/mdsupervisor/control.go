package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/internal/cli"
	"github.com/mdmesh/mdmesh/supervisor"
)

// notRunning is the exit code of status for "not running" (LSB).
const notRunning = 3

func statusCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "status [NAME|GROUP:*|all]...",
		Short: "Show the children; exit 3 if the supervisor, or any child that was named, does not run",
		Example: `  mdsupervisor status
  mdsupervisor -o json status 'echo:*'`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: o.completeChildren,
		RunE: func(cmd *cobra.Command, names []string) error {
			children, err := supervisor.Do(cmd.Context(), o.socket, supervisor.OpStatus, names...)
			if errors.Is(err, supervisor.ErrNotRunning) {
				return cli.Exit(notRunning, err)
			}
			if err != nil {
				return exit(err)
			}
			if err := o.print(cmd.OutOrStdout(), children); err != nil {
				return err
			}
			down := func(c supervisor.ChildStatus) bool { return c.PID == 0 }
			if len(names) > 0 && slices.ContainsFunc(children, down) {
				return cli.Exit(notRunning, nil)
			}
			return nil
		},
	}
}

// changeCommand is start, stop or restart.
func changeCommand(o *options, op supervisor.Op, short, example string) *cobra.Command {
	return &cobra.Command{
		Use:     string(op) + " NAME|GROUP:*|all...",
		Short:   short,
		Example: example,

		ValidArgsFunction: o.completeChildren,
		Args: func(_ *cobra.Command, names []string) error {
			if len(names) == 0 {
				return fmt.Errorf("%s what? name children, GROUP:* or all", op)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, names []string) error {
			children, err := supervisor.Do(cmd.Context(), o.socket, op, names...)
			if children != nil {
				err = errors.Join(err, o.print(cmd.OutOrStdout(), children))
			}
			return exit(err)
		},
	}
}

func reloadCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Read the file again: start, stop and restart what has changed in it",
		Long: `reload has the supervisor read its file again, as SIGHUP does. Children that are new in
it are started, those it no longer names are stopped, those with another command,
environment, directory or ready are restarted; other keys, and log_dir, apply from
the next start on. The others are left alone, and so is what was stopped by hand. A
file that is no good changes nothing.

It waits until that is done, and prints the children that were touched.

Exit codes: 0 ok; 1 a child could not be started; 69 no supervisor; 78 the file is
wrong.`,
		Example: "  mdsupervisor reload",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			children, err := supervisor.Do(cmd.Context(), o.socket, supervisor.OpReload)
			if err == nil || children != nil {
				err = errors.Join(err, o.print(cmd.OutOrStdout(), children))
			}
			return exit(err)
		},
	}
}

func shutdownCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:     "shutdown",
		Short:   "Stop all children, then the supervisor",
		Example: "  mdsupervisor shutdown",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := supervisor.Do(cmd.Context(), o.socket, supervisor.OpShutdown)
			return exit(err)
		},
	}
}

// exit gives an error of supervisor.Do its exit code.
func exit(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, supervisor.ErrNotRunning), errors.Is(err, supervisor.ErrClosing):
		return cli.Exit(cli.Unavailable, err)
	case errors.Is(err, supervisor.ErrUnknownChild), errors.Is(err, supervisor.ErrNotStarted):
		return cli.Exit(cli.Failed, err)
	case errors.Is(err, supervisor.ErrFile):
		return cli.Exit(cli.Config, err)
	case errors.Is(err, supervisor.ErrRequest):
		return cli.Exit(cli.Protocol, err)
	case errors.Is(err, os.ErrPermission):
		return cli.Exit(cli.Denied, err)
	default:
		return err
	}
}

// print writes children as -o says.
func (o *options) print(w io.Writer, children []supervisor.ChildStatus) error {
	if o.output == "json" {
		if children == nil {
			children = []supervisor.ChildStatus{}
		}
		return json.NewEncoder(w).Encode(children)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tSTATE\tPID\tFOR\tRESTARTS\tREASON")
	for _, c := range children {
		pid := "-"
		if c.PID > 0 {
			pid = fmt.Sprint(c.PID)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%s\n", c.Name, c.State, pid, age(time.Since(c.Since)), c.Restarts, cmp.Or(c.Reason, "-"))
	}
	return table.Flush()
}

// age shows a duration in its two largest units: "3d4h", "5m12s".
func age(d time.Duration) string {
	d = max(d, 0).Truncate(time.Second)
	if d < 24*time.Hour {
		text := d.String()
		if d >= time.Hour {
			text, _, _ = strings.Cut(text, "m")
			text += "m"
		}
		return text
	}
	return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}
