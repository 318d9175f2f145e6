// Mdsupervisor keeps the programs of a mesh running on one host: run does the
// keeping, the other commands talk to it over its socket. This package holds
// wiring only: flags, signals, exit codes, and how answers are printed; package
// supervisor does the work.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/internal/cli"
	"github.com/mdmesh/mdmesh/internal/config"
	"github.com/mdmesh/mdmesh/internal/logging"
	"github.com/mdmesh/mdmesh/supervisor"
)

func main() { cli.Main(newRoot()) }

// options are the flags all commands share.
type options struct {
	socket string
	output string
}

func newRoot() *cobra.Command {
	o := &options{}
	root := &cobra.Command{
		Use:   "mdsupervisor",
		Short: "Keep the programs of a mesh running on this host",
		Long: `mdsupervisor starts the children a file names, starts them again when they end,
and stops them in reverse order. Killed itself, it leaves them running, and the
next mdsupervisor takes them over.

Exit codes: 0 ok; 1 a child could not be started, or there is none of that name; 3
not running (status); 64 wrong usage; 69 no supervisor, or an address in use; 70
internal; 76 protocol; 77 denied; 78 wrong configuration.`,
		Example: `  mdsupervisor run --config mesh.toml
  mdsupervisor status
  mdsupervisor restart echo:2
  mdsupervisor stop 'echo:*'
  mdsupervisor reload
  mdsupervisor shutdown`,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := config.Environment(cmd); err != nil {
				return err
			}
			if o.output != "table" && o.output != "json" {
				return cli.Exitf(cli.Usage, "--output is %q; choose table or json", o.output)
			}
			return ownVariables()
		},
	}
	logging.Flags(root)
	root.PersistentFlags().StringVar(&o.socket, "socket", supervisor.DefaultSocket(), "control socket `path`; state, lock and logs stand beside it")
	root.PersistentFlags().StringVarP(&o.output, "output", "o", "table", "how to print: table or json")
	cli.Default(root, "socket", "$XDG_RUNTIME_DIR/mdmesh/supervisor.sock, for root /run/mdmesh/supervisor.sock")
	cli.Files(root, "/etc/mdmesh/mesh.toml", "the children, where the systemd unit looks for them",
		"SOCKET.state", "what the next supervisor must know of the children of this one, until the next boot",
		"SOCKET.lock", "held by the one supervisor of this socket",
		"SOCKET.logs/NAME.log", "what a child says, unless log_dir in the file names another folder")
	cli.Values(root, "output", "table", "json")
	root.AddCommand(runCommand(o), statusCommand(o), reloadCommand(o), shutdownCommand(o),
		changeCommand(o, supervisor.OpStart, "Start children that do not run", `  mdsupervisor start echo:2
  mdsupervisor start all`),
		changeCommand(o, supervisor.OpStop, "Stop children; they stay stopped until started, or until the next boot", `  mdsupervisor stop echo:2
  mdsupervisor stop 'echo:*'`),
		changeCommand(o, supervisor.OpRestart, "Stop children and start them again", `  mdsupervisor restart echo:2
  mdsupervisor restart 'echo:*'`))
	return root
}

// ownVariables takes the variables that set our own flags out of the environment,
// so that children, which have flags of the same names, do not inherit them.
func ownVariables() error {
	for _, flag := range []string{"config", "socket", "http", "output", "insecure", "check-config", "stop-timeout"} {
		if err := os.Unsetenv(config.EnvName(flag)); err != nil {
			return cli.Exit(cli.Internal, err)
		}
	}
	return nil
}
