package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/internal/cli"
	"github.com/mdmesh/mdmesh/internal/logging"
	"github.com/mdmesh/mdmesh/internal/notify"
	"github.com/mdmesh/mdmesh/supervisor"
)

// runOptions are the flags of run.
type runOptions struct {
	*options
	config      string
	http        string
	insecure    bool
	stopTimeout time.Duration
	checkConfig bool
}

func runCommand(o *options) *cobra.Command {
	r := &runOptions{options: o}
	cmd := &cobra.Command{
		Use:   "run --config FILE",
		Short: "Keep the children of a file running, until SIGTERM, Ctrl-C or shutdown",
		Long: `run starts the children of a file in order and keeps them running. It ends with
SIGTERM, SIGINT or "mdsupervisor shutdown", and stops the children in reverse order
first; a second Ctrl-C kills them at once. SIGHUP has it read the file again, as
"mdsupervisor reload" does; when the terminal it was started from is gone it ends.

The file:

  log_dir = "logs"                       # default: SOCKET.logs

  [[child]]
  name = "echo"
  command = ["mdworker", "--broker", "tcp://127.0.0.1:5555", "echo"]
  numprocs = 4                           # echo:0 .. echo:3
  restart = "permanent"                  # or transient, temporary

Also: group, environment, directory, stop_signal (TERM), stop_timeout (10s),
ready ("notify": it says so by sd_notify), start_timeout (10s), min_uptime (1s),
max_failures (10 runs in a row shorter than min_uptime: fatal; 0: never),
fatal_exits (64, 77, 78: fatal at once).`,
		Example: `  mdsupervisor run --config mesh.toml
  mdsupervisor run --config mesh.toml --check-config
  mdsupervisor run --config mesh.toml --http 127.0.0.1:5590 --stop-timeout 4s`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return r.run(cmd.Context()) },
	}
	cmd.Flags().StringVar(&r.config, "config", "", "supervisor `file` (TOML); MD_CONFIG")
	cmd.Flags().StringVar(&r.http, "http", "", "`address` for GET /status and /healthz; \"\" = off")
	cmd.Flags().BoolVar(&r.insecure, "insecure", false, "allow an --http address other machines can reach")
	cmd.Flags().DurationVar(&r.stopTimeout, "stop-timeout", 10*time.Second, "how long stopping all children may take; then they are killed")
	cmd.Flags().BoolVar(&r.checkConfig, "check-config", false, "check the file and that every command exists, then exit")
	return cmd
}

func (r *runOptions) run(ctx context.Context) error {
	if r.config == "" {
		return cli.Exitf(cli.Usage, "which children? name a file with --config FILE")
	}
	if r.stopTimeout <= 0 {
		return cli.Exitf(cli.Usage, "--stop-timeout is %v; it must be positive", r.stopTimeout)
	}
	if r.http != "" {
		if err := cli.Listen("http", r.http, r.insecure); err != nil {
			return err
		}
	}
	file, err := supervisor.Load(r.config)
	if err != nil {
		return err
	}
	if r.checkConfig {
		if err := file.CheckCommands(); err != nil {
			return cli.Exitf(cli.Config, "%s: %w", r.config, err)
		}
		fmt.Fprintln(os.Stderr, "configuration ok")
		return nil
	}
	log := logging.New("mdsupervisor")
	var ready sync.Once
	watchdog := notify.WatchdogInterval()
	web := &web{address: r.http, log: log}
	defer web.close()
	s, err := supervisor.New(supervisor.Config{
		File:        file,
		Socket:      r.socket,
		StopTimeout: r.stopTimeout,
		Logger:      log,
		Locked:      web.listen,
		TurnEvery:   watchdog,
		Stopping:    func() { tell(log, notify.Stopping) },
		Turn: func() {
			ready.Do(func() { tell(log, notify.Ready) })
			if watchdog > 0 {
				tell(log, notify.Watchdog)
			}
		},
	})
	if err != nil {
		return cli.Exit(cli.Usage, err)
	}
	web.supervisor = s
	return serve(ctx, s, log)
}

// serve runs s, and beside it the watch for signals.
func serve(ctx context.Context, s *supervisor.Supervisor, log hclog.Logger) error {
	defer hurryOnSecondInterrupt(s)()
	ctx, end := context.WithCancel(ctx)
	defer end()
	defer reloadOnHangup(ctx, s, log, end)()
	err := s.Run(ctx)
	if errors.Is(err, supervisor.ErrRunning) {
		return cli.Exit(cli.Unavailable, err)
	}
	return err
}

// hurryOnSecondInterrupt kills the children if someone presses Ctrl-C again while
// they are being stopped. It also keeps a second signal of any kind from
// ending us and leaving them running. A SIGTERM does not hurry: scripts that see
// the first Ctrl-C, too, pass it on that way.
func hurryOnSecondInterrupt(s *supervisor.Supervisor) (stop func()) {
	signals := make(chan os.Signal, 4) // none may be missed while another is handled
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for interrupts := 0; ; {
			select {
			case sig := <-signals:
				if sig == syscall.SIGINT {
					interrupts++
				}
				if interrupts == 2 {
					s.Hurry()
				}
			case <-done:
				return
			}
		}
	})
	return func() { signal.Stop(signals); close(done); wg.Wait() }
}

// reloadOnHangup reads the file again with each SIGHUP, and calls end with the one
// that says that our terminal is gone: nobody is left to press Ctrl-C.
func reloadOnHangup(ctx context.Context, s *supervisor.Supervisor, log hclog.Logger, end func()) (stop func()) {
	watched := hasTerminal() && !signal.Ignored(syscall.SIGHUP) // else somebody said nohup
	hangups := cli.Hangups(ctx)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-hangups:
			case <-ctx.Done():
				return
			}
			if watched && !hasTerminal() {
				log.Info("the terminal is gone")
				end()
				return
			}
			reload(ctx, s, log)
		}
	})
	return func() { cancel(); wg.Wait() }
}

// reload tells the service manager what it does, and the log what came of it.
func reload(ctx context.Context, s *supervisor.Supervisor, log hclog.Logger) {
	tell(log, notify.Reloading)
	defer tell(log, notify.Ready)
	if _, err := s.Reload(ctx); err != nil && ctx.Err() == nil {
		log.Error("reload failed", "error", err)
	}
}

// hasTerminal says whether this process has a controlling terminal.
func hasTerminal() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDONLY|syscall.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	tty.Close()
	return true
}

// tell reports to the service manager; that it does not listen is no reason to
// stop.
func tell(log hclog.Logger, call func() error) {
	if err := call(); err != nil {
		log.Warn("service manager not told", "error", err)
	}
}
