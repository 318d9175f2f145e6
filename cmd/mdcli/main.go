// Command mdcli asks a mesh things from the command line: calls, listings, events,
// a load test, a file replayed as a feed.
//
// Standard output is data, standard error is talk; errors.go says which error ends
// with which exit code. Start at command.
package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/internal/cli"
	"github.com/mdmesh/mdmesh/internal/config"
	"github.com/mdmesh/mdmesh/internal/logging"
)

func main() { cli.Main(command()) }

// The forms of -o.
const (
	table = "table" // for people
	whole = "json"  // one JSON value
	lines = "jsonl" // one JSON value a line
)

// options are the flags every command shares, and where its data goes.
type options struct {
	brokers config.Endpoints
	output  string
	timeout time.Duration

	in        io.Reader
	out, talk io.Writer
}

func command() *cobra.Command {
	o := &options{brokers: config.Endpoints{List: []string{"tcp://127.0.0.1:5555"}}}
	cmd := &cobra.Command{
		Use:   "mdcli",
		Short: "Call services and look at a mesh",
		Long: `mdcli calls services and looks at a mesh through any of its brokers (--broker, or
MD_BROKER in the environment). What is asked for goes to standard output, all else
to standard error.

Exit codes: 0 ok; 1 the service answered an error; 64 wrong usage; 69 no broker or
no worker; 70 internal; 75 timed out or busy; 76 protocol; 77 denied; 78 config.`,
		Example: `  mdcli call echo hello
  mdcli services
  mdcli top
  mdcli sub rollup/
  mdcli bench echo -o json`,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := config.Apply(cmd, ""); err != nil {
				return err
			}
			o.in, o.out, o.talk = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
			return o.check()
		},
	}
	f := cmd.PersistentFlags()
	f.Var(&o.brokers, "broker", "broker `endpoint`, tcp://HOST:PORT or ipc:///PATH; a comma list, or repeat")
	f.StringVarP(&o.output, "output", "o", table, "`form` of what is printed: table, json or jsonl")
	f.DurationVar(&o.timeout, "timeout", 5*time.Second, "how long to wait, all tries together")
	config.Flag(cmd)
	logging.Flags(cmd)
	// A person at a terminal wants the answer, not the talk about how it came.
	level := f.Lookup("log-level")
	level.DefValue = "warn"
	level.Value.Set(level.DefValue) // a level that exists
	cli.Values(cmd, "output", table, whole, lines)
	cli.CompleteFlag(cmd, "broker", o.completeNames("mmi.brokers", "endpoints"))
	cmd.AddCommand(o.call(), o.attach(), o.pub(), o.sub(), o.bench(), o.feed(), o.top(), o.trace())
	cmd.AddCommand(o.listings()...)
	return cmd
}

// check refuses what no command could work with.
func (o *options) check() error {
	switch o.output {
	case table, whole, lines:
	default:
		return cli.Exitf(cli.Usage, "--output %q: choose table, json or jsonl", o.output)
	}
	if o.timeout <= 0 {
		return cli.Exitf(cli.Usage, "--timeout %v: give more than 0, such as 500ms or 1m", o.timeout)
	}
	return nil
}

// connect returns a client; it dials at the first call.
func (o *options) connect() (*client.Client, error) { return o.connectAs("") }

// connectAs is connect under the name of an instance, "" for one of its own.
func (o *options) connectAs(instance string) (*client.Client, error) {
	if err := cli.Brokers(o.brokers.List); err != nil {
		return nil, err
	}
	c, err := client.New(client.Config{Brokers: o.brokers.List, Timeout: o.timeout, Instance: instance, Logger: logging.New("mdcli")})
	if err != nil {
		return nil, cli.Exit(cli.Usage, err)
	}
	return c, nil
}

// arguments is a rule for positional arguments that says what is wanted.
func arguments(least, most int, want string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return cli.Exitf(cli.Usage, "%s: %s", cmd.Name(), want)
		case most >= 0 && len(args) > most:
			return cli.Exitf(cli.Usage, "%s: unexpected argument %q: %s, in quotes if it has blanks", cmd.Name(), args[most], want)
		}
		return nil
	}
}

// serviceName checks a name before anybody is asked.
func serviceName(name string) error {
	const longest = 255 // MDP: the length is one octet
	if name == "" || len(name) > longest {
		return cli.Exitf(cli.Usage, "service name of %d octets: give 1 to %d", len(name), longest)
	}
	return nil
}

// terminal tells whether w is one: data goes out as it is, and only a person gets a
// newline added.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0 && f.Name() != os.DevNull
}

// writeFrames prints body frames as they are, one behind the other.
func (o *options) writeFrames(frames [][]byte) error {
	for _, f := range frames {
		if _, err := o.out.Write(f); err != nil {
			return fmt.Errorf("write the answer: %w", err)
		}
	}
	if terminal(o.out) {
		fmt.Fprintln(o.out)
	}
	return nil
}
