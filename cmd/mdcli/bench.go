package main

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/internal/cli"
	"github.com/mdmesh/mdmesh/internal/config"
)

// Bounds of a load, and how it begins.
const (
	maxConnections = 10_000
	maxLanes       = 100_000 // calls in flight on all connections
	dialling       = 64      // connections opened at once
	slowest        = 10 * time.Minute
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
DURATION, and prints the rate and percentiles of latency in microseconds. Opening
the connections is not measured. -o json prints one object with "calls", "errors",
"seconds", "rate", "p50_us", "p90_us", "p99_us" and "max_us".`,
		Example: `  mdcli bench echo
  mdcli bench echo --connections 1 --inflight 128 --size 1KiB --duration 10s -o json`,
		ValidArgsFunction: firstArgument(o.completeNames("mmi.services", "name")),
		Args:              arguments(1, 1, "name one service: mdcli bench SERVICE"),
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
	case l.connections < 1 || l.connections > maxConnections:
		return cli.Exitf(cli.Usage, "--connections %d: give 1 to %d", l.connections, maxConnections)
	case l.inflight < 1 || l.inflight > maxLanes/l.connections:
		return cli.Exitf(cli.Usage, "--inflight %d: give 1 to %d with %d connections", l.inflight, maxLanes/l.connections, l.connections)
	case l.size < 0 || l.size > 64<<20:
		return cli.Exitf(cli.Usage, "--size %v: give 0 to 64MiB", l.size)
	case l.duration <= 0:
		return cli.Exitf(cli.Usage, "--duration %v: give more than 0", l.duration)
	}
	return serviceName(l.service)
}

func (o *options) runBench(ctx context.Context, l load) error {
	clients, err := o.connectAll(ctx, l)
	defer closeAll(clients)
	if err != nil {
		return err
	}
	tallies := make([]*tally, 4*runtime.GOMAXPROCS(0))
	for i := range tallies {
		tallies[i] = &tally{latency: hdrhistogram.New(1, slowest.Microseconds(), 3)}
	}
	body := make([]byte, l.size) // calls do not change it
	measuring, stop := context.WithCancel(ctx)
	defer stop()
	// The calls' own context cannot end, which costs them less: Ctrl-C closes the clients.
	defer context.AfterFunc(ctx, func() { closeAll(clients) })()
	var watching, lanes sync.WaitGroup
	watching.Go(func() { o.watch(measuring, l, tallies) })
	began := time.Now()
	for i := range l.connections * l.inflight {
		lanes.Go(func() {
			tallies[i%len(tallies)].run(ctx, clients[i%len(clients)], l.service, body, began, l.duration)
		})
	}
	lanes.Wait()
	took := time.Since(began)
	stop()
	watching.Wait()
	return o.printBench(ctx, l, tallies, took)
}

// connectAll opens the connections, some at once, by one call on each: it also tells
// what will not work. The clients are to be closed whatever the error is.
func (o *options) connectAll(ctx context.Context, l load) ([]*client.Client, error) {
	clients := make([]*client.Client, 0, l.connections)
	for range l.connections {
		c, err := o.connect()
		if err != nil {
			return clients, err
		}
		clients = append(clients, c)
	}
	body := make([]byte, l.size)
	first := func(c *client.Client) error {
		if _, err := c.Call(ctx, l.service, body); err != nil {
			return o.lateness(ctx, c, l.service, err)
		}
		return nil
	}
	if err := first(clients[0]); err != nil { // one tells as well as a thousand
		return clients, err
	}
	next := make(chan *client.Client)
	failed := make(chan error, dialling)
	var wg sync.WaitGroup
	for range dialling {
		wg.Go(func() {
			for c := range next {
				if err := first(c); err != nil {
					failed <- err // room for one each: the lane ends
					return
				}
			}
		})
	}
	var err error
	for _, c := range clients[1:] {
		select {
		case next <- c:
			continue
		case err = <-failed:
		}
		break
	}
	close(next)
	wg.Wait()
	if err == nil && len(failed) > 0 {
		err = <-failed
	}
	return clients, err
}

// closeAll closes them at once: each may take a while where a broker hangs.
func closeAll(clients []*client.Client) {
	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(func() { _ = c.Close() }) // it has no error to tell
	}
	wg.Wait()
}

// tally counts for some of the lanes: few share one, or they would wait for its
// mutex; each does not have its own, because a histogram takes 160 KB.
type tally struct {
	mu      sync.Mutex
	latency *hdrhistogram.Histogram // microseconds
	errors  int64
	first   error
}

// run is one lane: it calls, measures, and calls again. What it measured goes to the
// tally in portions.
func (t *tally) run(ctx context.Context, c *client.Client, service string, body []byte, began time.Time, duration time.Duration) {
	var took [64]time.Duration
	n := 0
	for at := time.Since(began); at < duration; {
		_, err := c.Call(context.Background(), service, body)
		if err != nil {
			if ctx.Err() != nil {
				break // Ctrl-C: no error of the service
			}
			t.fail(err)
		}
		now := time.Since(began)
		if err == nil {
			took[n] = now - at
			n++
		}
		at = now
		if n == len(took) {
			t.count(took[:n])
			n = 0
		}
	}
	t.count(took[:n])
}

func (t *tally) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.errors++
	if t.first == nil {
		t.first = err
	}
}

func (t *tally) count(took []time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range took {
		// Out of range is out of the question: calls end after their timeout.
		_ = t.latency.RecordValue(min(max(d, time.Microsecond), slowest).Microseconds())
	}
}

// sum adds up all tallies.
func sum(tallies []*tally) (latency *hdrhistogram.Histogram, errors int64, first error) {
	latency = hdrhistogram.New(1, slowest.Microseconds(), 3)
	for _, t := range tallies {
		t.mu.Lock()
		latency.Merge(t.latency)
		errors += t.errors
		if first == nil {
			first = t.first
		}
		t.mu.Unlock()
	}
	return latency, errors, first
}

// watch tells a person at a terminal how it goes, where it takes longer.
func (o *options) watch(ctx context.Context, l load, tallies []*tally) {
	if l.duration <= 2*time.Second || !terminal(o.talk) {
		return
	}
	began := time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			latency, errors, _ := sum(tallies)
			fmt.Fprintf(o.talk, "\r%v of %v: %d calls, %d errors\x1b[K",
				time.Since(began).Round(time.Second), l.duration, latency.TotalCount(), errors)
		case <-ctx.Done():
			fmt.Fprint(o.talk, "\r\x1b[K")
			return
		}
	}
}

func (o *options) printBench(ctx context.Context, l load, tallies []*tally, took time.Duration) error {
	latency, errors, first := sum(tallies)
	r := result{
		Calls: latency.TotalCount(), Errors: errors, Seconds: took.Seconds(),
		P50: latency.ValueAtQuantile(50), P90: latency.ValueAtQuantile(90), P99: latency.ValueAtQuantile(99), Max: latency.Max(),
	}
	r.Rate = float64(r.Calls) / r.Seconds
	var err error
	if o.output != table {
		err = o.encode(r)
	} else {
		_, err = fmt.Fprintf(o.out, "%d calls in %.1f s: %.0f/s, %d errors\nlatency us: p50 %d, p90 %d, p99 %d, max %d\n",
			r.Calls, r.Seconds, r.Rate, r.Errors, r.P50, r.P90, r.P99, r.Max)
	}
	switch {
	case err != nil:
		return fmt.Errorf("write the result: %w", err)
	case ctx.Err() != nil:
		return ctx.Err()
	case first != nil:
		return o.explain(fmt.Sprintf("bench %s: %d calls failed, the first", l.service, r.Errors), first)
	}
	return nil
}
