package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Peers is what bench/peers measured.
type Peers struct {
	Machine  Machine           `json:"machine"`
	Rounds   int               `json:"rounds"`
	Duration string            `json:"duration"` // of one measurement
	Versions map[string]string `json:"versions"`
	Cells    []*Cell           `json:"cells"`
	Idle     *Idle             `json:"idle,omitempty"`
	Memory   *Memory           `json:"memory,omitempty"`
	Overload *Overload         `json:"overload,omitempty"`
}

// Cell is one system in one shape.
type Cell struct {
	Shape   string   `json:"shape"`
	System  string   `json:"system"`
	Missing string   `json:"missing,omitempty"` // why there are no samples
	Samples []Sample `json:"samples,omitempty"` // one for each round
}

// Sample is one measurement.
type Sample struct {
	Rate   float64 `json:"rate"` // calls per second
	P50    float64 `json:"p50_us"`
	P99    float64 `json:"p99_us"`
	Client float64 `json:"client_cpu_us"` // CPU time per call
	Broker float64 `json:"broker_cpu_us"`
	Worker float64 `json:"worker_cpu_us"`
	Errors int64   `json:"errors"`
}

// Idle is what peers cost that do nothing.
type Idle struct {
	Peers  int       `json:"peers"`
	Octets float64   `json:"octets_each"`      // user space, in the broker
	NATS   float64   `json:"nats_octets_each"` // the same in nats-server
	Pairs  []float64 `json:"iii_ratios"`       // rate of shape iii with them, by that without
}

// Memory is a broker's over time, in shape iii.
type Memory struct {
	Minutes  float64   `json:"minutes"`
	Calls    int64     `json:"calls"`
	Resident []float64 `json:"resident_mib"` // at equal distances, first and last included
	Peak     float64   `json:"peak_mib"`
}

// Overload is a broker's memory while many clients flood one slow worker.
type Overload struct {
	Clients  int     `json:"clients"`
	Seconds  float64 `json:"seconds"`
	Size     int     `json:"size"`          // octets of each body
	Queue    int64   `json:"queue_peak"`    // requests
	Held     float64 `json:"held_peak_mib"` // what the broker counts against its bound
	Bound    float64 `json:"bound_mib"`     // of one service, as configured
	Requests uint64  `json:"requests"`
	Busy     uint64  `json:"busy"` // refused
	Before   float64 `json:"before_mib"`
	Peak     float64 `json:"peak_mib"`
	After    float64 `json:"after_mib"` // resident, when the queue was empty again
}

// Cell finds the cell of a shape and a system, or adds it.
func (p *Peers) Cell(shape, system string) *Cell {
	for _, c := range p.Cells {
		if c.Shape == shape && c.System == system {
			return c
		}
	}
	c := &Cell{Shape: shape, System: system}
	p.Cells = append(p.Cells, c)
	return c
}

// field is one of a sample's figures.
type field func(Sample) float64

func rate(s Sample) float64   { return s.Rate }
func p50(s Sample) float64    { return s.P50 }
func p99(s Sample) float64    { return s.P99 }
func broker(s Sample) float64 { return s.Broker }
func client(s Sample) float64 { return s.Client }
func worker(s Sample) float64 { return s.Worker }

// perCPU is how many calls a second of CPU time makes, of all three processes: what
// the rate would be on a machine that nobody else uses, by core.
func perCPU(s Sample) float64 { return 1e6 / (s.Client + s.Broker + s.Worker) }

func (c *Cell) median(f field) float64 {
	var values []float64
	for _, s := range c.Samples {
		values = append(values, f(s))
	}
	return Median(values)
}

// ratio is the median over rounds of a's figure by b's.
func (p *Peers) ratio(shape, a, b string, f field) float64 {
	x, y := p.Cell(shape, a), p.Cell(shape, b)
	var values []float64
	for i := range min(len(x.Samples), len(y.Samples)) {
		values = append(values, f(x.Samples[i])/f(y.Samples[i]))
	}
	return Median(values)
}

// Target is a measure beside what is to be reached.
type Target struct {
	Measure        string
	Value          float64
	AtMost         bool // else at least
	Reach, Stretch float64
}

// Targets are the measures that have one.
func (p *Peers) Targets() []Target {
	t := []Target{
		{"i: p50, mdmesh / NATS", p.ratio("i", "mdmesh", "nats", p50), true, 1, 0.9},
		{"ii: rate, mdmesh / NATS", p.ratio("ii", "mdmesh", "nats", rate), false, 4.5, 5.5},
		{"ii: broker CPU per call, mdmesh / NATS", p.ratio("ii", "mdmesh", "nats", broker), true, 0.25, 0.2},
		{"iii: rate, mdmesh / NATS", p.ratio("iii", "mdmesh", "nats", rate), false, 2.2, 2.5},
		{"iii: broker CPU per call, mdmesh / NATS", p.ratio("iii", "mdmesh", "nats", broker), true, 0.5, 0.4},
		{"iii: rate, mdmesh / relay", p.ratio("iii", "mdmesh", "relay", rate), false, 0.65, 0.75},
		{"iii: rate, MDP/0.2 workers / gearmand", p.ratio("iii", "plain", "gearmand", rate), false, 2, 3},
		{"ii, 1 KiB: rate, mdmesh / NATS", p.ratio("ii 1KiB", "mdmesh", "nats", rate), false, 2, 0},
		{"iii, 1 KiB: rate, mdmesh / NATS", p.ratio("iii 1KiB", "mdmesh", "nats", rate), false, 2, 0},
		{"64 KiB, 64 x 1: rate, mdmesh / relay", p.ratio("64KiB", "mdmesh", "relay", rate), false, 0.85, 0},
	}
	// For machines that are not quiet: a rate tells who else wants the CPU, this does not.
	for _, r := range []struct{ shape, a, b string }{{"ii", "mdmesh", "nats"}, {"iii", "mdmesh", "nats"}, {"iii", "mdmesh", "relay"}, {"iii", "plain", "gearmand"}, {"64KiB", "mdmesh", "relay"}} {
		t = append(t, Target{fmt.Sprintf("%s: calls per CPU second, %s / %s", r.shape, r.a, r.b), p.ratio(r.shape, r.a, r.b, perCPU), false, 0, 0})
	}
	if p.Idle != nil {
		t = append(t, Target{fmt.Sprintf("%d idle peers: KB each", p.Idle.Peers), p.Idle.Octets / 1e3, true, 8, 4},
			Target{"iii with idle peers / without", Median(p.Idle.Pairs), false, 0, 0})
	}
	return t
}

func (t Target) goal(v float64) string {
	switch {
	case v == 0:
		return ""
	case t.AtMost:
		return fmt.Sprintf("<= %g", v)
	default:
		return fmt.Sprintf(">= %g", v)
	}
}

// Print writes everything for a terminal.
func (p *Peers) Print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(out, "\n%s; medians of %d rounds of %s\n\n", p.Machine, p.Rounds, p.Duration)
	fmt.Fprintln(w, "\t\t\t\t\tCPU us per call\t\t\t\t")
	fmt.Fprintln(w, "shape\tsystem\tcalls/s\tp50 us\tp99 us\tclient\tbroker\tworker\ttotal\t")
	for _, c := range p.Cells {
		if c.Missing != "" {
			fmt.Fprintf(w, "%s\t%s\t%s\t\t\t\t\t\t\t\n", c.Shape, c.System, c.Missing)
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%.0f\t%.0f\t%.0f\t%.2f\t%.2f\t%.2f\t%.2f\t\n", c.Shape, c.System, c.median(rate), c.median(p50), c.median(p99),
			c.median(client), c.median(broker), c.median(worker), c.median(client)+c.median(broker)+c.median(worker))
	}
	fmt.Fprintln(w, "\t\t\t\t\t\t\t\t\t")
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, "measure\tfigure\tto reach\tstretch\t")
	for _, t := range p.Targets() {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t\n", t.Measure, three(t.Value), t.goal(t.Reach), t.goal(t.Stretch))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	p.printMemory(out)
	return nil
}

func (p *Peers) printMemory(out io.Writer) {
	fmt.Fprintln(out)
	if i := p.Idle; i != nil {
		fmt.Fprintf(out, "%d idle peers cost %.1f KB each here, %.1f KB in nats-server; shape iii with them by without, in pairs:", i.Peers, i.Octets/1e3, i.NATS/1e3)
		for _, r := range i.Pairs {
			fmt.Fprintf(out, " %.2f", r)
		}
		fmt.Fprintln(out)
	}
	if m := p.Memory; m != nil {
		fmt.Fprintf(out, "broker's memory over %g min of shape iii (%s calls), MiB:", m.Minutes, Count(float64(m.Calls)))
		for _, v := range m.Resident {
			fmt.Fprintf(out, " %.1f", v)
		}
		fmt.Fprintf(out, "; peak %.1f\n", m.Peak)
	}
	if o := p.Overload; o != nil {
		fmt.Fprintf(out, "overload, %d clients flood one slow worker with bodies of %d octets for %.0f s: %d requests and %d refused as busy, queue up to %d,\n"+
			"  held up to %.0f MiB (bound %.0f); broker's memory %.0f MiB before, %.0f at most, %.0f after\n",
			o.Clients, o.Size, o.Seconds, o.Requests, o.Busy, o.Queue, o.Held, o.Bound, o.Before, o.Peak, o.After)
	}
}

// columns of the README's table.
var columns = []struct{ system, heading string }{
	{"mdmesh", "mdmesh"}, {"plain", "with MDP/0.2 workers"}, {"nats", "NATS"}, {"gearmand", "gearmand"}, {"relay", "raw TCP relay"},
}

// rows of the README's table.
var rows = []struct {
	shape, heading string
	latency        bool
}{
	{"i", "1 connection, 1 call at a time: p50", true},
	{"i", "the same: calls/s", false},
	{"ii", "1 connection x 128 calls", false},
	{"iii", "64 connections x 4 calls, 8 worker connections", false},
	{"ii 1KiB", "1 x 128, 1 KiB", false},
	{"iii 1KiB", "64 x 4, 1 KiB", false},
	{"64KiB", "64 x 1, 64 KiB", false},
}

// Markdown is the README's table.
func (p *Peers) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Calls per second, and in brackets the CPU time of the broker per call in us; bodies of 64 octets unless stated; client, broker\nand worker are processes of their own on one machine: %s.\nMedians of %d interleaved rounds of %s; those in Go are built with profiles; answers of 64 KiB are given back (`Reply.Release`). %s.\n\n",
		p.Machine, p.Rounds, p.Duration, p.versions())
	b.WriteString("| blocking calls |")
	for _, c := range columns {
		b.WriteString(" " + c.heading + " |")
	}
	b.WriteString("\n|-|" + strings.Repeat("-|", len(columns)) + "\n")
	for _, r := range rows {
		b.WriteString("| " + r.heading + " |")
		for _, c := range columns {
			b.WriteString(" " + p.entry(r.shape, c.system, r.latency) + " |")
		}
		b.WriteString("\n")
	}
	return b.String()
}

func (p *Peers) entry(shape, system string, latency bool) string {
	for _, c := range p.Cells {
		switch {
		case c.Shape != shape || c.System != system:
		case len(c.Samples) == 0:
			return "not installed"
		case latency:
			return fmt.Sprintf("%.0f us", c.median(p50))
		default:
			return fmt.Sprintf("%s (%s)", Count(c.median(rate)), three(c.median(broker)))
		}
	}
	return ""
}

func (p *Peers) versions() string {
	var out []string
	for _, c := range columns {
		if v := p.Versions[c.system]; v != "" {
			out = append(out, v)
		}
	}
	return strings.Join(out, ", ")
}
