package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/internal/cli"
)

// shortestInterval between two looks of top: to look is work for the broker, too.
const shortestInterval = 100 * time.Millisecond

// activity is what top prints of one service; rates are of the last interval.
// Times are there where the broker keeps them.
type activity struct {
	Name       string  `json:"name"`
	Rate       float64 `json:"rate"`
	FailedRate float64 `json:"failed_rate"`
	Queue      int     `json:"queue"`
	OldestMs   int64   `json:"oldest_ms"`
	Running    int     `json:"running"`
	Workers    int     `json:"workers"`
	Idle       int     `json:"idle"`
	Peers      int     `json:"peers"`
	MeanUs     int64   `json:"mean_us"`
	Wait       *times  `json:"wait,omitempty"`
	Run        *times  `json:"run,omitempty"`
}

// times are of all calls of a service so far: waiting for a worker, or running.
type times struct {
	Count  uint64 `json:"count"`
	MeanUs int64  `json:"mean_us"`
	P50Us  int64  `json:"p50_us"`
	P99Us  int64  `json:"p99_us"`
}

// look is the broker's answer to one question of top.
type look struct {
	at       time.Time
	services []serviceRow
}

type serviceRow struct {
	activity
	Answered uint64 `json:"answered"`
	Failed   uint64 `json:"failed"`
}

// topOptions are the flags of top.
type topOptions struct {
	interval time.Duration
	count    int
	services []string
}

func (o *options) top() *cobra.Command {
	var t topOptions
	cmd := &cobra.Command{
		Use:   "top [SERVICE]...",
		Short: "Watch services: rates, queues, workers, times",
		Long: `top shows what each service (or those that are named) does at the broker asked.

Of the last interval: RATE and FAILED, calls answered and failed per second.
Of now: QUEUE, requests that wait, and OLDEST_MS, the age of the oldest; RUNNING;
WORKERS, and how many of them are IDLE; PEERS, linked brokers that offer it; MEAN_US,
the time of a call at a worker, a mean in which recent calls count most.
Since the broker's start: the percentiles of waiting for a worker (WAIT) and of
running (RUN), in microseconds.

On a terminal it shows that anew each interval until Ctrl-C. Elsewhere, and with -o
json, it looks once, for one interval. -o jsonl prints one object per service and
interval, --count of them or until Ctrl-C: "name", "rate", "failed_rate", "queue",
"oldest_ms", "running", "workers", "idle", "peers", "mean_us", and "wait" and "run",
each with "count", "mean_us", "p50_us" and "p99_us" since the broker's start.`,
		Example: `  mdcli top
  mdcli top echo --interval 5s
  mdcli -o jsonl top --count 10 | jq -r '[.name, .rate] | @tsv'`,
		ValidArgsFunction: o.completeNames("mmi.services", "name"),
		Args:              cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case t.interval < shortestInterval:
				return cli.Exitf(cli.Usage, "--interval %v: give %v or more", t.interval, shortestInterval)
			case t.count < 0:
				return cli.Exitf(cli.Usage, "--count %d: give 0 (no end) or more", t.count)
			}
			t.services = args
			return o.runTop(cmd.Context(), t)
		},
	}
	cmd.Flags().DurationVar(&t.interval, "interval", time.Second, "time between two looks")
	cmd.Flags().IntVar(&t.count, "count", 0, "end after this `number` of intervals; 0: never")
	return cmd
}

func (o *options) runTop(ctx context.Context, t topOptions) error {
	c, err := o.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	live := terminal(o.out) && o.output == table
	if !live && o.output != lines {
		t.count = 1
	}
	before, err := o.look(ctx, c)
	if err != nil {
		return o.explain("top", err)
	}
	if err := before.has(t.services); err != nil {
		return err
	}
	tick := time.NewTicker(t.interval)
	defer tick.Stop()
	for n := 0; t.count == 0 || n < t.count; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil // Ctrl-C is how this ends
		}
		after, err := o.look(ctx, c)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !live:
			return o.explain("top", err)
		case err != nil: // a person sees it, and that it comes back
			fmt.Fprintf(o.out, "\x1b[H\x1b[J%v\n", o.explain("top", err))
			continue
		}
		if err := o.printTop(compare(before, after, t.services), live); err != nil {
			return err
		}
		before = after
	}
	return nil
}

// look asks the broker how its services are.
func (o *options) look(ctx context.Context, c *client.Client) (look, error) {
	reply, err := c.Call(ctx, "mmi.services")
	if err != nil {
		return look{}, err
	}
	l := look{at: time.Now()}
	if len(reply) != 1 || json.Unmarshal(reply[0], &l.services) != nil {
		return look{}, notListing("mmi.services")
	}
	return l, nil
}

// has refuses names that the broker does not know.
func (l look) has(names []string) error {
	var known []string
	for _, s := range l.services {
		known = append(known, s.Name)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return cli.Exitf(cli.Unavailable, "top: nobody offers %q here%s", name, didYouMean(name, known))
		}
	}
	return nil
}

// compare makes rates of the counters of two looks. A service that is new, and one
// whose counters began anew with a broker, have none yet.
func compare(before, after look, names []string) []activity {
	out := []activity{}
	seconds := max(after.at.Sub(before.at).Seconds(), 1e-3)
	rate := func(was, is uint64) float64 { return float64(max(is, was)-was) / seconds }
	for _, s := range after.services {
		if len(names) > 0 && !slices.Contains(names, s.Name) {
			continue
		}
		a := s.activity
		was := slices.IndexFunc(before.services, func(x serviceRow) bool { return x.Name == s.Name })
		if was >= 0 {
			a.Rate, a.FailedRate = rate(before.services[was].Answered, s.Answered), rate(before.services[was].Failed, s.Failed)
		}
		out = append(out, a)
	}
	return out
}

func (o *options) printTop(services []activity, live bool) error {
	switch o.output {
	case whole:
		return o.encode(services)
	case lines:
		for _, s := range services {
			if err := o.encode(s); err != nil {
				return err
			}
		}
		return nil
	}
	var screen strings.Builder
	if live {
		fmt.Fprintf(&screen, "\x1b[H\x1b[J%s  %s  Ctrl-C ends\n\n", strings.Join(o.brokers.List, ", "), time.Now().Format(time.TimeOnly))
	}
	writeTop(&screen, services)
	if _, err := io.WriteString(o.out, screen.String()); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// writeTop writes the table; columns of percentiles only where there are any.
func writeTop(w io.Writer, services []activity) {
	kept := slices.ContainsFunc(services, func(a activity) bool { return a.Wait != nil || a.Run != nil })
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprint(t, "SERVICE\tRATE\tFAILED\tQUEUE\tOLDEST_MS\tRUNNING\tWORKERS\tIDLE\tPEERS\tMEAN_US")
	if kept {
		fmt.Fprint(t, "\tWAIT_P50_US\tWAIT_P99_US\tRUN_P50_US\tRUN_P99_US")
	}
	fmt.Fprintln(t)
	for _, a := range services {
		fmt.Fprintf(t, "%s\t%.1f\t%.1f\t%d\t%d\t%d\t%d\t%d\t%d\t%d",
			cell(a.Name), a.Rate, a.FailedRate, a.Queue, a.OldestMs, a.Running, a.Workers, a.Idle, a.Peers, a.MeanUs)
		if kept {
			fmt.Fprintf(t, "\t%s\t%s", a.Wait, a.Run)
		}
		fmt.Fprintln(t)
	}
	t.Flush() // to memory
}

// String is p50 and p99 as two cells of a table.
func (t *times) String() string {
	if t == nil || t.Count == 0 {
		return "-\t-"
	}
	return fmt.Sprintf("%d\t%d", t.P50Us, t.P99Us)
}
