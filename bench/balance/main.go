// Balance measures how well calls are spread over workers that differ in how long
// they are busy: for this broker, for NATS queue groups, and for the ideal single
// queue, computed for the same calls. Arrivals are open: nobody waits for an answer
// before the next call. It prints, writes a file, and asserts nothing.
//
// The one invariant: every system gets the same plans (package work). Systems run one
// after another, seed by seed. Start at run; package sleep is this broker's part.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/mdmesh/mdmesh/bench/procs"
	"github.com/mdmesh/mdmesh/bench/report"
	"github.com/mdmesh/mdmesh/bench/setting"
	"github.com/mdmesh/mdmesh/bench/sleep"
	"github.com/mdmesh/mdmesh/bench/work"
)

const workers = 16

// settings come from the environment, because that is what make passes on.
type settings struct {
	loads   []float64 // POINTS=50,70,80,90 (percent)
	seeds   []float64 // SEEDS=1,2,3
	calls   int       // CALLS=100000
	systems []string  // SYSTEMS=mdmesh,nats
	tries   int       // TRIES=1; more: a point is measured again while the hypervisor takes 1 % of the time
	awake   bool      // AWAKE=yes: processors are kept from sleeping (procs.Group.KeepAwake)
	out     string    // OUT=bench/results/balance.json
}

func main() { procs.Main("bench-balance", run, runRole) }

func fromEnvironment() (settings, error) {
	var env setting.Env
	s := settings{
		loads: env.Numbers("POINTS", "50,70,80,90"), seeds: env.Numbers("SEEDS", "1,2,3"), calls: int(env.Number("CALLS", "100000")),
		tries: int(env.Number("TRIES", "1")), awake: env.Switch("AWAKE", "yes"),
		systems: env.Words("SYSTEMS", "mdmesh,nats"), out: env.Text("OUT", "bench/results/balance.json"),
	}
	return s, env.Err
}

func run(ctx context.Context) error {
	set, err := fromEnvironment()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench-balance")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var g procs.Group
	defer g.Stop()
	if set.awake {
		if err := g.KeepAwake(ctx); err != nil {
			return err
		}
	}
	results := report.Balance{Machine: report.Here(), Awake: set.awake, Workers: workers, Calls: set.calls}
	for _, seed := range set.seeds {
		for _, load := range set.loads {
			p := work.Plan{Seed: uint64(seed), Calls: set.calls, Load: load / 100, Workers: workers, Entries: 1}
			for _, system := range set.systems {
				fmt.Printf("load %.0f %%, seed %.0f, %-7s about %v: ", load, seed, system, p.Length().Round(time.Second))
				o, stolen, err := procs.Calmest(set.tries, func() (work.Outcome, error) {
					records, err := measure(ctx, system, p, filepath.Join(dir, "records"))
					if err != nil {
						return work.Outcome{}, fmt.Errorf("%s: %w", system, err)
					}
					o := p.Judge(records)
					fmt.Printf("p99 of latency %.1f ms (ideal %.1f), of wait %.1f (%.1f)\n", o.Latency.P99, o.IdealLatency.P99, o.Wait.P99, o.IdealWait.P99)
					return o, nil
				})
				if err != nil {
					return err
				}
				results.Points = append(results.Points, report.Point{System: system, Load: p.Load, Seed: p.Seed, Outcome: o, Stolen: stolen})
				if err := report.Write(set.out, &results); err != nil { // what comes may take long
					return err
				}
			}
		}
	}
	if err := results.Print(os.Stdout); err != nil {
		return err
	}
	return report.Write(set.out, &results)
}

// measure runs one plan on fresh processes.
func measure(ctx context.Context, system string, p work.Plan, file string) ([]work.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*p.Length()+10*time.Minute)
	defer cancel()
	var g procs.Group
	defer g.Stop()
	endpoint, err := startBroker(ctx, &g, system)
	if err != nil {
		return nil, err
	}
	if _, err := g.Role(ctx, "worker", system, endpoint); err != nil {
		return nil, err
	}
	plan, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	if _, err := g.Role(ctx, "caller", system, endpoint, string(plan), file); err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return work.ReadRecords(f, p.Calls)
}

func startBroker(ctx context.Context, g *procs.Group, system string) (endpoint string, err error) {
	cmd, prefix := procs.Self("role", "broker", system), "listening "
	if system == "mdmesh" {
		cmd = exec.Command(filepath.Join(cmp.Or(os.Getenv("BIN"), "bin"), "mdbroker"),
			"--listen", "tcp://127.0.0.1:0", "--publish", "", "--subscribe", "", "--http", "")
		prefix = "listening role=requests endpoint="
	}
	p, err := g.Start("broker", cmd)
	if err != nil {
		return "", fmt.Errorf("%w: run make build first, or set BIN", err)
	}
	return p.Line(ctx, prefix)
}

// runRole is one process of the benchmark.
//
//	broker nats                        prints "listening ENDPOINT"
//	worker SYSTEM ENDPOINT             prints "ready"
//	caller SYSTEM ENDPOINT PLAN FILE   runs the plan, writes the records, prints "ready"
func runRole(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("no role %q", args)
	}
	role, system, args := args[0], args[1], args[2:]
	ctx, _ = procs.Told(ctx)
	ready := func() { fmt.Println("ready") }
	switch {
	case role == "broker":
		return serveNATS(ctx)
	case role == "worker" && len(args) == 1 && system == "nats":
		return workNATS(ctx, args[0], ready)
	case role == "worker" && len(args) == 1:
		return sleep.Work(ctx, args[0], workers, ready)
	case role == "caller" && len(args) == 3:
		return call(ctx, system, args[0], args[1], args[2], ready)
	}
	return fmt.Errorf("no role %s %s with %d arguments", role, system, len(args))
}

func call(ctx context.Context, system, endpoint, plan, file string, ready func()) error {
	err := work.Perform(plan, file, func(p work.Plan) ([]work.Record, error) {
		if system == "mdmesh" {
			return sleep.Submit(ctx, []string{endpoint}, p)
		}
		return submitNATS(ctx, endpoint, p)
	})
	if err != nil {
		return err
	}
	ready()
	<-ctx.Done()
	return nil
}
