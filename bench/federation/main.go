// Federation measures what links between brokers are worth, and what they cost: the
// sleeping work of package work on one broker with all workers, and on a mesh of
// brokers with a part each, where most calls may enter by one of them. It prints,
// writes a file, and asserts nothing.
//
// The one invariant: a mesh gets the same calls as the single broker it is compared
// with. Start at run; mesh.go starts brokers, parts.go has what else is measured.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/mdmesh/mdmesh/bench/procs"
	"github.com/mdmesh/mdmesh/bench/report"
	"github.com/mdmesh/mdmesh/bench/setting"
	"github.com/mdmesh/mdmesh/bench/work"
)

const (
	brokers = 4
	workers = 16
)

// settings come from the environment, because that is what make passes on.
type settings struct {
	loads []float64     // POINTS=50,70,80,90 (percent)
	hot   []float64     // HOT=25,70 (percent that enters by the first broker)
	seeds []float64     // SEEDS=1
	calls int           // CALLS=100000
	spell time.Duration // DURATION=5s, where calls are made for a time
	tries int           // TRIES=1; more: a point is measured again while the hypervisor takes 1 % of the time
	awake bool          // AWAKE=yes: points are measured with processors kept from sleeping (procs.Group.KeepAwake)
	parts []string      // PARTS=points,idle,uneven,hop
	out   string        // OUT=bench/results/federation.json
}

func main() { procs.Main("bench-federation", run, runRole) }

func fromEnvironment() (settings, error) {
	var env setting.Env
	s := settings{
		loads: env.Numbers("POINTS", "50,70,80,90"), hot: env.Numbers("HOT", "25,70"), seeds: env.Numbers("SEEDS", "1"),
		calls: int(env.Number("CALLS", "100000")), spell: env.Duration("DURATION", "5s"),
		tries: int(env.Number("TRIES", "1")), awake: env.Switch("AWAKE", "yes"),
		parts: env.Words("PARTS", "points,idle,uneven,hop"), out: env.Text("OUT", "bench/results/federation.json"),
	}
	return s, env.Err
}

func run(ctx context.Context) error {
	set, err := fromEnvironment()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench-federation")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	results := &report.Federation{Machine: report.Here(), Awake: set.awake, Brokers: brokers, Workers: workers, Calls: set.calls}
	for _, part := range []struct {
		name string
		run  func() error
	}{
		{"points", func() error { return points(ctx, set, results, filepath.Join(dir, "records")) }},
		{"idle", func() error { return idleEntry(ctx, results) }},
		{"uneven", func() error { return uneven(ctx, set.spell, results) }},
		{"hop", func() error { return hop(ctx, set.spell, results) }},
	} {
		if !slices.Contains(set.parts, part.name) {
			continue
		}
		if err := part.run(); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	if err := results.Print(os.Stdout); err != nil {
		return err
	}
	return report.Write(set.out, results)
}

// points measures every topology at every load, seed by seed.
func points(ctx context.Context, set settings, results *report.Federation, file string) error {
	var g procs.Group
	defer g.Stop()
	if set.awake {
		if err := g.KeepAwake(ctx); err != nil {
			return err
		}
	}
	for _, seed := range set.seeds {
		for _, load := range set.loads {
			p := work.Plan{Seed: uint64(seed), Calls: set.calls, Load: load / 100, Workers: workers, Entries: 1}
			plans := []work.Plan{p}
			for _, hot := range set.hot {
				p.Entries, p.Hot = brokers, hot/100
				plans = append(plans, p)
			}
			for _, p := range plans {
				point, stolen, err := procs.Calmest(set.tries, func() (report.FederatedPoint, error) { return onePoint(ctx, p, file) })
				if err != nil {
					return err
				}
				point.Stolen = stolen
				results.Points = append(results.Points, point)
				if err := report.Write(set.out, results); err != nil { // what comes may take long
					return err
				}
			}
		}
	}
	return nil
}

func onePoint(ctx context.Context, p work.Plan, file string) (point report.FederatedPoint, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*p.Length()+10*time.Minute)
	defer cancel()
	point = report.FederatedPoint{Topology: "one", Load: p.Load, Seed: p.Seed}
	if p.Entries > 1 {
		point.Topology, point.Hot = "mesh", p.Hot
	}
	fmt.Printf("load %.0f %%, seed %d, %s, about %v: ", 100*p.Load, p.Seed, point.Name(), p.Length().Round(time.Second))
	var g procs.Group
	defer g.Stop()
	m, err := startMesh(ctx, &g, p.Entries)
	if err != nil {
		return point, err
	}
	for _, b := range m {
		if err := b.sleepers(ctx, &g, p.Workers/p.Entries); err != nil {
			return point, err
		}
	}
	if err := m.settled(ctx, p.Workers); err != nil {
		return point, err
	}
	before, err := m.counters(ctx)
	if err != nil {
		return point, err
	}
	began := time.Now()
	records, err := m.submit(ctx, &g, p, file)
	if err != nil {
		return point, err
	}
	took := time.Since(began).Seconds()
	after, err := m.counters(ctx)
	if err != nil {
		return point, err
	}
	point.Outcome = p.Judge(records)
	point.States = float64(after["state_sent"]-before["state_sent"]) / took / float64(len(m))
	point.Offloaded = float64(after["offloaded"]-before["offloaded"]) / float64(p.Calls)
	fmt.Printf("p99 of latency %.1f ms (ideal %.1f), of wait %.1f (%.1f in order, ideal %.1f); %.0f STATE/s, %.0f %% offloaded\n",
		point.Latency.P99, point.IdealLatency.P99, point.Wait.P99, point.InOrder.P99, point.IdealWait.P99, point.States, 100*point.Offloaded)
	return point, nil
}
