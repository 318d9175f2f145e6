package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/mdmesh/mdmesh/bench/load"
	"github.com/mdmesh/mdmesh/bench/procs"
	"github.com/mdmesh/mdmesh/bench/report"
)

const (
	idleCalls = 500
	patience  = 2 * time.Minute
)

// idleEntry makes calls one at a time at a broker with idle workers, in a mesh whose
// other brokers have idle workers, too: none has a reason to leave.
func idleEntry(ctx context.Context, results *report.Federation) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var g procs.Group
	defer g.Stop()
	m, err := startMesh(ctx, &g, brokers)
	if err != nil {
		return err
	}
	for _, b := range m {
		if err := b.sleepers(ctx, &g, workers/brokers); err != nil {
			return err
		}
	}
	if err := m.settled(ctx, workers); err != nil {
		return err
	}
	if _, err := ask(ctx, &g, m[0], callers{Connections: 1, Inflight: 1, Service: time.Millisecond, Calls: idleCalls}); err != nil {
		return err
	}
	counters, err := m.counters(ctx)
	results.IdleCalls, results.IdleLeft = idleCalls, counters["offloaded"]
	return err
}

// uneven has a broker with 2 workers and 16 callers, and a peer with 8 workers.
func uneven(ctx context.Context, spell time.Duration, results *report.Federation) error {
	for _, far := range []int{0, 8} {
		rate, err := unevenRate(ctx, spell, 2, far)
		if err != nil {
			return err
		}
		if far == 0 {
			results.UnevenAlone = rate
		} else {
			results.UnevenRate = rate
		}
		fmt.Printf("2 workers here, %d at the peer: %.0f calls/s\n", far, rate)
	}
	return nil
}

func unevenRate(ctx context.Context, spell time.Duration, here, far int) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var g procs.Group
	defer g.Stop()
	m, err := startMesh(ctx, &g, 2)
	if err != nil {
		return 0, err
	}
	if err := m[0].sleepers(ctx, &g, here); err != nil {
		return 0, err
	}
	if far > 0 {
		if err := m[1].sleepers(ctx, &g, far); err != nil {
			return 0, err
		}
	}
	r, err := ask(ctx, &g, m[0], callers{Connections: 16, Inflight: 1, Service: 20 * time.Millisecond, Spell: spell})
	return r.Rate, err
}

// hop measures shape iii with clients and workers at one broker, and with the workers
// at its peer.
func hop(ctx context.Context, spell time.Duration, results *report.Federation) error {
	h := &report.Hop{}
	for _, apart := range []bool{false, true} {
		if err := hopShape(ctx, spell, apart, h); err != nil {
			return err
		}
	}
	results.Hop = h
	return nil
}

func hopShape(ctx context.Context, spell time.Duration, apart bool, h *report.Hop) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var g procs.Group
	defer g.Stop()
	m, err := startMesh(ctx, &g, 2)
	if err != nil {
		return err
	}
	entry, far := m[0], m[1]
	home := entry
	if apart {
		home = far
	}
	if _, err := g.Role(ctx, "echo", home.endpoint); err != nil {
		return err
	}
	c := callers{Connections: 64, Inflight: 4, Echo: true, Spell: spell}
	if _, err := ask(ctx, &g, entry, c); err != nil { // warm up
		return err
	}
	before, err := costs(ctx, entry, far)
	if err != nil {
		return err
	}
	r, err := ask(ctx, &g, entry, c)
	if err != nil {
		return err
	}
	after, err := costs(ctx, entry, far)
	if err != nil {
		return err
	}
	calls := float64(r.Calls)
	cpu := func(i int) float64 { return float64(after[i].cpu-before[i].cpu) / 1e3 / calls }
	per := func(after, before uint32) float64 { return calls / float64(max(after-before, 1)) }
	if apart {
		h.Rate, h.EntryCPU, h.FarCPU = r.Rate, cpu(0), cpu(1)
		h.EntryWrites, h.EntryReads = per(after[0].writes, before[0].writes), per(after[0].reads, before[0].reads)
		h.FarWrites, h.FarReads = per(after[1].writes, before[1].writes), per(after[1].reads, before[1].reads)
	} else {
		h.Direct, h.DirectCPU = r.Rate, cpu(0)
	}
	return nil
}

// cost is what a broker has used so far.
type cost struct {
	cpu           time.Duration
	reads, writes uint32 // system calls on its links
}

func costs(ctx context.Context, nodes ...*node) (out []cost, err error) {
	for _, b := range nodes {
		var c cost
		if c.cpu, err = b.proc.CPU(); err != nil {
			return nil, err
		}
		s, err := b.state(ctx)
		if err != nil {
			return nil, err
		}
		for _, p := range s.Peers {
			c.reads += p.Reads
			c.writes += p.Writes
		}
		out = append(out, c)
	}
	return out, nil
}

// callers are blocking calls from a process of their own.
type callers struct {
	Connections int           `json:"connections"`
	Inflight    int           `json:"inflight"`
	Service     time.Duration `json:"service"` // of each call, where it sleeps
	Echo        bool          `json:"echo"`    // 64 octets to the echo service instead
	Calls       int           `json:"calls"`   // so many, one after another,
	Spell       time.Duration `json:"spell"`   // or for so long, in all lanes
}

func ask(ctx context.Context, g *procs.Group, b *node, c callers) (r load.Result, err error) {
	text, err := json.Marshal(c)
	if err != nil {
		return r, err
	}
	p, err := g.Role(ctx, "callers", string(text), b.endpoint)
	if err != nil {
		return r, err
	}
	defer p.Stop()
	result, err := p.Line(ctx, "result ")
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal([]byte(result), &r); err != nil {
		return r, fmt.Errorf("read the callers' result: %w", err)
	}
	if r.Errors > 0 {
		return r, fmt.Errorf("%d of %d calls failed, the first with: %s", r.Errors, r.Calls+r.Errors, r.Error)
	}
	return r, nil
}
