package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/mdmesh/mdmesh/bench/load"
	"github.com/mdmesh/mdmesh/bench/procs"
	"github.com/mdmesh/mdmesh/bench/report"
)

// launch is how to start a broker.
type launch struct {
	cmd *exec.Cmd
	// prefix begins the line in which it names its endpoint; "" for one that does not
	// say, and takes connections at endpoint as soon as it can.
	prefix, endpoint string
}

// bench is one run of everything.
type bench struct {
	settings
	dir     string // scratch
	results report.Peers
}

func runAll(ctx context.Context) error {
	set, err := fromEnvironment()
	if err != nil {
		return err
	}
	b := &bench{settings: set}
	if b.dir, err = os.MkdirTemp("", "bench-peers"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	b.results = report.Peers{Machine: report.Here(), Rounds: b.rounds, Duration: b.duration.String(), Versions: versions()}
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{{"grid", b.grid}, {"idle", b.idle}, {"memory", b.memory}, {"overload", b.overload}} {
		if !slices.Contains(b.parts, part.name) {
			continue
		}
		if err := part.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	if err := b.results.Print(os.Stdout); err != nil {
		return err
	}
	return report.Write(b.out, &b.results)
}

// grid measures all shapes with all systems. Rounds are the outer loop, and systems
// the inner: what drifts in the machine drifts for all alike.
func (b *bench) grid(ctx context.Context) error {
	for round := range b.rounds {
		for _, g := range grid {
			if len(b.shapes) > 0 && !slices.Contains(b.shapes, g.shape.Name) {
				continue
			}
			for i := range g.systems {
				name := g.systems[(i+round)%len(g.systems)] // nobody is always first
				if len(b.systems) > 0 && !slices.Contains(b.systems, name) {
					continue
				}
				if err := b.round(ctx, g.shape, name); err != nil {
					return fmt.Errorf("%s in shape %s: %w", name, g.shape.Name, err)
				}
			}
		}
	}
	return nil
}

func (b *bench) round(ctx context.Context, sh shape, name string) error {
	cell := b.results.Cell(sh.Name, name)
	if cell.Missing != "" {
		return nil
	}
	sys := systems[name]
	if _, err := sys.broker(b.dir); err != nil {
		cell.Missing = err.Error()
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, b.duration+time.Minute)
	defer cancel()
	var g procs.Group
	defer g.Stop()
	t, err := b.start(ctx, &g, sys, sh)
	if err != nil {
		return err
	}
	sample, err := t.measure(ctx)
	if err != nil {
		return err
	}
	cell.Samples = append(cell.Samples, sample)
	fmt.Printf("%-9s %-9s %9.0f/s  p50 %6.0f  p99 %7.0f  CPU client %6.2f broker %6.2f worker %6.2f\n",
		sh.Name, name, sample.Rate, sample.P50, sample.P99, sample.Client, sample.Broker, sample.Worker)
	return nil
}

// trio is a broker, a worker and a client that are ready.
type trio struct {
	broker, worker, client *procs.Proc
	endpoint               string
}

func (b *bench) start(ctx context.Context, g *procs.Group, sys *system, sh shape) (t trio, err error) {
	if t.broker, t.endpoint, err = b.startBroker(ctx, g, sys); err != nil {
		return t, err
	}
	if t.worker, err = g.Role(ctx, "worker", sys.name, t.endpoint, sh.String()); err != nil {
		return t, err
	}
	t.client, err = g.Role(ctx, "client", sys.name, t.endpoint, sh.String(), b.duration.String())
	return t, err
}

func (b *bench) startBroker(ctx context.Context, g *procs.Group, sys *system, args ...string) (*procs.Proc, string, error) {
	l, err := sys.broker(b.dir)
	if err != nil {
		return nil, "", err
	}
	l.cmd.Args = append(l.cmd.Args, args...)
	p, err := g.Start("broker", l.cmd)
	if err != nil {
		return nil, "", err
	}
	if l.prefix != "" {
		endpoint, err := p.Line(ctx, l.prefix)
		return p, endpoint, err
	}
	for {
		conn, err := net.Dial("tcp", l.endpoint)
		if err == nil {
			return p, l.endpoint, conn.Close()
		}
		select {
		case <-ctx.Done():
			return nil, "", fmt.Errorf("%s does not take connections: %w", sys.name, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// measure lets the client run once.
func (t trio) measure(ctx context.Context) (s report.Sample, err error) {
	before, err := t.cpu()
	if err != nil {
		return s, err
	}
	if err := t.client.Tell("go"); err != nil {
		return s, err
	}
	text, err := t.client.Line(ctx, "result ")
	if err != nil {
		return s, err
	}
	after, err := t.cpu()
	if err != nil {
		return s, err
	}
	var r load.Result
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return s, fmt.Errorf("read the client's result: %w", err)
	}
	if r.Calls == 0 {
		return s, fmt.Errorf("no call succeeded, %d failed, the first with: %s", r.Errors, r.Error)
	}
	per := func(i int) float64 { return float64((after[i] - before[i]).Nanoseconds()) / 1e3 / float64(r.Calls) }
	return report.Sample{Rate: r.Rate, P50: r.P50, P99: r.P99, Errors: r.Errors, Client: per(0), Broker: per(1), Worker: per(2)}, nil
}

func (t trio) cpu() (used [3]time.Duration, err error) {
	for i, p := range []*procs.Proc{t.client, t.broker, t.worker} {
		if used[i], err = p.CPU(); err != nil {
			return used, err
		}
	}
	return used, nil
}

// versions says what is compared.
func versions() map[string]string {
	v := map[string]string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			switch m.Path {
			case "github.com/nats-io/nats-server/v2":
				v["nats"] = "nats-server " + m.Version
			}
		}
	}
	if l, err := gearmand(os.TempDir()); err == nil {
		if out, err := exec.Command(l.cmd.Path, "--version").Output(); err == nil {
			text, _, _ := strings.Cut(string(out), " - ")
			v["gearmand"], _, _ = strings.Cut(strings.TrimSpace(text), "+")
		}
	}
	return v
}
