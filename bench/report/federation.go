package report

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/mdmesh/mdmesh/bench/work"
)

// Federation is what bench/federation measured.
type Federation struct {
	Machine Machine          `json:"machine"`
	Awake   bool             `json:"awake"` // processors were kept from sleeping
	Brokers int              `json:"brokers"`
	Workers int              `json:"workers"` // of all brokers
	Calls   int              `json:"calls"`   // of one point
	Points  []FederatedPoint `json:"points"`
	// IdleLeft is how many of IdleCalls calls, one at a time, left an entry broker
	// that had idle workers.
	IdleCalls int    `json:"idle_calls"`
	IdleLeft  uint64 `json:"idle_left"`
	// Two brokers, 2 and 8 workers of 20 ms, 16 callers at the first.
	UnevenRate  float64 `json:"uneven_rate"`
	UnevenAlone float64 `json:"uneven_alone"` // the first broker's workers only
	Hop         *Hop    `json:"hop,omitempty"`
}

// FederatedPoint is one topology at one load with one seed.
type FederatedPoint struct {
	Topology string  `json:"topology"` // "one", or "mesh"
	Hot      float64 `json:"hot"`      // part of the calls that enters by the first broker
	Load     float64 `json:"load"`
	Seed     uint64  `json:"seed"`
	work.Outcome
	States    float64 `json:"states_per_second"` // STATE messages sent, by each broker in the mean
	Offloaded float64 `json:"offloaded"`         // by calls; more than 1 is possible: two hops
	Stolen    float64 `json:"stolen"`            // by the hypervisor, of the processor time wanted
}

// Hop is shape iii with clients at one broker and workers at the other, beside both
// at one. CPU is in us per call; the last four are calls by system call on the link.
type Hop struct {
	Direct    float64 `json:"direct_rate"`
	DirectCPU float64 `json:"direct_cpu_us"`
	Rate      float64 `json:"rate"`
	EntryCPU  float64 `json:"entry_cpu_us"`
	FarCPU    float64 `json:"far_cpu_us"`
	// The entry broker writes requests and reads answers.
	EntryWrites float64 `json:"entry_calls_per_write"`
	EntryReads  float64 `json:"entry_calls_per_read"`
	FarReads    float64 `json:"far_calls_per_read"`
	FarWrites   float64 `json:"far_calls_per_write"`
}

// Name is how tables call the topology.
func (p FederatedPoint) Name() string {
	if p.Topology == "one" {
		return "one broker"
	}
	return fmt.Sprintf("mesh, %.0f %% enter at one", 100*p.Hot)
}

// Print writes everything for a terminal. A mesh is compared with the single broker
// at the same load and with the same seed.
func (f *Federation) Print(out io.Writer) error {
	fmt.Fprintf(out, "\n%s; %d workers, at one broker or spread over %d; %d calls a point, times in ms\n\n", f.Machine.String()+kept(f.Awake), f.Workers, f.Brokers, f.Calls)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "load\tseed\ttopology\tp99\tby one broker's\tp99 of wait\tin order\tideal\tless one broker's\tSTATE/s/broker\toffloaded\tstolen\t")
	for _, p := range f.Points {
		fmt.Fprintf(w, "%.0f %%\t%d\t%s\t%.1f\t", 100*p.Load, p.Seed, p.Name(), p.Latency.P99)
		if one := f.one(p); one != nil && p.Topology != "one" {
			fmt.Fprintf(w, "%.3f\t%.1f\t%.1f\t%.1f\t%+.2f\t%.0f\t%.0f %%\t%.1f %%\t\n", p.Latency.P99/one.Latency.P99, p.Wait.P99, p.InOrder.P99, p.IdealWait.P99, p.Wait.P99-one.Wait.P99, p.States, 100*p.Offloaded, 100*p.Stolen)
		} else {
			fmt.Fprintf(w, "\t%.1f\t%.1f\t%.1f\t\t\t\t%.1f %%\t\n", p.Wait.P99, p.InOrder.P99, p.IdealWait.P99, 100*p.Stolen)
		}
	}
	fmt.Fprintln(w, "to reach at 80 %\t\t\t\t<= 1.1\t\t\t\t<= +5\tsimulated 230\t\t\t")
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nentry broker idle: %d of %d calls left it (to reach: 0)\n", f.IdleLeft, f.IdleCalls)
	fmt.Fprintf(out, "2 workers here, 8 at the peer, 20 ms each, 16 callers here: %.0f calls/s (to reach: >= 370 of 500), %.0f without the peer\n", f.UnevenRate, f.UnevenAlone)
	if h := f.Hop; h != nil {
		fmt.Fprintf(out, "a hop in shape iii: %.0f calls/s for %.0f; CPU us per call %.2f at the entry and %.2f at the far broker, for %.2f; on the link %.1f calls per write and %.1f per read at the entry, %.1f per read and %.1f per write at the far broker\n",
			h.Rate, h.Direct, h.EntryCPU, h.FarCPU, h.DirectCPU, h.EntryWrites, h.EntryReads, h.FarReads, h.FarWrites)
	}
	return nil
}

func (f *Federation) one(p FederatedPoint) *FederatedPoint {
	for i, q := range f.Points {
		if q.Topology == "one" && q.Load == p.Load && q.Seed == p.Seed {
			return &f.Points[i]
		}
	}
	return nil
}
