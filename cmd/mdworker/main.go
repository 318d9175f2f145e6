// Command mdworker offers a service that needs nothing but a broker: echo, or any
// program run once per request.
package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/internal/cli"
	"github.com/mdmesh/mdmesh/internal/config"
	"github.com/mdmesh/mdmesh/internal/logging"
	"github.com/mdmesh/mdmesh/internal/notify"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/services/echo"
	"github.com/mdmesh/mdmesh/services/exec"
	"github.com/mdmesh/mdmesh/worker"
)

// maxInstances bounds the sessions of one process with one broker.
const maxInstances = 1_000

// maxChildren bounds the programs that stay.
const maxChildren = 1_000

func main() { cli.Main(command()) }

// options are the flags that all kinds of worker share.
type options struct {
	brokers config.Endpoints
	cfg     worker.Config
}

func command() *cobra.Command {
	o := &options{brokers: config.Endpoints{List: []string{"tcp://127.0.0.1:5555"}}}
	cmd := &cobra.Command{
		Use:   "mdworker",
		Short: "Offer a service: echo, or any program",
		Long: `mdworker offers a service to a mesh, through each of the brokers named by --broker
(or MD_BROKER in the environment). It dials again for as long as it runs. SIGTERM
drains it: running requests are answered first.

Exit codes: 0 ok; 64 wrong usage, or no such program; 70 internal; 77 every broker
refused it; 78 wrong configuration.`,
		Example: `  mdworker echo
  mdworker exec --service upper --concurrency 4 -- tr a-z A-Z
  mdworker --broker tcp://10.0.0.1:5555,tcp://10.0.0.2:5555 echo`,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return config.Apply(cmd, "") },
	}
	cmd.PersistentFlags().Var(&o.brokers, "broker", "broker `endpoint`, tcp://HOST:PORT or ipc:///PATH; a comma list, or repeat")
	config.Flag(cmd)
	logging.Flags(cmd)
	cmd.AddCommand(o.echo(), o.exec())
	return cmd
}

// shared adds the flags of every kind of worker.
func (o *options) shared(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntVar(&o.cfg.Concurrency, "concurrency", 1, "requests run at once per session")
	f.IntVar(&o.cfg.Concurrency, "credit", 1, "alias of --concurrency")
	f.MarkHidden("credit")
	f.IntVar(&o.cfg.Instances, "instances", 1, "sessions with each broker, in this one process")
	f.StringVar(&o.cfg.Scope, "scope", "mesh", "mesh, or local: not offered to other brokers")
	cli.Values(cmd, "scope", "mesh", "local")
	f.StringSliceVar(&o.cfg.Tags, "tag", nil, "word shown in listings of workers; repeat")
	f.DurationVar(&o.cfg.DrainTimeout, "drain-timeout", worker.DefaultDrainTimeout, "how long running requests may take on shutdown")
}

func (o *options) echo() *cobra.Command {
	var delay time.Duration
	cmd := &cobra.Command{
		Use:     "echo",
		Short:   "Answer every request with its own body",
		Long:    "echo answers every request with its own body, frame by frame: for trying a mesh out\nand for measuring it.",
		Example: "  mdworker echo\n  mdworker echo --service slow --delay 100ms\n  mdworker echo --instances 8 --concurrency 32",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if delay < 0 {
				return cli.Exitf(cli.Usage, "--delay %v: give 0 or more", delay)
			}
			o.cfg.Handler = echo.Handler(delay)
			return o.serve(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&o.cfg.Service, "service", "echo", "`name` of the service")
	cmd.Flags().DurationVar(&delay, "delay", 0, "wait this long before answering")
	o.shared(cmd)
	return cmd
}

func (o *options) exec() *cobra.Command {
	var service string
	var persistent bool
	var frames int
	cmd := &cobra.Command{
		Use:   "exec --service NAME [flags] -- CMD ARG...",
		Short: "Run a program for each request: body on its input, its output as the reply",
		Long: `exec runs CMD once per request, with the body on its standard input and its
standard output as the reply. An exit code other than 0 is an error to the caller,
with the last 4 KiB of standard error. The program finds MD_SERVICE, MD_REQUEST_ID,
MD_ATTEMPT, MD_DEADLINE_MS (time left) and MD_CALLER (the calling process, 16 hex
digits) in its environment. It is killed with its process group at the deadline, on
cancel and when the broker is lost; when the worker itself is killed, CMD dies too,
but what CMD started may survive.

With --persistent CMD stays, one for each request that runs at once, and reads one
request after another from its standard input, as frames with their lengths; what
the environment says above is in a first frame of JSON. docs/EXEC.md has the format
and examples. A CMD that ends is started again, at growing intervals if it never
answers; the request it held gets an error. With --frames 2 requests have numbers, and
CMD may send parts of an answer ahead.`,
		Example: `  mdworker exec --service upper -- tr a-z A-Z
  mdworker exec --service resize --concurrency 2 -- convert - -resize 50% -
  mdworker exec --service score --concurrency 4 --persistent -- python3 score.py
  mdworker exec --service count --persistent --frames 2 -- python3 count.py`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.cfg.Service = service
			return o.runExec(cmd.Context(), exec.Config{Command: args, Persistent: persistent, Frames: frames})
		},
	}
	cmd.Flags().StringVar(&service, "service", "", "`name` of the service (required)")
	cmd.Flags().BoolVar(&o.cfg.Once, "once", false, "requests run at most once: never given to another worker")
	cmd.Flags().BoolVar(&persistent, "persistent", false, "keep CMD running for many requests, which it reads as frames (docs/EXEC.md)")
	cmd.Flags().IntVar(&frames, "frames", 1, "`version` of these frames: 1, or 2 with numbers of requests and parts of answers")
	cli.Values(cmd, "frames", "1", "2")
	o.shared(cmd)
	return cmd
}

func (o *options) runExec(ctx context.Context, cfg exec.Config) error {
	if err := o.check(); err != nil {
		return err
	}
	if cfg.Frames != 1 && !cfg.Persistent {
		return cli.Exitf(cli.Usage, "--frames is for programs that stay: add --persistent")
	}
	cfg.Logger = logging.New("mdworker")
	cfg.Children = o.cfg.Concurrency * o.cfg.Instances * len(o.brokers.List)
	if cfg.Persistent && cfg.Children > maxChildren {
		return cli.Exitf(cli.Usage, "--persistent would start %d programs (concurrency x instances x brokers): give less than %d in all", cfg.Children, maxChildren+1)
	}
	service, err := exec.New(cfg)
	if err != nil {
		return cli.Exit(cli.Usage, err)
	}
	// The forking goroutine must outlive the drain, which begins when ctx ends.
	forkCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- service.Run(forkCtx) }()
	o.cfg.Handler = service.Handle
	err = o.serve(ctx)
	stop()
	return errors.Join(err, <-done)
}

// check refuses what the library would take for its default.
func (o *options) check() error {
	if err := cli.Brokers(o.brokers.List); err != nil {
		return err
	}
	switch {
	case o.cfg.Service == "":
		return cli.Exitf(cli.Usage, "no service is named: give --service NAME")
	case o.cfg.Concurrency < 1:
		return cli.Exitf(cli.Usage, "--concurrency %d: give 1 or more", o.cfg.Concurrency)
	case o.cfg.Instances < 1 || o.cfg.Instances > maxInstances:
		return cli.Exitf(cli.Usage, "--instances %d: give 1 to %d", o.cfg.Instances, maxInstances)
	case o.cfg.DrainTimeout < 0:
		return cli.Exitf(cli.Usage, "--drain-timeout %v: give 0 or more", o.cfg.DrainTimeout)
	}
	return nil
}

// lookAround says once who answers in the brokers' place, where none does.
func (o *options) lookAround(ctx context.Context, w *worker.Worker) {
	lonely := func() []string {
		select {
		case <-w.Ready():
			return nil
		default:
			return o.brokers.List
		}
	}
	for _, who := range cli.LookAround(ctx, lonely) {
		o.cfg.Logger.Warn("no broker there, trying on", "found", who)
	}
}

// serve runs the worker until ctx ends.
func (o *options) serve(ctx context.Context) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.cfg.DrainTimeout == 0 {
		o.cfg.DrainTimeout = -1 // the library's word for no time at all
	}
	o.cfg.Brokers = o.brokers.List
	o.cfg.Logger = logging.New("mdworker")
	w, err := worker.New(o.cfg)
	if err != nil {
		return cli.Exit(cli.Usage, err)
	}
	stop := context.AfterFunc(ctx, func() {
		o.cfg.Logger.Info("draining", "service", o.cfg.Service, "timeout", max(o.cfg.DrainTimeout, 0))
		notify.Stopping()
	})
	defer stop()
	if err := notify.Ready(); err != nil {
		o.cfg.Logger.Warn("service manager not told", "error", err)
	}
	go o.lookAround(ctx, w)
	err = w.Run(ctx)
	if errors.Is(err, mdp.Denied) {
		return cli.Exit(cli.Denied, err)
	}
	return err
}
