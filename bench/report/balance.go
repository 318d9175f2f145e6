package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/mdmesh/mdmesh/bench/work"
)

// Balance is what bench/balance measured.
type Balance struct {
	Machine Machine `json:"machine"`
	Awake   bool    `json:"awake"` // processors were kept from sleeping
	Workers int     `json:"workers"`
	Calls   int     `json:"calls"` // of one point
	Points  []Point `json:"points"`
}

// Point is one system at one load with one seed.
type Point struct {
	System string  `json:"system"`
	Load   float64 `json:"load"`
	Seed   uint64  `json:"seed"`
	work.Outcome
	Stolen float64 `json:"stolen"` // by the hypervisor, of the processor time wanted
}

// Balanced is a system at one load: medians over seeds.
type Balanced struct {
	System                       string
	Load                         float64
	P50, P99, P999               float64 // of latency, in ms
	Wait50, Wait99, Wait999      float64 // of wait, in ms
	Ideal99, IdealWait99         float64 // in ms
	LatencyRatio, WaitDifference float64 // p99 by the ideal's; p99 of wait less the ideal's, in ms
	Overshoot, Late              float64 // means, in ms
	Delayed99                    float64 // p99 of the wait that messages' delays explain, in ms
	Dispatch, Return             float64 // the shortest ways to work, and the median back, in ms
}

// Summary lists systems and loads in the order in which they were measured first.
func (b *Balance) Summary() (out []Balanced) {
	for _, p := range b.Points {
		same := func(s Balanced) bool { return s.System == p.System && s.Load == p.Load }
		if slices.ContainsFunc(out, same) {
			continue
		}
		over := func(f func(work.Outcome) float64) float64 {
			var values []float64
			for _, q := range b.Points {
				if q.System == p.System && q.Load == p.Load {
					values = append(values, f(q.Outcome))
				}
			}
			return Median(values)
		}
		out = append(out, Balanced{System: p.System, Load: p.Load,
			P50:            over(func(o work.Outcome) float64 { return o.Latency.P50 }),
			P99:            over(func(o work.Outcome) float64 { return o.Latency.P99 }),
			P999:           over(func(o work.Outcome) float64 { return o.Latency.P999 }),
			Wait50:         over(func(o work.Outcome) float64 { return o.Wait.P50 }),
			Wait99:         over(func(o work.Outcome) float64 { return o.Wait.P99 }),
			Wait999:        over(func(o work.Outcome) float64 { return o.Wait.P999 }),
			Ideal99:        over(func(o work.Outcome) float64 { return o.IdealLatency.P99 }),
			IdealWait99:    over(func(o work.Outcome) float64 { return o.IdealWait.P99 }),
			LatencyRatio:   over(func(o work.Outcome) float64 { return o.Latency.P99 / o.IdealLatency.P99 }),
			WaitDifference: over(func(o work.Outcome) float64 { return o.Wait.P99 - o.IdealWait.P99 }),
			Overshoot:      over(func(o work.Outcome) float64 { return o.Overshoot.Mean }),
			Late:           over(func(o work.Outcome) float64 { return o.Late.Mean }),
			Delayed99:      over(func(o work.Outcome) float64 { return o.DelayedWait.P99 }),
			Dispatch:       over(func(o work.Outcome) float64 { return o.Dispatch }),
			Return:         over(func(o work.Outcome) float64 { return o.Return.P50 }),
		})
	}
	return out
}

// Print writes everything for a terminal.
func (b *Balance) Print(out io.Writer) error {
	fmt.Fprintf(out, "\n%s; %d workers, %d calls a point, medians over seeds; times in ms\n\n", b.Machine.String()+kept(b.Awake), b.Workers, b.Calls)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\t\tlatency\t\t\t\twait\t\t\t\t\ttimers add\t\tmessages take\t\t")
	fmt.Fprintln(w, "load\tsystem\tp50\tp99\tp99.9\tp99/ideal\tp50\tp99\tp99.9\tp99 - ideal\texplained\tto service\tto arrival\tto work\tback\t")
	for _, s := range b.Summary() {
		fmt.Fprintf(w, "%.0f %%\t%s\t%.1f\t%.1f\t%.1f\t%.3f\t%.2f\t%.1f\t%.1f\t%+.2f\t%.1f\t%.2f\t%.2f\t%.2f\t%.2f\t\n", 100*s.Load, s.System,
			s.P50, s.P99, s.P999, s.LatencyRatio, s.Wait50, s.Wait99, s.Wait999, s.WaitDifference, s.Delayed99, s.Overshoot, s.Late, s.Dispatch, s.Return)
	}
	fmt.Fprintln(w, "to reach at 80 %\t\t\t\t\t<= 1.05\t\t\t\t<= +5\t\t\t\t\t\t")
	return w.Flush()
}

// Markdown is the README's table.
func (b *Balance) Markdown() string {
	var out strings.Builder
	fmt.Fprintf(&out, "No request waits at a busy worker while another is idle. %d workers sleep (95 %% of calls 5 ms in the mean, 5 %% 105 ms, exponential),\n"+
		"calls arrive at random, %d a point; medians over seeds, in ms. Wait is from submission to start; the ideal is one queue without\nany delay, computed for the same calls. %s.\n\n", b.Workers, b.Calls, b.Machine.String()+kept(b.Awake))
	summary := b.Summary()
	var loads []float64
	var systems []string
	for _, s := range summary {
		if !slices.Contains(loads, s.Load) {
			loads = append(loads, s.Load)
		}
		if !slices.Contains(systems, s.System) {
			systems = append(systems, s.System)
		}
	}
	out.WriteString("| load | p99 of wait: ideal |")
	for _, s := range systems {
		out.WriteString(" " + headings[s] + " |")
	}
	out.WriteString(" p99 of latency: ideal |")
	for _, s := range systems {
		out.WriteString(" " + headings[s] + " |")
	}
	out.WriteString("\n|" + strings.Repeat("-|", 3+2*len(systems)) + "\n")
	for _, load := range loads {
		var ideals [2]float64
		var cells [2]string
		for _, name := range systems {
			for _, s := range summary {
				if s.Load == load && s.System == name {
					if name == systems[0] {
						ideals = [2]float64{s.IdealWait99, s.Ideal99}
					}
					cells[0] += fmt.Sprintf(" %.1f |", s.Wait99)
					cells[1] += fmt.Sprintf(" %.0f |", s.P99)
				}
			}
		}
		fmt.Fprintf(&out, "| %.0f %% | %.1f |%s %.0f |%s\n", 100*load, ideals[0], cells[0], ideals[1], cells[1])
	}
	return out.String()
}

// headings of systems in tables.
var headings = map[string]string{"mdmesh": "mdmesh", "nats": "NATS queue group"}
