// Faults provokes faults among real processes, each many times, and prints how long
// it takes until they are overcome, beside what is promised. It shares processes and
// injections with test/faults, and asserts nothing: a round that does not come to its
// end is counted and named.
//
// The one invariant: whatever was started is gone when the program ends, also by
// Ctrl-C. Start at run; the list is in injections.go.
package main

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/mdmesh/mdmesh/bench/report"
	"github.com/mdmesh/mdmesh/test/faults/actor"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

func main() {
	actor.Main() // this process may be one of those that are killed
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench-faults:", err)
		os.Exit(1)
	}
}

func run() error {
	rounds, err := strconv.Atoi(cmp.Or(os.Getenv("N"), "30"))
	if err != nil || rounds < 1 {
		return fmt.Errorf("rounds N=%s: give a number, such as 30", os.Getenv("N"))
	}
	all := begin("faults")
	go endOnSignal(all)
	results := report.Faults{Machine: report.Here(), Rounds: rounds}
	for _, i := range injections {
		begun := time.Now()
		fmt.Fprintf(os.Stderr, "%s ", i.fault)
		results.Injections = append(results.Injections, i.measure(all, rounds))
		fmt.Fprintf(os.Stderr, " %v\n", time.Since(begun).Round(time.Second))
	}
	if err := results.Print(os.Stdout); err != nil {
		return err
	}
	return report.Write(cmp.Or(os.Getenv("OUT"), "bench/results/faults.json"), &results)
}

// endOnSignal leaves nothing behind when the program is interrupted.
func endOnSignal(all *round) {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, os.Interrupt, syscall.SIGTERM)
	<-ch
	for _, pid := range meshproc.Marked(all) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	os.Exit(130)
}

// measure provokes the fault as often as wanted, in as many lanes as do not disturb
// each other.
func (i *injection) measure(all *round, rounds int) report.Injection {
	out := report.Injection{Fault: i.fault, Measured: i.measured, Promise: float64(i.promise) / 1e6}
	site := all.sub(i.fault)
	defer site.end()
	var provoke func(*round) time.Duration
	if text := site.try(func() { provoke = i.prepare(site) }); text != "" {
		out.Failed = append(out.Failed, text)
		return out
	}
	var mu sync.Mutex
	var times []float64
	next := 0
	var lanes sync.WaitGroup
	for range max(i.lanes, 1) {
		lanes.Go(func() {
			for {
				mu.Lock()
				n := next
				next++
				mu.Unlock()
				if n >= rounds {
					return
				}
				took, text := site.sub(strconv.Itoa(n)).measure(provoke)
				text = cmp.Or(text, site.why()) // what rounds share may have failed
				mu.Lock()
				if text == "" {
					times = append(times, float64(took)/1e6)
					fmt.Fprint(os.Stderr, ".")
				} else {
					out.Failed = append(out.Failed, text)
					fmt.Fprint(os.Stderr, "F")
				}
				mu.Unlock()
			}
		})
	}
	lanes.Wait()
	slices.Sort(times)
	out.P50, out.P99 = rank(times, 0.5), rank(times, 0.99)
	return out
}

// rank is the smallest value that no less than this share of all does not exceed.
func rank(sorted []float64, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(int(math.Ceil(share*float64(len(sorted))))-1, 0)]
}
