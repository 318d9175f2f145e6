// Command mdcli asks a mesh things from the command line: calls, listings, events,
// a load test, a file replayed as a feed.
package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/internal/cli"
	"github.com/mdmesh/mdmesh/internal/config"
	"github.com/mdmesh/mdmesh/internal/logging"
	"github.com/mdmesh/mdmesh/mdp"
)

func main() { cli.Main(command()) }

// options are the flags every command shares.
type options struct {
	brokers config.Endpoints
	output  string
	timeout time.Duration
}

func command() *cobra.Command {
	o := &options{brokers: config.Endpoints{List: []string{"tcp://127.0.0.1:5555"}}}
	cmd := &cobra.Command{
		Use:   "mdcli",
		Short: "Call services and look at a mesh",
		Example: `  mdcli call echo hello
  mdcli services
  mdcli sub rollup/
  mdcli bench echo -o json`,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := config.Apply(cmd, ""); err != nil {
				return err
			}
			return o.check()
		},
	}
	f := cmd.PersistentFlags()
	f.Var(&o.brokers, "broker", "broker `endpoint`; a comma list, or repeat")
	f.StringVarP(&o.output, "output", "o", "table", "`form` of what is printed: table, json or jsonl")
	f.DurationVar(&o.timeout, "timeout", 5*time.Second, "how long to wait, all tries together")
	config.Flag(cmd)
	logging.Flags(cmd)
	// A person at a terminal wants the answer, not the talk about how it came.
	cmd.PersistentFlags().Lookup("log-level").DefValue = "warn"
	cmd.PersistentFlags().Set("log-level", "warn")
	cmd.PersistentFlags().Lookup("log-level").Changed = false
	cmd.AddCommand(o.call(), o.pub(), o.sub(), o.bench(), o.feed())
	cmd.AddCommand(o.listings()...)
	return cmd
}

func (o *options) check() error {
	switch o.output {
	case "table", "json", "jsonl":
	default:
		return cli.Exitf(cli.Usage, "--output %q: choose table, json or jsonl", o.output)
	}
	if o.timeout <= 0 {
		return cli.Exitf(cli.Usage, "--timeout %v: give more than 0", o.timeout)
	}
	return nil
}

// connect returns a client; it dials at the first call.
func (o *options) connect() (*client.Client, error) {
	c, err := client.New(client.Config{Brokers: o.brokers.List, Timeout: o.timeout, Logger: logging.New("mdcli")})
	if err != nil {
		return nil, cli.Exit(cli.Usage, err)
	}
	return c, nil
}

// explain gives an error of a call its exit code.
func explain(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, client.ErrNoBroker) {
		return cli.Exit(cli.Unavailable, err)
	}
	var e *mdp.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Status {
	case mdp.NoWorker:
		return cli.Exit(cli.Unavailable, err)
	case mdp.Expired, mdp.Busy, mdp.NotTaken, mdp.BrokerLost, mdp.PeerLost, mdp.WorkerLost, mdp.Cancelled:
		return cli.Exit(cli.TempFail, err)
	case mdp.BadRequest, mdp.TooBig:
		return cli.Exit(cli.Protocol, err)
	case mdp.Denied:
		return cli.Exit(cli.Denied, err)
	case mdp.Internal:
		return cli.Exit(cli.Internal, err)
	}
	return cli.Exit(cli.Failed, err)
}

// terminal tells whether standard output is one: data goes out as it is, and only
// a person gets a newline added.
func terminal() bool {
	st, err := os.Stdout.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

// octets shows frames on a terminal or in a pipe as they are.
func writeFrames(frames [][]byte) error {
	for _, f := range frames {
		if _, err := os.Stdout.Write(f); err != nil {
			return fmt.Errorf("write the answer: %w", err)
		}
	}
	if terminal() {
		fmt.Println()
	}
	return nil
}
