package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/internal/cli"
	"github.com/mdmesh/mdmesh/internal/config"
)

// load is the shape of a load test.
type load struct {
	service     string
	connections int
	inflight    int
	size        config.Bytes
	duration    time.Duration
}

// result is what -o json prints. Times are of calls that were answered.
type result struct {
	Calls   int64   `json:"calls"`
	Errors  int64   `json:"errors"`
	Seconds float64 `json:"seconds"`
	Rate    float64 `json:"rate"`
	P50     int64   `json:"p50_us"`
	P90     int64   `json:"p90_us"`
	P99     int64   `json:"p99_us"`
	Max     int64   `json:"max_us"`
}

func (o *options) bench() *cobra.Command {
	l := load{size: 64}
	cmd := &cobra.Command{
		Use:   "bench SERVICE",
		Short: "Measure calls per second and latency of a service",
		Long: `bench keeps INFLIGHT blocking calls running on each of CONNECTIONS connections for
DURATION, and prints the rate and percentiles of latency in microseconds.`,
		Example: `  mdcli bench echo
  mdcli bench echo --connections 1 --inflight 128 --size 1KiB --duration 10s -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l.service = args[0]
			if err := l.check(); err != nil {
				return err
			}
			return o.runBench(cmd.Context(), l)
		},
	}
	f := cmd.Flags()
	f.IntVar(&l.connections, "connections", 64, "connections to the broker")
	f.IntVar(&l.inflight, "inflight", 4, "calls in flight on each")
	f.Var(&l.size, "size", "octets of each body")
	f.DurationVar(&l.duration, "duration", 3*time.Second, "how long to measure")
	return cmd
}

func (l *load) check() error {
	switch {
	case l.connections < 1 || l.connections > 10_000:
		return cli.Exitf(cli.Usage, "--connections %d: give 1 to 10000", l.connections)
	case l.inflight < 1 || l.inflight > 10_000:
		return cli.Exitf(cli.Usage, "--inflight %d: give 1 to 10000", l.inflight)
	case l.size < 0 || l.size > 64<<20:
		return cli.Exitf(cli.Usage, "--size %v: give 0 to 64MiB", l.size)
	case l.duration <= 0:
		return cli.Exitf(cli.Usage, "--duration %v: give more than 0", l.duration)
	}
	return nil
}

// lane is one caller of the load: it calls, measures, and calls again.
type lane struct {
	latency *hdrhistogram.Histogram // microseconds
	errors  int64
	err     error // the first
}

func (o *options) runBench(ctx context.Context, l load) error {
	clients := make([]*client.Client, l.connections)
	for i := range clients {
		c, err := o.connect()
		if err != nil {
			return err
		}
		defer c.Close()
		clients[i] = c
		// One call first: it connects, and it tells at once what will not work.
		if _, err := c.Do(ctx, client.Call{Service: l.service, Body: [][]byte{make([]byte, l.size)}}); err != nil {
			return explain(err)
		}
	}
	lanes := make([]*lane, 0, l.connections*l.inflight)
	var wg sync.WaitGroup
	began := time.Now()
	until := began.Add(l.duration)
	for _, c := range clients {
		for range l.inflight {
			p := &lane{latency: hdrhistogram.New(1, 600_000_000, 3)}
			lanes = append(lanes, p)
			wg.Go(func() { p.run(ctx, c, l, until) })
		}
	}
	wg.Wait()
	return o.printResult(ctx, lanes, time.Since(began))
}

func (p *lane) run(ctx context.Context, c *client.Client, l load, until time.Time) {
	body := make([]byte, l.size)
	for t := time.Now(); t.Before(until) && ctx.Err() == nil; {
		_, err := c.Call(ctx, l.service, body)
		now := time.Now()
		if err != nil {
			p.errors++
			if p.err == nil {
				p.err = err
			}
		} else {
			p.latency.RecordValue(max(now.Sub(t).Microseconds(), 1))
		}
		t = now
	}
}

func (o *options) printResult(ctx context.Context, lanes []*lane, took time.Duration) error {
	sum := hdrhistogram.New(1, 600_000_000, 3)
	r := result{Seconds: took.Seconds()}
	var first error
	for _, p := range lanes {
		sum.Merge(p.latency)
		r.Errors += p.errors
		if first == nil {
			first = p.err
		}
	}
	r.Calls = sum.TotalCount()
	r.Rate = float64(r.Calls) / r.Seconds
	r.P50, r.P90, r.P99, r.Max = sum.ValueAtQuantile(50), sum.ValueAtQuantile(90), sum.ValueAtQuantile(99), sum.Max()
	if o.output != "table" {
		if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
	} else {
		fmt.Printf("%d calls in %.1f s: %.0f/s, %d errors\nlatency us: p50 %d, p90 %d, p99 %d, max %d\n",
			r.Calls, r.Seconds, r.Rate, r.Errors, r.P50, r.P90, r.P99, r.Max)
	}
	if first != nil && ctx.Err() == nil {
		return explain(fmt.Errorf("%d calls failed, the first: %w", r.Errors, first))
	}
	return nil
}
