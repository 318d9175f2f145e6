package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/internal/cli"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/services/hostmetrics"
	"github.com/mdmesh/mdmesh/services/ingest"
	"github.com/mdmesh/mdmesh/services/push"
	"github.com/mdmesh/mdmesh/services/rollup"
	"github.com/mdmesh/mdmesh/services/transform"
	"github.com/mdmesh/mdmesh/worker"
)

func (o *options) ingest() *cobra.Command {
	var cfg ingest.Config
	cmd := &cobra.Command{
		Use:   "ingest",
		Short: "Take records over TCP, one JSON object per line",
		Long: `ingest answers each line with {"ok": true} once its row is durable, or with
{"ok": false, "error": "..."}, in order. A record:

  {"series": "cpu.total", "time": "2026-11-21T10:00:00Z", "value": 12.5, "id": "host1-17"}`,
		Example: `  mdservice ingest
  printf '{"series":"demo","time":"2026-11-21T10:00:00Z","value":1}\n' | nc -N 127.0.0.1 5570`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cli.Listen("listen", cfg.Listen, cfg.Insecure); err != nil {
				return err
			}
			return o.runIngest(cmd.Context(), cfg)
		},
	}
	cmd.Flags().StringVar(&cfg.Listen, "listen", "127.0.0.1:5570", "TCP `address`")
	cmd.Flags().BoolVar(&cfg.Insecure, "insecure", false, "allow an address other machines can reach")
	return cmd
}

func (o *options) runIngest(ctx context.Context, cfg ingest.Config) error {
	c, err := o.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	cfg.Caller, cfg.Logger = c, o.log
	s, err := ingest.New(cfg)
	if err != nil {
		return cli.Exit(cli.Usage, err)
	}
	addr, err := s.Listen(ctx)
	if err != nil {
		return explainListen(err)
	}
	cli.Listening("ingest", "tcp://"+addr.String())
	o.ready(ctx)
	return s.Run(ctx)
}

func explainListen(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return cli.Exitf(cli.Unavailable, "%w; choose another with --listen (port 0 picks a free one)", err)
	}
	return cli.Exit(cli.Unavailable, err)
}

func (o *options) transform() *cobra.Command {
	var concurrency int
	var scope string
	cmd := &cobra.Command{
		Use:   "transform",
		Short: "Write records as rows, as a worker of the mesh",
		Long: `transform answers requests of ingest: it writes their records as rows into the
store and answers what became of each. Run as many as there is work for.`,
		Example: "  mdservice transform --data /var/lib/mdmesh --concurrency 4",
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case concurrency < 1:
				return cli.Exitf(cli.Usage, "--concurrency %d: give 1 or more", concurrency)
			case scope != "mesh" && scope != "local":
				return cli.Exitf(cli.Usage, "--scope %q: want mesh or local", scope)
			}
			return o.runTransform(cmd.Context(), worker.Config{Concurrency: concurrency, Scope: scope})
		},
	}
	cmd.Flags().IntVar(&concurrency, "concurrency", 4, "requests run at once")
	cmd.Flags().StringVar(&scope, "scope", "local", "local: for this broker only, because the embedded store is; mesh: for all")
	cli.Values(cmd, "scope", "local", "mesh")
	return cmd
}

func (o *options) runTransform(ctx context.Context, cfg worker.Config) error {
	rows, err := o.openStore(ctx)
	if err != nil {
		return err
	}
	defer rows.Close()
	c, err := o.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	service, err := transform.New(transform.Config{Rows: rows, Publisher: c, Logger: o.log})
	if err != nil {
		return fmt.Errorf("transform: %w", err)
	}
	cfg.Brokers, cfg.Service, cfg.Logger = o.brokers.List, transform.Name, o.log
	cfg.DrainTimeout = 3 * time.Second
	cfg.Handler = func(ctx context.Context, r *worker.Request) ([][]byte, error) { return service.Handle(ctx, r.Body) }
	w, err := worker.New(cfg)
	if err != nil {
		return cli.Exit(cli.Usage, err)
	}
	o.ready(ctx)
	err = together(ctx, w.Run, service.Run)
	if errors.Is(err, mdp.Denied) {
		return cli.Exit(cli.Denied, err)
	}
	return storeError(err)
}

func (o *options) rollup() *cobra.Command {
	return &cobra.Command{
		Use:   "rollup",
		Short: "Sum rows into windows of 10 s, a minute, an hour, a day",
		Long: `rollup computes the windows whose rows have changed anew, from the rows, and
publishes an event for each. One is enough; several may share a store.`,
		Example: "  mdservice rollup --data /var/lib/mdmesh",
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.runRollup(cmd.Context()) },
	}
}

func (o *options) runRollup(ctx context.Context) error {
	rollups, err := o.openStore(ctx)
	if err != nil {
		return err
	}
	defer rollups.Close()
	c, err := o.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := rollup.New(rollup.Config{Rollups: rollups, Publisher: c, Logger: o.log})
	if err != nil {
		return fmt.Errorf("rollup: %w", err)
	}
	o.ready(ctx)
	return storeError(together(ctx, s.Run, listen(c, rollup.DirtyTopic, s.Wake)))
}

func (o *options) push() *cobra.Command {
	var cfg push.Config
	var insecure bool
	cmd := &cobra.Command{
		Use:   "push",
		Short: "Serve the page, its websocket and GET /api/rollups",
		Long: `push shows the roll-ups: a page with a live chart per series at /, a websocket at
/ws, and JSON at /api/rollups. It reads the store, and events tell it when.`,
		Example: "  mdservice push --listen 127.0.0.1:8080",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cli.Listen("listen", cfg.Listen, insecure); err != nil {
				return err
			}
			return o.runPush(cmd.Context(), cfg)
		},
	}
	cmd.Flags().StringVar(&cfg.Listen, "listen", push.DefaultListen, "HTTP `address`")
	cmd.Flags().BoolVar(&insecure, "insecure", false, "allow an address other machines can reach")
	return cmd
}

func (o *options) runPush(ctx context.Context, cfg push.Config) error {
	reader, err := o.openStore(ctx)
	if err != nil {
		return err
	}
	defer reader.Close()
	c, err := o.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	cfg.Store, cfg.Logger = reader, o.log
	cfg.Listening = func(addr string) {
		cli.Listening("page", "http://"+addr)
		o.ready(ctx)
	}
	s, err := push.New(cfg)
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	err = together(ctx, s.Run, listen(c, rollup.Topic, s.Hint))
	if errors.Is(err, syscall.EADDRINUSE) {
		return explainListen(err)
	}
	return storeError(err)
}

func (o *options) hostmetrics() *cobra.Command {
	var cfg hostmetrics.Config
	cmd := &cobra.Command{
		Use:   "hostmetrics",
		Short: "Measure this machine and send it to ingest",
		Long: `hostmetrics samples CPU, load, memory, disks, network and the mesh's own processes
from /proc and sends them to ingest over TCP, as any program could.`,
		Example: "  mdservice hostmetrics --to 127.0.0.1:5570 --interval 1s",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cfg.Interval <= 0 {
				return cli.Exitf(cli.Usage, "--interval %v: give more than 0, such as 1s", cfg.Interval)
			}
			cfg.Logger = o.log
			m, err := hostmetrics.New(cfg)
			if err != nil {
				return cli.Exit(cli.Usage, err)
			}
			o.ready(cmd.Context())
			return m.Run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.To, "to", "127.0.0.1:5570", "`address` of ingest")
	f.DurationVar(&cfg.Interval, "interval", time.Second, "time between samples")
	f.StringVar(&cfg.Prefix, "prefix", "", "put before the name of every series, such as web1.")
	return cmd
}
